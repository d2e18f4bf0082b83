"""Layers of the table, told by the names and shapes of the arrays that they hold, and what is known of them.

Names and shapes together: `kernel`, `recurrent_kernel` and `bias` of (3, 12), (4, 12) and (2, 12) are Keras's GRU of 4.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache

from crosscheck.libraries.layers import Recurrent, table

Shape = tuple[int, ...]

FEWEST = 3
"""Arrays of a layer, at least, that is told without its module's name: two of them may be any linear layer's."""


@cache
def _patterns() -> list[tuple[Recurrent, dict[str, tuple[str, ...]]]]:
    """By row of the table, each array's sizes as the table has them: "3H", "I + H", "2"."""
    found = []
    for row in table().recurrent:
        held = {}
        for one in row.kernels:
            name, _, sizes = one.rpartition(" (")
            held[_own(name, len(row.kernels))] = tuple(size.strip() for size in sizes.rstrip(")").split(","))
        found.append((row, held))
    return found


def _own(name: str, count: int) -> str:
    """An array's name with dots; Haiku's without the module's own name, which the user may choose, where it can be."""
    parts = name.split("/")
    return ".".join(parts[1:] if len(parts) > 1 and count >= FEWEST else parts)


def holding(shapes: Mapping[str, Shape], path: str) -> tuple[list[Recurrent], str]:
    """The rows whose arrays are exactly those beside the path, and the path before them; no rows where none is.

    shapes: of all of a model's leaves. path: of one of them.
    """
    found: list[Recurrent] = []
    before = ""
    dotted, path = {name.replace("/", "."): shape for name, shape in shapes.items()}, path.replace("/", ".")
    for row, held in _patterns():
        own = next((name for name in held if path == name or path.endswith(f".{name}")), None)
        if own is None:
            continue
        prefix = path[: len(path) - len(own)]
        beside = {name.removeprefix(prefix): shape for name, shape in dotted.items() if name.startswith(prefix)}
        if len(held) < FEWEST:
            # Beside it may be others, where its module's name is among its own.
            beside = {name: shape for name, shape in beside.items() if name in held}
        if beside.keys() == held.keys() and _fit(beside, held):
            found.append(row)
            before = prefix.rstrip(".")
    return found, before


def _fit(shapes: Mapping[str, Shape], held: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether one number of inputs and one of hidden units give all shapes."""
    sizes = {size for shape in shapes.values() for size in shape}
    return any(
        all(
            len(shapes[name]) == len(wanted)
            and all(size == _size(one, inputs, hidden) for size, one in zip(shapes[name], wanted, strict=True))
            for name, wanted in held.items()
        )
        for hidden in sizes | {size // gates for size in sizes for gates in (2, 3, 4)}
        for inputs in sizes | {size - hidden for size in sizes if size > hidden}
    )


def _size(text: str, inputs: int, hidden: int) -> int:
    """Of "3H", "I + H" or "2"."""
    total = 0
    for term in text.split("+"):
        found = re.fullmatch(r"(\d*)([IH]?)", term.strip())
        assert found is not None
        count, letter = found.groups()
        total += int(count or 1) * {"I": inputs, "H": hidden, "": 1}[letter]
    return total


def facts(shapes: Mapping[str, Shape], paths: Iterable[str]) -> list[str]:
    """What the table says of the layers that hold these paths: whether, and how, they can hold torch's weights."""
    said = []
    for path in paths:
        rows, before = holding(shapes, path)
        words = {_of_torch(row) for row in rows}
        # Layers of the same arrays, of which the same is known, are one.
        if len(words) == 1 and (only := next(iter(words))):
            names = " or ".join(dict.fromkeys(f"{row.library}'s {row.layer}" for row in rows))
            said.append(f"{before or path} is laid out as {names}, which {only}")
    return list(dict.fromkeys(said))


def _of_torch(row: Recurrent) -> str:
    stock = {"gru": "nn.GRU", "lstm": "nn.LSTM", "rnn": "nn.RNN"}[row.kind]
    if row.library == "torch":
        return ""
    if row.holds.verdict == "summed":
        return f"has one bias where torch's {stock} has two"
    if row.holds.verdict == "no" and row.holds.lost:
        return f"has no {', '.join(row.holds.lost)} of torch's {stock}"
    if row.holds.verdict == "no" and row.reset == "before":
        return f"applies the reset gate before the product, torch's {stock} after it"
    return ""
