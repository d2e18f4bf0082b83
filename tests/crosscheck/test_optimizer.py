"""The check of the optimizer alone: clean on every kind of optimizer, and each fault of one is seen at its place.

Each fault is planted in a copy of flax_impl under a name of its own, so that all of them run in one process.
"""

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import spec.reference
from crosscheck.checks import optimizer as check
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.probes.witness import Witness
from crosscheck.request import Request
from spec import experiment as experiments
from spec.framework import Precision

pytestmark = pytest.mark.needs("torch", "flax")

FLAX = Path(__file__).parents[2] / "flax_impl"
ADAM, ADAMW, MOMENTUM, CLIPPING = (
    "hello-gru",
    "hello-lstm-adamw-warm-up",
    "hello-rnn-sgd-momentum",
    "hello-gru-clipping",
)

RunCrosscheck = Callable[..., Any]
Edit = Callable[..., str]


class Fault(NamedTuple):
    """appended: text at the end of optimizer.py; edit: of training.py. tensor, step: where it must be seen first."""

    name: str
    experiment: str
    tensor: str
    step: int = 0
    appended: str = ""
    edit: tuple[str, str] = ("", "")
    precision: Precision = "float64"


WRAPPED = """
import msgspec
right = make
def make(spec, at):
"""
"""What replaces `make`, whatever its body is."""

OWN_STEP = """
def make(spec, at):
    inner = optax.scale_by_adam(b1=spec.beta1, b2=spec.beta2)
    def update(gradients, state, params=None):
        _, state = inner.update(gradients, state)
        step = lambda m, v: -at.learning_rate * {step}
        return jax.tree.map(step, state.mu, state.nu), state
    return optax.flatten(optax.GradientTransformation(inner.init, update))
"""
"""Adam with a step of its own."""

FACTOR = """
def clip(spec, gradients):
    norm = {norm}
    return jax.tree.map(lambda g: g * jnp.minimum(1, spec.max_norm / {divisor}), gradients)
"""

FAULTS = [
    Fault(
        "Adam epsilon 1e-7",
        ADAM,
        "parameters/rnn.weight_ih_l0",
        appended=WRAPPED + "    return right(msgspec.structs.replace(spec, epsilon=1e-7), at)\n",
    ),
    Fault(
        "epsilon inside the root",
        ADAM,
        "parameters/rnn.weight_ih_l0",
        appended=OWN_STEP.format(step="(m / at.correction1) / jnp.sqrt(v / at.correction2 + spec.epsilon)"),
    ),
    Fault(
        "no bias correction",
        ADAM,
        "parameters/rnn.weight_ih_l0",
        appended=OWN_STEP.format(step="m / (jnp.sqrt(v) + spec.epsilon)"),
    ),
    Fault(
        "bias correction in float32",
        ADAM,
        "parameters/rnn.weight_ih_l0",
        appended="def scale_by_adam(spec, at):\n"
        "    return optax.scale_by_adam(b1=spec.beta1, b2=spec.beta2, eps=spec.epsilon)\n",
        precision="float32",
    ),
    Fault(
        "decay in the gradient",
        ADAMW,
        "slots/rnn.weight_ih_l0.exp_avg",
        appended=WRAPPED
        + "    plain = right(msgspec.structs.replace(spec, weight_decay=0.0), at)\n"
        + "    return optax.chain(optax.add_decayed_weights(spec.weight_decay), plain)\n",
    ),
    Fault(
        "decay 1e-4",
        ADAMW,
        "parameters/rnn.weight_ih_l0",
        appended=WRAPPED + "    return right(msgspec.structs.replace(spec, weight_decay=1e-4), at)\n",
    ),
    Fault(
        "warm-up from zero",
        ADAMW,
        "parameters/rnn.weight_ih_l0",
        edit=(
            "training.constants(step) for step",
            "training.constants(step)._replace(learning_rate=training.learning_rate(step - 1)) for step",
        ),
    ),
    Fault(
        "warm-up that stops early",
        ADAMW,
        "parameters/rnn.weight_ih_l0",
        step=5,
        edit=(
            "training.constants(step) for step",
            "training.constants(step)._replace(learning_rate=training.learning_rate(min(step, 4))) for step",
        ),
    ),
    Fault(
        "clipping each tensor",
        CLIPPING,
        "slots/rnn.weight_ih_l0.momentum_buffer",
        appended=FACTOR.format(norm="jnp.linalg.norm", divisor="(norm(g) + spec.epsilon)"),
    ),
    Fault(
        "clipping without epsilon",
        CLIPPING,
        "slots/rnn.weight_ih_l0.momentum_buffer",
        appended=FACTOR.format(norm="optax.tree.norm(gradients)", divisor="norm"),
    ),
    Fault(
        "clipping faint gradients up",
        CLIPPING,
        "slots/rnn.weight_ih_l0.momentum_buffer",
        step=2,
        appended=FACTOR.format(norm="optax.tree.norm(gradients)", divisor="(norm + spec.epsilon)").replace(
            "jnp.minimum(1, spec", "(spec"
        ),
    ),
    Fault(
        "momentum with dampening",
        MOMENTUM,
        "slots/rnn.weight_ih_l0.momentum_buffer",
        appended=WRAPPED + "    return optax.chain(optax.scale(1 - spec.momentum), right(spec, at))\n",
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

    def plant(fault: Fault) -> Any:
        name = f"flax_faulty_{FAULTS.index(fault)}"
        copy = tmp_path / name
        shutil.copytree(FLAX, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for path in copy.glob("*.py"):
            path.write_text(path.read_text().replace("flax_impl", name))
        optimizer, training = copy / "optimizer.py", copy / "training.py"
        optimizer.write_text(optimizer.read_text() + fault.appended)
        old, new = fault.edit
        assert bool(fault.appended) != bool(old)
        assert old in training.read_text(), f"the text to edit is not in training.py: {old!r}"
        training.write_text(training.read_text().replace(old, new) if old else training.read_text())
        return importlib.import_module(name)

    yield plant
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
            assert all(comparison.step is not None and comparison.elements for comparison in found)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_seen_first_where_it_is(
    fault: Fault, planted: Callable[[Fault], Any], torch_replay: Callable[[str, Precision], Arrays]
):
    faulty = record(planted(fault), fault.experiment, fault.precision)
    found = compare(fault.experiment, fault.precision, torch_replay(fault.experiment, fault.precision), faulty)
    first = next(comparison for comparison in found if not comparison.passed)
    assert (first.tensor, first.step) == (fault.tensor, fault.step)
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


def test_without_the_function_it_is_not_checked(run_crosscheck: RunCrosscheck, fake: Edit):
    second = fake(("def replay(", "def another("))
    outcome = run_crosscheck(second, "--checks", "gradients,optimizer")
    assert outcome.exit_code == 0
    assert outcome.status("gradients") == "same"
    assert outcome.status("optimizer") == "not checked"
    assert "no function `replay`" in outcome.output


def test_first_failing_step_comes_first(run_crosscheck: RunCrosscheck, fake: Edit):
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
def test_slots_that_cannot_be_compared(run_crosscheck: RunCrosscheck, fake: Edit, replacement: str, note: str):
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
