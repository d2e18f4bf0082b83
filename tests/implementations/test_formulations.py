"""The formulations of a recurrence agree with the one that JAX differentiates by itself, and a wrong one is seen.

Tolerance: both compute the same sums in another order. A gradient is the end of a chain of about
time * (features + hidden + 10) roundings, which grow as its square root; 4 of these cover the tail.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import flax_impl.fast
from flax_impl import recurrent
from flax_impl.compilation import QUICK, known
from flax_impl.contract import forward, gradients, train
from flax_impl.fast import choice, fused, linearization, unrolled
from flax_impl.fast import recomputed as stretches
from flax_impl.gru import GRUCell
from flax_impl.lstm import LSTMCell
from flax_impl.recurrent import Cell, unroll_cell
from flax_impl.rnn import ElmanCell
from flax_impl.settings import computing, recurrence
from spec.experiment import load
from spec.framework import Settings
from spec.parameters import draw
from spec.tasks import random_batch
from spec.training import initial_state

TIME, BATCH, FEATURES, HIDDEN = 7, 3, 4, 5
LENGTHS = np.array([TIME, 0, 4])
WEIGHTS = np.linspace(0.5, 1, HIDDEN)
VALID = np.arange(TIME) < LENGTHS[:, None]


@pytest.fixture(autouse=True)
def no_cell_is_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """These are as small as can be, and go as large ones do."""
    # Asked once in a process, and so before a test has patched what it needs.
    assert choice.usable()
    monkeypatch.setattr(fused, "NARROW", 0)


class OddCell(Cell):
    """Reads its inputs, a parameter and an array of its own without a product.

    And multiplies what is neither state nor inputs.
    """

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, *, rngs: nnx.Rngs):
        super().__init__(input_size, hidden_size, rngs=rngs)
        self.scale = nnx.Param(jnp.ones(hidden_size))

    def __call__(self, state: recurrent.State, inputs: jax.Array) -> tuple[recurrent.State, jax.Array]:
        (hidden,) = state
        product = self.dense_i(inputs * inputs) + self.dense_h(jnp.tanh(hidden * self.scale[...]))
        hidden = jnp.tanh(product + WEIGHTS * self.dense_h(hidden)) + inputs[:, :1] * self.scale[...]
        return (hidden,), hidden


CELLS: dict[str, Callable[..., Cell]] = {
    "tanh": partial(ElmanCell, nonlinearity="tanh"),
    "relu": partial(ElmanCell, nonlinearity="relu"),
    "LSTM": LSTMCell,
    "GRU": GRUCell,
    "odd": OddCell,
}

Arguments = tuple[nnx.State, np.ndarray, tuple[np.ndarray, ...]]


def made(cell: str, seed: int = 0) -> tuple[nnx.GraphDef, Arguments]:
    """A cell's structure; and its parameters, inputs and initial state, in float64."""
    generator = np.random.default_rng(seed)
    module = CELLS[cell](FEATURES, HIDDEN, rngs=nnx.Rngs(0))
    graph, parameters = nnx.split(module)
    parameters = jax.tree.map(lambda leaf: generator.normal(0, 0.5, leaf.shape), parameters)
    initial = tuple(generator.normal(size=(BATCH, HIDDEN)) for _ in range(module.states))
    return graph, (parameters, generator.normal(size=(BATCH, TIME, FEATURES)), initial)


def cast(arguments: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), arguments)


def loss(
    graph: nnx.GraphDef, parameters: nnx.State, inputs: Any, initial: Any, reverse: bool = False, whole: bool = False
) -> Any:
    """Weighs every state of every step differently; `whole` without padding and from a state of zeros."""
    states = unroll_cell(
        nnx.merge(graph, parameters),
        inputs,
        None if whole else jnp.asarray(VALID),
        reverse,
        None if whole else initial,
    )
    weights = np.random.default_rng(1).normal(size=(len(states), BATCH, TIME, HIDDEN))
    return sum((jnp.asarray(w, s.dtype) * s).sum() for w, s in zip(weights, states, strict=True))


def compiled(function: Callable, *arguments: Any) -> list[np.ndarray]:
    found = jax.jit(function, compiler_options=known(QUICK))(*arguments)
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(found)]


