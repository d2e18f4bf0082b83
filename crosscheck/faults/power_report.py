"""Detection against the number of seeds, in rows."""

from collections.abc import Iterator, Sequence

from crosscheck.faults.findings import DetectedShare, Trial
from spec.convergence import CONVERGENCE

POWER_LEGEND = (
    "effect: mean log loss-AUC with the fault less that without it, in standard deviations (the margin is "
    f"{CONVERGENCE.effect:g}); n = ...: the share of draws of so many members a side in which the fault is DIFFERENT, "
    f"with its exact {1 - CONVERGENCE.level:.0%} interval, judged as in a run of all experiments"
)


def power_rows(trials: Sequence[Trial]) -> Iterator[list[str]]:
    """A header, and a row for each fault that ensembles should see; nothing where there is none."""
    known = [(trial, trial.power) for trial in trials if trial.power]
    if not known:
        return
    numbers = sorted({point.members for _, power in known for point in power.points})
    yield ["planted fault", "on", "effect", "solved, without", *(f"n = {number}" for number in numbers)]
    for trial, power in known:
        points = {point.members: point for point in power.points}
        shares = [_share(points[number]) if number in points else "" for number in numbers]
        solved = f"{power.solved:.3f}, {power.solved_clean:.3f}"
        name = f"{trial.implementation}/{trial.name}"
        yield [name, trial.experiment, f"{power.effect:+.2f}", solved, *shares]


def _share(point: DetectedShare) -> str:
    if point.draws == 1:
        return "DIFFERENT" if point.detected else "not"
    return f"{point.detected / point.draws:.2f} [{point.low:.2f}, {point.high:.2f}]"
