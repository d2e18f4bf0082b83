"""The cells and the attention that libraries have, with everything in which they differ as an argument."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

GATES = {"rnn": ("n",), "gru": ("r", "z", "n"), "lstm": ("i", "f", "g", "o")}
"""In torch's order."""

Gates = Mapping[str, np.ndarray]


class Convention(NamedTuple):
    """reset: where the reset gate multiplies. update: which state the update gate keeps. states: as given, returned."""

    reset: str = ""
    update: str = ""
    forget_offset: float = 0.0
    activation: str = "tanh"
    states: tuple[str, ...] = ("h",)


CONVENTIONS = {
    "rnn": tuple(Convention(activation=one) for one in ("tanh", "relu")),
    "gru": tuple(Convention(reset, update) for reset in ("after", "before") for update in ("old", "new")),
    "lstm": tuple(
        Convention(forget_offset=offset, states=states) for offset in (0.0, 1.0) for states in (("h", "c"), ("c", "h"))
    ),
}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def step(
    kind: str,
    convention: Convention,
    wi: Gates,
    wh: Gates,
    x: np.ndarray,
    states: list[np.ndarray],
    bi: Gates | None = None,
    bh: Gates | None = None,
) -> list[np.ndarray]:
    """The states after one step, in the convention's order."""
    given = dict(zip(convention.states, states, strict=True))
    h = given["h"]
    at_input = {gate: x @ wi[gate].T + (bi or {}).get(gate, 0.0) for gate in GATES[kind]}
    at_hidden = {gate: h @ wh[gate].T + (bh or {}).get(gate, 0.0) for gate in GATES[kind]}
    if kind == "rnn":
        total = at_input["n"] + at_hidden["n"]
        return [np.tanh(total) if convention.activation == "tanh" else np.maximum(total, 0.0)]
    if kind == "gru":
        r, z = (sigmoid(at_input[gate] + at_hidden[gate]) for gate in ("r", "z"))
        if convention.reset == "after":
            n = np.tanh(at_input["n"] + r * at_hidden["n"])
        else:
            n = np.tanh(at_input["n"] + (r * h) @ wh["n"].T + (bh or {}).get("n", 0.0))
        return [z * h + (1 - z) * n if convention.update == "old" else (1 - z) * h + z * n]
    i, f, g, o = (at_input[gate] + at_hidden[gate] for gate in GATES["lstm"])
    c = sigmoid(f + convention.forget_offset) * given["c"] + sigmoid(i) * np.tanh(g)
    after = {"h": sigmoid(o) * np.tanh(c), "c": c}
    return [after[name] for name in convention.states]


def attention(
    kernels: Gates,
    biases: Gates,
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    heads: int,
    scale: str,
    keep: np.ndarray | None = None,
) -> np.ndarray:
    """kernels as (out, in) by role; without one the identity. keep: (batch, queries, keys), True where it attends."""

    def mapped(role: str, x: np.ndarray) -> np.ndarray:
        return (x @ kernels[role].T if role in kernels else x) + biases.get(role, 0.0)

    def split(x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)

    q, k, v = (split(mapped(role, x)) for role, x in (("query", query), ("key", key), ("value", value)))
    divisor = {"sqrt(size of a head)": q.shape[-1] ** 0.5, "sqrt(features)": query.shape[-1] ** 0.5, "nothing": 1.0}
    scores = q @ k.transpose(0, 1, 3, 2) / divisor[scale]
    if keep is not None:
        scores = np.where(keep[:, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return mapped("output", (weights @ v).transpose(0, 2, 1, 3).reshape(query.shape))
