"""Parameters between canonical names and nnx modules.

One adapter for each type of module says which of its tensors is which, and whether it is transposed. It is looked up
by the module's type, never by parts of a name, and works for any nnx module made of these types.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from flax_impl import compilation
from flax_impl.arrays import to_array
from flax_impl.recurrent import Cell, Layers, TiedHead
from flax_impl.settings import computing
from flax_impl.transformer import PackedSelfAttention
from spec.experiment import Experiment
from spec.framework import Settings
from spec.parameters import Constant, Normal, Parameter, Parameters, Uniform

Path = tuple[str | int, ...]

SMALLEST_DRAW = 1024
"""Numbers that are drawn of a single tensor at least: they take no longer than ten, and hello's are all smaller."""


class Leaf(NamedTuple):
    """Where a canonical parameter lives: its path in the nnx state, and whether its two axes are swapped there."""

    canonical: str
    path: Path
    transposed: bool


Layout = tuple[Leaf, ...]


def layout(model: nnx.Module) -> Layout:
    """Every parameter of the model. Raises TypeError for a module that holds some and has no adapter."""
    found = tuple(_leaves(model, ()))
    reached = {leaf.path for leaf in found}
    missed = [path for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param)) if path not in reached]
    if missed:
        raise TypeError(f"parameters: expected modules of {[t.__name__ for t in ADAPTERS]}, got others at {missed}")
    return found


def to_native(layout: Layout, parameters: Parameters) -> nnx.State:
    """Canonical parameters as the state of the model that the layout was taken from, in NumPy arrays."""
    structure, order = _structure(layout)
    leaves = [layout[number] for number in order]
    return structure.unflatten([np.array(to_array(_swap(parameters[leaf.canonical], leaf))) for leaf in leaves])


def to_canonical(layout: Layout, state: nnx.State) -> Parameters:
    """A state of the model's structure (parameters, gradients, an optimizer's slots) under canonical names.

    Leading axes, such as one of training steps, stay in front.
    """
    _, order = _structure(layout)
    values = dict(zip(order, jax.tree.leaves(state), strict=True))
    return {
        leaf.canonical: np.array(_swap(np.asarray(values[number]), leaf), order="C")
        for number, leaf in enumerate(layout)
    }


def canonical_names(layout: Layout) -> list[str]:
    """Of the leaves of the model's state, in the order in which JAX has them."""
    _, order = _structure(layout)
    return [layout[number].canonical for number in order]


@cache
def _structure(layout: Layout) -> tuple[Any, list[int]]:
    """That of the model's state, and which parameter of the layout each of its leaves is."""
    numbered = nnx.from_flat_state([(leaf.path, nnx.Param(number)) for number, leaf in enumerate(layout)])
    order, structure = jax.tree.flatten(numbered)
    return structure, order


def as_vector(state: nnx.State) -> Array:
    """All of a state's leaves, one behind the other. Of a recording leaf by leaf, XLA compiles a seventh longer."""
    return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(state)])


def from_vectors(vectors: np.ndarray, like: nnx.State) -> nnx.State:
    """States of the shapes of `like`, from what `as_vector` made of them. Leading axes stay in front."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([leaf.size for leaf in leaves])
    parts = np.split(vectors, ends[:-1], axis=-1)
    shaped = [part.reshape(*vectors.shape[:-1], *leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    return structure.unflatten(shaped)


def assemble(layout: Layout, parameters: Mapping[str, Array]) -> nnx.State:
    """The same as `to_native`, inside a traced function."""
    return nnx.from_flat_state([(leaf.path, nnx.Param(_swap(parameters[leaf.canonical], leaf))) for leaf in layout])


def initialize(experiment: Experiment, seed: int, settings: Settings) -> Parameters:
    """See spec.framework.Side: initialize."""
    with computing(settings):
        key = jax.random.key(seed)
        table = experiment.model.parameters()
        return {parameter.name: draw(parameter, key_of(parameter, key), settings) for parameter in table}


fold_in = compilation.jit(jax.random.fold_in)
"""Compiled: it is called for every tensor that is drawn, and called eagerly it costs more than the draw."""


def key_of(parameter: Parameter, key: Array) -> Array:
    """Each tensor has a key of its own, a function of its name, so that adding one moves no other."""
    return fold_in(key, np.uint32(zlib.crc32(parameter.name.encode())))


def draw(parameter: Parameter, key: Array, settings: Settings) -> np.ndarray:
    """One tensor from its initial law, in the settings' precision."""
    shape = _compiled_shape(parameter)
    dtype = np.dtype(settings.precision)
    match parameter.law:
        case Uniform(bound):
            values = _sampler(jax.random.uniform, settings)(key, shape, dtype, -bound, bound)
        case Normal(standard_deviation):
            values = standard_deviation * np.asarray(_sampler(jax.random.normal, settings)(key, shape, dtype))
        case Constant(value):
            values = np.full(shape, value, dtype)
    tensor = np.array(values)[: parameter.size].reshape(parameter.shape)
    if isinstance(parameter.law, Uniform) and parameter.law.raised is not None:
        first, last, by = parameter.law.raised
        tensor[first:last] += dtype.type(by)
    if isinstance(parameter.law, Normal) and parameter.law.zero_row is not None:
        tensor[parameter.law.zero_row] = 0
    return tensor


