"""What is shown while a comparison runs: what is running, what is done, how long is left, the first failure at once."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from crosscheck.cli import remaining
from crosscheck.cli.progress import Progress
from crosscheck.cli.remaining import Remaining, about
from crosscheck.judging.verdict import Verdict, judge
from spec import cache

FAKE = Path(__file__).parent / "fake_framework.py"

RunCrosscheck = Callable[..., Any]
Edit = Callable[..., str]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as a list of one, to be set."""
    now = [1000.0]
    monkeypatch.setattr(remaining.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(remaining, "cores", lambda: 2)
    return now


JOBS = {(side, name): ("forward float64",) for side in (0, 1) for name in ("a", "b", "c")}


def test_nothing_is_said_where_nothing_is_known(clock: list[float]) -> None:
    left = Remaining(("one", "two"), {})
    left.plan(JOBS)
    assert left.left().seconds is None
    assert about(left.left().seconds) == ""


def test_what_is_left_follows_from_what_checks_cost_in_this_run(clock: list[float]) -> None:
    left = Remaining(("one", "two"), {})
    left.plan(JOBS)
    for side, cost in ((0, 10.0), (1, 30.0)):
        left.begin(side, "a")
        left.end(side, "a")
        left.measure(side, "a", {"forward float64": cost})
    # Two of each side, on two cores.
    assert left.left().seconds == pytest.approx((2 * 10 + 2 * 30) / 2)
    left.begin(1, "b")
    clock[0] += 20
    assert left.left().seconds == pytest.approx((2 * 10 + 30 + 10) / 2)
    # What takes longer than it should is not done for that.
    clock[0] += 1000
    assert left.left().seconds == pytest.approx(30.0)


def test_an_earlier_run_is_known_from_the_start_and_scaled_by_this_one(clock: list[float]) -> None:
    known = {"one": {"a": {"forward float64": 4.0}, "b": {"forward float64": 40.0}}}
    left = Remaining(("one", "two"), known)
    left.plan({(0, name): ("forward float64",) for name in ("a", "b")})
    assert left.left().seconds == pytest.approx(40.0)
    left.end(0, "a")
    left.measure(0, "a", {"forward float64": 8.0})
    assert left.left().seconds == pytest.approx(80.0)
    left.end(0, "b")
    assert left.left().seconds == 0.0


def test_what_no_earlier_run_has_done_is_a_guess(clock: list[float]) -> None:
    known = {name: {"a": {"forward float64": 4.0}} for name in ("one", "two")}
    left = Remaining(("one", "two"), known)
    left.plan({(0, "a"): ("forward float64",)})
    assert left.left() == (4.0, False)
    left.plan({(0, "a"): ("forward float64",), (1, "b"): ("forward float64",)})
    assert left.left() == (4.0, True)
    assert about(*left.left()) == "a few seconds left"
    assert about(100.0, guessed=True) == "perhaps 2 min left"


def test_larger_experiments_are_guessed_to_take_longer(clock: list[float]) -> None:
    left = Remaining(("one", "two"), {})
    left.plan({(0, name): ("forward float64",) for name in ("a", "b", "c")}, {"a": 1.0, "b": 2.0, "c": 5.0})
    left.end(0, "a")
    left.measure(0, "a", {"forward float64": 10.0})
    assert left.left().seconds == pytest.approx(max((20 + 50) / 2, 50))
    assert remaining.size(3, 400, 1) < remaining.size(13, 1300, 1) < remaining.size(13, 1300, 16)


def test_what_one_side_took_says_what_the_other_will(clock: list[float]) -> None:
    """The first is ahead, and took three times as long for c as for a."""
    left = Remaining(("one", "two"), {})
    left.plan(JOBS)
    for side, name, seconds in ((0, "a", 10.0), (1, "a", 20.0), (0, "b", 10.0), (0, "c", 30.0)):
        left.end(side, name, seconds)
    left.measure(1, "a", {"forward float64": 19.0})
    # b and c are left of the second, which takes twice as long as the first.
    assert left.left().seconds == pytest.approx(max((20 + 60) / 2, 60))


def test_starting_counts_until_a_side_has_answered(clock: list[float]) -> None:
    known = {
        name: {"a": {"forward float64": 4.0}, remaining.STARTING: {remaining.STARTING: 6.0}} for name in ("one", "two")
    }
    left = Remaining(("one", "two"), known)
    left.plan({(side, "a"): ("forward float64",) for side in (0, 1)})
    assert left.left().seconds == pytest.approx((4 + 6 + 4 + 6) / 2)
    clock[0] += 3
    assert left.left().seconds == pytest.approx((4 + 3 + 4 + 3) / 2)
    left.end(0, "a")
    left.measure(0, "a", {"forward float64": 4.0}, starting=5.0)
    # It was quicker by a tenth, so that the other is to be as well.
    assert left.left().seconds == pytest.approx(4.0 * 9 / 10)
    assert left.measured["one"][remaining.STARTING] == {remaining.STARTING: 5.0}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.0, "a few seconds left"),
        (9.9, "a few seconds left"),
        (12.0, "about 10 s left"),
        (88.0, "about 90 s left"),
        (91.0, "about 2 min left"),
        (59 * 60.0, "about 59 min left"),
        (3600.0, "about 1 h left"),
        (5000.0, "about 1 h 20 min left"),
    ],
)
def test_it_is_said_as_roundly_as_it_is_sure(seconds: float | None, words: str) -> None:
    assert about(seconds) == words


