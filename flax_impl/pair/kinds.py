"""What a factory returned, and what is known about the arrays in it."""

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from flax_impl.pair import keras_models
from flax_impl.pair.trees import as_real
from spec.errors import UsageError
from spec.pair import Leaf

Apply = Callable[[Mapping[str, Array], Any, bool, Array], tuple[Any, dict[str, Array]]]
"""(leaves, inputs, train, key) -> what the model returns, and the leaves that the call changed."""

TRAIN = {"train": True, "training": True, "is_training": True, "deterministic": False, "use_running_average": False}
"""Arguments by which modules are put into train mode, with their value there."""


class ModelFunction(NamedTuple):
    """A model as a function. arrays: the leaves' values as they were made, by path."""

    kind: str
    leaves: tuple[Leaf, ...]
    arrays: dict[str, Array]
    apply: Apply
    can: frozenset[str]


def recognize(made: Any) -> bool:
    """Whether this is a model of this framework."""
    if isinstance(made, tuple) and len(made) == 2:
        return callable(made[0]) or hasattr(made[0], "apply")
    if keras_models.recognize(made):
        return True
    return isinstance(made, nnx.Module) or (callable(made) and any(_is_floating(one) for one in jax.tree.leaves(made)))


def describe(made: Any) -> str:
    """What the factory returned, in words."""
    if keras_models.recognize(made):
        return keras_models.describe(made)
    if isinstance(made, nnx.Module):
        return f"nnx.Module {type(made).__name__}"
    if not isinstance(made, tuple):
        return f"{_package(made)} module {type(made).__name__}"
    first = made[0]
    if _is_linen(first):
        return f"linen module {type(first).__name__} with variables"
    if _is_transformed(first):
        return "haiku.Transformed with parameters"
    return f"function {getattr(first, '__name__', type(first).__name__)} with parameters"


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has an argument of that name, or takes any."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some built in functions have none
        return False
    return name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def model_of(made: Any, call: Callable[..., Any] | None, state: tuple[str, ...] = ()) -> ModelFunction:
    """The model as a function of its leaves. Raises UsageError for what is none. state: see `spec.pair.PairOptions`."""
    if keras_models.recognize(made):
        return _keras(made, call)
    if isinstance(made, nnx.Module):
        return _nnx(made, call)
    if isinstance(made, tuple) and len(made) == 2:
        if _is_linen(made[0]):
            return _linen(*made, call)
        if _is_transformed(made[0]):
            return _transformed(*made, call)
        if _package(made[0]) == _package(made[1]) == "equinox":
            return _with_state(*made, call)
        if callable(made[0]):
            return _function(*made, call, state)
    if recognize(made):
        return _tree(made, call)
    expected = "an nnx.Module, an Equinox or Keras module, (linen module, variables) or (function, parameters)"
    raise UsageError(f"expected {expected}, got {type(made).__module__}.{type(made).__qualname__}")


def _nnx(made: nnx.Module, call: Callable[..., Any] | None) -> ModelFunction:
    graph, state = nnx.split(made)
    flat = list(nnx.to_flat_state(state))
    names = [".".join(map(str, path)) for path, _ in flat]
    arrays = {name: _value(one) for name, (_, one) in zip(names, flat, strict=True) if _is_floating(_value(one))}
    leaves = []
    for name, (path, one) in zip(names, flat, strict=True):
        if name in arrays:
            owner = _owner(made, path)
            trainable = isinstance(one, nnx.Param)
            leaves.append(_leaf(name, arrays[name], trainable, type(owner).__name__ if owner is not None else ""))
    keys = [name for name, (_, one) in zip(names, flat, strict=True) if isinstance(one, nnx.RngKey)]

    def apply(values: Mapping[str, Array], inputs: Any, train: bool, key: Array) -> tuple[Any, dict[str, Array]]:
        def one(name: str, variable: Any) -> Any:
            value = values.get(name, _value(variable))
            if name in keys and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
                value = jax.random.fold_in(key, keys.index(name))
            # An array that stands in a module by itself is a leaf of its state too.
            return variable.replace(value) if isinstance(variable, nnx.Variable) else value

        state = [(path, one(name, variable)) for name, (path, variable) in zip(names, flat, strict=True)]
        model = nnx.merge(graph, nnx.from_flat_state(state))
        modules = [(".".join(map(str, path)), one) for path, one in nnx.iter_modules(model)]
        if _is_wide(values):
            for _, module in modules:
                _widen(module)
        with _named_calls(modules, {type(one) for _, one in modules}):
            (model.train if train else model.eval)()
            output = _called(call, (model,), inputs, train, key)
        after = {".".join(map(str, path)): _value(one) for path, one in nnx.to_flat_state(nnx.state(model))}
        changed = {name: after[name] for name in values if name in after and after[name] is not values[name]}
        return output, changed

    return ModelFunction(describe(made), tuple(leaves), arrays, apply, frozenset({"train", *(["rng"] if keys else [])}))


