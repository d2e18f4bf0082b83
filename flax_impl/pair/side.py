"""A model of this framework behind the functions of `spec.pair.PairSide`."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flax_impl import compilation
from flax_impl.pair import kinds
from flax_impl.pair.recording import NARROW, WIDE, Evaluated, evaluate, widths
from flax_impl.pair.trees import as_entered, brought_in, floating, taken_out
from spec.errors import OhlolError, ParameterMismatch, Unsupported, UsageError
from spec.framework import Precision, Settings
from spec.pair import (
    LARGE,
    Forward,
    Inputs,
    LeafGradients,
    Objective,
    Packed,
    PairBatch,
    PairOptions,
    PairStep,
    RecurrentLayer,
    Values,
    narrowed,
    refused_optimizer,
)
from spec.text import exception

DEFAULTS = PairOptions()


def open_side(made: Any, options: PairOptions = DEFAULTS) -> "Side":
    """The side of what a factory returned. Raises UsageError for what is no model of this framework."""
    if not kinds.recognize(made):
        expected = "an nnx.Module, an Equinox or Keras module, (linen module, variables) or (function, parameters)"
        raise UsageError(f"expected {expected}, got {type(made).__module__}.{type(made).__qualname__}")
    return Side(made, options)


class _Traced:
    """A function's jaxpr, and how its results stand in what it returned."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], double: bool) -> None:
        with jax.enable_x64(double):
            self.closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        self.structure = jax.tree.structure(shapes)
        self.dtypes = [one.dtype for one in self.closed.in_avals]
        self.compiled: dict[tuple[int, ...], Callable[..., Any]] = {}
        self.large = sum(math.prod(one.shape) for one in self.closed.in_avals) > LARGE

    def entered(self, arguments: Any, wide: bool) -> list[Any]:
        return [
            one if dtype == one.dtype else one.astype(WIDE.get(dtype, dtype) if wide else dtype)
            for one, dtype in zip(jax.tree.leaves(arguments), self.dtypes, strict=True)
        ]

    def record(self, arguments: Any, wide: bool, leaves: Sequence[str], replaced: Any) -> Evaluated:
        with jax.enable_x64(True):
            entered = self.entered(arguments, wide)
            return evaluate(self.closed, entered, wide=wide, record=True, leaves=leaves, replaced=replaced)

    def __call__(self, arguments: Any, wide: bool, given_up: Iterable[Array] = ()) -> Any:
        """Compiled, without a record. given_up: of the arguments, arrays that are no more afterwards."""
        with jax.enable_x64(True):
            entered = self.entered(arguments, wide)
            # What is there twice, as a copy of the parameters that an optimizer starts from, cannot be given up twice.
            times = Counter(map(id, entered))
            gone = {id(one) for one in given_up if times[id(one)] == 1}
            numbers = tuple(number for number, one in enumerate(entered) if id(one) in gone)
            if numbers not in self.compiled:
                options = compilation.options(Settings(), quick=not self.large)

                def run(*given: Any) -> Any:
                    return evaluate(self.closed, given, wide=wide).outputs

                self.compiled[numbers] = compilation.jit(run, options, donate_argnums=numbers)
            return jax.tree.unflatten(self.structure, self.compiled[numbers](*entered))


