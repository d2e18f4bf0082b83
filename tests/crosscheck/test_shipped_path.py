"""The check of the path that the train command takes: honest sides pass, and each way to leave the path is named."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from crosscheck.checks import shipped_path as check
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.diagnosis import vote
from crosscheck.exit_codes import DIFFERENT, SAME
from crosscheck.request import Request
from spec import experiment as experiments
from spec import reference
from spec.dropout import keep_masks
from spec.experiment import Experiment, load, override
from spec.framework import Settings, Trajectory, bound
from spec.parameters import generator_for
from spec.tasks import Batch
from spec.training import State
from tests.crosscheck.conftest import FAKE, Edit, RunCrosscheck

LSTM, TRANSFORMER = "hello-stacked-lstm-dropout", "hello-transformer-dropout"

COMPILES = ("compiles = False", "compiles = True")
TRAIN = "    task, training = experiment.task, experiment.training\n"
FORWARD = "    inputs = batch.inputs.astype(settings.precision)\n"


def edited_train(line: str) -> tuple[str, str]:
    """An edit: that line first in a training."""
    return TRAIN, TRAIN + f"    {line}\n"


FAULTS = {
    "stale losses": (
        (
            "losses=np.array(losses, settings.precision)",
            "losses=np.roll(np.array(losses, settings.precision), not record)",
        ),
        "start/plain/loss",
    ),
    "slots of the start": (
        (
            "state=State(parameters, slots, state.step",
            "state=State(parameters, slots if record else state.slots, state.step",
        ),
        "start/plain/final/",
    ),
    "steps not counted": (
        ("state.step + len(losses))", "state.step + len(losses) * record)"),
        "start/plain/steps",
    ),
    "begins again": (
        ("        losses.append(loss)\n", "        losses.append(loss + 1e-3 * step)\n"),
        "start/resumed/loss",
    ),
    "by the number of the call": (
        edited_train("CALLS.append(seed)"),
        "start/plain/loss",
        ("        losses.append(loss)\n", "        losses.append(loss + 1e-3 * len(CALLS))\n"),
        ("def train(", "CALLS: list[int] = []\n\n\ndef train("),
    ),
    "by the seed": (
        ("        losses.append(loss)\n", "        losses.append(loss + 1e-3 * seed)\n"),
        "losses of a second seed",
    ),
    "step in eight bits": (
        ("        losses.append(loss)\n", "        losses.append(loss + 1e-3 * (state.step + step >= 256))\n"),
        "step 256/recorded/loss",
    ),
    "NumPy's generator": (edited_train("np.random.seed(0)"), "NumPy's global generator, train"),
    "Python's generator": (
        (FORWARD, FORWARD + "    __import__('random').random()\n"),
        "Python's global generator, forward",
    ),
    "evaluation after a step": (
        edited_train("STEPPED.append(seed)"),
        "logits, ragged",
        (FORWARD, FORWARD + "    inputs = inputs * (1 + 1e-3 * bool(STEPPED))\n"),
        ("def forward(", "STEPPED: list[int] = []\n\n\ndef forward("),
    ),
    "larger batches": (
        (FORWARD, FORWARD + "    inputs = inputs * (1 + 1e-3 * (len(inputs) > 20))\n"),
        "logits, larger",
    ),
}
"""Name -> an edit of the fake implementation, what the first failure must begin with, and further edits."""


@pytest.mark.parametrize("first", [True, False], ids=["first side", "second side"])
@pytest.mark.parametrize("name", FAULTS)
def test_what_leaves_the_path_is_red(run_crosscheck: RunCrosscheck, fake: Edit, name: str, first: bool):
    edit, tensor, *further = FAULTS[name]
    side = fake(edit, *further)
    one, two = (side, str(FAKE)) if first else (str(FAKE), side)
    outcome = run_crosscheck(two, "--checks", "shipped-path", first=one)
    assert outcome.exit_code == DIFFERENT
    assert outcome.failures()[0]["tensor"].startswith(tensor)


def test_who_compiles_is_asked_for_what_is_compiled(run_crosscheck: RunCrosscheck, fake: Edit):
    lengths = "    assert epochs == training.epochs, epochs\n"
    side = fake(COMPILES, (TRAIN, TRAIN + lengths))
    assert run_crosscheck(side, "--checks", "shipped-path,members").exit_code == SAME


def test_who_compiles_and_begins_again_is_red(run_crosscheck: RunCrosscheck, fake: Edit):
    side = fake(
        COMPILES,
        ("        losses.append(loss)\n", "        losses.append(loss + 1e-3 * step)\n"),
    )
    outcome = run_crosscheck(side, "--checks", "shipped-path")
    assert outcome.exit_code == DIFFERENT
    assert outcome.failures()[0]["tensor"] == "start/resumed/loss"


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_in_one_precision(run_crosscheck: RunCrosscheck, precision: str):
    """In float32 there is nothing to ask of a model that drops nothing, which is no shortcoming."""
    outcome = run_crosscheck(str(FAKE), "--checks", "loss,shipped-path", "--precision", precision)
    assert outcome.exit_code == SAME
    assert outcome.status("shipped-path") == ("not applicable" if precision == "float32" else "same")


class Drops:
    """Trainings in which nothing moves, by the equations: each step has the masks that `seed_of` and `scale` give."""

    def __init__(
        self, scale: float = 1.0, seed_of: Callable[[int, int], tuple[int, int]] = lambda seed, step: (seed, step)
    ):
        self.scale, self.seed_of = scale, seed_of

    def open(self, subject: Experiment, settings: Settings) -> Any:
        return SimpleNamespace(train=bound(subject, settings, self.train))

    def train(
        self, subject: Experiment, state: State, epochs: int, seed: int, settings: Settings, **_: Any
    ) -> Trajectory:
        rates = {"model__dropout": subject.model.dropout * self.scale}  # type: ignore[union-attr]
        model = override(subject, **rates).model
        wide = {name: value.astype(np.float64) for name, value in state.parameters.items()}
        batches, masks = [], []
        for step in range(state.step, state.step + epochs * subject.training.steps_per_epoch):
            batches.append(subject.task.batch(seed, step, "float64"))
            drawn, at = self.seed_of(seed, step)
            masks.append(keep_masks(model, *batches[-1].inputs.shape[:2], generator_for(drawn, "own", at)))
        # All steps are rows of one batch.
        rows = Batch(*(None if parts[0] is None else np.concatenate(parts) for parts in zip(*batches, strict=True)))
        joined = {site: np.concatenate([one[site] for one in masks]) for site in masks[0]}
        side = reference.open(subject, Settings(precision="float64"))
        logits = np.split(side.forward(wide, rows, dropout=joined)["logits"], len(batches))
        loss = subject.training.loss
        losses = [loss.value(found, batch.targets) for found, batch in zip(logits, batches, strict=True)]
        return Trajectory(state, np.array(losses, settings.precision), np.empty(0), {}, {})


@cache
def honest(name: str, seed: int) -> Arrays:
    return check.record(Drops(), load(name), check.OWN, Request("float32", "cpu", seed))  # type: ignore[arg-type]


def own_masks(framework: Any, name: str, seed: int = 0) -> list[Comparison]:
    """What is found of it; the other side is honest."""
    subject = load(name)
    arrays = check.record(framework, subject, check.OWN, Request("float32", "cpu", seed))
    place = Place(name, check.NAME, "float32", check.OWN, ("one", "two"))
    return check.compare(subject, place, arrays, honest(name, seed))


@pytest.mark.parametrize("name", [LSTM, TRANSFORMER])
def test_honest_masks_pass_whatever_the_seed(name: str):
    for seed in range(2):
        found = own_masks(Drops(), name, seed)
        assert {comparison.tensor for comparison in found} >= {"own masks, rate", "own masks, one a step"}
        assert [comparison for comparison in found if comparison.failed] == []


@pytest.mark.parametrize("name", [LSTM, TRANSFORMER])
@pytest.mark.parametrize("scale", [0.5, 1.9])
def test_another_rate_is_red(name: str, scale: float):
    failed = {comparison.tensor for comparison in own_masks(Drops(scale), name) if comparison.failed}
    assert "own masks, rate" in failed


@pytest.mark.parametrize(
    "seed_of",
    [
        lambda seed, step: (seed, step % 256),
        lambda seed, step: (seed, step % 2**16),
        lambda seed, step: (seed, step // 2),
        lambda seed, step: (0, step),
    ],
    ids=["eight bits", "sixteen bits", "every other step", "whatever the seed"],
)
def test_masks_that_come_again_are_red(seed_of: Callable[[int, int], tuple[int, int]]):
    failed = {comparison.tensor for comparison in own_masks(Drops(seed_of=seed_of), LSTM) if comparison.failed}
    # Two steps with one mask are no run of four that comes again, and spread as they should: see the check dropout.
    assert ("own masks, one a step" in failed) or seed_of(0, 1) == (0, 0)


def test_what_takes_a_compilation_is_asked_of_a_few():
    shipped = [each for each in map(load, experiments.shipped()) if not check.inapplicable(each)]
    asked = [each.name for each in shipped if check.CHUNKS in check.cases(each, "float64", False)]
    assert asked == [LSTM, "ragged-lstm"]
    own = override(load("hello-gru"), training__epochs=3)
    assert check.CHUNKS not in check.cases(own, "float64", False)
    assert check.CHUNKS in check.cases(override(load(TRANSFORMER), training__epochs=3), "float64", False)
    assert check.CHUNKS in check.cases(own, "float64", True)


def test_seeds_are_distinct_in_their_last_bits():
    request = Request("float64", "cpu", 0)
    given = check.seeds(load("last-step-classifier"), request)
    assert len(set(given)) == 8
    for bits in (8, 16, 31):
        assert len({seed % 2**bits for seed in given}) < len(given)


def test_a_subject_without_equations_is_asked_all_the_same():
    """Nobody says how often a stranger's masks drop: that they are others at each step is still seen."""
    subject = load(LSTM)
    arrays = check.record(
        Drops(seed_of=lambda seed, step: (seed, step % 256)),  # type: ignore[arg-type]
        subject,
        check.OWN,
        Request("float32", "cpu", 0),
    )
    names = ("training", "has_dropout", "has_drawn_batches", "dropout_sites", "batch", "with_training")
    names += ("own_of_members",)
    stranger: Any = SimpleNamespace(reference=None, **{name: getattr(subject, name) for name in names})
    place = Place(LSTM, check.NAME, "float32", check.OWN, ("one", "two"))
    failed = [c.tensor for c in check.compare(stranger, place, arrays, arrays) if c.failed]
    assert set(failed) == {"own masks, one a step"}


