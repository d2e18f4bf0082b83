"""crosscheck explore: what it draws, counted without running; and that it finds, shrinks and writes down a fault."""

import contextlib
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import pytest
from msgspec import inspect

from crosscheck.cli import command
from crosscheck.cli.command import main
from crosscheck.explore import drawing, run, shrinking
from crosscheck.explore.coverage import covered, options, settings, taken
from crosscheck.explore.drawing import Drawn, Impossible, build, draw, replay
from crosscheck.explore.findings import Looked, conclude
from crosscheck.faults import plant, table
from crosscheck.faults.fault import Edit
from spec import cache
from spec import experiment as experiments
from spec.experiment import Experiment
from spec.models import Embedding, Features
from spec.models.base import Size
from spec.models.recurrent import Recurrent
from spec.models.rnn import RNNCell
from spec.options import OPTIONS
from spec.training import SGD, Adam, AdamW, MeanSquaredError, WarmUp
from spec.typical import typical
from tests.crosscheck.conftest import FAKE
from tests.crosscheck.conftest import Edit as Edited

ROOT = Path(__file__).parents[2]

IN_TEN_MINUTES = 150
"""Experiments that --minutes 10 comes to on two cores, at 8 s each on one of them: see docs/crosscheck.md."""

SEEDS = range(6)


@pytest.fixture(scope="session")
def samples() -> list[list[Experiment]]:
    """What ten minutes come to with each of a few seeds; no more of it than shows all that is looked for."""

    def one(seed: int) -> list[Experiment]:
        missing, found = list(NEVER_VARIED.values()), []
        while missing and len(found) < IN_TEN_MINUTES:
            found.append(draw(seed, len(found)).experiment)
            missing = [holds for holds in missing if not holds(found[-1])]
        return found

    return [one(seed) for seed in SEEDS]


def model(experiment: Experiment, name: str, default: Any = None) -> Any:
    return getattr(experiment.model, name, default)


def optimizer(experiment: Experiment, name: str, default: Any = None) -> Any:
    return getattr(experiment.training.optimizer, name, default)


def widths(experiment: Experiment) -> set[int]:
    names = ("hidden_size", "feed_forward_size")
    inputs = {experiment.model.inputs.size} if isinstance(experiment.model.inputs, Embedding) else set()
    return inputs | {model(experiment, name) for name in names if model(experiment, name)}


def drops(experiment: Experiment, **others: Any) -> bool:
    return model(experiment, "dropout", 0) > 0 and all(model(experiment, n) == value for n, value in others.items())


def kind(experiment: Experiment) -> str:
    return type(experiment.model).__name__


