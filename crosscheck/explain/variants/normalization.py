"""Norms of a stranger's pair: epsilon and where it stands, the variance, what is counted over, gain and mean."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from crosscheck.explain.decimals import written
from crosscheck.explain.pairs import Candidate, distance
from crosscheck.mapping.results import OperationPart

KINDS = {"native_layer_norm": "layer", "native_group_norm": "group", "native_batch_norm": "batch"}

EPSILONS = (1e-5, 1e-6, 1e-3, 1e-12, 1e-8, 0.0)

NAMES = {"layer": "LayerNorm", "group": "GroupNorm", "batch": "BatchNorm"}


class Parts(NamedTuple):
    """(x - mean) / root * gain + bias, all of x's shape or fitting it. numbers: of values that a variance is of."""

    x: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    gain: np.ndarray
    bias: np.ndarray
    numbers: int

    def by(self, root: np.ndarray) -> np.ndarray:
        return (self.x - self.mean) / root * self.gain + self.bias

    def usual(self, epsilon: float) -> np.ndarray:
        return self.by(np.sqrt(self.variance + epsilon))

    def epsilon_of(self, value: np.ndarray) -> float | None:
        """The one under which the value comes out, where that is a plain number."""
        root = (self.x - self.mean) * self.gain / (value - self.bias)
        found = root**2 - self.variance
        # Where the numerator is largest it is known best.
        weight = np.abs(np.broadcast_to((self.x - self.mean) * self.gain, found.shape))
        best = np.where(np.isfinite(found), weight, 0).ravel().argsort()[-9:]
        return written(float(np.median(found.ravel()[best])))


def layer(part: OperationPart, axes: tuple[int, ...]) -> Parts | None:
    if len(part.inputs) != 1 or len(part.leaves) not in (0, 2):
        return None
    x = part.inputs[0].reshape(part.value.shape)
    gain, bias = part.leaves if part.leaves else (np.ones(()), np.zeros(()))
    mean = x.mean(axes, keepdims=True)
    return Parts(x, mean, x.var(axes, keepdims=True), gain, bias, int(np.prod([x.shape[axis] for axis in axes])))


def batch(part: OperationPart) -> Parts | None:
    if len(part.inputs) != 1 or len(part.leaves) != 4:
        return None
    x = part.inputs[0].reshape(part.value.shape)
    gain, bias, mean, variance = (leaf.reshape(-1, *[1] * (x.ndim - 2)) for leaf in part.leaves)
    return Parts(x, mean, variance, gain, bias, 0)


def of_pair(part: OperationPart) -> Iterator[Candidate]:
    kind = KINDS.get(part.op)
    if kind in ("layer", "batch"):
        inner = part.leaves[0].ndim if part.leaves else 1
        axes = tuple(range(part.value.ndim - inner, part.value.ndim))
        own = layer(part, axes) if kind == "layer" else batch(part)
        if own is None:
            return
        # One that is too small to be solved for may be a known one.
        found = (own.epsilon_of(part.value), *EPSILONS)
        fits = [e for e in found if e is not None and distance(own.usual(e), part.value, part.tolerance) <= 1]
        if fits:
            yield from _of(part, own, NAMES[kind], fits[0])
    elif kind == "group" and len(part.inputs) == 1 and len(part.leaves) == 2:
        yield from _groups(part)


def _of(part: OperationPart, own: Parts, name: str, epsilon: float) -> Iterator[Candidate]:
    plain = own.usual(epsilon)
    solved = own.epsilon_of(part.other)
    values = [*EPSILONS, *([solved] if solved is not None and solved >= 0 and solved not in EPSILONS else [])]
    for value in values:
        if value != epsilon:
            yield Candidate(f"{name}'s epsilon", f"{epsilon:g}", f"{value:g}", plain, own.usual(value), "PB61")

    def other(what: str, here: str, there: str, made: np.ndarray, source: str = "") -> Candidate:
        return Candidate(f"{name}'s {what}", here, there, plain, made, source)

    root = np.sqrt(own.variance + epsilon)
    beside = own.by(np.sqrt(own.variance) + epsilon)
    yield other("epsilon", "inside the root", "beside it", beside, "PB62")
    if own.numbers > 1:
        sample = own.variance * own.numbers / (own.numbers - 1)
        yield other("variance", "divided by n", "divided by n - 1", own.by(np.sqrt(sample + epsilon)), "PB62")
        both = own.by(np.sqrt(sample) + epsilon)
        yield other("deviation", "of n, epsilon inside", "of n - 1, epsilon beside it", both, "PB62")
    yield other("gain", "as it is", "1 more", own._replace(gain=own.gain + 1).by(root))
    yield other("gain", "applied", "left out", own._replace(gain=np.ones(())).by(root))
    yield other("bias", "added", "left out", own._replace(bias=np.zeros(())).by(root))
    yield other("mean", "taken off", "left in", own._replace(mean=np.zeros(())).by(root))
    axes = tuple(range(own.x.ndim - 1))
    over = own._replace(mean=own.x.mean(axes, keepdims=True), variance=own.x.var(axes, keepdims=True))
    if name == "LayerNorm":
        yield other("mean and variance", "over features", "over all else", over.usual(epsilon))
    else:
        axes = (0, *range(2, own.x.ndim))
        over = own._replace(mean=own.x.mean(axes, keepdims=True), variance=own.x.var(axes, keepdims=True))
        yield other("statistics", "the running ones", "the batch's", over.usual(epsilon), "PB53")


def _groups(part: OperationPart) -> Iterator[Candidate]:
    x = part.inputs[0].reshape(part.value.shape)
    gain, bias = (leaf.reshape(-1, *[1] * (x.ndim - 2)) for leaf in part.leaves)
    channels: int = part.value.shape[1]
    for count in (number for number in range(1, channels + 1) if channels % number == 0):
        for epsilon in EPSILONS:
            plain = _grouped(x, count, epsilon, False) * gain + bias
            if np.allclose(plain, part.value, rtol=0, atol=part.tolerance * np.abs(part.value).max()):
                turns = _grouped(x, count, epsilon, True) * gain + bias
                yield Candidate("GroupNorm's groups", "of neighbours", "taken in turns", plain, turns)
                for value in EPSILONS:
                    if value != epsilon:
                        made = _grouped(x, count, value, False) * gain + bias
                        yield Candidate("GroupNorm's epsilon", f"{epsilon:g}", f"{value:g}", plain, made, "PB61")
                for others in range(1, channels + 1):
                    if channels % others == 0 and others != count:
                        made = _grouped(x, others, epsilon, False) * gain + bias
                        yield Candidate("GroupNorm's groups", f"{count}", f"{others}", plain, made)


def _grouped(x: np.ndarray, count: int, epsilon: float, turns: bool) -> np.ndarray:
    size = x.shape[1] // count
    shape = (x.shape[0], size, count, *x.shape[2:]) if turns else (x.shape[0], count, size, *x.shape[2:])
    split = x.reshape(shape)
    axes = (1, *range(3, split.ndim)) if turns else tuple(range(2, split.ndim))
    made = (split - split.mean(axes, keepdims=True)) / np.sqrt(split.var(axes, keepdims=True) + epsilon)
    return made.reshape(x.shape)
