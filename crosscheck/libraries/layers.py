"""Recurrent and attention layers of eight libraries, found by running each in an environment of its own."""

from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from crosscheck.libraries import made

PATH = Path(__file__).with_name("layers.json")


class Bias(msgspec.Struct, frozen=True, kw_only=True):
    """A block of a bias: the gate that it moves, and on which side it is added, where that can be told.

    side: "input" outside and "hidden" inside of what the reset gate multiplies; empty where both are the same function.
    """

    array: str
    gate: str
    side: str = ""


class Holds(msgspec.Struct, frozen=True, kw_only=True):
    """torch's weights, put where the blocks were found, and the layer run beside torch's.

    verdict: "each" where every tensor has its own place, "summed" where the function is the same and biases have to be
    added, "no" otherwise. difference: the largest of any output, as a share of the largest output. without: what of
    torch's has to be zero for the outputs to be equal; empty where that is not enough either.
    """

    verdict: Literal["each", "summed", "no"]
    difference: float
    lost: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


class Padding(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch of several lengths gives. None of it applies where the layer takes no lengths (by: empty)."""

    by: str
    outputs: str = ""
    state: str = ""
    zero_state: str = ""
    zero_outputs: str = ""
    nan_reaches: str = ""


class Recurrent(msgspec.Struct, frozen=True, kw_only=True):
    """A recurrent layer. gates: in the order of the kernels' blocks; of arrays by gate, with their names.

    reset: "after" or "before" the product with the hidden state, of a GRU alone. update: which of the two states the
    update gate keeps, "old" or "new". forget_offset: what is added to the forget gate beside the bias. states: as they
    are returned. initial: the law by array.
    """

    library: str
    layer: str
    kind: Literal["rnn", "gru", "lstm"]
    precision: str
    kernels: tuple[str, ...]
    gates: tuple[str, ...]
    recurrent_gates: tuple[str, ...]
    biases: tuple[Bias, ...]
    reset: str = ""
    update: str = ""
    activation: str = "tanh"
    forget_offset: float = 0.0
    states: tuple[str, ...]
    projection: str = ""
    holds: Holds
    padding: Padding
    initial: dict[str, str]


class Attention(msgspec.Struct, frozen=True, kw_only=True):
    """Attention of several heads. arrays: by role (query, key, value, output), the array and which of its blocks.

    mask: what True means. masked_row: what a query gets whose keys are all masked. scale: what scores are divided by.
    """

    library: str
    layer: str
    precision: str
    arrays: dict[str, str]
    biases: dict[str, str]
    default_biases: bool | None
    scale: str
    mask_argument: str
    mask: str
    masked_row: str
    holds: Holds | None
    initial: dict[str, str]


class Layers(msgspec.Struct, frozen=True, kw_only=True):
    made: made.Made
    versions: dict[str, dict[str, str]]
    recurrent: tuple[Recurrent, ...]
    attention: tuple[Attention, ...]


@cache
def table() -> Layers:
    return made.read(Layers, PATH)


def layer_of(library: str, layer: str) -> Recurrent | Attention | None:
    """What is known of a layer, such as ("flax", "nnx.GRUCell"); None where nothing is."""
    rows: tuple[Recurrent | Attention, ...] = (*table().recurrent, *table().attention)
    return next((row for row in rows if (row.library, row.layer) == (library, layer)), None)