class Counts:
    """The equations' own side, whose losses are off past 256 steps, or which is asked for what it has compiled."""

    def __init__(self, compiles: bool, off: float):
        self.compiles, self.off = compiles, off

    def open(self, subject: Any, settings: Settings) -> Any:
        side = reference.open(subject, settings)

        def train(state: State, *arguments: Any, **options: Any) -> Trajectory:
            found = side.train(state, *arguments, **options)
            steps = np.arange(state.step, state.step + len(found.losses))
            return found._replace(losses=found.losses + self.off * (steps >= 256))

        return msgspec.structs.replace(side, train=train, compiles=self.compiles)


@pytest.mark.parametrize("compiles", [True, False], ids=["who compiles", "who does not"])
def test_the_side_that_leaves_the_path_is_at_fault(experiment: Path, compiles: bool):
    """Though the sides are asked for unequal numbers of steps, and the equations for as few as can be."""
    subject = override(load(experiment), training__epochs=10)
    place = Place(subject.name, check.NAME, "float64", check.STRETCHES, ("off", "honest"))
    request = Request("float64", "cpu", 0)
    sides = {"off": Counts(compiles, 1e-3), "honest": Counts(not compiles, 0.0)}
    recorded = {name: check.record(side, subject, check.STRETCHES, request) for name, side in sides.items()}
    lengths = {name: len(arrays["step 256/recorded/loss"]) for name, arrays in recorded.items()}
    assert len(set(lengths.values())) == 2
    blame = vote.find(subject, check.compare(subject, place, *recorded.values()), recorded, 0)
    assert blame is not None
    assert blame.at_fault == "off"
    assert [departure.stage for departure in blame.departures] == ["loss"]
