"""What each library's script shares: its layers as functions of NumPy arrays, asked over a pipe by `judge.py`.

Runs in the library's own environment, which has NumPy and nothing of this project.
"""

import importlib.metadata
import inspect
import os
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]


class Recurrent(NamedTuple):
    """A layer as the library has it.

    kind: rnn, gru or lstm. initial: (seed, inputs, hidden) -> parameters as the library draws them. run: (parameters,
    x (batch, time, inputs), states or None, lengths or None) -> outputs (batch, time, hidden), states (batch, hidden)
    in the library's order. lengths: by what argument the library is told of them; empty where it has none. made: what
    constructs it from (inputs, hidden) or (hidden,). arguments: whose signature names what it takes, where that is
    another.
    """

    kind: str
    initial: Callable[[int, int, int], Mapping[str, Any]] | None
    run: Callable[..., tuple[Any, Sequence[Any]]]
    lengths: str = ""
    made: Any = None
    arguments: Any = None
    shapes: Callable[[int, int], Mapping[str, Sequence[int]]] | None = None


class Attention(NamedTuple):
    """run: (parameters, query, key, value, mask or None), with arrays (batch, time, features) and the mask (batch,
    queries, keys) of bool as it is. initial: (seed, features, heads) -> parameters. default_biases: as made without
    arguments."""

    initial: Callable[[int, int, int], Mapping[str, Any]]
    run: Callable[..., Any]
    default_biases: bool | None = None
    mask: str = ""
    laws: bool = True


HEADS = 2


def serve(layers: Mapping[str, Recurrent | Attention], packages: Sequence[str], precision: str = "float64") -> None:
    """Answer until the pipe is closed. What libraries print goes to stderr."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    described = {
        "versions": {name: importlib.metadata.version(name).partition("+")[0] for name in packages},
        "python": sys.version.split()[0],
        "precision": precision,
        "layers": {name: _described(layer) for name, layer in layers.items()},
    }
    _send(pipe, described)
    while True:
        try:
            name, function, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = getattr(layers[name], function)(*arguments)
            _send(pipe, _plain(answer))
        except Exception as error:  # whatever the library raises is an answer
            _send(pipe, RuntimeError(f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160]}"))


def _described(layer: Recurrent | Attention) -> dict[str, Any]:
    if isinstance(layer, Attention):
        return {"kind": "attention", "biases": layer.default_biases, "mask": layer.mask, "laws": layer.laws}
    laws = layer.initial is not None
    return {"kind": layer.kind, "lengths": layer.lengths, "projection": _projection(layer), "laws": laws}


def _projection(layer: Recurrent) -> str:
    """The argument by which the layer takes a projection of its state, if one is named so and it takes it."""
    signature = inspect.signature(layer.arguments or layer.made) if layer.made is not None else None
    for name in signature.parameters if signature is not None else ():
        if "proj" in name:
            try:
                layer.made(3, 5, **{name: 2})
            except (TypeError, ValueError):
                continue
            return name
    return ""


def _plain(answer: Any) -> Any:
    if isinstance(answer, Mapping):
        return {name: _plain(one) for name, one in answer.items()}
    if isinstance(answer, tuple | list) and not all(isinstance(one, int) for one in answer):
        return [_plain(one) for one in answer]
    return answer if isinstance(answer, tuple | list) else np.array(answer)


def _send(pipe: Any, message: Any) -> None:
    pickle.dump(message, pipe)
    pipe.flush()
