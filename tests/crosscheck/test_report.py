"""What a report looks like, in every format: nothing is cut, and no text that is not ours can forge a part of it."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import msgspec
import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from crosscheck.checks import BY_DEFAULT
from crosscheck.cli.progress import Progress
from crosscheck.comparison import Comparison
from crosscheck.diagnosis.finding import Blame, Departure
from crosscheck.judging.summary import SideSummary, Summary, conclude
from crosscheck.judging.verdict import Cell, Status, Verdict
from crosscheck.report import data, markdown, rows, terminal
from crosscheck.report.experiments import report_of
from crosscheck.report.model import ReportStatus
from tests.hostile import HOSTILE, problems

FAKE = Path(__file__).parent / "fake_framework.py"

RunCrosscheck = Callable[..., Any]
Edit = Callable[..., str]

WIDTHS = [40, 60, 80, 130, None]

CHECKS = [check.NAME for check in BY_DEFAULT]


def verdict(name: str, status: Status, **fields: Any) -> Verdict:
    """An experiment that has that status in two checks, and is the same in the others."""
    worst = ("forward", "trajectory")
    cells = [
        Cell(check=check, status=status if check in worst else "same", ratio=0.25, reason="why", needed=1200)
        for check in CHECKS
    ]
    if status == "not applicable":
        cells = [msgspec.structs.replace(cell, status=status) for cell in cells]
    compared = Comparison(
        experiment=name, check="forward", precision="float64", case="own", tensor="encoder.layers.0.norm1",
        sides=("one", "two"), passed=status not in ("different", "crashed"), elements=4, index=(0, 5),
        values=(1.0, 1.5), difference=0.5, bound=1e-15, ratio=5e14, note="a note",
        kind="crashed" if status == "crashed" else "compared",
        traceback="Traceback (most recent call last):\n  File x\nValueError: y" if status == "crashed" else "",
    )  # fmt: skip
    return Verdict(
        experiment=name,
        hash="0" * 12,
        argument=name,
        cells=cells,
        comparisons=[compared],
        **fields,
    )


def summary(*verdicts: Verdict, **fields: Any) -> Summary:
    exit_code, words = conclude(verdicts)
    sides = [
        SideSummary(name=name, implementation=name, describe={"framework": "1.0"}, machine={"cpu": "x"}, seconds=1.0)
        for name in ("one", "two")
    ]
    given = {
        "sides": sides, "checks": CHECKS, "precisions": ["float64", "float32"],
        "seed": 0, "device": "cpu", "seconds": 2.0, "exit_code": exit_code, "verdict": words,
        "experiments": list(verdicts),
    }  # fmt: skip
    return Summary(**{**given, **fields})


def shown(made: Summary, width: int | None, environment: dict[str, str] | None = None) -> str:
    """The report on a terminal of that width; in a log without one."""
    file = io.StringIO()
    console = Console(
        file=file,
        width=width,
        force_terminal=width is not None,
        _environ={"TERM": "xterm-256color"} | (environment or {}),
    )
    terminal.show(report_of(made), console)
    return file.getvalue()


def without_colours(output: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", output)


OF_A_CHECK: tuple[Status, ...] = (
    "different", "crashed", "underpowered", "not checked", "same", "not applicable",
)  # fmt: skip

ALL = summary(
    *(verdict(f"an-experiment-that-is-{status.replace(' ', '-')}", status) for status in OF_A_CHECK),
    verdict("hello-embedding-scale-by-frequency", "different"),
)


def test_every_status_has_its_words() -> None:
    assert set(get_args(Status)) <= set(get_args(ReportStatus)) == set(rows.LABELS)
    assert len({label.word for label in rows.LABELS.values()}) == len(rows.LABELS)
    # Plain yellow cannot be read on white, nor white on it.
    assert not [label for label in rows.LABELS.values() if "yellow" in label.style or "white" in label.style]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_verdict_is_cut_however_narrow_it_is(width: int | None) -> None:
    lines = without_colours(shown(ALL, width)).splitlines()
    assert "…" not in "".join(lines)
    for found in ALL.experiments:
        word = rows.LABELS[found.status].word
        starts = [" ".join(" ".join(lines[n : n + 2]).split()) + " " for n in range(len(lines))]
        (at,) = (n for n, text in enumerate(starts) if lines[n] and text.startswith(f"{word} {found.experiment} "))
        told = " ".join(" ".join(lines[at : at + 6]).split())
        assert " ".join(rows.details(found.status, found.cells).split()) in told
    if width is not None:
        folded = [line for line in lines if not line.lstrip().startswith("reproduce")]
        assert max(map(len, folded)) <= width
    joined = " ".join(" ".join(lines).split())
    assert ALL.verdict in joined
    assert f"in forward, trajectory; {len(CHECKS) - 2} checks ok" in joined
    assert "UNDERPOWERED" in joined
    assert "1200" in joined


@pytest.mark.parametrize("width", WIDTHS)
def test_the_legend_stands_above_the_table(width: int | None) -> None:
    lines = without_colours(shown(ALL, width)).splitlines()
    starts = [" ".join(" ".join(lines[n : n + 2]).split()) + " " for n in range(len(lines))]
    rows_of = [f"{rows.LABELS[found.status].word} {found.experiment} " for found in ALL.experiments]
    first = min(n for n, text in enumerate(starts) if lines[n] and text.startswith(tuple(rows_of)))
    for label in {rows.LABELS[found.status] for found in ALL.experiments}:
        (at,) = (n for n, line in enumerate(lines) if line.startswith(f"{label.word}: "))
        assert at < first
    only = without_colours(shown(summary(verdict("hello-gru", "same")), width))
    assert "FAIL" not in only
    assert "CRASH" not in only


def test_the_legend_has_what_stands_among_the_details() -> None:
    found = verdict("hello-embedding-sparse", "same")
    cells = [
        Cell(check=cell.check, status="left out")
        if cell.check == "gradients"
        else msgspec.structs.replace(cell, elements=4)
        for cell in found.cells
    ]
    lines = without_colours(shown(summary(msgspec.structs.replace(found, cells=cells)), None)).splitlines()
    assert "LEFT OUT: a side declares that it has no such option" in lines
    assert any("LEFT OUT in gradients" in line for line in lines)


@pytest.mark.parametrize("width", [40, 80])
def test_nothing_is_said_by_a_colour_alone(width: int) -> None:
    plain = shown(ALL, width, {"NO_COLOR": "1"})
    assert {part.split("m")[0] for part in plain.split("\x1b[")[1:]} <= {"0", "1", "2"}  # Bold and dim are no colours.
    assert without_colours(plain) == without_colours(shown(ALL, width))
    assert plain != shown(ALL, width)


def test_a_dumb_terminal_gets_no_sequences() -> None:
    plain = shown(ALL, 80, {"TERM": "dumb"})
    assert "\x1b" not in plain
    assert plain.split() == without_colours(shown(ALL, 80)).split()


@pytest.mark.parametrize("width", WIDTHS)
def test_progress_says_a_verdict_in_the_same_words(width: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(["one"], 2) as progress:
        progress._console = Console(stderr=True, width=width, force_terminal=width is not None, no_color=True)
        progress.judged(verdict("hello-gru", "different"))
        progress.recorded("one", "hello-gru", 1.0, "lost its way")
    output = " ".join(without_colours(capsys.readouterr().err).split())
    assert f"[1/2] FAIL hello-gru: in forward, trajectory; {len(CHECKS) - 2} checks ok" in output
    assert "one hello-gru: lost its way" in output


@pytest.mark.parametrize("width", [40, 60, 80, 130])
def test_a_bar_shows_its_numbers_however_narrow_it_is(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None, _environ={})
    monkeypatch.setattr("crosscheck.cli.progress.Console", lambda **given: console)
    labels = ["torch_impl", "/home/somebody/a/very/long/path/to/flax_impl"]
    progress = Progress(labels, 35)
    assert progress._bars is not None
    for label in labels:
        progress.recorded(label, "hello-embedding-scale-by-frequency", 1.0, "")
    console.print(progress._bars.get_renderable())
    lines = file.getvalue().splitlines()
    assert len(lines) == len(labels)
    for line, label in zip(lines, labels, strict=True):
        assert line[:9] == label[:9]
        assert " 1/35 0:00:00" in line
        assert len(line.rstrip()) <= width


def test_a_bar_can_be_read_on_white(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()

    def console(**given: Any) -> Console:
        colours = {"force_terminal": True, "color_system": "standard", "_environ": {}}
        return Console(**(given | {"file": file, "width": 80} | colours))

    monkeypatch.setattr("crosscheck.cli.progress.Console", console)
    progress = Progress(["torch_impl"], 2)
    assert progress._bars is not None
    progress._console.print(progress._bars.get_renderable())
    assert "0:00:00" in file.getvalue()
    assert "\x1b[33m" not in file.getvalue()


def test_a_fault_planted_in_a_copy_is_whole_in_a_log(run_crosscheck: RunCrosscheck, fake: Edit) -> None:
    outcome = run_crosscheck(
        fake(("    loss = sum(", "    found['head.bias'] = found['head.bias'] * 2\n    loss = sum("))
    )
    (line,) = (line for line in outcome.output.splitlines() if line.startswith("  FAIL  short"))
    assert line.split("  ")[-1].startswith("in gradients, trajectory, shipped-path; ") or "in gradients; " in line
    assert "…" not in outcome.output


# Where a text that is not ours can stand.

FIELDS: dict[str, Callable[[str], Summary]] = {}


def field(make: Callable[[str], Summary]) -> Callable[[str], Summary]:
    FIELDS[make.__name__.replace("_", " ").strip()] = make
    return make


def failing(text: str = "harmless", **fields: Any) -> Summary:
    """A run with a failure, a crash and what was not checked; fields: of its comparisons."""
    del text
    blame = Blame(at_fault="two", reason="harmless", departures=[])
    made = [verdict("first", "different", blame=blame), verdict("second", "crashed"), verdict("third", "not checked")]
    changed = [
        msgspec.structs.replace(v, comparisons=[msgspec.structs.replace(c, **fields) for c in v.comparisons])
        for v in made
    ]
    return summary(*changed)


def with_experiments(made: Summary, **fields: Any) -> Summary:
    return msgspec.structs.replace(made, experiments=[msgspec.structs.replace(v, **fields) for v in made.experiments])


def with_sides(made: Summary, **fields: Any) -> Summary:
    return msgspec.structs.replace(made, sides=[msgspec.structs.replace(side, **fields) for side in made.sides])


@field
def the_name_of_a_side(text: str) -> Summary:
    return with_sides(failing(sides=(text, text)), name=text)


@field
def an_implementation(text: str) -> Summary:
    return with_sides(failing(), implementation=text)


@field
def a_version(text: str) -> Summary:
    return with_sides(failing(), describe={"framework": text})


@field
def what_has_a_version(text: str) -> Summary:
    return with_sides(failing(), describe={text: "1.0"})


@field
def the_name_of_an_experiment(text: str) -> Summary:
    made = with_experiments(failing(experiment=text), experiment=text)
    return msgspec.structs.replace(made, verdict=conclude(made.experiments)[1])


@field
def an_argument(text: str) -> Summary:
    return with_experiments(failing(), argument=text)


@field
def a_directory(text: str) -> Summary:
    return msgspec.structs.replace(failing(), directories=[text, text])


@field
def a_device(text: str) -> Summary:
    return msgspec.structs.replace(failing(), device=text)


@field
def a_note(text: str) -> Summary:
    return failing(note=text)


@field
def a_tensor(text: str) -> Summary:
    return failing(tensor=text)


@field
def a_value(text: str) -> Summary:
    return failing(values=(text, text))


@field
def a_traceback(text: str) -> Summary:
    return failing(traceback=text)


@field
def a_reason(text: str) -> Summary:
    made = failing()
    cells = [[msgspec.structs.replace(cell, reason=text) for cell in v.cells] for v in made.experiments]
    changed = [msgspec.structs.replace(v, cells=c) for v, c in zip(made.experiments, cells, strict=True)]
    return msgspec.structs.replace(made, experiments=changed)


@field
def who_is_to_blame(text: str) -> Summary:
    departure = Departure(side=text, stage=text, tensor=text, wrong=[text, text], downstream=[text])
    return with_experiments(failing(), blame=Blame(at_fault=text, reason=text, departures=[departure]))


def structure(text: str) -> list[str]:
    """What a reader of Markdown makes of it: blocks, how many cells, and whatever is more than text in a line."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    inside = [
        child.type for token in tokens for child in token.children or [] if child.type not in ("text", "code_inline")
    ]
    return [token.type + token.tag for token in tokens] + inside