NEVER_VARIED: dict[str, Callable[[Experiment], bool]] = {
    "attention dropout": lambda e: model(e, "attention_dropout", 0) > 0,
    "one head": lambda e: model(e, "heads") == 1,
    "more than two heads": lambda e: model(e, "heads", 0) > 2,
    "another feed-forward size": lambda e: model(e, "feed_forward_size", 16) != 16,
    "epsilon of a norm": lambda e: model(e, "layer_norm_epsilon", 1e-5) != 1e-5,
    "base of the positions": lambda e: model(e, "positions") == "sinusoidal" and e.model.position_base != 1e4,
    "Adam's beta1": lambda e: isinstance(e.training.optimizer, Adam) and optimizer(e, "beta1") != 0.9,
    "Adam's beta2": lambda e: isinstance(e.training.optimizer, Adam) and optimizer(e, "beta2") != 0.999,
    "Adam's epsilon": lambda e: isinstance(e.training.optimizer, Adam) and optimizer(e, "epsilon") != 1e-8,
    "AdamW's betas": lambda e: isinstance(e.training.optimizer, AdamW) and optimizer(e, "beta1") != 0.9,
    "weight decay": lambda e: optimizer(e, "weight_decay", 0.01) not in (0.0, 0.01),
    "warm-up with Adam": lambda e: isinstance(e.training.schedule, WarmUp) and isinstance(e.training.optimizer, Adam),
    "warm-up with SGD": lambda e: isinstance(e.training.schedule, WarmUp) and isinstance(e.training.optimizer, SGD),
    "clipping with momentum": lambda e: e.training.clipping is not None and bool(optimizer(e, "momentum")),
    "batch of 1": lambda e: e.task.batch_size == 1,
    "3 steps": lambda e: e.task.length == 3,
    "5 steps": lambda e: e.task.length == 5,
    **{f"{size} wide": lambda e, size=size: model(e, "hidden_size") == size for size in (2, 3, 4, 5, 7, 8, 9, 16)},
    "max_length equal to the steps": lambda e: e.model.max_length == e.task.length,
    "max_length beyond the steps": lambda e: (e.model.max_length or 0) > e.task.length,
    "dropout in a GRU": lambda e: kind(e) == "GRU" and drops(e),
    "dropout in an RNN": lambda e: kind(e) == "RNN" and drops(e),
    "dropout in both directions": lambda e: drops(e, bidirectional=True),
    "dropout in three layers": lambda e: isinstance(e.model, Recurrent) and drops(e, num_layers=3),
    "embedding in a recurrence beside the RNN": lambda e: (
        kind(e) in ("GRU", "LSTM", "RNNCell") and isinstance(e.model.inputs, Embedding)
    ),
    "embedding in an attention": lambda e: (
        kind(e) in ("SelfAttention", "MultiHeadAttention", "LSTMAttention") and isinstance(e.model.inputs, Embedding)
    ),
    "embedding in a Transformer": lambda e: kind(e) == "TransformerEncoder" and isinstance(e.model.inputs, Embedding),
    "embedding in an encoder and decoder": lambda e: (
        kind(e) == "EncoderDecoder" and isinstance(e.model.inputs, Embedding)
    ),
    "RNNCell with relu": lambda e: isinstance(e.model, RNNCell) and e.model.nonlinearity == "relu",
    "odd batch": lambda e: e.task.batch_size % 2 == 1 and e.task.batch_size > 1,
    "steps equal to a width": lambda e: e.task.length > 1 and e.task.length in widths(e),
    "steps equal to the batch": lambda e: e.task.length == e.task.batch_size > 1,
    "11 layers or more": lambda e: model(e, "num_layers", 1) >= 11,
}
"""What the shipped experiments have in one form alone, and coincidences that hide errors."""


@pytest.mark.long
@pytest.mark.parametrize("what", NEVER_VARIED)
def test_ten_minutes_come_to_what_was_never_varied(samples: list[list[Experiment]], what: str):
    seen = sum(any(map(NEVER_VARIED[what], sample)) for sample in samples)
    assert seen >= len(SEEDS) - 1


@pytest.mark.long
def test_every_option_of_the_spec_is_drawn_and_takes_more_than_one_value(samples: list[list[Experiment]]):
    values = covered(one for sample in samples for one in sample).values
    assert set(values) == set(options())
    # A record that stands alone, such as the loss, is no choice.
    alone = {"Experiment.training", "Training.loss"}
    # Few models fit being tied, which is one option wherever it is taken.
    tied = {name for name in values if name.endswith(".tied")}
    assert any(len(values[name]) > 1 for name in tied)
    assert [name for name, taken in values.items() if len(taken) < 2 and name not in alone | tied] == []


def test_an_experiment_is_a_function_of_its_seed_and_number():
    assert draw(3, 5) == draw(3, 5)
    drawn = {draw(seed, number).experiment.hash for seed in range(3) for number in range(20)}
    assert len(drawn) > 50


def test_the_draw_depends_on_nothing_that_was_drawn_before_or_imported_since():
    script = "from crosscheck.explore.drawing import draw; print(draw(3, 5).experiment.hash)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == draw(3, 5).experiment.hash


def test_files_say_all_of_an_experiment():
    for experiment in (draw(0, number).experiment for number in range(40)):
        assert experiments.parse(experiments.to_toml(experiment), experiment.name) == experiment
    for name in experiments.shipped():
        shipped = experiments.load(name)
        assert experiments.parse(experiments.to_toml(shipped), name) == shipped


def test_choices_are_an_experiment():
    drawn = draw(0, 1)
    # Those of the attempt that came to it.
    assert replay(drawn.experiment.name, drawn.choices) == drawn
    # Of another version of the spec: too few, and some that there are not.
    for other in (drawn.choices[:10], [10**6] * 100):
        with contextlib.suppress(Impossible):
            assert replay("old", other).experiment.name == "old"


class Novel(msgspec.Struct, frozen=True, tag_field="name"):
    """A record that nobody has ever drawn."""

    width: Size
    slope: Annotated[float, msgspec.Meta(gt=0), typical(0.5, 2.0)] = 1.0
    shape: bool = True


class Silent(msgspec.Struct, frozen=True):
    slope: Annotated[float, msgspec.Meta(gt=0)]