class Side:
    """See `spec.pair.PairSide`."""

    def __init__(self, made: Any, options: PairOptions) -> None:
        self._model = kinds.model_of(made, options.call, options.state)
        self.kind = self._model.kind
        self.leaves = self._model.leaves
        self.packed: tuple[Packed, ...] = ()
        self.recurrent: tuple[RecurrentLayer, ...] = ()
        self._options = options
        self._dtypes = {path: array.dtype for path, array in self._model.arrays.items()}
        self._kept = {path: narrowed(taken_out(array)) for path, array in self._model.arrays.items()}
        self._large = sum(value.size for value in self._kept.values()) > LARGE
        self._trainable = [leaf.path for leaf in self.leaves if leaf.trainable]
        self._traces: dict[Any, _Traced] = {}
        self._double = True
        self._pinned: tuple[str, ...] = ()
        given = {"seed": options.make, "loss": options.loss, "optimizer": options.optimizer}
        self.can = self._model.can | {name for name, one in given.items() if one is not None}

    def pinned(self) -> tuple[str, ...]:
        return self._pinned

    def computed_in(self, inputs: Inputs) -> tuple[str, ...]:
        traced, _ = self._forward(inputs, "float32", False, 0)
        return tuple(sorted(widths(traced.closed.jaxpr)))

    def values(self) -> dict[str, np.ndarray]:
        return {path: value.copy() for path, value in self._kept.items()}

    def load(self, values: Values) -> None:
        found = {}
        for path, value in values.items():
            if path not in self._kept:
                raise ParameterMismatch(f"expected a leaf of {self.kind}, got {path!r}")
            if np.shape(value) != self._kept[path].shape:
                raise ParameterMismatch(f"{path}: expected shape {self._kept[path].shape}, got {np.shape(value)}")
            found[path] = narrowed(np.array(value))
        self._kept.update(found)

    def initialize(self, seed: int) -> dict[str, np.ndarray]:
        if self._options.make is None:
            raise Unsupported(f"{self.kind} is made without a seed: its initialization is one draw")
        made = kinds.model_of(self._options.make(seed), self._options.call, self._options.state)
        found = {path: narrowed(taken_out(array)) for path, array in made.arrays.items()}
        if {path: value.shape for path, value in found.items()} != {path: v.shape for path, v in self._kept.items()}:
            raise ParameterMismatch(f"{self.kind}: expected the same parameters for every seed, got others for {seed}")
        return found

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
        wide = precision == "float64"
        traced, arguments = self._forward(inputs, precision, train, seed)
        if not record:
            outputs, state = traced(arguments, wide)
            return Forward(_plain(outputs), self._state(state, wide))
        # JAX sorts the names of a dictionary.
        found = traced.record(arguments, wide, sorted(self._kept), replaced)
        self._pinned = tuple(found.pinned)
        outputs, state = jax.tree.unflatten(traced.structure, found.outputs)
        by, _ = jax.tree.unflatten(traced.structure, [max(_numbers(one), default=-1) for one in found.sources])
        sources = {name: number for name, number in by.items() if number >= 0}
        return Forward(_plain(outputs), self._state(state, wide), tuple(found.intermediates), sources)

    def _forward(self, inputs: Inputs, precision: Precision, train: bool, seed: int) -> tuple[_Traced, tuple[Any, ...]]:
        def run(leaves: Mapping[str, Array], entered: Any, key: Array) -> Any:
            output, changed = self._called(leaves, entered, train, key)
            return floating(output), changed

        arguments = (self._entering(precision), self._entered(inputs, precision), self._key(seed))
        return self._traced("forward", run, arguments, precision, train), arguments

    def gradients(
        self,
        inputs: Inputs,
        objective: Objective,
        *,
        precision: Precision = "float64",
        train: bool = False,
        seed: int = 0,
    ) -> LeafGradients:
        def run(trained: Any, wanted: Any, rest: Any, entered: Any, key: Array, arrays: Any) -> Any:
            def loss(trained: Any, wanted: Any) -> Array:
                given = _put(entered, wanted)
                output, _ = self._called(trained | rest, given, train, key)
                return self._loss(output, _ordered(given, inputs), objective.kind, arrays)

            return jax.value_and_grad(loss, (0, 1))(trained, wanted)

        entered = self._entered(inputs, precision)
        trained, rest = self._divided(self._entering(precision))
        arguments = (trained, floating(entered), rest, entered, self._key(seed), self._arrays(objective, precision))
        traced = self._traced(("gradients", objective.kind), run, arguments, precision, train)
        loss, (leaves, wanted) = traced(arguments, precision == "float64")
        # JAX gives the conjugate of the direction in which the loss grows; the derivatives by both parts are asked for.
        return LeafGradients(float(loss), _plain(jax.tree.map(jnp.conj, leaves)), _plain(wanted))

    def replay(self, gradients: Iterable[Values], *, precision: Precision = "float64") -> Iterator[Values]:
        trained, _ = self._divided(self._entering(precision))
        state = self._begun(trained)
        for step in gradients:
            # As JAX gives them to the optimizer that a user of it has.
            given = {path: jnp.conj(self._array(path, step[path], precision)) for path in self._trainable}
            trained, state = self._updated(given, state, trained, precision)
            del given
            yield _plain(trained)

    def steps(
        self, batches: Iterable[PairBatch], *, precision: Precision = "float64", train: bool = False, seed: int = 0
    ) -> Iterator[PairStep]:
        trained, rest = self._divided(self._entering(precision))
        state = self._begun(trained)
        for number, batch in enumerate(batches):
            run = self._step(batch, train)
            entered = self._entered(batch.inputs, precision)
            arguments = (trained, rest, entered, self._key(seed + number), self._arrays(batch.objective, precision))
            traced = self._traced(("steps", batch.objective.kind), run, arguments, precision, train)
            (loss, changed), found = traced(arguments, precision == "float64")
            trained, state = self._updated(found, state, trained, precision)
            rest = rest | {path: one for path, one in changed.items() if path in rest}
            del found, arguments  # What takes memory goes before the values are copied.
            values = trained | rest
            yield PairStep(float(loss), {path: taken_out(values[path]) for path in self._kept})

    def _step(self, batch: PairBatch, train: bool) -> Callable[..., Any]:
        """A batch's loss, what the call changed, and gradients."""

        def run(trained: Any, rest: Any, entered: Any, key: Array, arrays: Any) -> Any:
            def loss(trained: Any) -> tuple[Array, dict[str, Array]]:
                output, changed = self._called(trained | rest, entered, train, key)
                return self._loss(output, _ordered(entered, batch.inputs), batch.objective.kind, arrays), changed

            return jax.value_and_grad(loss, has_aux=True)(trained)

        return run

    def _called(self, leaves: Mapping[str, Array], entered: Any, train: bool, key: Array) -> Any:
        return self._model.apply(leaves, entered, train, jax.random.wrap_key_data(key))

    def _traced(self, what: Any, run: Callable[..., Any], arguments: Any, precision: Precision, train: bool) -> _Traced:
        """Traced in float64 where the model's own dtypes allow that, so that no literal was rounded; else in float32.

        In train mode with random numbers always in the model's own dtypes: those of another width are others.
        """
        flat, structure = jax.tree.flatten(arguments)
        key = (what, precision, train, str(structure), *((np.shape(one), str(one.dtype)) for one in flat))
        if key not in self._traces:
            try:
                self._traces[key] = self._trace(run, arguments, precision, train)
            except OhlolError:
                raise
            except Exception as error:
                raise OhlolError(f"{self.kind} raised when it was called: {exception(error)}") from error
        return self._traces[key]

    def _trace(self, run: Callable[..., Any], arguments: Any, precision: Precision, train: bool) -> _Traced:
        wide = precision == "float64"
        own = any(dtype == jnp.float64 for dtype in self._dtypes.values())
        if wide and self._double and not (train and "rng" in self.can):
            try:
                return _Traced(run, arguments, True)
            except Unsupported:
                raise
            except Exception:  # whatever a model raises that was written for float32 alone
                self._double = False
        return _Traced(run, arguments if own else self._narrowed(arguments), own)

    def _narrowed(self, arguments: Any) -> Any:
        """As the model would be called by its user: leaves in their own dtypes, all else in float32 and int32."""

        def leaf(path: Any, one: Any) -> Any:
            name = getattr(path[1], "key", "") if len(path) > 1 else ""
            if jnp.issubdtype(one.dtype, jnp.complexfloating):
                return jax.ShapeDtypeStruct(one.shape, jnp.complex64)
            if jnp.issubdtype(one.dtype, jnp.floating):
                dtype = self._dtypes.get(name, jnp.dtype(jnp.float32))
                return jax.ShapeDtypeStruct(one.shape, dtype if dtype in NARROW else jnp.float32)
            narrow = {"int64": jnp.int32, "uint64": jnp.uint32}.get(str(one.dtype), one.dtype)
            return jax.ShapeDtypeStruct(one.shape, narrow)

        return jax.tree_util.tree_map_with_path(leaf, arguments)

    def _array(self, path: str, value: Any, precision: Precision) -> Array:
        dtype = self._dtypes[path]
        if precision == "float64":
            dtype = WIDE.get(dtype, dtype)
        with jax.enable_x64(True):
            return as_entered(value, dtype)

    def _entering(self, precision: Precision) -> dict[str, Array]:
        return {path: self._array(path, value, precision) for path, value in self._kept.items()}

    def _entered(self, inputs: Inputs, precision: Precision) -> Any:
        dtype = jnp.dtype(jnp.float64)
        if precision == "float32":
            used = {self._dtypes[path] for path in self._trainable}
            dtype = used.pop() if len(used) == 1 else jnp.dtype(jnp.float32)
        with jax.enable_x64(True):
            return brought_in(inputs, dtype)

    def _arrays(self, objective: Objective, precision: Precision) -> dict[str, Array]:
        with jax.enable_x64(True):
            dtype = jnp.float64 if precision == "float64" else jnp.float32
            return {name: jnp.asarray(np.asarray(one, order="C"), dtype) for name, one in objective.arrays.items()}

    def _key(self, seed: int) -> np.ndarray:
        with jax.enable_x64(False):
            return np.asarray(jax.random.key_data(jax.random.key(seed)))

    def _divided(self, leaves: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        trained = {path: leaves[path] for path in self._trainable}
        return trained, {path: one for path, one in leaves.items() if path not in trained}

    def _loss(self, output: Any, inputs: Any, kind: str, arrays: Mapping[str, Array]) -> Array:
        if kind == "loss":
            if self._options.loss is None:
                raise Unsupported(f"{self.kind}: no loss function is given")
            return self._options.loss(output, *(inputs.values() if isinstance(inputs, Mapping) else inputs))
        terms = []
        for name, array in floating(output).items():
            if name in arrays:
                other = arrays[name]
                terms.append((array * other).sum() if kind == "linear" else ((array - other) ** 2).mean())
        if not terms:
            raise Unsupported(f"{self.kind}: no floating output of {sorted(arrays)}")
        return jnp.stack(terms).sum()

    def _optimizer(self) -> Any:
        """The transformation, or what a function gives that makes one."""
        made = self._options.optimizer
        if made is None:
            raise Unsupported(f"{self.kind}: no optimizer is given")
        if not hasattr(made, "update") and not hasattr(made, "update_step"):
            made = made()
        if not callable(getattr(made, "init", None)) or not callable(getattr(made, "update", None)):
            raise refused_optimizer(made, "optax's")
        return made

    def _begun(self, trained: Any) -> Any:
        with jax.enable_x64(True):
            return self._optimizer().init(trained)

    def _updated(self, gradients: Any, state: Any, trained: Any, precision: Precision) -> tuple[Any, Any]:
        optimizer = self._optimizer()

        def run(gradients: Any, state: Any, trained: Any) -> Any:
            updates, state = optimizer.update(gradients, state, trained)
            moved = jax.tree.map(lambda one, by: (one + by).astype(one.dtype), trained, updates)
            return moved, state

        wide = precision == "float64"
        arguments = (gradients, state, trained)
        traced = self._traced("optimizer", run, arguments, precision, False)
        # Of a large model the old values and slots make room for the new ones.
        return traced(arguments, wide, given_up=jax.tree.leaves((state, trained)) if self._large else ())

    def _state(self, changed: Mapping[str, Array], wide: bool) -> dict[str, np.ndarray]:
        del wide
        before = self._kept
        return {path: value for path, value in _plain(changed).items() if not np.array_equal(value, before[path])}


def _plain(arrays: Mapping[str, Array]) -> dict[str, np.ndarray]:
    return {name: taken_out(array) for name, array in arrays.items()}


def _numbers(by: Iterable[int | str]) -> Iterator[int]:
    return (one for one in by if isinstance(one, int))


def _ordered(entered: Any, inputs: Inputs) -> Any:
    """Arguments by name in the order in which they were given: tracing hands them on sorted."""
    return {name: entered[name] for name in inputs} if isinstance(inputs, Mapping) else entered


def _put(entered: Any, wanted: Mapping[str, Array], name: str = "") -> Any:
    """The inputs with their floating arrays replaced by those of these names."""
    below = f"{name}." if name else ""
    if isinstance(entered, Mapping):
        return {key: _put(item, wanted, f"{below}{key}") for key, item in entered.items()}
    if isinstance(entered, tuple | list):
        names = getattr(entered, "_fields", None) or range(len(entered))
        items = [_put(item, wanted, f"{below}{key}") for key, item in zip(names, entered, strict=True)]
        return type(entered)(*items) if hasattr(entered, "_fields") else type(entered)(items)
    return wanted.get(name or "output", entered)