@pytest.mark.parametrize("place", FIELDS)
def test_no_text_forges_a_part_of_the_markdown(place: str) -> None:
    harmless = structure(markdown.render(report_of(FIELDS[place]("harmless"))))
    for name, hostile in HOSTILE.items():
        text = markdown.render(report_of(FIELDS[place](hostile)))
        assert problems(text) == [], name
        assert structure(text) == harmless, name


@pytest.mark.by_default("40-*")
@pytest.mark.parametrize("place", FIELDS)
@pytest.mark.parametrize("width", [40, 80, None])
def test_no_text_forges_a_line_of_the_terminal_s(place: str, width: int | None) -> None:
    lines = len(shown(FIELDS[place]("harmless"), width).splitlines())
    for name, hostile in HOSTILE.items():
        output = without_colours(shown(FIELDS[place](hostile), width))
        assert problems(output) == [], name
        verdicts = [line for line in output.splitlines() if line.startswith(("THE SAME", "DIFFERENT", "COULD NOT"))]
        assert len(verdicts) == 1, name
        if width is None:
            assert len(output.splitlines()) == lines, name


@pytest.mark.parametrize("place", FIELDS)
def test_no_text_breaks_the_json(place: str) -> None:
    harmless = shape(json.loads(data.render(report_of(FIELDS[place]("harmless")))))
    for name, hostile in HOSTILE.items():
        encoded = data.render(report_of(FIELDS[place](hostile))).decode()
        assert problems(encoded) == [], name
        assert len(encoded.splitlines()) == 1, name
        assert shape(json.loads(encoded)) == harmless, name


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted(map(str, (shape(item) for item in value.values())))
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__


