"""Parameters as every implementation exchanges them: canonical names, shapes, initial laws, and files.

Canonical names and layouts are those that people's checkpoints hold: a canonical safetensors file loads into the stock
modules that they were made with.
Source: `state_dict` of the equivalent modules of `torch.nn`.
"""

import hashlib
import math
import os
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from spec.errors import ParameterMismatch, UsageError, shorten
from spec.files import check_regular, write
from spec.machine import memory

Parameters = dict[str, np.ndarray]
"""Canonical name -> array, float32 or float64."""

CHECKSUM = "checksum"
"""The key in a file's metadata under which `save` keeps what `load` holds its content against."""

DTYPES = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8")
"""What can be read, as safetensors spells it: NumPy's own. Others depend on what else is installed."""

LONGEST_PROBLEMS = 1000
"""Characters of a message on what does not fit; a file of another model's parameters may have thousands of names."""


class Uniform(msgspec.Struct, frozen=True, tag="uniform"):
    """Uniform over [-bound, bound). What is drawn of the rows `raised`, (first, past the last, by how much), is that
    much higher."""

    bound: float
    raised: tuple[int, int, float] | None = None


class Normal(msgspec.Struct, frozen=True, tag="normal"):
    """Normal with mean 0. Row `zero_row`, where there is one, is all zeros (an embedding's padding)."""

    standard_deviation: float
    zero_row: int | None = None


class Constant(msgspec.Struct, frozen=True, tag="constant"):
    """The same value everywhere."""

    value: float


Law = Uniform | Normal | Constant


class Parameter(msgspec.Struct, frozen=True):
    """One trained tensor.

    `zero_gradient` is a range of rows (first, past the last) whose exact gradient is zero whatever the data, with the
    reason in the model's equations: what a computer finds there is rounding, and Adam makes full steps of rounding.
    blocks: of rows, equally many each, that it is made of: gates; queries, keys and values.
    """

    name: str
    shape: tuple[int, ...]
    law: Law
    zero_gradient: tuple[int, int] | None = None
    blocks: int = 1

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def linear(
    name: str, in_features: int, out_features: int, bias: bool = True, zero_gradient_bias: bool = False
) -> tuple[Parameter, ...]:
    """A linear map: weight and bias both uniform within 1/sqrt(in_features).

    Source: `torch.nn.Linear.reset_parameters`.
    """
    law = Uniform(1 / math.sqrt(in_features))
    weight = Parameter(f"{name}.weight", (out_features, in_features), law)
    if not bias:
        return (weight,)
    rows = (0, out_features) if zero_gradient_bias else None
    return weight, Parameter(f"{name}.bias", (out_features,), law, rows)


def recurrent(
    name: str,
    gates: int,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    bidirectional: bool = False,
    bias: bool = True,
    forget_bias: float = 0.0,
) -> tuple[Parameter, ...]:
    """Recurrent layers: every tensor uniform within 1/sqrt(hidden_size), both biases included.

    forget_bias: by how much the second gate's rows of bias_ih start higher. Source: `torch.nn.RNN`, `LSTM`, `GRU`.
    """
    law = Uniform(1 / math.sqrt(hidden_size))
    forgets = Uniform(law.bound, (hidden_size, 2 * hidden_size, forget_bias)) if forget_bias else law
    suffixes = directions(bidirectional)
    table: list[Parameter] = []
    for layer in range(num_layers):
        features = input_size if layer == 0 else hidden_size * len(suffixes)
        for suffix in suffixes:
            at = f"l{layer}{suffix}"
            table += [
                Parameter(f"{name}.weight_ih_{at}", (gates * hidden_size, features), law, blocks=gates),
                Parameter(f"{name}.weight_hh_{at}", (gates * hidden_size, hidden_size), law, blocks=gates),
            ]
            if bias:
                table += [
                    Parameter(f"{name}.bias_ih_{at}", (gates * hidden_size,), forgets, blocks=gates),
                    Parameter(f"{name}.bias_hh_{at}", (gates * hidden_size,), law, blocks=gates),
                ]
    return tuple(table)


def directions(bidirectional: bool) -> tuple[str, ...]:
    """The suffix of each direction's names, forward first."""
    return ("", "_reverse") if bidirectional else ("",)