def sample(parameter: Parameter, key: Array, dtype: str) -> Array:
    """The same values as `draw`, but for rounding, inside a traced function."""
    shape = _drawn_shape(parameter)
    match parameter.law:
        case Uniform(bound):
            values = jax.random.uniform(key, shape, dtype, -bound, bound)
        case Normal(standard_deviation):
            values = standard_deviation * jax.random.normal(key, shape, dtype)
        case Constant(value):
            values = jnp.full(shape, value, dtype)
    tensor = values[: parameter.size].reshape(parameter.shape)
    if isinstance(parameter.law, Uniform) and parameter.law.raised is not None:
        first, last, by = parameter.law.raised
        tensor = tensor.at[first:last].add(by)
    if isinstance(parameter.law, Normal) and parameter.law.zero_row is not None:
        tensor = tensor.at[parameter.law.zero_row].set(0)
    return tensor


def _drawn_shape(parameter: Parameter) -> tuple[int]:
    """JAX compiles its generators anew for every shape; powers of two are few."""
    return (1 << (parameter.size - 1).bit_length(),)


def _compiled_shape(parameter: Parameter) -> tuple[int]:
    """The same where nothing else is compiled with it; a generator takes 0.1 s.

    With this switch of JAX, on by default, a number is a function of its index alone, and so `sample`'s too.
    """
    (size,) = _drawn_shape(parameter)
    return (max(size, SMALLEST_DRAW) if getattr(jax.config, "jax_threefry_partitionable", False) else size,)


@cache
def _sampler(function: Callable, settings: Settings) -> Callable:
    return compilation.jit(function, compilation.options(settings, quick=True), static_argnums=(1, 2))


def _swap(array: Any, leaf: Leaf) -> Any:
    return array.swapaxes(-1, -2) if leaf.transposed else array


def _leaves(module: nnx.Module, path: Path) -> Iterator[Leaf]:
    adapter = next((ADAPTERS[base] for base in type(module).__mro__ if base in ADAPTERS), None)
    if adapter is not None:
        yield from adapter(module, path)
        return
    for name, child in nnx.iter_children(module):
        if not isinstance(child, nnx.Module):
            continue
        yield from _leaves(child, (*path, name if isinstance(name, int) else str(name)))


def _dotted(path: Path) -> str:
    return "".join(f"{part}." for part in path)


def _linear(module: nnx.Linear, path: Path) -> Iterator[Leaf]:
    prefix = _dotted(path)
    yield Leaf(f"{prefix}weight", (*path, "kernel"), True)
    if module.use_bias:
        yield Leaf(f"{prefix}bias", (*path, "bias"), False)


def _embed(module: nnx.Embed, path: Path) -> Iterator[Leaf]:
    yield Leaf(f"{_dotted(path)}weight", (*path, "embedding"), False)


def _layer_norm(module: nnx.LayerNorm, path: Path) -> Iterator[Leaf]:
    yield Leaf(f"{_dotted(path)}weight", (*path, "scale"), False)
    yield Leaf(f"{_dotted(path)}bias", (*path, "bias"), False)


def _cell(module: Cell, path: Path, prefix: str | None = None, suffix: str = "") -> Iterator[Leaf]:
    prefix = _dotted(path) if prefix is None else prefix
    for side, name in (("ih", "dense_i"), ("hh", "dense_h")):
        yield Leaf(f"{prefix}weight_{side}{suffix}", (*path, name, "kernel"), True)
        if getattr(module, name).use_bias:
            yield Leaf(f"{prefix}bias_{side}{suffix}", (*path, name, "bias"), False)


def _tied_head(module: TiedHead, path: Path) -> Iterator[Leaf]:
    del module
    yield Leaf(f"{_dotted(path)}bias", (*path, "bias"), False)


def _layers(module: Layers, path: Path) -> Iterator[Leaf]:
    for index, cell in enumerate(module.cells):
        layer, direction = divmod(index, len(module.suffixes))
        suffix = f"_l{layer}{module.suffixes[direction]}"
        yield from _cell(cell, (*path, "cells", index), _dotted(path), suffix)


def _packed_self_attention(module: PackedSelfAttention, path: Path) -> Iterator[Leaf]:
    prefix = _dotted(path)
    yield Leaf(f"{prefix}in_proj_weight", (*path, "in_proj", "kernel"), True)
    yield Leaf(f"{prefix}in_proj_bias", (*path, "in_proj", "bias"), False)
    yield from _linear(module.out_proj, (*path, "out_proj"))


ADAPTERS: dict[type[nnx.Module], Callable[..., Iterator[Leaf]]] = {
    nnx.Linear: _linear,
    nnx.Embed: _embed,
    nnx.LayerNorm: _layer_norm,
    Cell: _cell,
    Layers: _layers,
    TiedHead: _tied_head,
    PackedSelfAttention: _packed_self_attention,
}
"""Which tensors a module of that type holds, in the order of the canonical table."""