def _keras(made: Any, call: Callable[..., Any] | None) -> ModelFunction:
    owned = keras_models.variables_of(made)
    layers = [(one.path, one.part) for one in keras_models.layers_of(made)]
    bases = {base for _, layer in layers for base in type(layer).__mro__}
    trained = {id(variable) for variable in made.trainable_variables}
    held = {path: jnp.asarray(variable.value) for path, (variable, _) in owned.items()}
    arrays = {path: one for path, one in held.items() if _is_floating(one)}
    seeds = [path for path in held if path not in arrays]
    leaves = tuple(
        _leaf(path, arrays[path], id(variable) in trained, type(owner).__name__)._replace(
            role=keras_models.ROLES.get(variable.name, "")
        )
        for path, (variable, owner) in owned.items()
        if path in arrays
    )

    def apply(values: Mapping[str, Array], inputs: Any, train: bool, key: Array) -> tuple[Any, dict[str, Array]]:
        given = {path: values.get(path, one) for path, one in held.items()}
        for number, path in enumerate(seeds):
            drawn = jax.random.bits(jax.random.fold_in(key, number), held[path].shape, jnp.uint32)
            given[path] = drawn.astype(held[path].dtype)
        state = [(variable, given[path]) for path, (variable, _) in owned.items()]
        with sys.modules["keras"].StatelessScope(state_mapping=state) as scope, _named_calls(layers, bases):
            if call is None:
                positional, named = _arguments(inputs)
                output = made(*positional, training=train, **named)
            else:
                output = _called(call, (made,), inputs, train, key)
        after = {path: scope.get_current_value(variable) for path, (variable, _) in owned.items() if path in arrays}
        return output, {path: one for path, one in after.items() if id(owned[path].array) not in trained}

    return ModelFunction(describe(made), leaves, arrays, apply, keras_models.modes(call))


def _value(variable: Any) -> Any:
    return variable.get_value() if hasattr(variable, "get_value") else getattr(variable, "value", variable)


def _owner(made: Any, path: tuple[Any, ...]) -> Any:
    for step in path[:-1]:
        try:
            made = getattr(made, step) if isinstance(step, str) and hasattr(made, step) else made[step]
        except (KeyError, IndexError, TypeError):
            return None
    return made


def _is_wide(values: Mapping[str, Array]) -> bool:
    """Whether the model is asked what it computes in float64."""
    return any(one.dtype == jnp.float64 for one in values.values())


def _widen(module: Any) -> None:
    """Have a module that is told to compute in a narrow dtype do so in float64: JAX rounds a literal to the dtype of
    what it meets, and no later widening brings its digits back. For a module that is made for one call."""
    dtype = getattr(module, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jnp.floating):
        object.__setattr__(module, "dtype", jnp.float64)


