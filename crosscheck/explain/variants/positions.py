"""Positions of a Transformer, and what its inputs are multiplied by."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from crosscheck.explain.variant import Case, Variant, option
from spec.reference import transformer
from spec.reference.arithmetic import Array
from spec.reference.model import Evaluation

STAGES = ("positions", "input")

plain = transformer.TransformerEncoder

Table = Callable[[int, int, float], np.ndarray]
"""(steps, width, base) -> (steps, width)."""


def table(exponents: Callable[[int], np.ndarray], first: int = 0, halves: bool = False) -> Table:
    def made(time: int, hidden: int, base: float) -> np.ndarray:
        angles = (np.arange(time) + first)[:, None] / base ** exponents(hidden)
        if halves:
            return np.concatenate([np.sin(angles), np.cos(angles)], -1)
        return np.stack([np.sin(angles), np.cos(angles)], -1).reshape(time, hidden)

    return made


def usual(hidden: int) -> np.ndarray:
    return np.arange(0, hidden, 2) / hidden


def over_one_less(hidden: int) -> np.ndarray:
    return np.arange(hidden // 2) / max(hidden // 2 - 1, 1)


def in_float32(time: int, hidden: int, base: float) -> np.ndarray:
    exponents = np.arange(0, hidden, 2, dtype=np.float32) / np.float32(hidden)
    angles = np.arange(time, dtype=np.float32)[:, None] / np.float32(base) ** exponents
    found = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(time, hidden)
    return found.astype(np.float64)


def times(factor: float) -> Callable[[Evaluation], None]:
    def prepare(at: Evaluation) -> None:
        scaled = {name: at.parameters[name] * factor for name in ("input.weight", "input.bias")}
        at.parameters = {**at.parameters, **scaled}

    return prepare


TABLES = (
    ("positions were all sines, then all cosines", "PB37", table(usual, halves=True)),
    ("frequencies were divided by half the width less one", "PB37", table(over_one_less)),
    ("so they were, and all sines came first", "PB37", table(over_one_less, halves=True)),
    ("positions counted from 1", "PB37", table(usual, first=1)),
    ("positions counted from 1, all sines first", "PB37", table(usual, first=1, halves=True)),
)


def of_experiment(case: Case) -> Iterator[Variant]:
    if not case.computes or case.kind != "TransformerEncoder":
        return
    if case.model.positions == "sinusoidal":
        for words, source, formula in TABLES:
            yield Variant(words, source, substitutes={"transformer.positions": formula})
        yield Variant(
            "positions were indexed by the example", "PB38", substitutes={"transformer.TransformerEncoder": indexed}
        )
        yield option("there were no positions", "", positions="none")
        bases = [value for value in (10_000.0, 1_000.0) if value != case.model.position_base]
        for base in bases:
            yield option(
                f"positions had the base {base:g} ({case.model.position_base:g} in the equations)", position_base=base
            )
    root = math.sqrt(case.model.hidden_size)
    yield Variant("inputs were multiplied by the root of the width", "PB40", prepare=times(root))


def indexed(at: Evaluation, spec) -> Array:
    """The Transformer, each sequence with the one position of its place in the batch."""
    kept = transformer.positions
    count = at.batch.inputs.shape[0]
    try:
        transformer.positions = lambda time, hidden, base: np.broadcast_to(
            kept(count, hidden, base)[:, None], (count, time, hidden)
        )
        return plain(at, spec)
    finally:
        transformer.positions = kept
