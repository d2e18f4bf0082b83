"""Weights that were brought over in another layout."""

from collections.abc import Callable, Iterator

import numpy as np

from crosscheck.explain.variant import Case, Variant
from spec.reference.model import Evaluation

Change = Callable[[str, np.ndarray], np.ndarray]
"""(name, array with a leading axis of perturbations) -> the array."""


def each(change: Change) -> Callable[[Evaluation], None]:
    def prepare(at: Evaluation) -> None:
        at.parameters = {name: change(name, value) for name, value in at.parameters.items()}

    return prepare


def square(value: np.ndarray) -> bool:
    return value.ndim == 3 and value.shape[1] == value.shape[2]


def transposed(kind: str) -> Change:
    return lambda name, value: value.swapaxes(1, 2) if square(value) and kind in name else value


def packed(order: tuple[int, ...]) -> Change:
    """in_proj's blocks in another order."""

    def change(name: str, value: np.ndarray) -> np.ndarray:
        if ".in_proj_" not in name:
            return value
        blocks = np.split(value, 3, axis=1)
        return np.concatenate([blocks[i] for i in order], axis=1)

    return change


def by_head(heads: int) -> Change:
    """in_proj's rows read as [q1 k1 v1 q2 k2 v2 ...]."""

    def change(name: str, value: np.ndarray) -> np.ndarray:
        if ".in_proj_" not in name:
            return value
        rows = np.arange(value.shape[1]).reshape(heads, 3, -1).swapaxes(0, 1).ravel()
        return value[:, rows]

    return change


def through_float32(name: str, value: np.ndarray) -> np.ndarray:
    return value.astype(np.float32).astype(np.float64) if not np.iscomplexobj(value) else value


def of_experiment(case: Case) -> Iterator[Variant]:
    if case.check == "round-trip":
        yield from _returned()
        return
    if not case.computes:
        return
    squares = [p.name for p in case.experiment.parameters() if len(p.shape) == 2 and p.shape[0] == p.shape[1]]
    if squares:
        yield Variant("square matrices were transposed", "PB94", prepare=each(transposed("")))
    recurrent = [name for name in squares if "weight_hh" in name]
    if recurrent and recurrent != squares:
        yield Variant("square recurrent matrices were transposed", "PB94", prepare=each(transposed("weight_hh")))
    if case.kind == "TransformerEncoder":
        for order in ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
            words = ", ".join("qkv"[i] for i in order)
            yield Variant(f"in_proj held {words} (q, k, v in the equations)", "PB50", prepare=each(packed(order)))
        if case.model.heads > 1:
            change = each(by_head(case.model.heads))
            yield Variant("in_proj's rows held q, k and v head by head", "PB50", prepare=change)
    yield Variant("parameters were rounded to float32", "PB92", prepare=each(through_float32))


def _returned() -> Iterator[Variant]:
    """What comes back of parameters that were handed over."""

    def turned(found: dict[str, np.ndarray], *_: object) -> dict[str, np.ndarray]:
        return {n: v.T.copy() if v.ndim == 2 and v.shape[0] == v.shape[1] else v for n, v in found.items()}

    def rounded(found: dict[str, np.ndarray], *_: object) -> dict[str, np.ndarray]:
        return {name: value.astype(np.float32).astype(value.dtype) for name, value in found.items()}

    def merged(found: dict[str, np.ndarray], *_: object) -> dict[str, np.ndarray]:
        made = dict(found)
        for name, value in found.items():
            if "bias_ih" in name:
                other = name.replace("bias_ih", "bias_hh")
                made[name], made[other] = value + found[other], np.zeros_like(value)
        return made

    yield Variant("square matrices were transposed on the way", "PB94", answers={"round_trip": turned})
    yield Variant("parameters were rounded to float32", "PB92", answers={"round_trip": rounded})
    yield Variant("the two biases were one", "PB04", answers={"round_trip": merged})
