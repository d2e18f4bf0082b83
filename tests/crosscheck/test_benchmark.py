"""Measuring in turns: the order, the statistics, the files, and what becomes of contenders that fail. No time is
asserted: the fake contenders sleep, and write down when they are called.
"""

import json
import shutil
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from crosscheck.benchmark import command
from crosscheck.benchmark.report import duration
from crosscheck.benchmark.result import BenchmarkRow, Contender, Round, check, ratio, share_of_peak, spread
from crosscheck.benchmark.targets import TARGETS, Faster, Growth
from crosscheck.benchmark.turns import FEWEST, takes_part
from crosscheck.cli.command import main
from spec import cache
from spec.benchmark import PEAK, WORKLOADS, Layer, Product

FAKE = Path(__file__).parent / "fake_framework.py"

BENCHMARK = """
import os
import time

import numpy as np

from spec.benchmark import Planned, Prepared
from spec.errors import Unsupported

def contenders(workload):
    return CONTENDERS

def prepare(contender, workload, settings):
    def run(repetitions):
        with open(os.environ["FAKE_LOG"], "a") as log:
            log.write(f"{workload.name}/{contender}\\n")
        time.sleep(0.04 * repetitions)
    return Prepared(run, lambda: {}, planned=lambda: Planned(100 * workload.size, 1))
"""

SMALL = (Product(name="one", size=2), Product(name="two", size=3))

Measure = Callable[..., tuple[int, dict[str, Any]]]
Make = Callable[..., str]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make a package that is an implementation with a benchmark; edits: of its benchmark.py."""
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))

    def build(name: str, contenders: tuple[str, ...], *edits: tuple[str, str]) -> str:
        package = tmp_path / "implementations" / name
        package.mkdir(parents=True)
        shutil.copy(FAKE, package / "__init__.py")
        text = BENCHMARK
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        (package / "benchmark.py").write_text(f"CONTENDERS = {contenders!r}\n{text}")
        return str(package)

    return build


@pytest.fixture
def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measure:
    """Run the command on two implementations; its exit code, and bench.json."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(
        first: str, second: str, *options: str, workloads: Any = SMALL, targets: Any = ()
    ) -> tuple[int, dict[str, Any]]:
        out = tmp_path / "report"
        arguments = ["--implementations", first, second, "--out", str(out), "--threads", "1", *options]
        code = command.carry_out(command.parser().parse_args(arguments), workloads, targets, enough=0.0)
        return code, json.loads((out / "bench.json").read_text())

    return run


def contender(name: str, *walls: float, **fields: Any) -> Contender:
    rounds = [Round(number, wall, wall / 2) for number, wall in enumerate(walls)]
    return Contender(name=name, implementation="side", rounds=rounds, **fields)


def layer(time: int, *contenders: Contender) -> BenchmarkRow:
    sizes = {"time": time, "batch": 1, "features": 2, "hidden": 3}
    name = f"gru-time-{time}"
    return BenchmarkRow(Layer(name=name, cell="GRU", gradients=False, series="time", **sizes), list(contenders))  # type: ignore[arg-type]


def test_contenders_take_turns_and_another_one_begins_each_round(make: Make, measure: Measure, tmp_path: Path):
    first, second = make("fake_first", ("fake_first",)), make("fake_second", ("fake_second", "stock"))
    code, report = measure(first, second, "--rounds", str(FEWEST))
    assert code == 0
    called = [line.split("/")[1] for line in (tmp_path / "log").read_text().splitlines() if line.startswith("one/")]
    # What comes before is the preparation, and the last three are weighed.
    turns = called[-3 * FEWEST - 3 : -3]
    rounds = [turns[at : at + 3] for at in range(0, len(turns), 3)]
    names = ["fake_first", "fake_second", "stock"]
    assert rounds == [names[number % 3 :] + names[: number % 3] for number in range(FEWEST)]
    found = report["rows"][0]["contenders"]
    assert [entry["name"] for entry in found] == names
    assert all([each["number"] for each in entry["rounds"]] == list(range(FEWEST)) for entry in found)
    assert report["subject"] == "fake_second"
    assert [entry["against"] for entry in report["rows"][0]["ratios"]] == ["fake_first", "stock"]


def test_two_sides_of_one_name_are_told_apart(make: Make, measure: Measure):
    path = make("fake_first", ("fake_first",))
    _, report = measure(path, path, "--rounds", "1", workloads=SMALL[:1])
    names = [entry["name"] for entry in report["rows"][0]["contenders"]]
    assert names == [f"fake_first of {path} (first)", f"fake_first of {path} (second)"]
    assert report["subject"] == names[1]