def record_of(kind: type) -> inspect.StructType:
    found = inspect.type_info(kind)
    assert isinstance(found, inspect.StructType)
    return found


def test_a_new_record_is_drawn_without_an_edit():
    drawn = []
    for number in range(50):
        one = drawing._Drawing(random.Random(number).randrange)
        drawn.append(msgspec.convert(one.record(record_of(Novel)), Novel))
    assert {one.slope for one in drawn} == {0.5, 1.0, 2.0}
    assert {one.shape for one in drawn} == {True, False}
    assert len({one.width for one in drawn}) > 5


def test_a_field_that_does_not_say_what_it_takes_is_named():
    with pytest.raises(TypeError, match=r"slope: expected typical values beside the field"):
        drawing._Drawing(lambda count: 0).record(record_of(Silent))


def test_the_simplest_choices_are_the_simplest_experiment():
    experiment = build("simplest", lambda count: 0)
    assert isinstance(experiment.model, RNNCell)
    assert settings(experiment) <= {
        "Experiment.model = RNNCell",
        "Experiment.task = Spelling",
        "Experiment.training",
        "RNNCell.inputs = Features",
        "Training.loss = CrossEntropy",
        "Training.optimizer = Adam",
        "Training.schedule = Constant",
        "RNNCell.classes",
        "Features.size",
    }


def test_squares_are_drawn_where_a_step_has_a_limit():
    drawn = [draw(3, number).experiment for number in range(60)]
    squares = [one for one in drawn if isinstance(one.training.loss, MeanSquaredError)]
    assert {type(one.task).__name__ for one in squares} >= {"Noise", "Oscillation"}
    assert all(one.task.numeric for one in squares)
    assert {one.training.loss.reduction for one in squares} == {"mean", "sum"}
    astray = experiments.override(squares[0], training__optimizer={"name": "SGD", "learning_rate": 0.1})
    assert not experiments.override(astray, training__clipping=None).steps_bounded
    assert all(one.steps_bounded for one in drawn)


def test_coverage_counts_values_pairs_and_coincidences():
    start = build("one", lambda count: 0)
    warm = experiments.override(start, training__schedule={"name": "WarmUp", "steps": 5})
    found = covered([start, warm, experiments.override(warm, training__optimizer__beta1=0.5)])
    assert found.experiments == 3
    assert found.values["Training.schedule"] == {"Constant": 1, "WarmUp": 2}
    assert found.values["Adam.beta1"] == {"0.5": 1, "0.9": 2}
    assert found.values["GRU.head"] == {}
    assert ("Adam.beta1", "WarmUp.steps", 1) in found.pairs
    assert ("Adam.beta1", "Training.schedule = Constant") in found.never
    # Of two records that exclude each other nothing can meet.
    assert not any("Constant" in one and "WarmUp" in two for one, two in found.never)
    assert found.coincidences["input_size = classes"] == 3
    assert found.coincidences["batch_size = 1"] == 3
    assert dict(taken(warm))["WarmUp.steps"] == "5"


def shrunk(holds: Callable[[Experiment], bool], place: Path, seconds: float = 300.0) -> tuple[Drawn, Drawn]:
    """The first experiment for which it holds, and the smallest."""
    first = next(one for one in (draw(1, number) for number in range(500)) if holds(one.experiment))
    return first, shrinking.shrink(first, holds, seconds, place)


def test_a_failing_experiment_is_shrunk_to_the_options_that_it_needs(tmp_path: Path):
    first, smallest = shrunk(lambda e: kind(e) == "GRU" and drops(e) and e.model.num_layers >= 3, tmp_path)
    assert len(smallest.choices) <= len(first.choices)
    assert (model(smallest.experiment, "num_layers"), model(smallest.experiment, "dropout")) == (3, 0.1)
    simplest = settings(build("simplest", lambda count: 0))
    left, before = settings(smallest.experiment) - simplest, settings(first.experiment) - simplest
    assert {"Experiment.model = GRU", "GRU.num_layers", "GRU.dropout"} <= left
    # How many are left beside them is not always the same: hypothesis' passes are random.
    assert len(left) <= len(before) / 2


def test_an_option_of_the_recipe_is_left_alone_on_the_simplest_model(tmp_path: Path):
    # Hypothesis' passes are random: of 24 runs one ended on another model of few choices.
    for _ in range(3):
        _, smallest = shrunk(
            lambda e: isinstance(e.training.optimizer, AdamW) and optimizer(e, "weight_decay") > 0.05, tmp_path
        )
        if kind(smallest.experiment) == "RNNCell":
            break
    assert kind(smallest.experiment) == "RNNCell"
    assert optimizer(smallest.experiment, "weight_decay") == 0.1
    assert "weight_decay = 0.1" in experiments.to_toml(smallest.experiment)


