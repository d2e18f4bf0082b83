"""How far rounding alone carries a computation: it is repeated from starts that differ in their last bits.

Where two honest sides part, they part like such starts do. So a bound is FACTOR times the envelope of the repetitions,
for each tensor (and each step of a trajectory), and nobody has to choose it.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from spec.parameters import generator_for

RUNS = 5
"""Repetitions. Their largest deviation is one of ten values' (each element goes up or down): a stable size."""

FACTOR = 10.0
"""What a bound is in units of the envelope. Two honest sides differ in every operation's rounding, not in the start's
alone, and the largest of five deviations is smaller than the largest possible one."""

PREFIX = "envelope/"
"""Before the names of what `measure` returns."""


def perturbed(start: Mapping[str, np.ndarray], seed: int, runs: int = RUNS) -> Iterator[dict[str, np.ndarray]]:
    """Copies of the start with each floating element moved to the next value above or below, at random."""
    for run in range(runs):
        generator = generator_for(seed, "nudge", run)
        yield {name: _perturbation(value, generator) for name, value in start.items()}


def _perturbation(value: np.ndarray, generator: "np.random.Generator") -> np.ndarray:
    if value.dtype.kind != "f":
        return value
    towards = generator.choice(np.array([-np.inf, np.inf], value.dtype), size=value.shape)
    return np.nextafter(value, towards)


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