def test_costs_are_kept_for_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert remaining.load() == {}
    remaining.keep({"one": {"a": {"forward float64": 1.0}}})
    remaining.keep({"one": {"b": {"forward float64": 2.0}}, "two": {}})
    assert remaining.load() == {"one": {"a": {"forward float64": 1.0}, "b": {"forward float64": 2.0}}, "two": {}}
    (part,) = [part for part in cache.parts() if part.path.name == cache.DURATIONS]
    assert part.files == 1
    for number in range(2 * remaining.MOST):
        remaining.keep({f"other {number}": {}})
    assert len(remaining.load()) == remaining.MOST
    (tmp_path / "ohlol" / cache.DURATIONS / remaining.FILE).write_text('{"one": 3}')
    assert remaining.load() == {}
    monkeypatch.setenv("OHLOL_KEEP", "false")
    remaining.keep({"one": {}})
    assert "3" in (tmp_path / "ohlol" / cache.DURATIONS / remaining.FILE).read_text()


def test_a_run_leaves_what_its_checks_cost(
    run_crosscheck: RunCrosscheck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run_crosscheck(str(FAKE), "--checks", "forward,round-trip").exit_code == 0
    costs = json.loads((tmp_path / "cache" / "ohlol" / cache.DURATIONS / remaining.FILE).read_text())
    assert costs[str(FAKE)]["short"].keys() >= {"forward float32", "forward float64", "round-trip float64"}
    assert all(seconds >= 0 for seconds in costs[str(FAKE)]["short"].values())
    assert costs[str(FAKE)][remaining.STARTING][remaining.STARTING] > 0


def shown(progress: Progress) -> list[str]:
    """The bars and the line below them."""
    file = io.StringIO()
    assert progress._bars is not None
    console = Console(file=file, width=80, force_terminal=True, color_system=None, _environ={})
    console.print(progress._bars.get_renderable())
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> io.StringIO:
    """What is written above the bars, at 80 columns."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system=None, _environ={})
    monkeypatch.setattr("crosscheck.cli.progress.Console", lambda **given: console)
    return file


def test_a_terminal_shows_what_runs_what_is_done_and_what_is_left(clock: list[float], terminal: io.StringIO) -> None:
    progress = Progress(["torch_impl", "flax_impl"], 3)
    progress.plan(("torch_impl", "flax_impl"), JOBS)
    progress.begun(0, "a")
    progress.begun(1, "a")
    progress.begun(1, "b")
    one, two = shown(progress)
    assert (one.split()[0], one.split()[-1]) == ("torch_impl", "a")
    assert (two.split()[0], two.split()[-2:]) == ("flax_impl", ["a,", "b"])
    for side, label in enumerate(("torch_impl", "flax_impl")):
        progress.recorded(label, "a", 100.0, "")
        progress.measured(side, "a", {"forward float64": 100.0})
    progress.judged(verdict("a", "same"))
    one, two, last = shown(progress)
    assert " 1/3 " in one
    assert one.split()[-1] == "a"
    assert two.split()[-1] == "b"
    assert last == "1 of 3 judged: 1 ok; perhaps 3 min left"
    assert terminal.getvalue() == ""
    for name in ("b", "c"):
        for label in ("torch_impl", "flax_impl"):
            progress.recorded(label, name, 1.0, "")
        progress.judged(verdict(name, "same"))
    assert shown(progress)[-1] == "3 of 3 judged: 3 ok"


def verdict(name: str, status: str) -> Any:
    class Made:
        experiment, failures, blame, cells = name, [], None, []

    made = Made()
    made.status = status  # pyright: ignore[reportAttributeAccessIssue]
    return made


def test_the_first_failure_is_told_at_once_and_once(
    run_crosscheck: RunCrosscheck, fake: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a log here; what stands above the bars on a terminal is printed by the same lines."""
    told: list[Verdict] = []

    def noticed(*arguments: Any) -> Verdict:
        told.append(judge(*arguments))
        return told[-1]

    monkeypatch.setattr("crosscheck.cli.run.judge", noticed)
    wrong = fake(("    loss = sum(", "    found['head.bias'] = found['head.bias'] * 2\n    loss = sum("))
    outcome = run_crosscheck(wrong, "--checks", "gradients")
    lines = [line for line in outcome.errors.splitlines() if line.strip()]
    assert re.match(r"\[1/1\] FAIL short: in gradients; .* recorded in .* s; .* recorded in .* s$", lines[-2])
    (found,) = told
    assert found.blame
    first = found.failures[0]
    assert lines[-1].startswith(f"  first failure: gradients, {first.precision} {first.case}: {first.tensor}[")
    assert lines[-1].endswith(f"at fault: {found.blame.at_fault}")
    progress = Progress(["one", "two"], 2)
    file = io.StringIO()
    progress._console = Console(file=file, width=80)
    progress.judged(found)
    progress.judged(found)
    assert file.getvalue().count("first failure") == 1
    assert file.getvalue().count("FAIL") == 2


def test_a_log_has_a_line_an_experiment(run_crosscheck: RunCrosscheck) -> None:
    outcome = run_crosscheck(str(FAKE), "--checks", "forward")
    (line,) = outcome.errors.splitlines()
    assert line.startswith("[1/1] ok short: 1 check; ")
    assert line.count("recorded in") == 2


def test_a_pair_s_checks_are_estimated_by_the_last_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: io.StringIO
) -> None:
    from crosscheck.pair.command import PairProgress
    from crosscheck.pair.ladder import CHECKS
    from crosscheck.pair.result import CheckCell

    console = Console(file=terminal, width=80, force_terminal=True, color_system=None, _environ={})
    monkeypatch.setattr("crosscheck.pair.command.Console", lambda **given: console)
    first = PairProgress(tmp_path / "my_pair.py")
    assert first._left.seconds() is None
    for check in CHECKS:
        first.done(CheckCell(check=check, status="same", seconds=10.0))
    assert first._left.seconds() == 0.0
    assert terminal.getvalue() == ""
    first.__exit__()
    second = PairProgress(tmp_path / "my_pair.py")
    assert second._left.seconds() == 10.0 * len(CHECKS)
    # Slower than the last time, and all of it will be.
    second.done(CheckCell(check=CHECKS[0], status="different", seconds=20.0, text="parts"))
    assert second._left.seconds() == 20.0 * (len(CHECKS) - 1)
    (line,) = [line for line in terminal.getvalue().splitlines() if line.strip()]
    assert line.startswith(f"[1/{len(CHECKS)}] FAIL {CHECKS[0]} in 20.0 s: parts")
    assert second._status is not None
    second.say("forward [of both]")
    terminal.truncate(0)
    console.print(second._status.renderable)
    assert f"[2/{len(CHECKS)}] forward [of both]; about 3 min left" in terminal.getvalue()
    assert PairProgress(tmp_path / "another.py")._left.seconds() is None
