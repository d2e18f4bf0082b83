"""Names and layouts of other libraries, as modules in the canonical layout.

A unit is one module's arrays: a linear map, a table, a norm, one layer and direction of a recurrence, packed
projections. What it is shows in the names of its arrays, which each library has of its own; how its gates are ordered
follows from that, how many there are from the shape of what multiplies the state.

    canonical        weight (out, in), bias; weight_ih (gates H, in), weight_hh, bias_ih, bias_hh; in_proj_weight
    Keras            kernel (in, out), recurrent_kernel (H, gates H), bias; embeddings; gamma, beta; or vars/0, 1, 2
                     LSTM i, f, c, o, which is i, f, g, o; GRU z, r, h, with two biases where reset_after
    ONNX             W (directions, gates H, in), R, B (directions, 2 gates H); LSTM i, o, f, c; GRU z, r, h
    cells by gate    ii, if, ig, io, hi, hf, hg, ho; ir, iz, in, hr, hz, hn; i, h: each a kernel, some with a bias
    cells in two     dense_i, dense_h: kernels (in, gates H), in the canonical order

Source: `keras.layers`; the ONNX operators LSTM, GRU, RNN; `flax.linen` and `flax.nnx`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from spec.errors import UsageError

Path = tuple[str, ...]
Leaves = dict[str, np.ndarray]

WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
"""Parts of names that wrappers of modules add wherever they stand."""

OPTIMIZER = re.compile(r"opt|optim|optimi[sz]er.*|opt_state|optim_.*|.*lr_schedulers?|schedulers?|(grad_)?scaler")
"""How a checkpoint calls what is no model's, by the first part of a name."""

RECURRENT = re.compile(r"(weight|bias)_(ih|hh)(?:_l(\d{1,4})(_reverse)?)?")
CANONICAL = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

GATES = {1: "RNN", 3: "GRU", 4: "LSTM"}
BY_GATE = {4: ("i", "f", "g", "o"), 3: ("r", "z", "n"), 1: ("",)}
"""The canonical order."""

SWAPPED = (1, 0, 2)
"""z, r, h as r, z, n."""

ONNX_LSTM = (0, 2, 3, 1)
"""i, o, f, c as i, f, g, o."""

ROLES = {
    "query": {"q", "query", "wq"},
    "key": {"k", "key", "wk"},
    "value": {"v", "value", "wv"},
    "output": {"o", "out", "output", "wo", "attention_output", "attn_output"},
    "encoder": {"encoder", "enc"},
    "decoder": {"decoder", "dec"},
    "embedding": {"embedding", "embeddings", "embed", "emb", "wte"},
}
"""What parts of names say a module is for."""

BACKWARD = re.compile(r"(backward|reverse|bwd)(_|$)")
"""How the part of a name begins that is of the direction from the last step to the first."""

AFFIXES = re.compile(r"^(to|w|linear|lin|proj)_|_(proj|projection|dense|linear|lin|layer)$")