def test_shrinking_ends_when_its_time_is_up(tmp_path: Path):
    tried = []

    def slowly(experiment: Experiment) -> bool:
        tried.append(experiment)
        time.sleep(0.05)
        return isinstance(experiment.model.inputs, Features)

    first = draw(1, 0)
    begin = time.monotonic()
    smallest = shrinking.shrink(first, slowly, 0.3, tmp_path)
    assert time.monotonic() - begin < 10
    assert 1 <= len(tried) <= 10
    assert smallest.experiment.name == first.experiment.name


def test_failing_experiments_are_kept_for_the_next_run(tmp_path: Path):
    drawn = draw(0, 3)
    shrinking.FailingBefore(tmp_path / "kept").keep(drawn)
    kept = shrinking.FailingBefore(tmp_path / "kept")
    ((saved, again),) = kept.drawn()
    assert again.choices == drawn.choices
    assert again.experiment == msgspec.structs.replace(drawn.experiment, name=again.experiment.name)
    kept.forget(saved)
    assert list(shrinking.FailingBefore(tmp_path / "kept").drawn()) == []


def test_impossible_choices_are_no_experiment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drawing, "refused", lambda raw: "training.epochs")
    with pytest.raises(Impossible):
        build("never", lambda count: 0)


class Planted(NamedTuple):
    """A fault in a copy of torch_impl that no shipped experiment shows, and where it lives.

    holds: of the experiments that are drawn; the rest of the space is left out, so that a test takes seconds. Those of
    all other options are in crosscheck/faults/table/unvaried.py, see tests/explore_faults.py.
    """

    file: str
    edit: tuple[str, str]
    check: str
    holds: Callable[[Experiment], bool]
    named: tuple[str, ...]


PLANTED = Planted(
    "transformer.py",
    ("layer_norm_eps=spec.layer_norm_epsilon", "layer_norm_eps=1e-5"),
    "forward",
    # torch is handed no masks of attention weights, and leaves the rest of forward out.
    lambda e: kind(e) == "TransformerEncoder" and e.model.parameter_count < 300 and not e.model.attention_dropout,
    ('name = "TransformerEncoder"', "layer_norm_epsilon = "),
)
"""The norm's epsilon is a literal."""


ATTEMPTS = 12


@pytest.fixture
def narrowed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Experiment], bool]], None]:
    """Draw only experiments for which that holds, and shrink by a few attempts: however busy the machine, so many."""

    def shrunk_a_little(drawn: Drawn, fails: Callable[[Experiment], bool], seconds: float, place: Path) -> Drawn:
        attempts = iter(range(ATTEMPTS))
        return shrinking.shrink(drawn, lambda e: next(attempts, None) is not None and fails(e), seconds, place)

    def narrow(holds: Callable[[Experiment], bool]) -> None:
        found = (one for one in (draw(0, number) for number in range(2000)) if holds(one.experiment))
        monkeypatch.setattr(run, "draw", lambda seed, number: next(found))
        monkeypatch.setattr(run, "shrink", shrunk_a_little)
        monkeypatch.setattr(run, "SHRUNK", 1)
        # Workers of one pair are enough, and to start others takes longer than what they would do.
        monkeypatch.setattr(run, "cores", lambda: 1)

    return narrow


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where failing experiments are kept, for the test alone."""
    # Another environment, so that no worker is lent: one that is given back in the midst of an experiment that is being
    # shrunk would answer the next test with it.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "explored", lambda: tmp_path / "explored")
    return tmp_path / "explored"


def planted(file: str, old: str, new: str, directory: Path) -> str:
    """A copy of torch_impl with that edit."""
    fault = table.FAULTS[0]._replace(implementation="torch_impl", edits=(Edit(file, old, new),))
    return str(plant.plant(fault, ROOT / "torch_impl", directory))


def explore(out: Path, *options: str) -> tuple[int, dict[str, Any]]:
    code = main(["explore", "--out", str(out), *options])
    return code, json.loads((out / "explore.json").read_text())


@pytest.mark.long
@pytest.mark.needs("torch")
def test_a_fault_that_no_shipped_experiment_shows_is_found_and_its_option_named(
    narrowed: Any, no_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    fault = PLANTED
    narrowed(fault.holds)
    copy = planted(fault.file, *fault.edit, tmp_path / "planted")
    sides = ["--implementations", copy, "spec.reference", "--checks", fault.check, "--precision", "float64"]
    code, report = explore(tmp_path / "out", "--experiments", "2", *sides)
    assert code == 1
    failure = report["failures"][0]
    text = (tmp_path / "out" / Path(failure["file"]).name).read_text()
    assert [part for part in fault.named if part not in text] == []
    begun, smallest = failure["sizes"]
    assert smallest <= begun
    assert failure["tried"] > 3
    # What is shown is what a comparison shows, with a command that fails again.
    shown = capsys.readouterr().out
    (command,) = re.findall(r"reproduce +python -m crosscheck (.*)", shown)[:1]
    assert failure["file"] in command
    assert main([*shlex.split(command), "--out", str(tmp_path / "again")]) == 1
    assert "## Coverage" in (tmp_path / "out" / "explore.md").read_text()


INPUTS = "    inputs = batch.inputs.astype(settings.precision)\n"
"""The first line of the fake implementation's forward pass."""


