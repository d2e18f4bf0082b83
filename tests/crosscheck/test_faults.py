"""crosscheck faults: what it catches, misses and says, on tiny implementations.

The tiny ones are copies of the fake framework under the names of the real ones, which crosscheck cannot tell apart.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from crosscheck.cli import command
from crosscheck.comparison import Place
from crosscheck.diagnosis.finding import Blame, Departure
from crosscheck.faults import command as faults_command
from crosscheck.faults import plant, report
from crosscheck.faults.campaign import clean_runs
from crosscheck.faults.conclusion import conclude
from crosscheck.faults.fault import Edit, Fault
from crosscheck.faults.findings import SCHEMA_VERSION, CleanRun, Findings, rate
from crosscheck.judging.verdict import Cell, Verdict
from crosscheck.recording import implementation
from crosscheck.request import DEFAULT_IMPLEMENTATIONS
from spec.errors import UsageError

FAKE = Path(__file__).parent / "fake_framework.py"

LOSS = "    return Gradients(float("


def fault(
    name: str, old: str, new: str, check: str, tensor: str = "*", place: str = "__init__.py", **fields: Any
) -> Fault:
    return Fault(
        name=name,
        what=f"{name}.",
        edits=(Edit(place, old, new),),
        check=check,
        tensor=tensor,
        **{"implementation": "flax_impl", "experiment": "hello-rnn-cell", **fields},
    )


def forward(name: str, **fields: Any) -> Fault:
    return fault(
        name,
        "np.tanh(inputs",
        "np.sin(inputs",
        **{"check": "forward", "tensor": "cell.h", "place": "__init__.py:forward", **fields},
    )


LOSS_DOUBLED = fault("loss-doubled", LOSS, "    loss = loss * 2\n" + LOSS, "gradients", "loss")
HARMLESS = fault("harmless", "weight = sum(", "weight = 1 * sum(", "forward")


class Outcome(NamedTuple):
    """What a run left behind."""

    exit_code: int
    output: str
    report: dict[str, Any]
    progress: str

    def trials(self) -> dict[str, str]:
        return {trial["name"]: trial["outcome"] for trial in self.report["trials"]}

    def trial(self, name: str) -> dict[str, Any]:
        return next(trial for trial in self.report["trials"] if trial["name"] == name)


Run = Callable[..., Outcome]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Plant faults in tiny implementations, of which one may be other than the fake already."""
    # The fake has equations of its own, so that the reference would blame both sides.
    monkeypatch.setattr("crosscheck.judging.verdict._blame", lambda *_: None)

    def go(*faults: Fault, options: tuple[str, ...] = (), edits: dict[str, tuple[str, str]] | None = None) -> Outcome:
        sources = {}
        for name in DEFAULT_IMPLEMENTATIONS:
            sources[name] = tmp_path / "sources" / name
            sources[name].mkdir(parents=True, exist_ok=True)
            old, new = (edits or {}).get(name, ("", ""))
            assert old in FAKE.read_text()
            (sources[name] / "__init__.py").write_text(
                FAKE.read_text().replace(old, new, 1) if old else FAKE.read_text()
            )
        parsed = command.COMMANDS["faults"][0]().parse_args([*options, "--out", str(tmp_path / "out")])
        checks = (
            command._checks(parsed.checks) if parsed.checks else ("structure", "round-trip", "forward", "gradients")
        )
        if parsed.clean is None:
            parsed.clean = 0
        code = faults_command.carry_out(parsed, checks, faults, sources)
        left = tmp_path / "out" / "faults.json"
        printed, progress = capsys.readouterr()
        return Outcome(code, printed, json.loads(left.read_text()) if left.exists() else {}, progress)

    return go


def test_what_is_caught_where_the_table_says_passes(run: Run):
    outcome = run(forward("sine"), forward("sine", implementation="torch_impl"), LOSS_DOUBLED)
    assert outcome.exit_code == 0, outcome.output
    assert set(outcome.trials().values()) == {"caught"}
    assert outcome.trial("sine")["checks"] == {
        "structure": "same",
        "round-trip": "same",
        "forward": "different",
        "gradients": "same",
    }
    # Planted after the other in the same process: nothing of that is left.
    assert outcome.trial("loss-doubled")["checks"]["forward"] == "same"
    assert outcome.trial("loss-doubled")["tensor"] == "loss"
    assert [(row["what"], row["count"], row["of"]) for row in outcome.report["detection"]] == [
        ("all", 3, 3),
        ("in flax_impl", 2, 2),
        ("in torch_impl", 1, 1),
        ("of forward", 2, 2),
        ("of gradients", 1, 1),
    ]
    assert "ALL CAUGHT: 3 planted faults, 0 clean runs" in outcome.output


