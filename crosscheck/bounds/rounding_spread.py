"""How far rounding alone carries a computation: it is repeated from starts that differ in their last bits.

Where two honest sides part, they part like such starts do. So a bound is FACTOR times the envelope of the repetitions,
for each tensor (and each step of a trajectory), and nobody has to choose it. Of a single evaluation in float64 it is
also what the same evaluation in float32 shows of the rounding of all operations, see `of_all_operations`.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from spec.parameters import generator_for

RUNS = 5
"""Repetitions. Their largest deviation is one of ten values' (each element goes up or down): a stable size."""

COARSE = 3
"""Evaluations in float32. One alone may be right by luck: that three are within a tenth of half a unit, where FACTOR is
no more enough, has a chance of 1 in 1,000 for a tensor of one element."""

FACTOR = 10.0
"""What a bound is in units of the envelope. Two honest sides differ in every operation's rounding, not in the start's
alone, and the largest of five deviations is smaller than the largest possible one."""

PREFIX = "envelope/"
"""Before the names of what `measure` returns."""


def perturbed(
    start: Mapping[str, np.ndarray], seed: int, runs: int = RUNS, share: float = 0.0
) -> Iterator[dict[str, np.ndarray]]:
    """Copies of the start with each floating element moved to the next value above or below, at random; or by that
    share of itself, where one is given."""
    for run in range(runs):
        generator = generator_for(seed, "nudge", run)
        yield {name: _perturbation(value, generator, share) for name, value in start.items()}


def _perturbation(value: np.ndarray, generator: "np.random.Generator", share: float) -> np.ndarray:
    if value.dtype.kind != "f":
        return value
    if share:
        return value * generator.choice(np.array([1 - share, 1 + share], value.dtype), size=value.shape)
    towards = generator.choice(np.array([-np.inf, np.inf], value.dtype), size=value.shape)
    return np.nextafter(value, towards)


def of_all_operations(
    exact: Iterable[Mapping[str, np.ndarray]], rounded: Iterable[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """What float64 rounds, as `measure` returns it, by what float32 does.

    A start that differs in its last bit shows the rounding of what is computed from it only where that passes it on. A
    tanh near its end does not: h changes by (1 - h^2) of the change, which is lost where h is rounded, so every
    repetition has the same h. But another tanh may round h by a unit the other way, and 1 - h^2, by which gradients are
    multiplied, is then off by 1 / (1 - h^2) units. So the same is computed in float32 from the same numbers: every
    operation is rounded in its own way there, and to first order by 2^29 times as much.

    exact, rounded: results in float64 and in float32 from several numbers, the same in both.
    """
    found: dict[str, np.ndarray] = {}
    for one, other in zip(exact, rounded, strict=True):
        found = larger(found, measure(one, [other]))
    scale = float(np.finfo(np.float64).eps / np.finfo(np.float32).eps)
    return {name: scale * value for name, value in found.items()}


def larger(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The larger of two such measures, for each name."""
    return {name: np.maximum(one.get(name, 0.0), other.get(name, 0.0)) for name in {**one, **other}}


def measure(
    arrays: Mapping[str, np.ndarray], runs: Iterable[Mapping[str, np.ndarray]], stepwise: bool = False
) -> dict[str, np.ndarray]:
    """The largest deviation of the runs from `arrays`, a float64 scalar (or one a step, `(steps,)`) for each name.

    An element that is not finite on either side counts as no deviation; that it is there is for others to find.
    """
    found = {PREFIX + name: np.zeros(len(value) if stepwise else ()) for name, value in arrays.items()}
    for run in runs:
        for name, value in arrays.items():
            with np.errstate(invalid="ignore"):
                away = np.nan_to_num(np.abs(run[name].astype(np.float64) - value), nan=0.0, posinf=0.0)
            largest = away.reshape(len(away), -1).max(axis=1, initial=0.0) if stepwise else away.max(initial=0.0)
            found[PREFIX + name] = np.maximum(found[PREFIX + name], largest)
    return found
