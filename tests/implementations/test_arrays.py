"""NumPy's arrays come in as numbers, however they lie in memory."""

import ast
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import flax_impl
import torch_impl
from spec import parameters
from spec.experiment import Experiment, load, override
from spec.framework import Settings
from spec.models import keep_masks
from spec.parameters import Parameters
from spec.tasks import Batch, random_batch
from spec.training import State
from torch_impl import arrays

SIDES = {"torch": torch_impl, "jax": flax_impl}

LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Fortran order": np.asfortranarray,
    "a transposed view": lambda array: np.array(array.T, order="C").T,
    "every other element": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "negative strides": lambda array: np.array(np.flip(array))[(slice(None, None, -1),) * array.ndim],
    "bytes in the other order": lambda array: array.astype(array.dtype.newbyteorder()),
    "read-only": lambda array: frozen(array),
    "not aligned": lambda array: unaligned(array),
}


def frozen(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def unaligned(array: np.ndarray) -> np.ndarray:
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = np.ndarray(array.shape, array.dtype, raw.data, offset=1)
    view[...] = array
    return view


def lay(value: Any, layout: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Every array of dictionaries, lists, batches and states in that layout, with the same values."""
    match value:
        case np.ndarray():
            laid = layout(value) if value.ndim else value
            np.testing.assert_array_equal(laid, value)
            return laid
        case dict():
            return {name: lay(array, layout) for name, array in value.items()}
        case Batch():
            return Batch(*(lay(part, layout) for part in value))
        case State():
            return State(*(lay(part, layout) for part in value))
        case list():
            return [lay(part, layout) for part in value]
    return value


def lay_parameters_alone(values: tuple[Any, ...]) -> list[Any]:
    """Of what a contract's function is given, the parameters in Fortran order, their gradients and slots as they are:
    kernels that read memory flat are right as long as all of them lie alike.
    """
    first, *others = values
    if isinstance(first, State):
        return [first._replace(parameters=lay(first.parameters, np.asfortranarray))]
    return [lay(first, np.asfortranarray), *others]


def flat(answer: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """All arrays and numbers of an answer, by where they stand."""
    if answer is None:
        return {}
    if hasattr(answer, "_asdict"):
        answer = answer._asdict()
    elif isinstance(answer, list):
        answer = dict(enumerate(answer))
    if not isinstance(answer, dict):
        return {prefix: np.asarray(answer)}
    return {name: array for key, part in answer.items() for name, array in flat(part, f"{prefix}/{key}").items()}


GRU = override(load("hello-gru"), training__epochs=2)
DROPOUT = override(load("hello-stacked-lstm-dropout"), training__epochs=2)
MOMENTUM = override(load("hello-rnn-sgd-momentum"), training__epochs=2)
ADAMW = override(load("hello-lstm-adamw-warm-up"), training__epochs=2)
FLOAT32 = Settings()


def drawn(experiment: Experiment, seed: int = 0) -> Parameters:
    return parameters.draw(experiment.model.parameters(), seed, "float32", 0.1)


def begun(experiment: Experiment) -> State:
    """A state in the middle of a training."""
    slots = {
        f"{name}.{slot}": np.square(array)
        for seed, slot in enumerate(experiment.training.optimizer.slots, 1)
        for name, array in drawn(experiment, seed).items()
    }
    return State(drawn(experiment), slots, 3)


def batch_of(experiment: Experiment) -> Batch:
    return random_batch(experiment.model, [5, 3, 4], 0, "float32", initial=True)


def masks_of(experiment: Experiment) -> Parameters:
    generator = parameters.generator_for(0, "dropout", 0)
    return keep_masks(experiment.model, *batch_of(experiment).inputs.shape[:2], generator)


LOGITS = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
TARGETS = np.random.default_rng(1).integers(0, 5, (3, 4))

QUESTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "round_trip": (lambda side, p: side.round_trip(GRU, p, FLOAT32), (drawn(GRU),)),
    "forward": (lambda side, p, b: side.forward(GRU, p, b, FLOAT32), (drawn(GRU), batch_of(GRU))),
    "gradients": (lambda side, p, b: side.gradients(GRU, p, b, FLOAT32), (drawn(GRU), batch_of(GRU))),
    "gradients with masks": (
        lambda side, p, b, m: side.gradients(DROPOUT, p, b, FLOAT32, m),
        (drawn(DROPOUT), batch_of(DROPOUT), masks_of(DROPOUT)),
    ),
    "predict": (lambda side, p, b: side.predict(GRU, p, b, FLOAT32), (drawn(GRU), batch_of(GRU))),
    "loss_gradient": (lambda side, x, t: side.loss_gradient(GRU, x, t, FLOAT32), (LOGITS, TARGETS)),
    "train": (lambda side, s: side.train(GRU, s, 2, 0, FLOAT32, record=True), (begun(GRU),)),
    "train with momentum": (lambda side, s: side.train(MOMENTUM, s, 2, 0, FLOAT32), (begun(MOMENTUM),)),
    "train with AdamW": (lambda side, s: side.train(ADAMW, s, 2, 0, FLOAT32), (begun(ADAMW),)),
    "replay": (
        lambda side, p, g: side.replay(GRU, p, g, FLOAT32),
        (drawn(GRU), [drawn(GRU, seed) for seed in (1, 2, 3)]),
    ),
    "train_starts": (
        lambda side, starts: side.train_starts(GRU, starts, 0, FLOAT32),
        ([drawn(GRU, seed) for seed in (1, 2)],),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("side", SIDES)
def test_the_answer_is_the_same_to_the_bit(side: str, question: str, layout: str) -> None:
    check(SIDES[side], question, lambda values: [lay(value, LAYOUTS[layout]) for value in values])


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("side", SIDES)
def test_arrays_that_lie_differently(side: str, question: str) -> None:
    check(SIDES[side], question, lay_parameters_alone)


def check(side: ModuleType, question: str, relay: Callable[[tuple[Any, ...]], list[Any]]) -> None:
    ask, given = QUESTIONS[question]
    expected, found = flat(ask(side, *given)), flat(ask(side, *relay(given)))
    assert found.keys() == expected.keys() != set()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("question", ["replay", "train", "train with AdamW"])
def test_without_the_guard_torch_steps_wrongly(question: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can fail, and the guard is still needed."""

    def keeps_strides(array: np.ndarray, dtype: Any = None, device: Any = None) -> torch.Tensor:
        return torch.tensor(array, dtype=dtype, device=device)

    for module in in_use():
        monkeypatch.setattr(module, "to_tensor", keeps_strides)
    ask, given = QUESTIONS[question]
    expected = flat(ask(torch_impl, *given))
    found = flat(ask(torch_impl, *lay_parameters_alone(given)))
    assert max(float(np.abs(found[name] - array).max()) for name, array in expected.items()) > 0.01


def in_use() -> list[ModuleType]:
    from torch_impl import contract, dropout, ensemble, members, optimizer, training
    from torch_impl import parameters as own

    return [contract, dropout, ensemble, members, optimizer, own, training]


ENTRIES = {"from_numpy", "tensor", "as_tensor", "asarray", "Tensor", "frombuffer", "from_dlpack"}
"""Functions of torch that take an array of NumPy's."""


def entries(source: str) -> list[str]:
    """Where a module takes arrays by torch itself, as "line: what"."""
    return [
        f"{node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ENTRIES
        and ast.unparse(node.func.value) == "torch"
    ]


@pytest.mark.parametrize("path", sorted(Path(torch_impl.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_arrays_come_in_at_one_place(path: Path) -> None:
    assert path == Path(arrays.__file__) or not entries(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("line", ["torch.tensor(a)", "x = torch.from_numpy(a).to(d)", "f(torch.as_tensor(a))"])
def test_who_lets_arrays_in_elsewhere_is_seen(line: str) -> None:
    assert entries(line)
    assert not entries("to_tensor(a)")