@pytest.mark.parametrize(
    ("planted", "outcome", "message"),
    [
        (HARMLESS, "survived", "flax_impl/harmless on hello-rnn-cell: survived"),
        (
            forward("sine", check="gradients"),
            "caught elsewhere",
            "expected gradients: cell.h, got forward, float64 own",
        ),
        (forward("sine", tensor="logits"), "caught elsewhere", "expected forward: logits, got forward, float64 own"),
    ],
)
def test_what_is_not_caught_where_the_table_says_is_red(run: Run, planted: Fault, outcome: str, message: str):
    found = run(planted, LOSS_DOUBLED)
    assert found.exit_code == 1
    assert found.trials() == {planted.name: outcome, "loss-doubled": "caught"}
    assert message in found.output
    assert "NOT TO BE TRUSTED: 2 planted faults" in found.output
    # A campaign takes long, and is told of as it goes.
    told = found.progress.splitlines()
    (line,) = (number for number, line in enumerate(told) if line.startswith(f"{outcome} flax_impl/{planted.name}: "))
    assert line > told.index(next(line for line in told if line.startswith(f"faults flax_impl/{planted.name}: ")))
    assert any(line.startswith("caught flax_impl/loss-doubled: on ") for line in told)


def test_first_climbs_no_higher_than_it_must(run: Run):
    outcome = run(forward("sine"), LOSS_DOUBLED, options=("--first",))
    assert outcome.exit_code == 0, outcome.output
    assert list(outcome.trial("sine")["checks"]) == ["structure", "round-trip", "forward"]
    assert list(outcome.trial("loss-doubled")["checks"])[-1] == "gradients"


@pytest.mark.by_default("*_exit*", "raise *")
@pytest.mark.parametrize(
    ("new", "note"),
    [
        ("import time\ntime.sleep(600)\n", "no answer within"),
        ("import os\nos._exit(7)\n", "ended with exit code 7"),
        ("raise RuntimeError('planted')\n", "RuntimeError: planted"),
    ],
)
def test_a_copy_that_gives_no_answer_is_caught_and_the_next_one_is_not_lost(run: Run, new: str, note: str):
    silent = fault("silent", "import numpy as np\n", "import numpy as np\n" + new, "structure")
    outcome = run(silent, LOSS_DOUBLED, options=("--timeout", "6"))
    assert outcome.exit_code == 0, outcome.output
    assert set(outcome.trial("silent")["checks"].values()) == {"crashed"}
    assert note in outcome.trial("silent")["note"]
    assert outcome.trials()["loss-doubled"] == "caught"


def test_an_exception_is_a_failure_of_its_check(run: Run):
    outcome = run(fault("raises", LOSS, "    raise ValueError('planted')\n" + LOSS, "gradients"))
    assert outcome.exit_code == 0, outcome.output
    assert outcome.trial("raises")["checks"]["gradients"] == "crashed"


def test_a_clean_control_without_and_with_a_false_alarm(run: Run):
    clean = run(options=("--clean", "4", "--seed", "7", "--checks", "structure,gradients"))
    assert clean.exit_code == 0, clean.output
    assert [(r["experiment"], r["seed"]) for r in clean.report["clean"]][:2] == [
        ("course-embedding-rnn", 7),
        ("course-rnn", 7),
    ]
    assert (clean.report["false_alarms"]["count"], clean.report["false_alarms"]["of"]) == (0, 4)
    different = {"flax_impl": (LOSS, "    loss = loss * (1 + 1e-4)\n" + LOSS)}
    alarmed = run(options=("--clean", "4", "--checks", "structure,gradients"), edits=different)
    assert alarmed.exit_code == 1
    assert alarmed.report["false_alarms"]["count"] == 4
    assert "clean run, course-rnn, seed 0: false alarm: gradients, float64 own: loss" in alarmed.output