def self_attention(name: str, width: int, zero_gradient: bool = True) -> tuple[Parameter, ...]:
    """Self-attention: in_proj uniform within Xavier's bound of the packed (3 width, width) matrix.

    Its bias and out_proj's start at zero. zero_gradient: whether that of the keys, in_proj_bias's middle third, has an
    exact gradient of zero.
    Source: `torch.nn.MultiheadAttention`.
    """
    out_weight, out_bias = linear(f"{name}.out_proj", width, width)
    keys = (width, 2 * width) if zero_gradient else None
    return (
        Parameter(f"{name}.in_proj_weight", (3 * width, width), Uniform(math.sqrt(6 / (4 * width))), blocks=3),
        Parameter(f"{name}.in_proj_bias", (3 * width,), Constant(0.0), keys, blocks=3),
        out_weight,
        Parameter(out_bias.name, out_bias.shape, Constant(0.0)),
    )


def layer_norm(name: str, features: int) -> tuple[Parameter, ...]:
    """Layer normalization: gain 1, bias 0.

    Source: `torch.nn.LayerNorm`.
    """
    return (
        Parameter(f"{name}.weight", (features,), Constant(1.0)),
        Parameter(f"{name}.bias", (features,), Constant(0.0)),
    )


def draw(table: Sequence[Parameter], seed: int, dtype: str, spread: float = 0.0) -> Parameters:
    """Draw parameters from their laws with NumPy's generator.

    Each tensor has its own stream, a function of (seed, name), so that adding a parameter moves no other. `spread` is
    the half-width of uniform noise on tensors whose law is a constant: a comparison needs it, since a bias of zero
    hides that it is missing, and a gain of one that it is not applied.
    """
    parameters = {}
    for parameter in table:
        generator = generator_for(seed, parameter.name)
        match parameter.law:
            case Uniform(bound, raised):
                values = generator.uniform(-bound, bound, parameter.shape)
                if raised is not None:
                    values[raised[0] : raised[1]] += raised[2]
            case Normal(standard_deviation, zero_row):
                values = generator.normal(0.0, standard_deviation, parameter.shape)
                if zero_row is not None:
                    values[zero_row] = 0.0
            case Constant(value):
                values = value + generator.uniform(-spread, spread, parameter.shape)
        parameters[parameter.name] = values.astype(dtype)
    return parameters


def lowered(law: Law, values: np.ndarray) -> np.ndarray:
    """Values (..., *shape) of a tensor of one axis without what the law raises them by.

    What lies beyond the law's bound by no more than a rounding of what was added up is put on it.
    """
    if not isinstance(law, Uniform) or law.raised is None:
        return values
    first, last, by = law.raised
    found = values.copy()
    found[..., first:last] -= values.dtype.type(by)
    rounding = float(np.finfo(values.dtype).eps) * (abs(by) + law.bound)
    beyond = (np.abs(found) > law.bound) & (np.abs(found) <= law.bound + rounding)
    return np.where(beyond, np.sign(found) * values.dtype.type(law.bound), found)


# Quoted, here and elsewhere: to name numpy.random is to import it, which --help and mistakes need not wait for.
def generator_for(seed: int, *labels: str | int) -> "np.random.Generator":
    """A NumPy generator whose stream depends on nothing but the seed (>= 0) and the labels, on any machine."""
    return np.random.Generator(np.random.Philox(_sequence_for(seed, labels)))


def _sequence_for(seed: int, labels: Sequence[str | int]) -> "np.random.SeedSequence":
    words = [label if isinstance(label, int) else zlib.crc32(label.encode()) for label in labels]
    return np.random.SeedSequence([seed, *words])


def seed_for(seed: int, *labels: str | int) -> int:
    """A seed below 2^63 for another generator, which depends on nothing but the seed (>= 0) and the labels."""
    return int(_sequence_for(seed, labels).generate_state(1, np.uint64)[0]) >> 1


def check(table: Sequence[Parameter], parameters: Mapping[str, np.ndarray], what: str = "parameters") -> None:
    """Raise ParameterMismatch unless names and shapes are exactly the table's."""
    expected = {parameter.name: parameter.shape for parameter in table}
    problems = []
    if missing := sorted(expected.keys() - parameters.keys()):
        problems.append(f"missing {missing}")
    if extra := sorted(parameters.keys() - expected.keys()):
        problems.append(f"not in the model {extra}")
    for name, shape in expected.items():
        if name in parameters and tuple(parameters[name].shape) != shape:
            problems.append(f"{name}: expected shape {shape}, got {tuple(parameters[name].shape)}")
    if problems:
        raise ParameterMismatch(f"{what}: " + shorten("; ".join(problems), LONGEST_PROBLEMS))


