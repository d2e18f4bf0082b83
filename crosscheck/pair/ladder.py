"""All checks of a pair, from the ground up, and what they come to."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from crosscheck import mapping as maps
from crosscheck.comparison import GROWTH_DIGITS, Comparison, StageGrowth
from crosscheck.mapping import words
from crosscheck.pair import convergence, dropout, initial, numbers, result, structure, training
from crosscheck.pair.result import CheckCell, Difference, PairResult, SideTold, Status
from crosscheck.pair.state import Found, NotChecked, State
from crosscheck.pair.subject import AskedPair
from spec import files, text
from spec.errors import OhlolError, Unsupported, UsageError
from spec.weights.held import Held

CHECKS = (
    "structure",
    "round trip",
    "forward",
    "loss",
    "gradients",
    "train mode",
    "optimizer",
    "trajectory",
    "initialization",
    "dropout",
    "convergence",
)
"""In the order in which they are made and reported."""

KEPT = 200
"""Comparisons of a run that the report keeps: those that failed, then those nearest to their bounds, and the losses."""

Check = Callable[[State], Found]


class PairWanted(NamedTuple):
    """What is asked beside the pair itself. map_file: where the map is read from, or written to. weights: by name."""

    seed: int = 0
    map_file: Path | None = None
    emit: Path | None = None
    weights: tuple[Path, Held] | None = None


def climb(
    pair: AskedPair, wanted: PairWanted, say: Callable[[str], None], done: Callable[[CheckCell], None]
) -> PairResult:
    """Make every check. say: what is being done. done: a check has ended.

    Raises OhlolError where no map can be looked for: there is nothing to compare then.
    """
    begin = time.perf_counter()
    state = State(pair, wanted.seed, pair.first.values(), say)
    if wanted.weights is not None:
        file, held = wanted.weights
        said = structure.load_weights(state, held.arrays, file)
        done_to_them = f": {'; '.join((*held.said, *said))}" if held.said or said else ""
        state.notes.append(f"values as made are those of {file.name}{done_to_them}")
    if not pair.alone:
        drawn = "" if all("seed" in side.can for side in (pair.first, pair.second)) else ", one draw of initial values"
        state.notes.append(f"live objects: both sides in this process, no deadline{drawn}, and no map kept")
    how = structure.find_map(state, wanted.map_file)
    runner = _Runner(state, done)
    runner.run("structure", structure.structure)
    runner.run("round trip", structure.round_trip)
    runner.run("forward", numbers.forward)
    runner.run_both("loss", "gradients", numbers.gradients)
    runner.run("train mode", numbers.train_mode)
    runner.run("optimizer", training.optimizer)
    runner.run("trajectory", training.trajectory)
    runner.run("initialization", initial.initialization)
    runner.run("dropout", dropout.dropout)
    runner.run("convergence", convergence.convergence)
    said, code = result.conclude(runner.cells, runner.differences, pair.alone)
    used = {entry for one in runner.differences if (entry := result.matched(one, pair.expected))}
    return PairResult(
        schema_version=result.SCHEMA_VERSION,
        pair=text.admit(pair.name, text.NAME),
        sides=(_told(pair, 0), _told(pair, 1)),
        cells=runner.cells,
        differences=runner.differences,
        notes=[text.admit(note) for note in state.notes],
        map=_counted(state),
        map_file=_keep_map(state, wanted, how),
        unused=[text.admit(entry, text.NAME) for entry in pair.expected if entry not in used],
        seed=wanted.seed,
        seconds=time.perf_counter() - begin,
        verdict=said,
        exit_code=code,
        compared=_chosen(runner.comparisons),
        links=list(words.told(state.mapping)),
        stages=_stages(state),
    )


class _Runner:
    def __init__(self, state: State, done: Callable[[CheckCell], None]) -> None:
        self.state, self.done = state, done
        self.cells: list[CheckCell] = []
        self.differences: list[Difference] = []
        self.comparisons: list[Comparison] = []

    def run(self, name: str, check: Check) -> None:
        begin = time.perf_counter()
        found = self._asked(lambda: (check(self.state),))
        self._end(name, found if isinstance(found, CheckCell) else found[0], begin)

    def run_both(self, one: str, two: str, check: Callable[[State], tuple[Found, Found]]) -> None:
        """Two checks that are made in one."""
        begin = time.perf_counter()
        found = self._asked(lambda: check(self.state))
        for name, number in ((one, 0), (two, 1)):
            self._end(name, found if isinstance(found, CheckCell) else found[number], begin)
            begin = time.perf_counter()

    def _asked(self, check: Callable[[], tuple[Found, ...]]) -> tuple[Found, ...] | CheckCell:
        try:
            return check()
        except NotChecked as reason:
            return CheckCell(check="", status="not checked", text=str(reason), scope=reason.scope)
        except UsageError:
            raise
        except Unsupported as error:
            return CheckCell(check="", status="not checked", text=text.admit(str(error)))
        except OhlolError as error:
            return CheckCell(check="", status="crashed", text=text.admit(str(error)))

    def _end(self, name: str, found: Found | CheckCell, begin: float) -> None:
        seconds = time.perf_counter() - begin
        if isinstance(found, CheckCell):
            cell = msgspec.structs.replace(found, check=name, seconds=seconds)
            if name == "loss" and not numbers.has_loss(self.state):
                cell = msgspec.structs.replace(cell, status="not checked", text="the pair gives no loss", scope=True)
        else:
            cell = self._judged(name, found, seconds)
        self.cells.append(cell)
        self.done(cell)

    def _judged(self, name: str, found: Found, seconds: float) -> CheckCell:
        expected = self.state.pair.expected
        differences = [
            msgspec.structs.replace(
                one,
                name=text.admit(one.name, text.NAME),
                text=text.admit(one.text),
                expected=text.admit(expected.get(result.matched(one, expected), "")),
            )
            for one in found.differences
        ]
        open_still = [one for one in differences if not one.expected]
        status: Status = "same"
        if open_still:
            order: tuple[Status, ...] = ("different", "not representable", "cannot train alike", "ambiguous", "partly")
            status = next(kind for kind in order if any(one.kind == kind for one in open_still))
        elif differences:
            status = "expected"
        elif not found.comparisons and name not in ("structure",):
            return self._nothing(name, found, seconds)
        if any(one.kind == "different" and one.case != numbers.STATISTICS for one in differences):
            self.state.parted.append(name)
        self.differences += differences
        self.comparisons += found.comparisons
        return CheckCell(
            check=name,
            status=status,
            text=text.admit(found.text),
            ratio=max((one.ratio for one in found.comparisons if one.ratio is not None), default=None),
            comparisons=len(found.comparisons),
            elements=sum(one.elements for one in found.comparisons),
            seconds=seconds,
        )

    def _nothing(self, name: str, found: Found, seconds: float) -> CheckCell:
        """Nothing was compared: never the same."""
        scope = bool(found.text) and name == "initialization"
        words = found.text or "nothing was compared"
        if name == "loss" and not numbers.has_loss(self.state):
            scope, words = True, "the pair gives no loss"
        return CheckCell(check=name, status="not checked", text=text.admit(words), seconds=seconds, scope=scope)


def _told(pair: AskedPair, number: int) -> SideTold:
    opened = pair.opened[number]
    return SideTold(
        name=("original", "port")[number],
        kind=opened.kind,
        leaves=len(opened.leaves),
        numbers=sum(int(np.prod(leaf.shape)) for leaf in opened.leaves),
        versions=opened.versions,
    )


def _stages(state: State) -> StageGrowth | None:
    """How the difference grows over the forward pass, where the sides part in it."""
    report = state.report
    if report is None or not report.stages:
        return None
    return StageGrowth(
        names=[text.admit(stage.place.module or stage.place.op, text.NAME) for stage in report.stages],
        difference=[float(f"{stage.size:.{GROWTH_DIGITS}g}") for stage in report.stages],
        bound=[report.tolerance] * len(report.stages),
        own=[stage.own for stage in report.stages],
    )


def _counted(state: State) -> dict[str, int]:
    """Links of the map by their kinds."""
    found: dict[str, int] = {}
    for link in state.mapping.links.values():
        found[link.kind] = found.get(link.kind, 0) + 1
    return found


def _keep_map(state: State, wanted: PairWanted, how: str) -> str:
    """Write what was proposed and holds, and the converter; returns what became of the map."""
    report = state.report
    assert report is not None
    holds = report.standing in ("proven", "ambiguous")
    if wanted.emit is not None:
        if not holds:
            state.notes.append(f"{wanted.emit}: not written, since outputs part under the map")
        else:
            files.write(wanted.emit, maps.emitted(state.mapping).encode())
            state.notes.append(f"converter written to {wanted.emit}")
    if wanted.map_file is None:
        return "not kept"
    if how == "read":
        return f"{wanted.map_file} (read)"
    if not holds:
        return f"not written, since the sides part under it ({wanted.map_file.name})"
    files.write(wanted.map_file, maps.written(state.mapping).encode())
    return f"{wanted.map_file} (written: review it, and keep it)"


def _chosen(comparisons: list[Comparison]) -> list[Comparison]:
    """Those that are kept, in their order."""
    places = sorted(range(len(comparisons)), key=lambda at: (comparisons[at].passed, -(comparisons[at].ratio or 0.0)))
    kept = set(places[:KEPT])
    # A picture of the loss is wanted however many leaves come nearer to their bounds.
    kept |= {at for at, one in enumerate(comparisons) if one.growth is not None and one.growth.first}
    return [comparisons[at] for at in sorted(kept)]