def test_clean_runs_alone(run: Run):
    alone = run(forward("sine"), options=("--clean", "4", "--only-clean", "--checks", "structure,gradients"))
    assert alone.exit_code == 0, alone.output
    assert alone.trials() == {}
    assert alone.report["false_alarms"]["of"] == 4
    with pytest.raises(UsageError, match="--only-clean: expected no names"):
        run(forward("sine"), options=("sine", "--only-clean"))
    with pytest.raises(UsageError, match="something to do"):
        run(forward("sine"), options=("--clean", "0", "--only-clean"))


def test_a_difference_without_the_fault_proves_nothing_about_it(run: Run):
    different = {"torch_impl": (LOSS, "    loss = loss * (1 + 1e-4)\n" + LOSS)}
    outcome = run(forward("sine"), HARMLESS, edits=different)
    assert outcome.exit_code == 1
    assert set(outcome.trials().values()) == {"could not run"}
    assert not outcome.report["false_alarms"]["of"]


def test_a_clean_side_that_crashes_could_not_run(run: Run):
    broken = {"torch_impl": (LOSS, "    raise ValueError('planted')\n" + LOSS)}
    outcome = run(forward("sine"), edits=broken)
    assert outcome.exit_code == 3
    assert "COULD NOT RUN" in outcome.output
    assert "ValueError: planted" in outcome.output


@pytest.mark.parametrize(
    ("planted", "message"),
    [
        (
            fault("gone", "no such text", "x", "forward"),
            "flax_impl/gone: expected to find once in __init__.py: 'no such text', got no such text",
        ),
        (
            fault("elsewhere", LOSS, "    return Gradients(2 * float(", "forward", place="__init__.py:forward"),
            f"flax_impl/elsewhere: expected to find once in __init__.py:forward: {LOSS!r}, got no such text",
        ),
        (
            fault("twice", "settings: Settings", "settings: object", "forward"),
            "flax_impl/twice: expected to find once in __init__.py: 'settings: Settings', got ",
        ),
        (
            fault("nowhere", LOSS, "    return Gradients(2 * float(", "forward", place="__init__.py:backward"),
            "flax_impl/nowhere: expected one backward in __init__.py, got none",
        ),
        (fault("same", LOSS, LOSS, "forward"), "flax_impl/same: expected an edit of __init__.py, got the same text"),
        (
            fault("broken", LOSS, "    return (" + LOSS, "forward"),
            "flax_impl/broken: expected Python, got in __init__.py",
        ),
        (forward("where", experiment="hello-gruu"), "flax_impl/where: experiment: expected a shipped name"),
        (forward("where", check="fordwar"), "flax_impl/where: check: expected one that runs in float64, got 'fordwar'"),
        (forward("where", check="outcome"), "expected one that runs in float64, got 'outcome'"),
    ],
)
def test_a_fault_that_cannot_be_planted_is_a_usage_error(run: Run, planted: Fault, message: str):
    with pytest.raises(UsageError) as raised:
        run(planted)
    assert message in str(raised.value)
    assert raised.value.exit_code == 2


def test_a_name_twice_is_a_usage_error(run: Run):
    with pytest.raises(UsageError, match="expected each fault once"):
        run(forward("sine"), forward("sine"))


def test_names_and_patterns_choose(run: Run):
    planted = [forward("sine"), forward("sine", implementation="torch_impl"), LOSS_DOUBLED]
    assert plant.choose(planted, []) == planted
    assert plant.choose(planted, ["si*"]) == planted[:2]
    assert plant.choose(planted, ["torch_impl/*", "loss-doubled"]) == planted[1:]
    with pytest.raises(UsageError, match="got 'cosine'"):
        plant.choose(planted, ["cosine"])
    outcome = run(*planted, options=("sine", "--implementation", "torch_impl", "--first"))
    assert [(t["implementation"], t["name"]) for t in outcome.report["trials"]] == [("torch_impl", "sine")]


def test_list_has_faults_and_what_does_not_apply(run: Run):
    outcome = run(LOSS_DOUBLED, options=("--list",))
    assert "flax_impl/loss-doubled\n  loss-doubled.\n  hello-rnn-cell, float64: gradients, loss\n" in outcome.output
    assert outcome.report == {}


