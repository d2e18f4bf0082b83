"""Answers that change from one call to the next are red, blamed on their side, and widen no bound."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sides import Opened

from crosscheck import plain
from crosscheck.bounds.rounding_spread import PREFIX
from crosscheck.comparison import Place, Unsteady
from crosscheck.exit_codes import DIFFERENT
from crosscheck.probes import determinism
from crosscheck.probes.determinism import Asked, Repeats, differences
from crosscheck.recording.recording import Answer
from crosscheck.recording.worker import _without_envelopes
from spec.exit_codes import COULD_NOT_RUN
from spec.experiment import load
from spec.framework import Gradients, Settings, Trajectory
from spec.training import State, initial_state

FAKE = str(Path(__file__).parent / "fake_framework.py")

RunCrosscheck = Callable[..., Any]
Edit = Callable[..., str]


NOISE = """
    import numpy
    size = {"float32": 1e-3, "float64": 1e-9}[settings.precision]
    chance = numpy.random.default_rng()
"""
FORWARD = '    outputs["logits"] = np.broadcast_to(mean[..., None], shape).copy()\n'
STEP = "        losses.append(loss)\n"
REPLAY = "        for name, value in given.items():\n"


def noisy(function: str) -> tuple[str, str]:
    """An edit: chance that no seed fixes, in that function of the fake implementation."""
    old, target = {
        "forward": (FORWARD, 'outputs["logits"] *= 1 + size * chance.standard_normal(shape)'),
        "gradients": (
            "    return Gradients(",
            "found = {n: (a * (1 + size * chance.standard_normal(a.shape))).astype(a.dtype) for n, a in found.items()}",
        ),
        "loss_gradient": (
            "    return LossGradient(",
            "gradient = (gradient * (1 + size * chance.standard_normal(gradient.shape))).astype(gradient.dtype)",
        ),
    }[function]
    body = NOISE.replace("\n", "\n", 1) + f"    {target}\n"
    return old, (old + body if function == "forward" else body + old)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("function", "check", "asked"),
    [
        ("forward", "forward", "forward"),
        ("gradients", "gradients", "gradients"),
        ("loss_gradient", "loss", "loss_gradient"),
    ],
)
def test_noise_is_red_on_either_side(
    run_crosscheck: RunCrosscheck, fake: Edit, function: str, check: str, asked: str, precision: str, first: bool
):
    side = fake(noisy(function))
    outcome = run_crosscheck(
        FAKE if first else side, "--checks", check, "--precision", precision, **({"first": side} if first else {})
    )
    failure = outcome.failures()[0]
    assert outcome.exit_code == DIFFERENT
    assert failure["note"].startswith(f"not deterministic: {asked} was asked ")
    assert failure["sides"] == [side, f"{side}, asked again"]
    assert failure["index"] is not None
    assert outcome.report["experiments"][0]["blame"]["at_fault"] == side


@pytest.mark.parametrize(
    ("edit", "tensor"),
    [
        # The gradients are noisy inside of the training alone.
        (("        loss, gradient, _ = gradients(", "        loss, gradient, _ = _noisy("), "losses"),
        # From the middle of the recipe on.
        (
            (
                "        loss, gradient, _ = gradients(",
                "        loss, gradient, _ = (_noisy if state.step else gradients)(",
            ),
            "",
        ),
    ],
)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_noise_in_training_is_red(
    run_crosscheck: RunCrosscheck, fake: Edit, edit: tuple[str, str], tensor: str, precision: str
):
    helper = (
        "def replay(",
        "def _noisy(*a):\n    found = gradients(*a)\n"
        "    size = {'float32': 1e-3, 'float64': 1e-9}[a[-1].precision]\n"
        "    return found._replace(loss=found.loss * (1 + size * np.random.default_rng().standard_normal()))\n\n\n"
        "def replay(",
    )
    side = fake(edit, helper)
    outcome = run_crosscheck(FAKE, "--checks", "trajectory", "--precision", precision, first=side)
    assert outcome.exit_code == DIFFERENT
    notes = [f for f in outcome.failures() if f["note"].startswith("not deterministic: train was asked ")]
    assert notes
    assert tensor in [f["tensor"] for f in notes] or not tensor
    assert outcome.report["experiments"][0]["blame"]["at_fault"] == side


@pytest.mark.parametrize(
    ("when", "what"),
    [
        ("_calls % 2 == 0", "every second call"),
        ("_calls % 7 == 3", "now and then"),
        ("_calls > 1", "all but the first call"),
        ("_calls == 1", "the first call alone"),
        ("_asked_more > 12", "only when much else has been asked"),
    ],
)
def test_what_goes_by_the_number_of_the_call_is_seen(run_crosscheck: RunCrosscheck, fake: Edit, when: str, what: str):
    counted = (
        "def forward(",
        "_calls = 0\n_asked_more = 0\n\n\ndef forward(",
    )
    body = f"    global _calls\n    _calls += 1\n    outputs['logits'] += 1e-9 * ({when})\n"
    more = ("    found = {}\n", "    global _asked_more\n    _asked_more += 1\n    found = {}\n")
    side = fake(counted, (FORWARD, FORWARD + body), more)
    outcome = run_crosscheck(FAKE, "--checks", "forward,gradients", "--precision", "float64", first=side)
    assert outcome.exit_code == DIFFERENT, what
    assert "not deterministic: forward" in outcome.failures()[0]["note"]


def test_what_goes_by_the_time_is_seen(run_crosscheck: RunCrosscheck, fake: Edit):
    """Nothing changes within a second; an experiment takes longer."""
    body = "    import time\n    outputs['logits'] += 1e-9 * (time.time() > _begun + 1)\n"
    begun = ("def forward(", "import time\n\n_begun = time.time()\n\n\ndef forward(")
    slow = ("    found = {}\n", "    import time\n    time.sleep(0.05)\n    found = {}\n")
    side = fake(begun, (FORWARD, FORWARD + body), slow)
    outcome = run_crosscheck(FAKE, "--checks", "forward,gradients", "--precision", "float64", first=side)
    assert outcome.exit_code == DIFFERENT
    assert "not deterministic: forward" in outcome.failures()[0]["note"]


def test_a_buffer_that_is_used_again_is_seen(run_crosscheck: RunCrosscheck, fake: Edit):
    """Both answers are one array, which holds the second."""
    kept = ("def forward(", "_kept = {}\n\n\ndef forward(")
    body = (
        "    buffer = _kept.setdefault(shape, np.zeros(shape))\n"
        "    buffer[...] = outputs['logits'] * (1 + 1e-9 * np.random.default_rng().standard_normal(shape))\n"
        "    outputs['logits'] = buffer\n"
    )
    side = fake(kept, (FORWARD, FORWARD + body))
    outcome = run_crosscheck(FAKE, "--checks", "forward", "--precision", "float64", "--case", "own", first=side)
    assert outcome.exit_code == DIFFERENT
    assert any("not deterministic: forward" in failure["note"] for failure in outcome.failures())


def test_an_exception_at_the_second_call_is_no_answer(run_crosscheck: RunCrosscheck, fake: Edit):
    counted = ("def forward(", "_calls = 0\n\n\ndef forward(")
    body = "    global _calls\n    _calls += 1\n    if _calls == 2: raise ValueError('once is enough')\n"
    outcome = run_crosscheck(fake(counted, (FORWARD, FORWARD + body)), "--checks", "forward", "--precision", "float64")
    assert outcome.exit_code == COULD_NOT_RUN
    assert "once is enough" in outcome.output


MASKED = "np.ma.masked_array({0}, mask=np.zeros(np.shape({0}), bool))"


@pytest.mark.parametrize(
    ("checks", "old", "new", "problem"),
    [
        ("forward", FORWARD, 'outputs["logits"] = ' + MASKED.format('outputs["logits"]'), "a masked array"),
        (
            "forward",
            FORWARD,
            'outputs["query"] = outputs["query"].view(np.matrix)[0] if 0 else outputs["query"].view(np.recarray)',
            "a subclass",
        ),
        ("forward", FORWARD, 'outputs["query"] = outputs["query"].astype(object)', "one of dtype object"),
        ("forward", FORWARD, 'outputs["query"] = outputs["query"].astype(complex)', "one of dtype complex128"),
        pytest.param(
            "forward",
            FORWARD,
            'outputs["query"] = outputs["query"].astype(np.longdouble)',
            f"one of dtype {np.dtype(np.longdouble)}",
            marks=pytest.mark.skipif(np.dtype(np.longdouble).itemsize <= 8, reason="no longer floats on this system"),
        ),
        (
            "forward",
            FORWARD,
            'outputs["query"] = outputs["query"].view([("x", outputs["query"].dtype)])',
            "one of dtype [(",
        ),
        (
            "forward",
            FORWARD,
            'outputs["query"] = outputs["query"].astype(outputs["query"].dtype.newbyteorder(">"))',
            "foreign byte order",
        ),
        (
            "forward",
            FORWARD,
            'outputs["query"] = type("Tensor", (), {"__array__": lambda s, *a, **k: np.zeros(3)})()',
            "Tensor",
        ),
        ("forward", FORWARD, 'outputs["query"] = b"abc"', "builtins.bytes"),
        ("gradients", "    return Gradients(", "return Gradients(np.ma.masked, found, inputs)", "a masked array"),
        (
            "gradients",
            "    return Gradients(",
            'found["head.bias"] = ' + MASKED.format('found["head.bias"]'),
            "a masked array",
        ),
        (
            "trajectory",
            "    return Trajectory(\n",
            "slots = {n: " + MASKED.format("a") + " for n, a in slots.items()}",
            "a masked array",
        ),
        (
            "initialization",
            "    return spec_parameters.draw(",
            "return {n: "
            + MASKED.format("a")
            + " for n, a in spec_parameters.draw(experiment.model.parameters(), seed, settings.precision).items()}",
            "a masked array",
        ),
    ],
)
def test_what_is_no_plain_array_is_refused(
    run_crosscheck: RunCrosscheck, fake: Edit, checks: str, old: str, new: str, problem: str
):
    edit = (old, old + f"    {new}\n") if old == FORWARD else (old, f"    {new}\n{old}")
    outcome = run_crosscheck(fake(edit), "--checks", checks)
    assert outcome.exit_code == COULD_NOT_RUN
    assert "expected a plain numpy.ndarray of numbers, got " in outcome.failures()[0]["note"]
    assert problem in outcome.failures()[0]["note"]


def test_scalars_and_plain_arrays_of_any_kind_of_number_are_plain() -> None:
    for value in (1, 1.5, True, None, "word", np.float32(1), np.array(1.0), np.zeros(0), np.ones(2, bool)):
        plain.check("forward", {"logits": value})


def test_differences_name_what_differs() -> None:
    one = {"a": np.array([[1.0, 2.0], [3.0, 4.0]]), "b": np.array([np.nan]), "c": np.array([0.0]), "d": 1.0}
    assert list(differences("f", one, one)) == []
    two = {"a": np.array([[1.0, 2.0], [3.5, np.inf]]), "b": np.array([np.nan]), "c": np.array([-0.0]), "e": 1.0}
    found = {unsteady.tensor: unsteady for unsteady in differences("f", one, two)}
    assert found["a"] == Unsteady(function="f", tensor="a", index=(1, 0), values=(3.0, 3.5), differing=2, elements=4)
    assert set(found) == {"a", "c", "d", "e"}
    assert found["d"].values == ("there", "missing")
    shapes = next(differences("f", {"a": np.zeros(2)}, {"a": np.zeros(3)}))
    assert shapes.values == ("float64 (2,)", "float64 (3,)")


class Counting:
    """Answers with the number of the training's steps; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int]] = []

    def train(self, experiment: Any, state: State, epochs: int, seed: int, settings: Settings, **_: Any) -> Trajectory:
        steps = epochs * experiment.training.steps_per_epoch
        self.asked.append((state.step, epochs, steps))
        recorded = {name: np.stack([array] * steps) for name, array in state.parameters.items()}
        slots = {name: np.stack([array] * steps) for name, array in state.slots.items()}
        return Trajectory(state, np.zeros(steps), np.zeros(epochs), recorded, slots)