@pytest.mark.long
def test_a_run_begins_with_what_failed_before(narrowed: Any, no_cache: Path, tmp_path: Path, fake: Edited):
    smallest = next(
        one
        for one in (draw(0, number) for number in range(500))
        if kind(one.experiment) == "GRU" and one.experiment.has_numeric_inputs
    )
    narrowed(lambda e: kind(e) == "RNNCell")
    shrinking.FailingBefore(no_cache).keep(smallest)
    copy = fake((INPUTS, INPUTS + "    inputs = inputs * (1 + hasattr(experiment.model, 'num_layers'))\n"))
    sides = ["--implementations", copy, str(FAKE), "--checks", "forward", "--precision", "float64"]
    code, report = explore(tmp_path / "out", "--experiments", "1", *sides)
    assert [one["number"] for one in report["looked"]] == [-1, 0]
    assert (code, report["looked"][0]["status"]) == (1, "different")
    # What fails no longer is forgotten.
    code, report = explore(tmp_path / "next", "--experiments", "1", "--implementations", str(FAKE), *sides[2:])
    assert (code, len(report["looked"])) == (0, 2)
    code, report = explore(tmp_path / "last", "--experiments", "1", "--implementations", str(FAKE), *sides[2:])
    assert (code, len(report["looked"])) == (0, 1)


