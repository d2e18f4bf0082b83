"""What models take and give, whatever it is made of: arrays by their place in it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_impl.arrays import to_tensor


def arrays(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every array in tuples, lists, mappings and dataclasses, with its place: "logits", "0", "hidden.1".

    An array by itself is called "output".
    """
    below = f"{name}." if name else ""
    if isinstance(value, Tensor):
        yield name or "output", value
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


def floating(value: Any) -> dict[str, Tensor]:
    """The arrays of floating numbers among them, complex ones as `as_real` has them."""
    return {name: as_real(array) for name, array in arrays(value) if is_number(array)}


def is_number(array: Tensor) -> bool:
    """Whether it has floating numbers, real or complex ones."""
    return array.is_floating_point() or array.is_complex()


def as_real(array: Tensor) -> Tensor:
    """Complex numbers as a last axis of two, real and imaginary part; real ones as they are."""
    return torch.view_as_real(array.resolve_conj()) if array.is_complex() else array


def as_entered(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    """The other way: numbers as `taken_out` gives them, as an array of that dtype."""
    if not dtype.is_complex:
        return to_tensor(array, dtype)
    return torch.view_as_complex(to_tensor(np.asarray(array, order="C"), dtype.to_real()))


def brought_in(value: Any, dtype: torch.dtype) -> Any:
    """Inputs with NumPy's arrays made the framework's, floating ones of that dtype; a new structure of its kind."""

    def one(array: np.ndarray) -> Tensor:
        return to_tensor(array, dtype if array.dtype.kind == "f" else None)

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


def taken_out(array: Tensor) -> np.ndarray:
    """A copy as NumPy: floating numbers in float32 or float64, whichever holds them exactly; see `as_real`."""
    array = as_real(array.detach())
    if array.is_floating_point() and array.dtype not in (torch.float32, torch.float64):
        array = array.float()
    return array.cpu().numpy().copy()