def test_the_files(make: Make, measure: Measure, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first, second = make("fake_first", ("fake_first",)), make("fake_second", ("fake_second",))
    targets = [Faster("one", "fake_first", 1e9, "fake_second"), Faster("two", "fake_first", 0.0, "fake_second")]
    code, report = measure(first, second, "--rounds", "2", targets=targets)
    assert code == 0, "a target that is missed is no failure"
    assert [target["reached"] for target in report["targets"]] == [False, True]
    captured = capsys.readouterr()
    assert "[1/2] one: " in captured.err
    assert "missed: one: fake_second, times as fast as fake_first: expected at least 1000000000, got " in captured.out
    assert "1 of 2 targets reached, 2 workloads" in captured.out
    text = (tmp_path / "report" / "bench.md").read_text()
    assert "| two | " in text
    assert "| **missed** | one |" in text
    assert "bench.png" in text
    assert (tmp_path / "report" / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == sorted(command.FILES)
    assert "OMP_NUM_THREADS=1" in report["limits"][second]
    assert report["rows"][0]["contenders"][0]["temporary_bytes"] == 200


def test_every_target_is_for_something():
    for target in TARGETS:
        patterns = [target.workloads] if isinstance(target, Faster) else [target.first, target.last]
        assert all(any(fnmatchcase(workload.name, pattern) for workload in WORKLOADS) for pattern in patterns), target


def test_json_on_standard_output(make: Make, measure: Measure, capsys: pytest.CaptureFixture[str]):
    first, second = make("fake_first", ("fake_first",)), make("fake_second", ("fake_second",))
    _, report = measure(first, second, "--rounds", "1", "--json", workloads=SMALL[:1])
    assert json.loads(capsys.readouterr().out) == report


@pytest.mark.parametrize("place", [None, "/mine"])
def test_nothing_is_taken_from_compilations_that_were_kept(
    place: str | None, make: Make, measure: Measure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ((name, value),) = cache.NOTHING_KEPT.items()
    monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    if place:
        monkeypatch.setenv(cache.VARIABLE, place)
    told = f"{{os.environ.get({name!r})}} {{os.environ.get({cache.VARIABLE!r})}}"
    path = make("fake_first", ("fake_first",), ("{workload.name}/{contender}", told))
    measure(path, path, "--rounds", "1", workloads=SMALL[:1])
    assert set((tmp_path / "log").read_text().splitlines()) == {f"{value} {place}"}


def test_a_worker_that_dies_is_started_again(make: Make, measure: Measure):
    dies = (
        "    def run(",
        "    if workload.name == 'one' and contender == 'bad': os.kill(os.getpid(), 9)\n    def run(",
    )
    first, second = make("fake_first", ("fake_first",)), make("fake_second", ("fake_second", "bad", "late"), dies)
    code, report = measure(first, second, "--rounds", "1")
    assert code == 3
    one, two = ({entry["name"]: entry for entry in row["contenders"]} for row in report["rows"])
    assert one["bad"]["lost"] == "its process was killed by SIGKILL"
    assert one["fake_second"]["lost"] == "went with bad at one: its process was killed by SIGKILL"
    assert one["late"]["rounds"], "it was not ready yet, and a new worker made it so"
    assert one["fake_first"]["rounds"]
    assert all(entry["rounds"] and not entry["lost"] for entry in two.values())


@pytest.mark.long
def test_a_worker_that_never_answers(make: Make, measure: Measure):
    hangs = ("        time.sleep(", "        time.sleep(60 if contender == 'bad' else 0)\n        time.sleep(")
    first, second = make("fake_first", ("fake_first",)), make("fake_second", ("bad",), hangs)
    code, report = measure(first, second, "--rounds", "1", "--timeout", "10", workloads=SMALL[:1])
    assert code == 3
    assert report["rows"][0]["contenders"][1]["lost"] == "no answer within 10 s"


def test_what_a_contender_lacks_is_said(make: Make, measure: Measure, capsys: pytest.CaptureFixture[str]):
    lacks = ("    def run(", "    if contender == 'bad': raise Unsupported('no products')\n    def run(")
    first, second = make("fake_first", ("fake_first",)), make("fake_second", ("fake_second", "bad"), lacks)
    code, report = measure(first, second, "--rounds", "1", workloads=SMALL[:1])
    assert code == 3
    assert "not measured: one, bad: Unsupported: no products" in capsys.readouterr().out
    assert [entry["against"] for entry in report["rows"][0]["ratios"]] == ["fake_first"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workloads", "gru-*", "grru-*"], "--workloads: expected patterns of product-1024, "),
        (["--workloads", "text-*", "--quick"], "--quick: expected workloads among product-*"),
        (["--threads", "100000"], "--threads: expected at most "),
        (["--implementations", "no_such_module", str(FAKE)], "expected an importable module, got 'no_such_module'"),
        (["--implementations", str(FAKE), str(FAKE)], "expected a file benchmark.py in it with the functions of "),
    ],
)
def test_usage_errors_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["bench", *arguments, "--out", str(tmp_path)]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_written_is_known_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "taken").write_text("")
    assert main(["bench", "--out", str(tmp_path / "taken")]) == 2
    assert "--out: expected a directory to write to, got " in capsys.readouterr().err


def test_a_framework_that_is_missing(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first = make("fake_first", ("fake_first",), ("import numpy as np\n", "import no_such_framework\n"))
    (tmp_path / "bench.md").write_text("an older run's")
    assert main(["bench", "--implementations", first, first, "--out", str(tmp_path)]) == 3
    assert "expected no_such_framework to be installed" in capsys.readouterr().err
    assert not (tmp_path / "bench.md").exists()


def test_list(capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "--list", "--workloads", "hello-*", "gru-time-2048"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "product-1024",
        "gru-time-2048",
        "hello-rnn",
        "hello-lstm",
        "hello-gru",
    ]
    assert "at least 100 times as fast as torch_impl" in lines[-1]


def test_the_peak_comes_along_where_shares_of_it_can_be_stated():
    def names(*patterns: str) -> list[str]:
        return [workload.name for workload in command.choose(WORKLOADS, patterns, quick=False)]

    assert names("gru-tiny-forward") == [PEAK.name, "gru-tiny-forward"]
    assert names("hello-gru") == ["hello-gru"]
    assert names("product-*") == [PEAK.name]


def test_medians_and_quartiles():
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == spread([1.0, 2.0, 3.0, 4.0, 5.0])
    found = spread([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.median, found.low, found.high) == (3.0, 2.0, 4.0)
    assert spread([7.0]).low == spread([7.0]).high == 7.0


def test_ratios_are_taken_within_a_round():
    # A disturbance of the last two rounds hits both; medians of times, 2 and 20, would give another ratio.
    found = ratio(contender("own", 1, 1, 2, 10, 10), contender("other", 2, 2, 4, 20, 20))
    assert (found.against, found.wall.low, found.wall.median, found.wall.high) == ("other", 2, 2, 2)
    assert found.cpu.median == 2


def test_ratios_of_the_rounds_that_both_have():
    other = contender("other", 3, 3, 3)
    other.rounds = [Round(1, 30.0, 0.0), Round(7, 1.0, 0.0)]
    found = ratio(contender("own", 1, 10, 1), other)
    assert found.wall.median == 3
    assert found.cpu.median == 0


def test_one_who_is_lost_has_no_ratio():
    row = layer(5, contender("own", 1), contender("other", 1, lost="gone"))
    assert row.ratios("own") == []
    assert row.ratios("other") == []
    assert row.contender("other") is None


def test_compilation_is_what_the_first_one_took_longer():
    # A repetition does half of the workload, which takes 2 seconds.
    assert contender("own", 2, 2, first_seconds=5.0, share=0.5).compile_seconds == 4.0
    assert contender("own", 2, 2, first_seconds=0.5).compile_seconds == 0.0


def test_the_share_of_the_peak():
    row = layer(5, contender("own", 0.5))
    assert row.workload.operations == 2 * 5 * 9 * (2 + 3)
    assert share_of_peak(row, row.contenders[0], 1800.0) == 0.5
    assert share_of_peak(row, row.contenders[0], None) is None


def test_a_workload_that_takes_long_gets_fewer_rounds_spread_evenly():
    assert [number for number in range(15) if takes_part(number, 5, 15)] == [2, 5, 8, 11, 14]
    assert all(takes_part(number, 15, 15) for number in range(15))
    assert not any(takes_part(number, 0, 15) for number in range(15))


@pytest.mark.parametrize(("wanted", "reached"), [(1.9, True), (2.0, True), (2.1, False)])
def test_a_target_for_speed(wanted: float, reached: bool):
    rows = [layer(64, contender("flax_impl", 1, 1), contender("flax.nnx", 2, 2))]
    (found,) = check(rows, [Faster("gru-*", "flax.nnx", wanted), Faster("lstm-*", "flax.nnx", 1.0)])
    assert (found.workload, found.reached, found.got.median) == ("gru-time-64", reached, 2.0)


@pytest.mark.parametrize(("quantity", "grown"), [("seconds", 10.0 / 8), ("memory", 6.0 / 8), ("temporary", 4.0 / 8)])
def test_a_target_for_growth(quantity: Any, grown: float):
    small = contender("flax_impl", 1, temporary_bytes=10, result_bytes=10, peak_bytes=1)
    large = contender("flax_impl", 10, temporary_bytes=40, result_bytes=80, peak_bytes=99)
    rows = [layer(256, small), layer(2048, large)]
    (found,) = check(rows, [Growth("gru-time-256", "gru-time-2048", quantity, grown)])
    assert found.got.median == grown
    assert found.reached
    (found,) = check(rows, [Growth("gru-time-256", "gru-time-2048", quantity, grown * 0.99)])
    assert not found.reached
    assert check(rows[:1], [Growth("gru-time-256", "gru-time-2048", quantity, 1.0)]) == []


def test_memory_is_the_process_s_where_no_compiler_says():
    assert contender("own", 1, peak_bytes=7).memory == 7
    assert contender("own", 1).memory is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s"), (5e-9, "5 ns"), (0.00012345, "123 us"), (0.9999, "1 s"), (0.0123, "12.3 ms"), (1234.5, "1234 s")],
)
def test_durations(seconds: float, text: str):
    assert duration(seconds) == text