def test_alike_sides_are_the_same_and_leave_nothing_else(
    narrowed: Any, no_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    narrowed(lambda e: e.model.parameter_count < 300)
    sides = ["--implementations", str(FAKE), str(FAKE), "--precision", "float64"]
    checks = ["--checks", "structure,round-trip,forward,loss,optimizer"]
    code, report = explore(tmp_path / "out", "--experiments", "4", *sides, *checks)
    assert code == 0
    assert report["verdict"].startswith("THE SAME in what was drawn: 4 experiments")
    assert [one["status"] for one in report["looked"]] == ["same"] * 4
    assert (report["failures"], report["coverage"]["experiments"]) == ([], 4)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["explore.json", "explore.md"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert "THE SAME in what was drawn" in capsys.readouterr().out


def test_what_a_side_leaves_out_is_no_failure(
    narrowed: Any, no_cache: Path, tmp_path: Path, fake: Edited, capsys: pytest.CaptureFixture[str]
):
    narrowed(lambda e: isinstance(e.model.inputs, Embedding) and e.model.inputs.sparse)
    refusing = fake(
        ("from spec.ensemble", "from spec.errors import Unsupported\nfrom spec.ensemble"),
        (INPUTS, "    raise Unsupported('embedding.scale_grad_by_freq: expected false')\n" + INPUTS),
    )
    sides = ["--implementations", refusing, str(FAKE), "--precision", "float64", "--checks", "forward,gradients"]
    code, report = explore(tmp_path / "out", "--experiments", "2", *sides)
    assert (code, report["failures"]) == (5, [])
    assert all("scale_grad_by_freq" in one["left_out"][0] for one in report["looked"])
    # A line for each reason, and an experiment may have another beside.
    assert sum(map(int, re.findall(r"left out in (\d) of 2: ", capsys.readouterr().out))) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--minutes", "0"], "expected more than 0"),
        (["--minutes", "soon"], "expected more than 0"),
        (["--experiments", "0"], "expected at least 1"),
        (["--checks", "nothing"], "--checks: expected some of"),
        (["--checks", "convergence"], "expected a check that judges one experiment"),
        (["--seed", "-1"], "expected 0 to"),
    ],
)
def test_mistakes_are_told_in_a_line(options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code: Any = None
    try:
        code = main(["explore", "--out", str(tmp_path / "out"), *options])
    except SystemExit as error:
        code = error.code
    errors = capsys.readouterr().err
    assert code == 2
    assert said in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_hypothesis_it_says_how_to_install_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("crosscheck.explore.command.is_installed", lambda name: name != "hypothesis")
    assert main(["explore", "--out", str(tmp_path / "out")]) == 3
    assert "expected hypothesis to be installed, got none; to install it: pip install" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.own_processes
def test_an_interrupted_run_tells_what_it_found_and_leaves_nothing(tmp_path: Path):
    # A shell's background has SIGINT ignored; what a test starts is to notice it all the same.
    start = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start += "from crosscheck.cli.command import main; sys.exit(main(sys.argv[1:]))"
    sides = ["--implementations", "spec.reference", "spec.reference", "--precision", "float64"]
    words = ["explore", *sides, "--checks", "structure,round-trip", "--minutes", "5", "--out", str(tmp_path / "out")]
    (tmp_path / "temporary").mkdir()
    places = {"TMPDIR": str(tmp_path / "temporary"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-c", start, *words],
        cwd=ROOT,
        env={**os.environ, **places},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    # A recording is there for a moment; the logs of workers say that they have begun.
    while time.monotonic() < deadline and len(list(tmp_path.glob("temporary/crosscheck-*/*/*.log"))) < 2:
        time.sleep(0.1)
    time.sleep(5)
    process.send_signal(signal.SIGINT)
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted; so far THE SAME in what was drawn" in shown
    assert json.loads((tmp_path / "out" / "explore.json").read_text())["interrupted"]
    assert list((tmp_path / "temporary").iterdir()) == []


def test_verdicts_say_the_worst_first():
    def one(name: str, status: Any, left_out: list[str] | None = None) -> Looked:
        return Looked(
            number=0,
            name=name,
            hash="",
            status=status,
            seconds=1.0,
            comparisons=7,
            elements=70,
            nearest=0.5,
            left_out=left_out or [],
        )

    same, partly = one("a", "same"), one("b", "partly checked", ["torch_impl: no masks"])
    assert conclude([same, partly]) == (
        0,
        "THE SAME in what was drawn: 2 experiments, 14 comparisons, 1 of them in part: see what is left out",
    )
    assert conclude([same, one("c", "crashed"), one("d", "different")])[0] == 1
    assert conclude([same, one("c", "crashed")]) == (3, "COULD NOT RUN: 1 of 2 experiments (c)")
    assert conclude([partly])[0] == 5
    assert conclude([])[0] == 5


SAMPLED = {
    *("more than two heads", "odd batch", "batch of 1", "3 steps", "5 steps"),
    *("Adam's beta2", "Adam's epsilon", "AdamW's betas", "warm-up with Adam", "warm-up with SGD"),
    *("clipping with momentum", "dropout in a GRU", "dropout in an RNN", "dropout in both directions"),
    *("dropout in three layers", "RNNCell with relu", "max_length equal to the steps", "max_length beyond the steps"),
    *("embedding in a recurrence beside the RNN", "embedding in an attention", "steps equal to a width"),
    *("steps equal to the batch", "2 wide", "3 wide", "4 wide", "8 wide", "9 wide"),
}
"""What the experiments vary that every comparison has."""


def test_every_comparison_has_a_few_drawn_experiments(capsys: pytest.CaptureFixture[str]):
    drawn = [experiments.load(name) for name in experiments.drawn()]
    assert 5 <= len(drawn) <= 8
    varied = {what for what, holds in NEVER_VARIED.items() if any(map(holds, drawn))}
    assert varied >= SAMPLED
    parser = command._check_parser()
    assert set(command._plan(parser.parse_args([])).experiments) == {*experiments.shipped(), *experiments.drawn()}
    assert list(command._plan(parser.parse_args(["drawn-2", "hello-gru"])).experiments) == ["drawn-2", "hello-gru"]
    # None of them is one that a side leaves anything of out, nor one that takes long.
    assert [one.name for one in drawn if one.options(dict.fromkeys(OPTIONS, ""))] == []
    assert max(model(one, "num_layers", 1) for one in drawn) <= 3
    assert main(["--list"]) == 0
    assert "drawn-2" in capsys.readouterr().out
