"""`--html`: when a page is written, what it says, and that no older one passes for a later run's."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crosscheck.cli.command import main
from crosscheck.mapping.words import LinkTold
from crosscheck.pair.report import report_of
from crosscheck.pair.result import CheckCell, PairResult, SideTold
from crosscheck.report.page.render import render

FAKE = str(Path(__file__).parent / "fake_framework.py")

Edit = Callable[..., str]

WRONG = ("np.tanh(inputs * (position + weight))", "np.tanh(inputs * (position + 1.001 * weight))")


def run(experiment: Path, second: str = FAKE, *options: str) -> int:
    sides = ["--implementations", FAKE, second]
    return main([str(experiment), "--checks", "forward,trajectory", *sides, "--out", str(experiment.parent), *options])


def test_a_page_says_what_was_found(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(experiment, FAKE, "--html") == 0
    page = (experiment.parent / "report.html").read_text()
    assert "report.html" in capsys.readouterr().out
    for said in ("Yes: they train alike", "THE SAME", "Difference of the loss against its bound", "Predicted string"):
        assert said in page


def test_a_page_of_sides_that_differ_leads_to_the_cause(experiment: Path, fake: Edit) -> None:
    assert run(experiment, fake(WRONG), "--html") == 1
    page = (experiment.parent / "report.html").read_text()
    assert "No: they do not train alike" in page
    assert '<li><a href="#cause-1">' in page
    assert "--checks forward" in page


def test_only_who_asks_for_a_page_gets_one(experiment: Path) -> None:
    """And an older one does not pass for this run's."""
    older = experiment.parent / "report.html"
    older.write_text("an older run's")
    assert run(experiment) == 0
    assert not older.exists()
    assert (experiment.parent / "report.html.previous").read_text() == "an older run's"


@pytest.mark.by_default("true-True", "-False")
@pytest.mark.parametrize(("value", "written"), [("true", True), ("", False), ("0", False), ("false", False)])
def test_a_ci_system_gets_one(experiment: Path, monkeypatch: pytest.MonkeyPatch, value: str, written: bool) -> None:
    monkeypatch.setenv("CI", value)
    assert run(experiment) == 0
    assert (experiment.parent / "report.html").exists() == written


def test_a_page_that_cannot_be_made_costs_nothing_else(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "crosscheck.report.page.render", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert run(experiment, FAKE, "--html") == 0
    printed, complained = capsys.readouterr()
    assert "error: the report report.html is lost: ModuleNotFoundError" in complained
    assert "THE SAME" in printed
    assert (experiment.parent / "report.md").exists()


def test_recordings_that_are_compared_later_have_one_too(experiment: Path, tmp_path: Path) -> None:
    recorded = [str(tmp_path / name) for name in ("one", "two")]
    for place in recorded:
        assert main(["record", FAKE, str(experiment), "--checks", "forward,trajectory", "--out", place]) == 0
    assert main(["compare", *recorded, "--html", "--out", str(tmp_path / "out")]) == 0
    assert "Predicted string" in (tmp_path / "out" / "report.html").read_text()


def test_a_pair_has_its_map_on_the_page() -> None:
    sides = [SideTold(name=name, kind="module", leaves=1, numbers=6, versions={}) for name in ("original", "port")]
    links = [
        LinkTold(target="up.kernel", sources="up.weight transposed", kind="copy", proof="value"),
        LinkTold(target="", sources="key.bias", kind="none", proof="free", note="no <output> shows it"),
    ]
    result = PairResult(
        schema_version=1,
        pair="port.py",
        sides=(sides[0], sides[1]),
        cells=[CheckCell(check="forward", status="same", comparisons=1, elements=1)],
        differences=[],
        notes=[],
        map={"copy": 1},
        map_file="port.map.toml (written)",
        unused=[],
        seed=0,
        seconds=1.0,
        verdict="THE SAME in 1 checks",
        exit_code=0,
        links=links,
    )
    page = render(report_of(result, "python -m crosscheck pair port.py")).decode()
    assert "<code>up.kernel</code></th><td><code>up.weight transposed</code></td><td>copy</td><td>value" in page
    assert "no &lt;output&gt; shows it" in page
