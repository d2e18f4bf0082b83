"""How far two sides are apart at each stage of a forward pass, when nothing is put in to go past a difference."""

from collections.abc import Sequence

import numpy as np

from crosscheck.mapping.bench import Bench, Seen
from crosscheck.mapping.forcing import Forced
from crosscheck.mapping.layouts import Shape, aligned, bounded
from crosscheck.mapping.results import Location, Stage
from spec.pair import Intermediate


def profile(bench: Bench, plain: Seen, past: Seen, forced: Sequence[Forced]) -> tuple[Stage, ...]:
    """Stages in the order in which the first side computes them: neighbours of one module are one, at their largest.

    plain: the second side's run. past: the same with the first's values put in at `forced`: what agrees there is the
    same stage on both sides, whatever came of it in the plain run.
    """
    put_in = {one.value.number: one for one in forced}
    others = {one.number: one for one in plain.forward.intermediates}
    stages: list[Stage] = []
    for entry in bench.forward.intermediates:
        held = past.found.get(entry.number)
        if entry.number in put_in:
            number, axes = put_in[entry.number].other.number, put_in[entry.number].axes
        elif held is not None and not entry.view:
            number, axes = held.number, aligned(entry.value, held.value, bench.tolerance)
        else:
            continue
        if axes is None or number not in others:
            continue
        place = Location(entry.module, entry.op, entry.source)
        one = Stage(place, _apart(entry, others[number].value, axes), entry.number in put_in)
        if stages and _called(stages[-1].place) == _called(place):
            worst = max(stages[-1], one, key=lambda stage: stage.size)
            stages[-1] = worst._replace(own=stages[-1].own or one.own)
        else:
            stages.append(one)
    return tuple(stages)


def _called(place: Location) -> str:
    return place.module or place.op


def _apart(entry: Intermediate, other: np.ndarray, axes: Shape) -> float:
    """The largest difference in units of the largest value; infinite where one is not a number."""
    ours, theirs = bounded(entry.value), bounded(other)
    apart = np.abs(ours.transpose(axes).reshape(theirs.shape) - theirs).max(initial=0.0)
    size = float(apart) / max(float(np.abs(ours).max(initial=0.0)), 1e-300)
    return size if np.isfinite(size) else np.inf
