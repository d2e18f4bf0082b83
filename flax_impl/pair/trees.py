"""What models take and give, whatever it is made of: arrays by their place in it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flax_impl.arrays import to_array


def arrays(value: Any, name: str = "") -> Iterator[tuple[str, Array]]:
    """Every array in tuples, lists, mappings and dataclasses, with its place: "logits", "0", "hidden.1".

    An array by itself is called "output".
    """
    below = f"{name}." if name else ""
    if isinstance(value, Array | np.ndarray):
        yield name or "output", jnp.asarray(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from arrays(item, f"{below}{key}")
    elif isinstance(value, tuple | list):
        names = getattr(value, "_fields", None) or range(len(value))
        for key, item in zip(names, value, strict=True):
            yield from arrays(item, f"{below}{key}")
    elif is_dataclass(value):
        for field in fields(value):
            yield from arrays(getattr(value, field.name), f"{below}{field.name}")


def floating(value: Any) -> dict[str, Array]:
    """The arrays of floating numbers among them, complex ones as `as_real` has them."""
    return {name: as_real(array) for name, array in arrays(value) if is_number(array)}


def is_number(array: Array) -> bool:
    """Whether it has floating numbers, real or complex ones."""
    return bool(jnp.issubdtype(array.dtype, jnp.inexact))


def as_real(array: Array) -> Array:
    """Complex numbers as a last axis of two, real and imaginary part; real ones as they are."""
    return jnp.stack([array.real, array.imag], -1) if jnp.issubdtype(array.dtype, jnp.complexfloating) else array


def as_entered(array: np.ndarray, dtype: jnp.dtype) -> Array:
    """The other way: numbers as `taken_out` gives them, as an array of that dtype. A copy: XLA may be given it."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        array = array[..., 0] + 1j * array[..., 1]
    return jnp.array(np.asarray(array, order="C"), dtype)


def brought_in(value: Any, dtype: jnp.dtype) -> Any:
    """Inputs with NumPy's arrays made the framework's, floating ones of that dtype; a new structure of its kind."""

    def one(array: np.ndarray) -> Array:
        return jnp.asarray(to_array(array), dtype if array.dtype.kind == "f" else None)

    return mapped(one, value)


def mapped(one: Callable[[np.ndarray], Any], value: Any) -> Any:
    """The structure with every NumPy array replaced."""
    if isinstance(value, np.ndarray | np.generic):
        return one(np.asarray(value))
    if isinstance(value, Mapping):
        return {key: mapped(one, item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        items = [mapped(one, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def taken_out(array: Array) -> np.ndarray:
    """A copy as NumPy: floating numbers in float32 or float64, whichever holds them exactly; see `as_real`."""
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        held = np.asarray(jax.device_get(array))
        return np.stack([np.real(held), np.imag(held)], -1)
    if jnp.issubdtype(array.dtype, jnp.floating) and array.dtype not in (jnp.float32, jnp.float64):
        array = array.astype(jnp.float32)
    return np.array(jax.device_get(array))