@pytest.mark.parametrize(
    ("departs", "outcome"),
    [
        ("flax_impl", "caught"),
        ("undecided", "caught"),
        ("", "caught"),
        ("torch_impl", "wrong side blamed"),
        ("both", "wrong side blamed"),
    ],
)
def test_blame_has_to_fall_on_the_side_with_the_fault(departs: str, outcome: str):
    place = Place("hello-rnn-cell", "forward", "float64", "own", DEFAULT_IMPLEMENTATIONS)
    departures = [Departure(side="flax_impl", stage="cell.h", tensor="cell.h", wrong=["cell.h"])] if departs else []
    verdict = Verdict(
        experiment="hello-rnn-cell",
        hash="",
        argument="hello-rnn-cell",
        cells=[Cell(check="structure", status="same"), Cell(check="forward", status="different")],
        comparisons=[place.equal("logits", 1.0, 1.0), place.equal("cell.h", 1.0, 2.0)],
        blame=Blame(at_fault=departs, reason="", departures=departures) if departs else None,
    )
    trial = conclude(forward("sine"), verdict, "", 0.0)
    assert trial.outcome == outcome
    found = Findings(schema_version=SCHEMA_VERSION, checks=["forward"], seed=0, seconds=0.0, trials=[trial], clean=[])
    assert found.exit_code == (outcome != "caught")
    if departs:
        text = "\n".join(report.facts(found))
        assert f"blame fell on the side with the fault: {int(departs == 'flax_impl')} of 1" in text
        assert "and on the tensor that the table states: forward 1 of 1" in text


def test_bounds_are_exact():
    assert rate("", 0, 200, lower=False).bound == pytest.approx(1 - 0.05 ** (1 / 200))
    assert rate("", 10, 10, lower=True).bound == pytest.approx(0.05 ** (1 / 10))
    assert 0.6 < rate("", 9, 10, lower=True).bound < 0.9
    assert (rate("", 0, 0, lower=False).bound, rate("", 0, 0, lower=True).bound) == (1.0, 0.0)


def test_clean_runs_are_spread_over_experiments_and_seeds():
    assert clean_runs(["a", "b"], 5, 3) == [("a", 3), ("a", 4), ("a", 5), ("b", 3), ("b", 4)]
    assert clean_runs(["a", "b"], 0, 0) == []


def test_a_clean_run_without_a_comparison_does_not_count():
    runs = [CleanRun(experiment="a", seed=s, counted=True, comparisons=c) for s, c in enumerate((3, 0, 3))]
    runs.append(CleanRun(experiment="b", seed=0, counted=False, comparisons=3))
    found = Findings(schema_version=SCHEMA_VERSION, checks=[], seed=0, seconds=0.0, trials=[], clean=runs)
    assert found.false_alarms().of == 2


def test_loading_afresh_forgets_the_last_copy(tmp_path: Path):
    names = ["describe", "open"]
    for version in ("one", "two"):
        package = tmp_path / version / "planted_impl"
        package.mkdir(parents=True)
        functions = "".join(
            f"def {name}(*_):\n    from planted_impl.inner import value\n    return value()\n" for name in names
        )
        (package / "__init__.py").write_text(functions)
        (package / "inner.py").write_text(
            f"from functools import cache\n\n@cache\ndef value():\n    return {version!r}\n"
        )
    before = list(sys.path)
    try:
        found = []
        for version in ("one", "two", "one"):
            loaded: Any = implementation.load_afresh(str(tmp_path / version / "planted_impl"))
            found.append((loaded.describe(), loaded.open()))
            assert sys.path == before
        assert found == [("one", "one"), ("two", "two"), ("one", "one")]
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "planted_impl"]:
            del sys.modules[name]


def test_loading_a_module_of_a_package_afresh_leaves_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All that is asked knows the package's classes: `spec.reference` is one of what has the errors, too."""
    package = tmp_path / "kept_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "beside.py").write_text("class Refusal(Exception):\n    pass\n")
    (package / "inner" / "__init__.py").write_text(
        "from kept_package.beside import Refusal\n\ndef describe(*_):\n    return Refusal\n\nopen = describe\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        first: Any = implementation.load("kept_package.inner")
        second: Any = implementation.load_afresh("kept_package.inner")
        assert second is not first
        assert second.describe() is first.describe()
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "kept_package"]:
            del sys.modules[name]