class _named_calls:  # noqa: N801 (used as a function is)
    """Meanwhile the calls of a model's modules are named by their paths, for whoever reads the trace.

    classes: where the modules' `__call__` may be defined.
    """

    def __init__(self, modules: Iterable[tuple[str, Any]], classes: Iterable[type]) -> None:
        self.paths = {id(one): path for path, one in modules}
        self.classes = {one for one in classes if "__call__" in one.__dict__}
        self.before: dict[type, Any] = {}

    def __enter__(self) -> None:
        for one in self.classes:
            self.before[one] = one.__dict__["__call__"]
            one.__call__ = self._named(self.before[one])  # pyright: ignore[reportAttributeAccessIssue]

    def __exit__(self, *_: object) -> None:
        for one, call in self.before.items():
            one.__call__ = call  # pyright: ignore[reportAttributeAccessIssue]

    def _named(self, call: Callable[..., Any]) -> Callable[..., Any]:
        paths = self.paths

        def named(module: Any, *args: Any, **kwargs: Any) -> Any:
            with jax.named_scope(f"{PATH}{paths.get(id(module), '')}"):
                return call(module, *args, **kwargs)

        return named


PATH = "path:"
"""What a name in the trace begins with that is a module's whole path."""


def _linen(module: Any, variables: Any, call: Callable[..., Any] | None) -> ModelFunction:
    from flax import linen
    from flax.traverse_util import flatten_dict, unflatten_dict

    plain = linen.unbox(dict(variables))
    flat = flatten_dict({name: dict(one) for name, one in plain.items()})
    names = {path: ".".join(map(str, path[1:] if path[0] == "params" else path)) for path in flat}
    arrays = {names[path]: jnp.asarray(one) for path, one in flat.items() if _is_floating(one)}
    leaves = tuple(
        _leaf(names[path], arrays[names[path]], path[0] == "params", _linen_class(path))
        for path in flat
        if names[path] in arrays
    )
    kept = [name for name in plain if name != "params"]

    def after(changed: Any) -> dict[str, Array]:
        flat = flatten_dict(linen.unbox({name: dict(one) for name, one in changed.items()}))
        found = {names[path]: one for path, one in flat.items() if path in names}
        return {name: jnp.asarray(one) for name, one in found.items() if name in arrays}

    def widened(call: Callable[..., Any], args: Any, kwargs: Any, context: linen.module.InterceptorContext) -> Any:
        _widen(context.module)
        return call(*args, **kwargs)

    def apply(values: Mapping[str, Array], inputs: Any, train: bool, key: Array) -> tuple[Any, dict[str, Array]]:
        with linen.intercept_methods(widened) if _is_wide(values) else nullcontext():
            return applied(values, inputs, train, key)

    def applied(values: Mapping[str, Array], inputs: Any, train: bool, key: Array) -> tuple[Any, dict[str, Array]]:
        given = unflatten_dict({path: values.get(names[path], one) for path, one in flat.items()})
        if call is not None:
            output, changed = _parted(_called(call, (module, given), inputs, train, key), lambda one: _some(one, kept))
            return output, after(changed or {})
        positional, named = _arguments(inputs)
        for name, value in TRAIN.items():
            if name not in named and takes(type(module).__call__, name):
                named[name] = value if train else not value
        streams = {"dropout": key, "params": jax.random.fold_in(key, 1)} if train else None
        output, changed = module.apply(given, *positional, rngs=streams, mutable=kept if train else [], **named)
        return output, after(changed)

    return ModelFunction(describe((module, variables)), leaves, arrays, apply, frozenset({"train", "rng"}))


def _linen_class(path: tuple[Any, ...]) -> str:
    """Of "Dense_0" its class; of a name that the user gave, nothing."""
    name = str(path[-2]) if len(path) > 2 else ""
    stem, _, number = name.rpartition("_")
    return stem if number.isdecimal() else ""


def _transformed(transformed: Any, parameters: Any, call: Callable[..., Any] | None) -> ModelFunction:
    stateful = type(transformed).__name__ == "TransformedWithState"
    tree = dict(zip(("params", "state"), parameters, strict=True)) if stateful else {"params": parameters}
    keyed = takes(transformed.apply, "rng")

    def run(given: Any, *positional: Any, train: bool, rng: Array, **named: Any) -> Any:
        key = [rng] if keyed else []
        state = [given["state"]] if stateful else []
        for name, value in TRAIN.items():
            if name not in named and name in inspect.signature(transformed.apply).parameters:
                named[name] = value if train else not value
        return transformed.apply(given["params"], *state, *key, *positional, **named)

    def asked(given: Any, *positional: Any, **named: Any) -> Any:
        items = (given["params"], given["state"]) if stateful else given["params"]
        assert call is not None
        return call(transformed, items, *positional, **named)

    if call is not None:
        asked.__signature__ = inspect.signature(call)  # pyright: ignore[reportFunctionMemberAccess]
    kept = ("state",) if stateful else ()
    return _of_tree(describe((transformed, parameters)), tree, asked if call is not None else run, kept, shown="params")