def derivatives(formulation: str, graph: nnx.GraphDef, arguments: Arguments, **options: bool) -> list[np.ndarray]:
    """The loss and its gradient by parameters, inputs and initial state."""
    with recurrence(formulation):
        return compiled(jax.value_and_grad(partial(loss, graph, **options), (0, 1, 2)), *arguments)


def apart(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """The largest difference, as a share of what rounding may come to; not a number counts as infinite."""
    allowed = 4 * np.finfo(np.float64).eps * np.sqrt(TIME * (FEATURES + HIDDEN + 10))
    shares = [np.abs(a - b).max() / (allowed * max(np.abs(a).max(), 1e-3)) for a, b in zip(ours, theirs, strict=True)]
    return float(np.nan_to_num(max(shares, key=lambda share: np.nan_to_num(share, nan=np.inf)), nan=np.inf))


@cache
def right(cell: str, reverse: bool = False, whole: bool = False) -> list[np.ndarray]:
    with jax.enable_x64(True):
        return derivatives("scan", *made(cell), reverse=reverse, whole=whole)


CASES = {"ragged": (False, False), "backward": (True, False), "whole": (False, True)}
FORMULATED = [*((cell, "fused") for cell in CELLS), ("LSTM", "recomputed"), ("LSTM", "unrolled")]


@pytest.mark.by_default(
    "LSTM-fused-ragged", "GRU-fused-backward", "LSTM-recomputed-backward", "tanh-fused-backward", "odd-fused-backward"
)
@pytest.mark.parametrize(
    ("cell", "formulation", "case"),
    [
        *((*each, case) for each in FORMULATED for case in ("ragged", "backward")),
        # Without padding a cell computes nothing else.
        *((cell, formulation, "whole") for cell, formulation in FORMULATED if cell == "LSTM"),
    ],
)
def test_gradients_are_those_of_the_scan(cell: str, formulation: str, case: str) -> None:
    reverse, whole = CASES[case]
    graph, arguments = made(cell)
    expected = right(cell, reverse, whole)
    states = len(arguments[2])
    assert all(leaf.any() for leaf in expected[:-states])
    assert all(leaf.any() != whole for leaf in expected[-states:])
    with jax.enable_x64(True):
        assert apart(expected, derivatives(formulation, graph, arguments, reverse=reverse, whole=whole)) < 1


WRONG = {
    "products do not hand the gradient on": (
        "(gradient @ transposed, None",
        "(gradient @ (0 * transposed), None",
        "GRU",
    ),
    "states after the step, not before": ("number + 1 if reverse else number - 1", "number", "GRU"),
    "runs back in the order of the forward pass": (
        "start, time, not reverse, kept",
        "start, time, reverse, kept",
        "LSTM",
    ),
    "no gradient through time": ("is None else by_state + by_new", "is None else by_new", "tanh"),
    "biases without gradient": ("+= added_up[index]", "+= 0 * added_up[index]", "relu"),
    "two products' gradients taken for one": ("[first_with[id(gradient)] for", "[0 * id(gradient) for", "GRU"),
    "inputs without gradient": ("by_all_inputs += ", "by_all_inputs += 0 * ", "LSTM"),
    "parameters read elsewhere forgotten": ("if is_read]", "if False]", "odd"),
    "inputs read elsewhere forgotten": ("if is_read], by_inputs", "if is_read], False", "odd"),
    "what a product acts on is mistaken": ("append(inputs if source", "append(0 * inputs if source", "odd"),
    "what was kept is forgotten": ("zip(variables, kept,", "zip(variables, map(jax.numpy.zeros_like, kept),", "LSTM"),
    "unrolled steps stay in the order they were made in": (
        "states[::-1] if reverse else",
        "states if reverse else",
        "tanh",
    ),
    "stretches joined at the wrong end": ("values[:, 0 if reverse else -1]", "values[:, -1]", "tanh"),
    "later stretches hand no gradient on": ("by_end or jax.tree.map(", "jax.tree.map(", "tanh"),
    "stretches start in the first state": (
        "dynamic_index_in_dim(values, number,",
        "dynamic_index_in_dim(values, 0,",
        "tanh",
    ),
}
"""Text of a file of flax_impl.fast, what to put in its place, and a cell with which it shows."""

ROOM = (linearization, fused, stretches, unrolled)


def planted(old: str, new: str) -> ModuleType:
    """The formulations with that change, in themselves or in what they import."""
    sources = [Path(module.__file__ or "").read_text() for module in ROOM]
    assert sum(source.count(old) for source in sources) == 1, old
    changed: dict[str, Any] = {}
    for source in sources:
        module = ModuleType("planted")
        exec(compile(source.replace(old, new), "planted.py", "exec"), vars(module))
        vars(module).update(changed, NARROW=0)
        changed |= {
            name: value for name, value in vars(module).items() if getattr(value, "__module__", "") == "planted"
        }
    found = ModuleType("planted")
    vars(found).update(changed)
    return found


@pytest.mark.by_default(
    "stretches *",
    "no gradient through time",
    "states after the step, not before",
    "biases without gradient",
    "unrolled steps *",
    "what a product acts on is mistaken",
    "inputs read elsewhere forgotten",
)
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_kernel_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new, cell = WRONG[name]
    formulation = next(
        (f for f, word in (("recomputed", "stretches"), ("unrolled", "unrolled")) if word in name), "fused"
    )
    graph, arguments = made(cell)
    with jax.enable_x64(True):
        wrong = getattr(planted(old, new), formulation)
        monkeypatch.setattr(recurrent, "chosen", lambda name, *_: wrong if name == formulation else None)
        assert apart(right(cell, reverse=True), derivatives(formulation, graph, arguments, reverse=True)) > 1e6


@pytest.mark.parametrize("cell", ["tanh", "LSTM", "GRU"])
def test_a_narrow_cell_takes_products_of_the_inputs_before_the_scan_everywhere(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any, **branches: Callable) -> Any:
        raise AssertionError(f"the platform was asked for: {arguments}, {branches}")

    graph, arguments = made(cell)
    monkeypatch.setattr(fused, "NARROW", 4 * HIDDEN)
    with jax.enable_x64(True):
        expected = right(cell, reverse=True)
        monkeypatch.setattr(jax.lax, "platform_dependent", never)
        assert apart(expected, derivatives("fused", graph, arguments, reverse=True)) < 1
        monkeypatch.setattr(fused, "NARROW", HIDDEN - 1)
        with pytest.raises(AssertionError, match="platform"):
            derivatives("fused", graph, arguments, reverse=True)


@pytest.mark.parametrize("cell", ["GRU", "odd"])
def test_products_of_the_inputs_may_be_taken_before_the_scan(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on every platform but the CPU."""
    taken = []

    def elsewhere(*arguments: Any, cpu: Callable, default: Callable) -> Any:
        taken.append(default)
        return default(*arguments)

    graph, arguments = made(cell)
    with jax.enable_x64(True):
        monkeypatch.setattr(jax.lax, "platform_dependent", elsewhere)
        assert apart(right(cell), derivatives("fused", graph, arguments)) < 1
    assert taken


@pytest.mark.by_default("LSTM-float32", "GRU-bfloat16")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_narrow_types_round_no_more_than_the_scan(cell: str, dtype: str) -> None:
    graph, arguments = made(cell)
    narrow = cast(arguments, dtype)
    # Without the loss: in its sum large terms cancel, so that its rounding, as a share of it, is chance in all of them.
    with jax.enable_x64(True):
        _, *exact = derivatives("scan", graph, cast(narrow, "float64"))
    found = {name: derivatives(name, graph, narrow)[1:] for name in ("scan", "fused")}
    epsilon = float(jnp.finfo(dtype).eps)

    def error(name: str) -> float:
        return max(np.abs(a - b).max() / (epsilon * np.abs(a).max()) for a, b in zip(exact, found[name], strict=True))

    assert error("scan") > 0
    assert error("fused") <= 2 * error("scan")


@pytest.mark.by_default("GRU-fused")
@pytest.mark.parametrize(("cell", "formulation"), [("GRU", "fused"), ("LSTM", "recomputed")])
def test_members_of_an_ensemble_have_the_gradients_they_have_alone(cell: str, formulation: str) -> None:
    graph, first = made(cell)
    _, second = made(cell, seed=2)
    both = jax.tree.map(lambda a, b: np.stack([a, b]), first, second)
    with jax.enable_x64(True), recurrence(formulation):
        gradient = jax.grad(partial(loss, graph), (0, 1, 2))
        together = compiled(jax.vmap(gradient), *both)
        alone = [compiled(gradient, *arguments) for arguments in (first, second)]
    for member in (0, 1):
        assert apart(alone[member], [leaf[member] for leaf in together]) < 1
    assert apart(alone[0], alone[1]) > 1e6


@pytest.mark.by_default("odd-fused")
@pytest.mark.parametrize(("cell", "formulation"), [("LSTM", "fused"), ("odd", "fused"), ("GRU", "recomputed")])
def test_second_derivatives(cell: str, formulation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, arguments = made(cell)

    def curved(*arguments: Any) -> Any:
        return sum(
            jnp.sin(leaf).sum() for leaf in jax.tree.leaves(jax.grad(partial(loss, graph), (0, 1, 2))(*arguments))
        )

    def second(formulation: str) -> list[np.ndarray]:
        with recurrence(formulation):
            return compiled(jax.grad(curved, (0, 1, 2)), *arguments)

    with jax.enable_x64(True):
        expected = second("scan")
        assert apart(expected, second(formulation)) < 10  # a chain of chains
        if cell == "LSTM":
            cut = planted(
                "transposed, output: (output, transposed)",
                "transposed, output: (output, jax.lax.stop_gradient(transposed))",
            )
            monkeypatch.setattr(recurrent, "chosen", lambda *_: cut.fused)
            assert apart(expected, second("fused")) > 1e6


def test_forward_mode_says_that_it_is_not_there() -> None:
    graph, arguments = made("GRU")
    arguments = cast(arguments, "float32")
    with recurrence("fused"), pytest.raises(TypeError, match=r"forward-mode .*custom_vjp"):
        jax.jvp(lambda inputs: loss(graph, arguments[0], inputs, arguments[2]), arguments[1:2], arguments[1:2])
    with recurrence("scan"):
        _, slope = jax.jvp(lambda x: loss(graph, arguments[0], x, arguments[2]), arguments[1:2], arguments[1:2])
    assert np.isfinite(slope)


@pytest.mark.by_default("fused", "scan")
@pytest.mark.parametrize("formulation", ["scan", "fused", "recomputed"])
def test_padding_changes_nothing(formulation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, (parameters, inputs, initial) = made("LSTM")
    padding = np.flatnonzero(~VALID.reshape(-1))
    littered = inputs.copy().reshape(-1, FEATURES)
    littered[padding[::2]], littered[padding[1::2]] = np.nan, 1e30
    littered = littered.reshape(inputs.shape)
    with jax.enable_x64(True):
        clean = derivatives(formulation, graph, (parameters, inputs, initial))
        for ours, theirs in zip(clean, derivatives(formulation, graph, (parameters, littered, initial)), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        by_inputs = clean[-3]
        assert not by_inputs[~VALID].any()
        assert by_inputs[VALID].all()
        monkeypatch.setattr(recurrent, "zero_padding", lambda values, valid: values)
        assert np.isnan(derivatives(formulation, graph, (parameters, littered, initial))[1]).any()


@pytest.mark.by_default("scan")
@pytest.mark.parametrize("formulation", ["scan", "fused", "recomputed"])
def test_settings_choose_and_intermediates_stay(formulation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = load("hello-bidirectional-lstm")
    parameters = draw(experiment.model.parameters(), 0, "float64", spread=0.1)
    batch = random_batch(experiment.model, [4, 0, 2], 3, "float64", initial=True)
    settings = Settings("float64", choices=(("recurrence", formulation),))
    called = []

    def seen(name: str, *arguments: Any) -> Any:
        called.append(name)
        return choice.FORMULATIONS[formulation]

    monkeypatch.setattr(recurrent, "chosen", seen)
    found = forward(experiment, parameters, batch, settings)
    assert set(called) == {formulation}
    assert found.keys() == set(experiment.model.intermediates())
    for name in ("rnn.h_l0", "rnn.c_l0", "rnn.h_l0_reverse", "rnn.c_l0_reverse"):
        padding = np.arange(4) >= np.array([4, 0, 2])[:, None]
        assert not found[name][padding].any()
        assert found[name][~padding].all()
    called.clear()
    trained = train(experiment, initial_state(experiment.training.optimizer, parameters), 2, 0, settings)
    assert set(called) == {formulation}
    monkeypatch.undo()
    plain = Settings("float64", choices=(("recurrence", "scan"),))
    losses = train(experiment, initial_state(experiment.training.optimizer, parameters), 2, 0, plain).losses
    np.testing.assert_allclose(trained.losses, losses, rtol=1e-13)
    ours, theirs = (gradients(experiment, parameters, batch, each) for each in (settings, plain))
    for name, value in theirs.parameters.items():
        np.testing.assert_allclose(ours.parameters[name], value, rtol=0, atol=1e-14 * max(1, np.abs(value).max()))


@pytest.mark.parametrize(("batch", "chosen"), [(1, None), (choice.SMALL // 100, fused.fused)])
def test_small_layers_are_scanned(batch: int, chosen: Callable | None) -> None:
    cell = CELLS["GRU"](FEATURES, HIDDEN, rngs=nnx.Rngs(0))
    assert choice.chosen("automatic", cell, jnp.zeros((batch, TIME, FEATURES))) is chosen
    assert choice.chosen("unrolled", cell, jnp.zeros((batch, unrolled.FEW + 1, FEATURES))) is chosen
    assert choice.chosen("unrolled", cell, jnp.zeros((batch, unrolled.FEW, FEATURES))) is unrolled.unrolled


def test_the_room_says_from_which_sizes() -> None:
    said = " ".join((flax_impl.fast.__doc__ or "").split())
    assert f"from `SMALL` = {choice.SMALL:,} multiplications" in said
    assert f"up to `unrolled.FEW` = {unrolled.FEW} steps" in said


@pytest.mark.parametrize("longer", [0, 1])
def test_compiling_harder_unrolls_few_steps(longer: int) -> None:
    """As `--compile` asks for."""
    graph, parameters = nnx.split(CELLS["LSTM"](FEATURES, HIDDEN, rngs=nnx.Rngs(0)))
    inputs = jnp.zeros((BATCH, unrolled.FEW + longer, FEATURES))

    def loops(settings: Settings) -> int:
        with computing(settings):
            return str(jax.make_jaxpr(lambda p: unroll_cell(nnx.merge(graph, p), inputs)[0])(parameters)).count("scan[")

    assert loops(Settings()) == 1
    assert loops(Settings(compiled=True)) == longer
    assert loops(Settings(compiled=True, choices=(("recurrence", "scan"),))) == 1


@pytest.mark.long
def test_memory_of_recomputation_grows_more_slowly_than_time() -> None:
    """Beyond the hidden states, which are the layer's output."""
    batch, hidden = 8, 64
    graph, parameters = nnx.split(LSTMCell(4, hidden, rngs=nnx.Rngs(0)))

    def memory(formulation: str, time: int) -> int:
        def last(parameters: nnx.State, inputs: jax.Array) -> jax.Array:
            return unroll_cell(nnx.merge(graph, parameters), inputs)[0][:, -1].sum()

        with recurrence(formulation):
            lowered = jax.jit(jax.grad(last), compiler_options=known(QUICK)).lower(
                parameters, jnp.zeros((batch, time, 4))
            )
        analysis: Any = lowered.compile().memory_analysis()
        return analysis.temp_size_in_bytes - time * batch * hidden * np.dtype(np.float32).itemsize

    for formulation in ("scan", "fused"):
        assert 3.5 < memory(formulation, 4096) / memory(formulation, 1024) < 4.5
    assert memory("recomputed", 4096) / memory("recomputed", 1024) < 2.5
    assert memory("recomputed", 4096) < memory("fused", 4096) / 10