def test_a_report_that_is_cut_leaves_no_block_open(monkeypatch: pytest.MonkeyPatch) -> None:
    made = summary(*(verdict(f"number-{i}", "crashed") for i in range(50)))
    whole = markdown.render(report_of(made))
    for largest in range(1000, len(whole), 331):
        monkeypatch.setattr(markdown, "LARGEST", largest)
        text = markdown.render(report_of(made))
        assert len(text.encode()) < largest
        assert " had no room here: report.json has them." in text
        assert text.count("<details>") == text.count("</details>")
        assert text.count("```") % 2 == 0
        assert structure(text)[-3:-1] != ["fence", "code_block"]


LIMIT = 1_000_000
"""Bytes of report.json of one experiment, whatever an implementation says."""

RAISES = "    raise ValueError({text!r} * {times})\n"


@pytest.mark.by_default("hostile", "a lone surrogate")
@pytest.mark.parametrize(
    ("text", "times"),
    [("x", 20_000_000), ("\x1b[31m::error::y\n", 1_000_000), ("\n::error::forged | # `x` <b>\u202e", 1), ("\ud800", 1)],
    ids=["20 MB", "16 MB of commands", "hostile", "a lone surrogate"],
)
def test_what_an_implementation_says_through_a_real_worker(
    run_crosscheck: RunCrosscheck, fake: Edit, text: str, times: int
) -> None:
    second = fake(
        (
            "    inputs = batch.inputs.astype(",
            RAISES.format(text=text, times=times) + "    inputs = batch.inputs.astype(",
        ),
        ('"fake": "1.0"', f'"fake\\n# forged": {text!r} * {min(times, 1000)}'),
    )
    outcome = run_crosscheck(second)
    assert outcome.exit_code == 3
    report = Path(second).parents[1] / "report"
    assert (report / "report.json").stat().st_size < LIMIT
    assert (report / "report.md").stat().st_size < markdown.LARGEST
    assert (report / "junit.xml").stat().st_size < LIMIT
    for output in (
        outcome.output,
        outcome.errors,
        (report / "report.md").read_text(),
        (report / "report.json").read_text(),
    ):
        assert problems(output) == []
    assert [line for line in outcome.output.splitlines() if line.startswith("COULD NOT RUN: 1 of 1")]
    ElementTree.parse(report / "junit.xml")
    notes = [comparison["note"] for comparison in outcome.failures()]
    assert notes
    if times > 1:
        assert all(" ... [cut to 2,000 of " in note for note in notes)
    headings = markdown_headings((report / "report.md").read_text())
    assert [heading.split(".")[0] for heading in headings] == ["crosscheck", "One cause", "1", "Checks"]


def markdown_headings(text: str) -> list[str]:
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    found = [tokens[n + 1].content for n, token in enumerate(tokens) if token.type == "heading_open"]
    return [heading.split(":")[0] for heading in found]


@pytest.mark.parametrize("name", ["a workflow command", "colours", "a lone surrogate", "cells"])
def test_arrays_of_any_name_are_a_difference_and_no_more(run_crosscheck: RunCrosscheck, fake: Edit, name: str) -> None:
    extra = f"    outputs[{HOSTILE[name]!r}] = outputs['logits']\n    return outputs\n\n\ndef gradients("
    outcome = run_crosscheck(fake(("    return outputs\n\n\ndef gradients(", extra)), "--checks", "forward")
    assert outcome.exit_code == 1
    assert problems(outcome.output) == []
    assert problems(outcome.errors) == []