def _with_state(module: Any, state: Any, call: Callable[..., Any] | None) -> ModelFunction:
    """An Equinox module and its `equinox.nn.State`."""

    def run(given: Any, *positional: Any, **named: Any) -> Any:
        chosen = call or (lambda module, state, *xs, **more: module(*xs, state, **more))
        return chosen(given["model"], given["state"], *positional, **named)

    run.__signature__ = inspect.signature(call) if call is not None else inspect.Signature()  # pyright: ignore[reportFunctionMemberAccess]
    mode = sys.modules["equinox"].nn.inference_mode
    tree = {"model": module, "state": state}
    return _of_tree(describe(module), tree, run, ("state",), shown="model", mode=mode)


def _function(
    function: Callable[..., Any], parameters: Any, call: Callable[..., Any] | None, state: tuple[str, ...]
) -> ModelFunction:
    known = [str(key) for key in parameters] if isinstance(parameters, Mapping) else []
    if unknown := [name for name in state if name not in known]:
        raise UsageError(
            f"state: expected keys of the parameters ({', '.join(known) or 'which have none'}), got {unknown[0]!r}"
        )

    def run(given: Any, *positional: Any, **named: Any) -> Any:
        return function(given, *positional, **named)

    def asked(given: Any, *positional: Any, **named: Any) -> Any:
        assert call is not None
        return call(function, given, *positional, **named)

    chosen = run if call is None else asked
    chosen.__signature__ = inspect.signature(call or function)  # pyright: ignore[reportFunctionMemberAccess]
    return _of_tree(describe((function, parameters)), parameters, chosen, state)


def _tree(made: Any, call: Callable[..., Any] | None) -> ModelFunction:
    """A callable tree of arrays, such as an Equinox module."""

    def run(given: Any, *positional: Any, **named: Any) -> Any:
        return (call or (lambda model, *xs, **more: model(*xs, **more)))(given, *positional, **named)

    if call is not None:
        run.__signature__ = inspect.signature(call)  # pyright: ignore[reportFunctionMemberAccess]
    else:
        run.__signature__ = inspect.Signature()  # pyright: ignore[reportFunctionMemberAccess]
    mode = None
    if _package(made) == "equinox":
        mode = sys.modules["equinox"].nn.inference_mode  # the module came from there
    return _of_tree(describe(made), made, run, mode=mode)


def _of_tree(
    kind: str,
    tree: Any,
    run: Callable[..., Any],
    state: tuple[str, ...] = (),
    shown: str = "",
    mode: Callable[..., Any] | None = None,
) -> ModelFunction:
    """state: keys of the tree that are not trained, and that a call in train mode returns beside its output.

    shown: the key that no leaf's path begins with, in words.
    """
    flat, structure = jax.tree_util.tree_flatten_with_path(tree)
    names = [_named(path) for path, _ in flat]
    arrays = {name: jnp.asarray(one) for name, (_, one) in zip(names, flat, strict=True) if _is_floating(one)}
    called = {name: name.removeprefix(f"{shown}.") if shown else name for name in arrays}
    kept = {key: tree[key] for key in state}
    held = kept[state[0]] if len(state) == 1 else kept
    leaves = tuple(
        _leaf(called[name], array, name.partition(".")[0] not in state, _class_at(tree, path))
        for name, (path, _) in zip(names, flat, strict=True)
        if (array := arrays.get(name)) is not None
    )

    def apply(values: Mapping[str, Array], inputs: Any, train: bool, key: Array) -> tuple[Any, dict[str, Array]]:
        given = [values[called[name]] if name in arrays else one for name, (_, one) in zip(names, flat, strict=True)]
        made = jax.tree_util.tree_unflatten(structure, given)
        if mode is not None:
            made = mode(made, value=not train)
        output = _called(run, (made,), inputs, train, key)
        if not state:
            return output, {}
        output, after = _parted(output, lambda one: jax.tree.structure(one) == jax.tree.structure(held))
        if after is None:
            if train:
                raise UsageError(f"expected (output, {' and '.join(state)}) of a call in train mode, got no such two")
            return output, {}
        changed, _ = jax.tree_util.tree_flatten_with_path({state[0]: after} if len(state) == 1 else after)
        found = {_named(path): one for path, one in changed}
        return output, {called[name]: jnp.asarray(one) for name, one in found.items() if name in arrays}

    can = {name for name, words in (("train", ("train",)), ("rng", ("rng",))) if any(takes(run, one) for one in words)}
    return ModelFunction(kind, leaves, {called[name]: one for name, one in arrays.items()}, apply, frozenset(can))


