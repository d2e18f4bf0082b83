"""What one side of a stranger's pair offers: any model of any framework behind the same few functions.

`spec.framework` is the contract for implementations of the spec's own models; this is the one for models that somebody
else wrote. Arrays cross as NumPy. Paths are the model's own names, joined by dots.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from spec.errors import Unsupported
from spec.framework import Precision

Values = Mapping[str, np.ndarray]
"""Path of a leaf, or name of an output or input -> array."""

Inputs = Sequence[Any] | Mapping[str, Any]
"""What a model is called with: positional arguments, or arguments by name; arrays in them may be nested."""


LARGE = 2_000_000
"""Numbers in the leaves of a model from which its memory counts, and whatever takes it is let go early."""


def refused_optimizer(made: Any, expected: str) -> Unsupported:
    """What a side raises for an optimizer that it cannot step. expected: in words."""
    kind = f"{type(made).__module__}.{type(made).__qualname__}"
    why = ""
    if kind.startswith("keras."):
        why = ": Keras's step variables of their own, not arrays that are handed over, and are not checked"
    return Unsupported(f"optimizers: expected {expected}, got {kind}{why}")


def narrowed(array: np.ndarray) -> np.ndarray:
    """The numbers in float32 where that holds them to the bit, else in float64: a model's own weights take half."""
    if array.dtype == np.float32:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = array.astype(np.float32)
    return narrow if np.array_equal(narrow, array, equal_nan=True) else np.asarray(array, np.float64)


