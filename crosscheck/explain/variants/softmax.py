"""Softmax in a stranger's pair: its axis, and the mask before it."""

from collections.abc import Iterator

import numpy as np

from crosscheck.explain.pairs import Candidate
from crosscheck.mapping.results import OperationPart
from spec.reference.arithmetic import softmax

WEAK = (-1.0, -10.0, -20.0, -100.0)


def of_pair(part: OperationPart) -> Iterator[Candidate]:
    if part.op not in ("_softmax", "_safe_softmax") or len(part.inputs) != 1:
        return
    x = part.inputs[0]
    if x.size != part.value.size:
        return
    x = x.reshape(part.value.shape)
    for axis in range(x.ndim):
        own = along(x, axis)
        if not np.allclose(own, part.value, rtol=0, atol=part.tolerance):
            continue
        for other in range(x.ndim):
            if other != axis:
                there = f"axis {other} of {x.ndim}"
                yield Candidate(
                    "the softmax", f"over axis {axis} of {x.ndim}", f"over {there}", own, along(x, other), "PB52"
                )
        if axis == x.ndim - 1:
            yield from _causal(x, own)
        if axis == x.ndim - 1 and len(part.behind) == 1 and part.behind[0].size == x.size:
            yield from _masks(x, part.behind[0].reshape(x.shape), own)


def along(x: np.ndarray, axis: int) -> np.ndarray:
    moved = np.moveaxis(x, axis, -1)
    return np.moveaxis(softmax(moved, np.isfinite(moved)), -1, axis)


def _causal(scores: np.ndarray, own: np.ndarray) -> Iterator[Candidate]:
    """Where nothing is masked, a mask of the future."""
    if scores.ndim > 1 and scores.shape[-1] == scores.shape[-2] and np.isfinite(scores).all():
        keep = np.broadcast_to(np.tril(np.ones(scores.shape[-2:], bool)), scores.shape)
        yield Candidate("the mask", "none", "causal", own, softmax(scores, keep))


def _masks(masked: np.ndarray, scores: np.ndarray, own: np.ndarray) -> Iterator[Candidate]:
    """What a mask may have been instead. masked: scores, and minus infinity or something very low where masked."""
    keep = masked == scores
    if keep.all():
        return

    def other(there: str, made: np.ndarray, source: str = "") -> Candidate:
        return Candidate("the mask", "applied", there, own, made, source)

    yield other("left out", softmax(scores))
    yield other("added to the scores as 0 and 1", softmax(scores + keep), "PB44")
    yield other("added to the scores as 1 and 0", softmax(scores + ~keep), "PB44")
    yield other("applied after the softmax", softmax(scores) * keep, "PB44")
    yield other("the other way round", softmax(scores, ~keep), "PB43")
    for value in WEAK:
        yield other(f"a score of {value:g}", softmax(np.where(keep, scores, value)), "PB47")
    longer = keep | np.concatenate([keep[..., :1], keep[..., :-1]], -1)
    shorter = keep & np.concatenate([keep[..., 1:], np.zeros_like(keep[..., :1])], -1)
    yield other("a step longer", softmax(scores, longer))
    yield other("a step shorter", softmax(scores, shorter))
    if scores.shape[-1] == scores.shape[-2]:
        yield other("causal too", softmax(scores, keep & np.tril(np.ones(scores.shape[-2:], bool))))