def _parted(found: Any, is_state: Callable[[Any], bool]) -> tuple[Any, Any]:
    """What a call returned as its output and the state after it; None where it returned an output alone."""
    if isinstance(found, tuple) and len(found) == 2 and is_state(found[1]):
        return found[0], found[1]
    return found, None


def _some(one: Any, names: Sequence[str]) -> bool:
    """Whether this holds collections of these names, and nothing else."""
    return bool(names) and isinstance(one, Mapping) and set(one) <= set(names)


def _called(call: Callable[..., Any] | None, made: tuple[Any, ...], inputs: Any, train: bool, key: Array) -> Any:
    positional, named = _arguments(inputs)
    if call is None:
        return made[0](*positional, **named)
    for name, value in (("train", train), ("rng", key)):
        if name in inspect.signature(call).parameters:
            named[name] = value
    return call(*made, *positional, **named)


def _arguments(inputs: Any) -> tuple[list[Any], dict[str, Any]]:
    return ([], dict(inputs)) if isinstance(inputs, Mapping) else (list(inputs), {})


NAMED = {
    "kernel": "kernel",
    "w": "kernel",
    "weight": "weight",
    "scale": "scale",
    "embedding": "embedding",
    "embeddings": "embedding",
    "bias": "bias",
    "b": "bias",
    "offset": "bias",
}
"""What flax, Haiku and Equinox call a leaf, and its role."""


def _leaf(path: str, array: Array, trainable: bool, owner: str) -> Leaf:
    name = path.rpartition(".")[2]
    role = NAMED.get(name, "") if trainable else {"mean": "mean", "var": "variance"}.get(name, "")
    if role in ("weight", "kernel") and array.ndim < 2:
        role = ""
    if role == "weight" and owner == "Embedding":
        role = "embedding"
    return Leaf(path, jax.eval_shape(as_real, array).shape, str(array.dtype), trainable, (), owner, role)


def _named(path: tuple[Any, ...]) -> str:
    return ".".join(str(getattr(one, "name", getattr(one, "key", getattr(one, "idx", one)))) for one in path)


def _class_at(tree: Any, path: tuple[Any, ...]) -> str:
    for one in path[:-1]:
        try:
            tree = (
                getattr(tree, one.name) if hasattr(one, "name") else tree[getattr(one, "key", getattr(one, "idx", 0))]
            )
        except (AttributeError, KeyError, IndexError, TypeError):
            return ""
    return "" if isinstance(tree, dict | list | tuple) else type(tree).__name__


def _is_floating(value: Any) -> bool:
    return isinstance(value, Array | np.ndarray) and bool(jnp.issubdtype(value.dtype, jnp.inexact))


def _package(made: Any) -> str:
    roots = [one.__module__.partition(".")[0] for one in type(made).__mro__]
    return "equinox" if "equinox" in roots else roots[0]


def _is_linen(one: Any) -> bool:
    return any(base.__module__.startswith("flax.linen") for base in type(one).__mro__)


def _is_transformed(one: Any) -> bool:
    return type(one).__module__.startswith("haiku") and hasattr(one, "apply")