class Unit(NamedTuple):
    """One module. path: where it is. leaves: by the last part of their canonical names. direction: 1 for backward.

    kind: "linear", "table", "counted" for a cell that is numbered by layer and direction together; or "" where
    its names do not tell one from the other. said: what was done to it.
    """

    path: Path
    leaves: Leaves
    kind: str = ""
    direction: int = 0
    said: tuple[str, ...] = ()

    @property
    def shapes(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """By which units are told from each other."""
        return tuple(sorted((name, array.shape) for name, array in self.leaves.items()))

    @property
    def name(self) -> str:
        """As people write it."""
        return ".".join(self.path) or "(the outermost)"


def parts(name: str) -> Path:
    """A name's parts, without what wrappers of modules and of arrays add."""
    found = [part for part in re.split(r"[./]", name) if part and part not in WRAPPERS]
    if len(found) > 1 and found[-1] in ("value", "raw_value"):
        found.pop()
    if found:
        found[-1] = found[-1].removesuffix(":0")
    return tuple(found)


def role(part: str) -> str:
    """What a part of a name says its module is for; empty where it says nothing of that kind."""
    word = AFFIXES.sub("", part.lower())
    return next((role for role, words in ROLES.items() if word in words), "")


def units(arrays: Mapping[str, np.ndarray]) -> list[Unit]:
    """All arrays, as modules. Raises UsageError for a module that no canonical one can hold, with the reason."""
    modules: dict[Path, Leaves] = {}
    for name, array in arrays.items():
        path = parts(name)
        modules.setdefault(path[:-1], {})[path[-1] if path else name] = array
    _name(modules)
    found = [*_by_gate(modules), *_in_two(modules)]
    for path, leaves in modules.items():
        found += _unit(path, leaves)
    return [one._replace(direction=1) if any(map(BACKWARD.match, one.path)) else one for one in found]


def _unit(path: Path, leaves: Leaves) -> Iterator[Unit]:
    names = leaves.keys()
    if any(RECURRENT.fullmatch(name) for name in names):
        yield from _canonical(path, leaves)
        leaves = {name: array for name, array in leaves.items() if not RECURRENT.fullmatch(name)}
        if not leaves:
            return
        names = leaves.keys()
    if "recurrent_kernel" in names:
        yield _keras_cell(path, leaves)
    elif names == {"W", "R", "B"} or names == {"W", "R"}:
        yield from _onnx(path, leaves)
    elif "kernel" in names and names <= {"kernel", "bias"}:
        yield _linear(path, leaves)
    elif len(names) == 1 and names <= {"embedding", "embeddings"}:
        yield Unit(path, {"weight": next(iter(leaves.values()))}, "table")
    elif names <= {"scale", "bias"} and "scale" in names:
        yield Unit(path, _renamed(leaves, scale="weight"))
    elif names <= {"gamma", "beta"} and "gamma" in names:
        yield Unit(path, _renamed(leaves, gamma="weight", beta="bias"))
    elif names & {"in_proj_weight", "in_proj_bias"}:
        packed = {name: array for name, array in leaves.items() if name.startswith("in_proj_")}
        yield Unit(path, packed)
        yield from [Unit(path, rest)] if (rest := {n: a for n, a in leaves.items() if n not in packed}) else []
    else:
        yield Unit(path, leaves, "linear" if leaves.keys() == {"weight", "bias"} else "")


def _renamed(leaves: Leaves, **names: str) -> Leaves:
    return {names.get(name, name): array for name, array in leaves.items()}


def _canonical(path: Path, leaves: Leaves) -> Iterator[Unit]:
    """Recurrent layers that have the canonical names already."""
    layers: dict[tuple[str, int], Leaves] = {}
    for name, array in leaves.items():
        if match := RECURRENT.fullmatch(name):
            what, which, layer, backward = match.groups()
            layers.setdefault((layer or "", int(bool(backward))), {})[f"{what}_{which}"] = array
    for (layer, direction), held in layers.items():
        yield Unit((*path, f"l{layer}") if layer else path, held, direction=direction)


def _name(modules: dict[Path, Leaves]) -> None:
    """Give Keras's variables names, .../vars/0, 1, 2: by what kind of layer their path says they are of."""
    for path in [path for path in modules if path[-1:] == ("vars",)]:
        leaves = modules.pop(path)
        ordered = [leaves[key] for key in sorted(leaves, key=lambda key: (len(key), key))]
        owner = path[:-1]
        names: tuple[str, ...] = ("kernel", "bias")
        if any(re.fullmatch(r"cell|.*(lstm|gru|rnn)(_cell)?(_\d+)?", part) for part in owner[-1:]):
            names = ("kernel", "recurrent_kernel", "bias")
        elif any("embedding" in part for part in owner[-1:]):
            names = ("embeddings",)
        elif any("normalization" in part for part in owner[-1:]):
            names = ("gamma", "beta")
        called = names if len(ordered) <= len(names) else tuple(leaves)
        for name, array in zip(called, ordered, strict=False):
            modules.setdefault(owner, {})[name] = array


def _by_gate(modules: dict[Path, Leaves]) -> Iterator[Unit]:
    """Cells that keep a kernel for each gate, out of `modules`."""
    owners = {path[:-1] for path in modules if path}
    for owner in sorted(owners):
        inside = {path[-1].removesuffix("_"): path for path in modules if path[:-1] == owner and path}
        for gates, names in BY_GATE.items():
            wanted = {f"{side}{gate}" for side in "ih" for gate in names}
            if wanted <= inside.keys() and all("kernel" in modules[inside[name]] for name in wanted):
                held = {name: modules.pop(inside[name]) for name in wanted}
                yield _gathered(owner, gates, names, held)
                break


def _gathered(path: Path, gates: int, names: Sequence[str], held: dict[str, Leaves]) -> Unit:
    leaves: Leaves = {}
    for side, called in (("i", "ih"), ("h", "hh")):
        each = [held[f"{side}{name}"] for name in names]
        leaves[f"weight_{called}"] = np.concatenate([one["kernel"].T for one in each])
        if any("bias" in one for one in each):
            width = len(each[0]["kernel"].T)
            zeros = np.zeros(width, each[0]["kernel"].dtype)
            leaves[f"bias_{called}"] = np.concatenate([one.get("bias", zeros) for one in each])
    return _completed(Unit(path, leaves, said=(f"{GATES[gates]} put together from a kernel for each gate",)))


def _in_two(modules: dict[Path, Leaves]) -> Iterator[Unit]:
    """Cells of two linear maps, out of `modules`."""
    for owner in sorted({path[:-1] for path in modules if path[-1:] == ("dense_h",)}):
        pair = (*owner, "dense_i"), (*owner, "dense_h")
        if not all("kernel" in modules.get(path, {}) for path in pair):
            continue
        leaves: Leaves = {}
        for path, side in zip(pair, ("ih", "hh"), strict=True):
            held = modules.pop(path)
            leaves[f"weight_{side}"] = held["kernel"].T
            leaves |= {f"bias_{side}": held["bias"]} if "bias" in held else {}
        # No stock cell has both biases. Ours has, and is numbered by layer and, within it, by direction.
        kind = "counted" if {"bias_ih", "bias_hh"} <= leaves.keys() and owner[-2:-1] == ("cells",) else ""
        yield _completed(Unit(owner, leaves, kind, said=("kernels of a cell transposed",)))


def _completed(unit: Unit) -> Unit:
    """With zeros for a bias that it has not, since their sum acts. Said: two biases train otherwise than one."""
    absent = [name for name in ("bias_ih", "bias_hh") if name not in unit.leaves]
    if not absent:
        return unit
    like = unit.leaves["weight_ih"]
    zeros = {name: np.zeros(len(like), like.dtype) for name in absent}
    said = f"it has no {' and no '.join(absent)}: zero, which computes the same (and trains otherwise)"
    return unit._replace(leaves={**unit.leaves, **zeros}, said=(*unit.said, said))


def _keras_cell(path: Path, leaves: Leaves) -> Unit:
    width = len(leaves["recurrent_kernel"])
    gates = leaves["recurrent_kernel"].shape[-1] // width if width else 0
    name = "/".join(path)
    if gates not in GATES or leaves["recurrent_kernel"].shape != (width, gates * width):
        got = leaves["recurrent_kernel"].shape
        raise UsageError(f"{name}/recurrent_kernel: expected (H, H), (H, 3 H) or (H, 4 H), got {got}")
    order = SWAPPED if gates == 3 else None
    made = {
        "weight_ih": _reordered(leaves["kernel"].T, order),
        "weight_hh": _reordered(leaves["recurrent_kernel"].T, order),
    }
    bias = leaves.get("bias")
    said = {
        1: "kernels transposed",
        3: "kernels transposed, gates z, r, h (Keras's order) put as r, z, n",
        4: "kernels transposed; gates i, f, c, o (Keras's order) are i, f, g, o",
    }[gates]
    if gates == 3 and (bias is None or bias.ndim != 2):
        got = (
            "none: where its reset gate acts is not told"
            if bias is None
            else (f"one of shape {bias.shape}: its reset gate acts before the product, which is another recurrence")
        )
        raise UsageError(f"{name}: expected a GRU with two biases (reset_after = true), got {got}")
    if bias is not None:
        both = bias if bias.ndim == 2 else [bias]
        made |= {f"bias_{side}": _reordered(one, order) for side, one in zip(("ih", "hh"), both, strict=False)}
    return _completed(Unit(path, made, said=(said,)))


def _onnx(path: Path, leaves: Leaves) -> Iterator[Unit]:
    """An operator's inputs, each with a first axis of directions. The operator is the path's last part."""
    operator = path[-1].rpartition("_")[2]
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[operator]
    order = {4: ONNX_LSTM, 3: SWAPPED, 1: None}[gates]
    said = {4: "gates i, o, f, c (ONNX's order) put as i, f, g, o", 3: "gates z, r, h (ONNX's order) put as r, z, n"}
    for direction in range(len(leaves["W"])):
        made = {
            "weight_ih": _reordered(leaves["W"][direction], order),
            "weight_hh": _reordered(leaves["R"][direction], order),
        }
        if "B" in leaves:
            halves = np.split(leaves["B"][direction], 2)
            made |= {f"bias_{side}": _reordered(half, order) for side, half in zip(("ih", "hh"), halves, strict=True)}
        yield _completed(Unit(path, made, direction=direction, said=(said[gates],) if gates in said else ()))


def _reordered(array: np.ndarray, order: Sequence[int] | None) -> np.ndarray:
    """The blocks of rows in another order."""
    if order is None:
        return array
    blocks = np.split(array, len(order))
    return np.concatenate([blocks[block] for block in order])


def _linear(path: Path, leaves: Leaves) -> Unit:
    """A kernel (in, out); of attention's heads (in, heads, width), or (heads, width, out) where they come together."""
    kernel, bias = leaves["kernel"], leaves.get("bias")
    said = "kernel transposed"
    if kernel.ndim == 3 and path:
        called = role(path[-1])
        if called in ("query", "key", "value"):
            kernel, said = kernel.reshape(len(kernel), -1), "heads joined, kernel transposed"
            bias = bias.reshape(-1) if bias is not None else None
        elif called == "output":
            kernel, said = kernel.reshape(-1, kernel.shape[-1]), "heads joined, kernel transposed"
    if kernel.ndim != 2:
        return Unit(path, leaves)
    made = {"weight": kernel.T} | ({"bias": bias} if bias is not None else {})
    if path and path[-1] == "in_proj":
        return Unit(path[:-1], {f"in_proj_{name}": array for name, array in made.items()}, "linear", said=(said,))
    return Unit(path, made, "linear", said=(said,))