def cast(array: np.ndarray, precision: str, what: str) -> np.ndarray:
    """The array in that precision. Raises ParameterMismatch for values that are not finite, or not any more."""
    with np.errstate(over="ignore"):
        cast = array.astype(precision)
    wrong = np.flatnonzero(~np.isfinite(cast))
    if wrong.size:
        first = array.reshape(-1)[wrong[0]]
        where = f"{first} at {tuple(map(int, np.unravel_index(wrong[0], array.shape)))}"
        more = f", and {wrong.size - 1} more" if wrong.size > 1 else ""
        beyond = f", which is beyond {precision}" if np.isfinite(first) else ""
        raise ParameterMismatch(f"{what}: expected finite values, got {where}{beyond}{more}")
    return cast


def save(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None, lasting: bool = True
) -> None:
    """Write a safetensors file whole or not at all. Raises UsageError where it cannot be written.

    lasting: see spec.files.replacing.
    """
    # Contiguous copies: safetensors writes an array's buffer, and would write a transposed view untransposed. In the
    # machine's byte order, which is what `load` gives: the checksum is over bytes.
    contiguous = {
        name: np.asarray(array, dtype=np.asarray(array).dtype.newbyteorder("="), order="C")
        for name, array in arrays.items()
    }
    described = {key: value for key, value in (metadata or {}).items() if key != CHECKSUM}
    described[CHECKSUM] = checksum(contiguous, described)
    # Not safetensors' save_file, whose files nobody but their owner can read.
    write(Path(path), serialize(contiguous, described), lasting)


def load(path: Path, sealed: bool = False) -> tuple[Parameters, dict[str, str]]:
    """Read a safetensors file: its arrays and its metadata.

    Raises UsageError when it is missing or damaged: where it bears the checksum that `save` gives it, also when any bit
    of it is another. sealed: also when it bears none.
    """
    with opened(path) as file:
        names = sorted(file.keys())
        for name in names:
            if (dtype := str(file.get_slice(name).get_dtype())) not in DTYPES:
                raise UsageError(f"{path}: {name}: expected a dtype of {', '.join(DTYPES)}, got {dtype}")
        arrays = {name: file.get_tensor(name) for name in names}
        metadata = dict(file.metadata() or {})
    expected = metadata.pop(CHECKSUM, None)
    if sealed and expected is None:
        raise UsageError(f"{path}: expected a checksum in its metadata, got none")
    if expected is not None and expected != (got := checksum(arrays, metadata)):
        raise UsageError(f"{path}: expected the checksum {expected}, as it was written, got {got}: it was changed")
    return arrays, metadata


def load_metadata(path: Path) -> dict[str, str]:
    """The same without the arrays, of which it is only checked that they are all there."""
    with opened(path) as file:
        return {key: value for key, value in (file.metadata() or {}).items() if key != CHECKSUM}


def checksum(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """Twenty hexadecimal digits that change with any bit of arrays, names, shapes, dtypes and metadata."""
    digest = hashlib.sha256()
    for key, value in sorted(metadata.items()):
        digest.update(f"{len(key)} {len(value)} {key}{value}".encode())
    for name, array in sorted(arrays.items()):
        # As a file holds them, whatever order an array or this machine has its bytes in.
        if array.dtype.str[0] == ">" or not array.flags.c_contiguous:
            array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
        digest.update(f"{len(name)} {name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()[:20]


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file, as its library hands it out. Raises UsageError when it is missing or damaged."""
    try:
        path.lstat()
    except FileNotFoundError:
        raise UsageError(f"{path}: expected a safetensors file, got nothing: no such file") from None
    except (OSError, ValueError):
        pass  # What comes next says it.
    check_regular(path)
    # The library opens it in native code, of which Python's audit hooks hear nothing otherwise.
    sys.audit("open", str(path), "rb", os.O_RDONLY)
    available, size = memory(), path.stat().st_size
    if available is not None and size > available:
        raise UsageError(f"{path}: expected a file that fits into {available} bytes of memory, got {size}")
    try:
        with safe_open(str(path), framework="numpy") as file:
            yield file
    # The library has no errors of its own for much of what may be wrong with a file, and is not ours to predict.
    except (SafetensorError, OSError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise UsageError(f"{path}: expected a safetensors file, got one that cannot be read: {error}") from None