class Leaf(NamedTuple):
    """An array of a model: a parameter, or what it keeps beside them.

    path: its name, "encoder.layers.0.weight". Of an array that stands in several places, the first.
    shape, dtype: as the model has it ("float32", "bfloat16").
    trainable: whether optimizers move it.
    tied: other paths of the same array.
    module: the class of the module that holds it, "Linear"; empty where nothing is known.
    role: what its place in a known stock module makes of it, or empty: "weight", which is (out, in, ...), or "kernel",
    (..., in, out); "bias", "embedding"; "scale" of a norm, "mean", "variance".
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    trainable: bool
    tied: tuple[str, ...] = ()
    module: str = ""
    role: str = ""


class Packed(NamedTuple):
    """Blocks of rows (axis 0) of a leaf that others keep apart, in order: the q, k and v of a packed projection."""

    path: str
    parts: tuple[str, ...]


class RecurrentLayer(NamedTuple):
    """One layer and direction of a stock recurrent module, in the layouts of `spec.models`: gates stacked on axis 0.

    kind: "lstm", "gru" or "rnn". gates: of 4, 3 or 1, in the order in which the rows stand.
    leaves: "weight_ih", "weight_hh", and, where there are biases, "bias_ih", "bias_hh" -> path.
    """

    kind: str
    gates: tuple[str, ...]
    hidden: int
    leaves: Mapping[str, str]


class Intermediate(NamedTuple):
    """A value on the way from inputs to outputs.

    number: its place in the order of computation; the same in every run with inputs of these shapes.
    op: the framework's name of the operation. module: path of the module that computed it. source: "model.py:31".
    value: floating, as computed.
    leaves: paths of the leaves that enter it directly, views and casts followed; "layers.kernel[2]" where a loop takes
        a row of a stacked one at each step.
    operands: numbers of the intermediates that enter it directly, views and casts followed.
    view: whether it only moves or repeats values of its operands.
    """

    number: int
    op: str
    module: str
    source: str
    value: np.ndarray
    leaves: tuple[str, ...]
    operands: tuple[int, ...]
    view: bool


class Forward(NamedTuple):
    """outputs: every floating array of what the model returned, by its place there: "logits", "0", "hidden.1".

    state: leaves that the call left with another value (BatchNorm's statistics in train mode), by path.
    intermediates: in the order of computation; empty unless recorded.
    sources: number of the intermediate that each output is (a view of), by the output's name; only where recorded.
    """

    outputs: Values
    state: Values
    intermediates: tuple[Intermediate, ...] = ()
    sources: Mapping[str, int] = MappingProxyType({})


class Objective(NamedTuple):
    """What is differentiated.

    "loss": the pair's own loss function. "linear": the sum of outputs times `arrays`. "squares": the mean over each
    output of (output - array)^2, summed over the outputs. Arrays by the outputs' names; an output without one counts 0.
    """

    kind: Literal["loss", "linear", "squares"]
    arrays: Values = MappingProxyType({})


class LeafGradients(NamedTuple):
    """loss: a scalar. leaves: of every trainable leaf, zero where nothing depends on it. inputs: of floating inputs.

    Inputs are named by their place: "0", "1", or by the arguments' names; nested ones with dots.
    """

    loss: float
    leaves: Values
    inputs: Values


class PairBatch(NamedTuple):
    """A training step's inputs and what is minimized there."""

    inputs: Inputs
    objective: Objective


class PairStep(NamedTuple):
    """One training step: the loss before it, and every leaf after it, buffers too."""

    loss: float
    values: Values


class PairOptions(NamedTuple):
    """What a pair may give beside the model, in the framework's own terms; None: not given.

    make: (seed) -> a new model, for initialization. call: (model, *inputs), which may take `train` and `rng`; where the
    factory returned a tuple, its items come instead of the model.
    loss: (output of the call, *inputs) -> scalar, in the framework's own operations.
    optimizer: what makes the framework's optimizer of parameters, or is one that has no state of its own.
    state: keys of a function's parameters whose leaves are kept and not trained, such as BatchNorm's statistics. In
    train mode the call returns (output, them as they are then).
    """

    make: Callable[[int], Any] | None = None
    call: Callable[..., Any] | None = None
    loss: Callable[..., Any] | None = None
    optimizer: Any = None
    state: tuple[str, ...] = ()


class PairSide(Protocol):
    """A model behind plain functions. It keeps its leaves' values; nothing else is remembered from call to call.

    Floating numbers come in float32 or float64, whichever holds them to the bit.
    Everything raises `spec.errors.OhlolError` with one line for what the user's own code got wrong, and
    `spec.errors.Unsupported` for what this side cannot be asked.
    """

    kind: str
    """What the factory returned, in words."""
    leaves: tuple[Leaf, ...]
    """Every array of floating numbers, in the model's own order; tied ones once."""
    packed: tuple[Packed, ...]
    recurrent: tuple[RecurrentLayer, ...]
    can: frozenset[str]
    """Of "train" (a train mode), "rng" (random numbers by seed in it), "seed", "loss", "optimizer", what it has."""

    def pinned(self) -> tuple[str, ...]:
        """Source lines at which the last recorded run in float64 read constants that are baked in float32."""
        ...

    def computed_in(self, inputs: Inputs) -> tuple[str, ...]:
        """Floating dtypes of what a call in the model's own dtypes computes: ("bfloat16", "float32")."""
        ...

    def values(self) -> dict[str, np.ndarray]:
        """Every leaf's value, to the bit."""
        ...

    def load(self, values: Values) -> None:
        """Set the leaves named; others stay. Raises ParameterMismatch for an unknown path or another shape."""
        ...

    def initialize(self, seed: int) -> Values:
        """The leaves of a new model made with that seed. Raises Unsupported where the factory takes none."""
        ...

    def forward(
        self,
        inputs: Inputs,
        *,
        precision: Precision = "float64",
        record: bool = False,
        replaced: Mapping[int, np.ndarray] | None = None,
        train: bool = False,
        seed: int = 0,
    ) -> Forward:
        """One call of the model.

        float64 widens what was written for float32: leaves, inputs, casts and literals. float32 is what users run.
        replaced: intermediates by number, to be taken for what was computed there; only with `record`.
        """
        ...

    def gradients(
        self,
        inputs: Inputs,
        objective: Objective,
        *,
        precision: Precision = "float64",
        train: bool = False,
        seed: int = 0,
    ) -> LeafGradients: ...

    def replay(self, gradients: Iterable[Values], *, precision: Precision = "float64") -> Iterator[Values]:
        """The trainable leaves after each of the optimizer's steps on the gradients given, from the present values."""
        ...

    def steps(
        self, batches: Iterable[PairBatch], *, precision: Precision = "float64", train: bool = False, seed: int = 0
    ) -> Iterator[PairStep]:
        """Training steps from the present values, which stay as they are; one after the other, none is kept."""
        ...