@pytest.mark.parametrize(
    ("compiles", "expected"),
    [(True, [(0, 60, 60)] * 2), (False, [(0, 60, 60), (0, 1, 2), (0, 1, 2), (30, 1, 2), (30, 1, 2)])],
)
def test_of_a_training_what_costs_little_is_asked_again(compiles: bool, expected: list[tuple[int, int, int]]) -> None:
    framework, experiment, settings = Counting(), load("hello-rnn"), Settings()
    state = initial_state(experiment.training.optimizer, {"w": np.zeros(2, np.float32)})
    opened = Opened(framework)
    answer = opened.open(experiment, settings).train(state, 60, 0)
    repeats = Repeats(opened)
    repeats.begin("key", "float32")
    repeats.ask(Asked(experiment, settings, "train"), (state, 60, 0), {}, answer, compiles)
    assert framework.asked == expected
    repeats.finish()
    assert framework.asked == expected
    assert repeats.found == {}


def test_on_an_accelerator_it_is_said_and_widens_no_bound() -> None:
    found = Unsteady(function="forward", tensor="logits", index=(1,), values=(1.0, 1.5), differing=1, elements=2)
    answer = Answer(check="forward", precision="float32", case="own", status="recorded", seconds=0.0, unsteady=[found])
    other = Answer(check="forward", precision="float32", case="ragged", status="recorded", seconds=0.0)
    kept = {key + name: np.ones(()) for key in (answer.key, other.key) for name in ("logits", PREFIX + "logits")}
    zeroed = _without_envelopes([answer, other], kept)
    assert zeroed == {answer.key + PREFIX + "logits": 0.0}
    place = Place("short", "forward", "float32", "own", ("one", "two"))
    said, failed = (place.unsteady("one", found, passed) for passed in (True, False))
    assert (said.passed, said.failed, failed.failed) == (True, False, True)
    assert said.note.startswith("not deterministic")
    assert said.difference == failed.difference == 0.5


def test_gradients_are_named_by_their_fields() -> None:
    answer = Gradients(1.0, {"w": np.zeros(2)}, None)
    assert [name for name, _ in plain.leaves(answer)] == ["loss", "parameters/w", "inputs"]
    assert determinism.STRETCH > 1
