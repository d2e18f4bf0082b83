"""The check of the optimizer alone: clean on every kind of optimizer, and each fault of one is seen at its place.

Each fault is planted in a copy of flax_impl under a name of its own, so that all of them run in one process.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import spec.reference
from crosscheck.checks import optimizer as check
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.faults import plant, table
from crosscheck.faults.fault import Edit, Fault
from crosscheck.probes.witness import Witness
from crosscheck.request import Request
from spec import experiment as experiments
from spec.framework import Precision

pytestmark = pytest.mark.needs("torch", "flax")

ADAM, ADAMW, MOMENTUM, CLIPPING = (
    "hello-gru",
    "hello-lstm-adamw-warm-up",
    "hello-rnn-sgd-momentum",
    "hello-gru-clipping",
)

RunCrosscheck = Callable[..., Any]
Copied = Callable[..., str]


BUFFER = "slots/rnn.weight_ih_l0.momentum_buffer"

TABLE = {plant.label(fault): fault for fault in table.FAULTS}


def own(what: str, edit: Edit, like: Fault) -> Fault:
    """One that the table has of the other side alone, or otherwise."""
    return like._replace(name=what, implementation="flax_impl", edits=(edit,))


class Seen(NamedTuple):
    """A fault of flax_impl, and the step at which it must be seen first."""

    fault: Fault
    step: int = 0


SEEN = [
    Seen(TABLE["flax_impl/adam-epsilon-1e-7"]),
    Seen(TABLE["flax_impl/adam-epsilon-inside-the-root"]),
    Seen(TABLE["flax_impl/adam-without-correction"]._replace(experiment=ADAM, tensor="parameters/rnn.weight_ih_l0")),
    Seen(TABLE["flax_impl/corrections-in-float32"]),
    Seen(TABLE["flax_impl/weight-decay-coupled"]),
    Seen(TABLE["flax_impl/weight-decay-1e-4"]),
    Seen(TABLE["flax_impl/warm-up-from-zero"]),
    Seen(
        own(
            "warm-up-stops-early",
            Edit(
                "training.py:stack_constants",
                "training.constants(step) for step",
                "training.constants(step)._replace(learning_rate=training.learning_rate(min(step, 4))) for step",
            ),
            TABLE["flax_impl/warm-up-from-zero"],
        ),
        step=5,
    ),
    Seen(TABLE["flax_impl/clipped-tensor-by-tensor"]),
    Seen(TABLE["flax_impl/clipped-without-epsilon"]),
    Seen(TABLE["flax_impl/scaled-up-to-the-norm"]._replace(tensor=BUFFER), step=2),
    Seen(
        own(
            "dampening-from-the-first-step",
            Edit(
                "optimizer.py:make",
                "    return optax.flatten(chosen)",
                "    return optax.flatten(optax.chain(optax.scale(1 - spec.momentum), chosen))",
            ),
            TABLE["torch_impl/dampening"]._replace(tensor=BUFFER),
        )
    ),
]


def record(module: Any, experiment: str, precision: Precision) -> Arrays:
    """What that implementation does with the given gradients; fails where it writes into them."""
    framework: Any = Witness(module)
    return check.record(framework, experiments.load(experiment), "replay", Request(precision, "cpu", 0))


def compare(experiment: str, precision: Precision, first: Arrays, second: Arrays) -> list[Comparison]:
    place = Place(experiment, check.NAME, precision, "replay", ("first", "second"))
    return check.compare(experiments.load(experiment), place, first, second)


@pytest.fixture(scope="session")
def torch_replay() -> Callable[[str, Precision], Arrays]:
    """torch_impl's answers, each computed once."""
    module, known = importlib.import_module("torch_impl"), {}

    def replay(experiment: str, precision: Precision) -> Arrays:
        key = (experiment, precision)
        known[key] = known.get(key) or record(module, experiment, precision)
        return known[key]

    return replay


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Fault], Any]]:
    """Import a copy of flax_impl with that fault, under another name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def imported(fault: Fault) -> Any:
        name = f"flax_faulty_{fault.name.replace('-', '_').replace('.', '_')}"
        copy = plant.plant(fault, plant.source("flax_impl"), tmp_path).rename(tmp_path / name)
        for path in copy.rglob("*.py"):
            path.write_text(path.read_text().replace("flax_impl", name))
        return importlib.import_module(name)

    yield imported
    for name in set(sys.modules) - before:
        if name.startswith("flax_faulty_"):
            del sys.modules[name]


@pytest.mark.parametrize("experiment", [ADAM, ADAMW, MOMENTUM, CLIPPING])
def test_honest_sides_take_the_same_steps(experiment: str, torch_replay: Callable[[str, Precision], Arrays]):
    flax_impl = importlib.import_module("flax_impl")
    sides = {"float64": [flax_impl, spec.reference], "float32": [flax_impl]}
    for precision in check.PRECISIONS:
        for module in sides[precision]:
            found = compare(
                experiment, precision, torch_replay(experiment, precision), record(module, experiment, precision)
            )
            assert found
            assert [comparison for comparison in found if not comparison.passed] == []
            kinds = [comparison for comparison in found if comparison.tensor.startswith(check.KINDS)]
            assert all(c.elements and (c.step is not None or c in kinds) for c in found)
            assert kinds


@pytest.mark.parametrize("seen", SEEN, ids=lambda seen: seen.fault.name)
def test_fault_is_seen_first_where_it_is(
    seen: Seen, planted: Callable[[Fault], Any], torch_replay: Callable[[str, Precision], Arrays]
):
    fault = seen.fault
    faulty = record(planted(fault), fault.experiment, fault.precision)
    found = compare(fault.experiment, fault.precision, torch_replay(fault.experiment, fault.precision), faulty)
    first = next(comparison for comparison in found if not comparison.passed)
    assert fnmatchcase(first.tensor, fault.tensor)
    assert first.step == seen.step
    assert first.elements


def test_gradients_are_of_every_kind():
    experiment = experiments.load(CLIPPING)
    assert experiment.training.clipping is not None
    gradients = check.draw(experiment, Request("float64", "cpu", 0))
    flat = np.array([np.concatenate([array.ravel() for array in step.values()]) for step in gradients])
    norms = np.linalg.norm(flat, axis=1)
    sizes = np.abs(flat[flat != 0])
    assert len(flat) == check.STEPS
    assert (norms == 0).any()
    assert (norms > 2 * experiment.training.clipping.max_norm).any()
    assert ((norms > 0) & (norms < experiment.training.clipping.max_norm / 100)).any()
    assert (flat == 0).all(axis=0).any()
    assert 1e-9 <= sizes.min() < 2e-9
    assert 0.5 < sizes.max() <= 1


def test_without_the_function_it_is_not_checked(run_crosscheck: RunCrosscheck, fake: Copied):
    second = fake(("def replay(", "def another("))
    outcome = run_crosscheck(second, "--checks", "gradients,optimizer")
    assert outcome.exit_code == 0
    assert outcome.status("gradients") == "same"
    assert outcome.status("optimizer") == "not checked"
    assert "no function `replay`" in outcome.output


def test_first_failing_step_comes_first(run_crosscheck: RunCrosscheck, fake: Copied):
    line = "    for step, given in enumerate(gradients):\n"
    late = "        if step == 7: given = {**given, 'value.bias': given['value.bias'] + 1}\n"
    second = fake((line, line + late))
    outcome = run_crosscheck(second, "--checks", "optimizer")
    assert outcome.exit_code == 1
    assert next((f["tensor"], f["step"]) for f in outcome.failures()) == ("slots/value.bias.exp_avg", 7)


@pytest.mark.parametrize(
    ("replacement", "note"),
    [("{name: array * np.nan for name, array in slots.items()}", "not finite"), ("{}", "missing")],
)
def test_slots_that_cannot_be_compared(run_crosscheck: RunCrosscheck, fake: Copied, replacement: str, note: str):
    second = fake(
        (
            "        trace.append((parameters.copy(), slots))\n    return Replay(",
            f"        trace.append((parameters.copy(), {replacement}))\n    slots = trace[-1][1]\n    return Replay(",
        )
    )
    outcome = run_crosscheck(second, "--checks", "optimizer")
    assert outcome.exit_code == 1
    assert note in outcome.failures()[0]["note"]


def test_a_walk_has_no_optimizer(run_crosscheck: RunCrosscheck):
    assert run_crosscheck(experiments=("course-rnn-walk",)).status("optimizer") == "not applicable"
