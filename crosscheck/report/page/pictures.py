"""The pictures of one subject: losses, differences against their bounds, parameters over steps, attention, ensembles.

No text that is not ours is drawn but names of tensors, which are drawn as they are: nothing of them is markup.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from crosscheck.comparison import DifferenceGrowth, StageGrowth
from crosscheck.report.page.vector import INKS, AxisLabel
from spec.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

WIDE, HIGH, ROW = 350, 210, 13
"""Points of a picture, and of a heat map's row."""

LEFT, PAD = 40, 4
"""Points that numbers beside an axis take, and between them and the axis."""

SPAN = 1e-30, 1e10
"""Differences that a log axis shows; what is smaller or larger stands at its ends."""

STAGE_ROW = 16
"""Points of a stage's row."""

LEAST_BOUND = 1e-16
"""What a log axis of stages reaches down to at least: a rounding of float64."""

DASHES = (0, (3, 3))

LEAST = 1e-4
"""Share of a bound from which on a heat map tells shares apart."""

SHADES = ((0.93, 0.96, 0.99), (0.72, 0.84, 0.94), (0.42, 0.68, 0.84), (0.19, 0.51, 0.74), (0.03, 0.29, 0.55))
"""From nothing to the whole of a bound."""

BEYOND, UNBOUNDED = (0.80, 0.12, 0.10), (0.75, 0.75, 0.75)

ROWS = 60
"""Of a heat map, at most."""

LABEL_SIZE = 10
"""Points of what stands beside an axis."""

ANCHORS = {"right": "end", "center": "middle"}
"""SVG's words."""

LABEL = 22
"""Characters of a tensor's name beside its row."""


_LABELS: "WeakKeyDictionary[Figure, list[AxisLabel]]" = WeakKeyDictionary()


def losses(found: DifferenceGrowth, reference: Sequence[float] = ()) -> "Figure":
    """Both sides' losses: the second is dashed, so that the first is seen below it.

    reference: of the first so many steps, as the equations have it; wide, below both.
    """
    figure, axes = _axes("losses", WIDE, HIGH)
    axes.plot(range(len(reference)), _finite(reference), color=INKS["third"], linewidth=8, alpha=0.45, clip_on=False)
    for values, ink, style, width in ((found.first, "first", "-", 3.0), (found.second, "second", DASHES, 1.8)):
        axes.plot(found.steps, _finite(values), color=INKS[ink], linestyle=style, linewidth=width, clip_on=False)
    drawn = np.concatenate([_finite(found.first), _finite(found.second), _finite(reference), [0.0]])
    lowest, highest = float(np.nanmin(drawn)), float(np.nanmax(drawn))
    axes.set_ylim(lowest, highest + 0.05 * ((highest - lowest) or 1.0))
    ticks = _round(*axes.get_ylim())
    _along_y(axes, ticks, [f"{tick:g}" for tick in ticks])
    _along_steps(axes, found.steps)
    return figure


def growth(found: Sequence[tuple[str, DifferenceGrowth]]) -> "Figure":
    """How far differences are from their bounds, on a log axis, which has no place for a difference of zero.

    found: with the precision that each was computed in, those with a bound somewhere or a difference.
    """
    figure, axes = _axes("growth", WIDE, HIGH)
    axes.set_yscale("log")
    drawn = np.concatenate([_positive(values) for _, each in found for values in (each.bound, each.difference)])
    drawn = np.clip(drawn, *SPAN)
    lowest = 10.0 ** np.floor(np.log10(drawn.min()) - 0.3)
    highest = 10.0 ** np.ceil(np.log10(drawn.max()) + 0.3)
    for precision, each in found:
        steps, bound = np.array(each.steps), np.array(each.bound)
        bound = np.where(np.isfinite(bound) & (bound > 0), np.clip(bound, lowest, highest), np.nan)
        # Not finite is as far beyond any bound as can be.
        difference = np.where(np.isfinite(each.difference), each.difference, highest)
        difference = np.where(difference > 0, np.clip(difference, lowest, highest), 0.0)
        seen, bounded = difference > 0, np.isfinite(bound)
        both = seen & bounded
        below, above = np.minimum(difference, bound)[both], bound[both]
        outline = np.append(steps[both], steps[both][::-1]), np.append(below, above[::-1])
        axes.fill(*outline, color=INKS["first"], alpha=0.13, linewidth=0, clip_on=False)
        axes.plot(steps, bound, color=INKS["ink"], linestyle=(0, (4, 2)), linewidth=1.3, clip_on=False)
        axes.plot(steps[seen], difference[seen], color=INKS["first"], linewidth=1.7, clip_on=False)
        over = np.where(difference > bound, difference, np.nan)
        if np.isfinite(over).any():
            axes.plot(steps, over, color=INKS["bad"], linewidth=2.4, clip_on=False)
            beside = np.isfinite(np.pad(over, 1, constant_values=np.nan))
            for at in np.flatnonzero(np.isfinite(over) & ~beside[:-2] & ~beside[2:]):
                # One step alone makes no line.
                _dot(axes, steps[at], over[at], INKS["bad"], 4)
        if bounded.any():
            at = int(np.flatnonzero(bounded)[0])
            place = {"xytext": (2, 4), "textcoords": "offset points", "fontsize": 10, "color": INKS["ink"]}
            axes.annotate(f"bound, {precision}", (float(steps[at]), float(bound[at])), **place)
    axes.set_ylim(lowest, highest)
    _along_decades(axes, lowest, highest)
    _along_steps(axes, found[0][1].steps)
    return figure


def stages(found: StageGrowth) -> "Figure":
    """How far each stage's difference is from its bound, on a log axis, from the first at the top to the last.

    What is beyond its bound is red, with a full dot where it is wrong in itself. A difference of zero has its place at
    the left edge.
    """
    count = len(found.names)
    names = [_short(name) for name in found.names]
    left = 5.8 * max(map(len, names)) + 8
    figure, axes = _axes("stages", WIDE, STAGE_ROW * count + 34, left)
    axes.set_xscale("log")
    difference, bound = np.array(found.difference), np.array(found.bound)
    drawn = np.clip(np.concatenate([_positive(found.difference), _positive(found.bound), [LEAST_BOUND]]), *SPAN)
    lowest = 10.0 ** np.floor(np.log10(drawn.min()) - 0.3)
    highest = 10.0 ** np.ceil(np.log10(drawn.max()) + 0.3)
    rows, edges = np.arange(count) + 0.5, np.repeat(np.arange(count + 1), 2)[1:-1]
    at = np.clip(np.where(np.isnan(difference), np.inf, difference), lowest, highest)
    limit = np.clip(np.where(np.isfinite(bound), bound, highest), lowest, highest)
    beyond = ~(difference <= bound)
    axes.plot(np.repeat(limit, 2), edges, color=INKS["ink"], linestyle=(0, (4, 2)), linewidth=1.3, clip_on=False)
    axes.plot(at, rows, color=INKS["quiet"], linewidth=1.0, clip_on=False)
    for row in range(count):
        ink = INKS["bad"] if beyond[row] else INKS["first"]
        _dot(axes, at[row], rows[row], ink, 9 if found.own[row] and beyond[row] else 6)
        if beyond[row] and not found.own[row]:
            _dot(axes, at[row], rows[row], INKS["paper"], 3)
    place = {"xytext": (3, 3), "textcoords": "offset points", "fontsize": 10, "color": INKS["ink"]}
    axes.annotate("bound", (float(limit[0]), 0.0), **place)
    axes.set_xlim(lowest, highest)
    axes.set_ylim(count, 0)
    _along_y(axes, rows.tolist(), names, lines=True)
    low, high = round(np.log10(lowest)), round(np.log10(highest))
    powers = range(low, high, max(1, (high - low) // 5))
    _along_x(axes, [10.0**power for power in powers], [f"1e{power}" for power in powers])
    return figure


def _dot(axes: "Axes", x: float, y: float, ink: str, size: float) -> None:
    """A line without length, whose ends are round: SVG has markers by reference alone, which nothing in a page has."""
    axes.plot([x, x], [y, y], color=ink, linewidth=size, solid_capstyle="round", clip_on=False)


def heat_map(found: Sequence[tuple[str, DifferenceGrowth]]) -> "Figure":
    """Tensors x steps: the share of its bound that each tensor's difference takes. found: with the tensors' names."""
    columns = max(len(each.steps) for _, each in found)
    steps = max((each.steps for _, each in found), key=len)
    rows = np.array([_colours(each, columns) for _, each in found])
    names = [_short(name) for name, _ in found]
    left = 5.8 * max(map(len, names)) + 8
    figure, axes = _axes("heat map", WIDE, ROW * len(rows) + 34, left)
    axes.imshow(rows, aspect="auto", interpolation="none", extent=(0, columns, len(rows), 0), clip_on=False)
    _along_y(axes, [row + 0.5 for row in range(len(rows))], names, lines=False)
    wanted = _round(0, steps[-1], whole=True) if len(steps) else []
    ticks = [int(np.searchsorted(steps, tick)) for tick in wanted]
    _along_x(axes, [at + 0.5 for at in ticks], [str(steps[at]) for at in ticks])
    return figure


def attention(first: np.ndarray, second: np.ndarray) -> "Figure":
    """Attention weights of either side, (queries, keys), side by side: the darker, the larger."""
    figure = _figure(WIDE, HIGH)
    most = max(float(np.nanmax(np.nan_to_num(weights))) for weights in (first, second)) or 1.0
    for number, weights in enumerate((first, second)):
        axes = _plain(figure, (0.07 + 0.5 * number, 0.12, 0.42, 0.78))
        shade = np.clip(np.nan_to_num(weights) / most, 0.0, 1.0)[..., None]
        light, dark = np.array(SHADES[0]), np.array(SHADES[-1])
        axes.imshow(light + (dark - light) * shade, interpolation="none", aspect="equal", clip_on=False)
        # Else the axes are made square only when they are drawn.
        axes.apply_aspect()
        queries, keys = (np.unique(np.linspace(0, count - 1, min(count, 8)).astype(int)) for count in weights.shape)
        _along_y(axes, queries.tolist(), map(str, queries), lines=False)
        _along_x(axes, keys, map(str, keys))
    return figure


def ensembles(first: np.ndarray, second: np.ndarray) -> "Figure":
    """What share of either ensemble, (members,), is at most that: empirical distribution functions."""
    figure, axes = _axes("ensembles", WIDE, HIGH)
    for values, ink, style, width in ((first, "first", "-", 3.0), (second, "second", DASHES, 1.8)):
        ordered = np.sort(values[np.isfinite(values)])
        chosen = np.unique(np.linspace(0, len(ordered) - 1, 100).astype(int)) if len(ordered) else []
        shares = (np.asarray(chosen) + 1) / max(len(ordered), 1)
        axes.plot(ordered[chosen], shares, color=INKS[ink], linestyle=style, linewidth=width, clip_on=False)
    drawn = np.concatenate([first, second])
    drawn = drawn[np.isfinite(drawn)]
    axes.set_xlim(float(drawn.min(initial=0.0)), float(drawn.max(initial=1.0)))
    axes.set_ylim(0, 1)
    ticks = _round(*axes.get_xlim())
    _along_x(axes, ticks, [f"{tick:g}" for tick in ticks])
    _along_y(axes, (0.0, 0.5, 1.0), ("0", "0.5", "1"))
    return figure


def can_grow(one: DifferenceGrowth) -> bool:
    """Whether a log axis has anything to show of it."""
    return bool(_positive(one.bound).size or _positive(one.difference).size)


def largest_share(one: DifferenceGrowth) -> float:
    """Of its bound, over all steps that have one."""
    shares = share(one)
    known = shares[~np.isnan(shares)]
    return float(known.max()) if known.size else 0.0


def share(one: DifferenceGrowth) -> np.ndarray:
    """Of its bound at each of its steps: infinite beyond a bound of zero, NaN where there is no bound."""
    difference, bound = np.array(one.difference), np.array(one.bound)
    found = np.where(difference > 0, np.inf, 0.0)
    np.divide(difference, bound, out=found, where=np.isfinite(difference) & np.isfinite(bound) & (bound > 0))
    found = np.where(np.isnan(difference), np.inf, found)
    return np.where(np.isfinite(bound), found, np.nan)


def _colours(one: DifferenceGrowth, columns: int) -> list[tuple[float, float, float]]:
    """A colour for each column. What is compared once an epoch stands for the epoch's steps."""
    shares = share(one)
    at = (np.arange(columns) * len(shares)) // columns
    return [UNBOUNDED if np.isnan(value) else _shade(float(value)) for value in shares[at]]


def _shade(value: float) -> tuple[float, float, float]:
    if value > 1:
        return BEYOND
    place = 0.0 if value <= LEAST else 1.0 - np.log10(value) / np.log10(LEAST)
    return SHADES[min(int(place * len(SHADES)), len(SHADES) - 1)]


def _finite(values: Sequence[float]) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


def _positive(values: Sequence[float]) -> np.ndarray:
    found = np.array(values)
    return found[np.isfinite(found) & (found > 0)]


def _figure(width: float, height: float) -> "Figure":
    # Imported here, since it takes a second, and only a page draws.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    figure.patch.set_visible(False)
    return figure


def _axes(kind: str, width: float, height: float, left: float = LEFT) -> "tuple[Figure, Axes]":
    """Axes with nothing in them. The next call for the same kind clears them."""
    figure, axes = _kept_axes(kind, width, height, left)
    for artist in (*axes.lines, *axes.patches, *axes.texts, *axes.images):
        artist.remove()
    _LABELS.pop(figure, None)
    return figure, axes


@lru_cache(maxsize=64)
def _kept_axes(kind: str, width: float, height: float, left: float) -> "tuple[Figure, Axes]":
    """Making axes takes longer than drawing them. kind: what is drawn, since a scale stays with its axes."""
    del kind
    figure = _figure(width, height)
    return figure, _plain(figure, (left / width, 20 / height, 1 - (left + 8) / width, 1 - 30 / height))


def _plain(figure: "Figure", place: tuple[float, float, float, float]) -> "Axes":
    """Axes without a frame and without ticks of their own: laying these out takes twice as long as all else."""
    axes = figure.add_axes(place)
    axes.set_axis_off()
    return axes


def _along_x(axes: "Axes", ticks: Iterable[float], labels: Iterable[str]) -> None:
    below = -PAD / axes.bbox.height
    for tick, label in zip(ticks, labels, strict=True):
        _label(axes, (tick, below), label, transform=axes.get_xaxis_transform(), ha="center", va="top")


def _along_y(axes: "Axes", ticks: Sequence[float], labels: Iterable[str], lines: bool = True) -> None:
    """lines: whether each has a line across."""
    beside, across = -PAD / axes.bbox.width, axes.get_yaxis_transform()
    for tick, label in zip(ticks, labels, strict=True):
        _label(axes, (beside, tick), label, transform=across, ha="right", va="center")
    if lines:
        x, y = np.tile([0.0, 1.0, np.nan], len(ticks)), np.repeat(np.asarray(ticks, float), 3)
        style = {"color": INKS["rule"], "linewidth": 0.7, "zorder": 0.5, "scalex": False, "scaley": False}
        axes.plot(x, y, transform=across, clip_on=False, **style)


def _label(axes: "Axes", at: tuple[float, float], label: str, transform: "Transform", ha: str, va: str) -> None:
    """Beside an axis, whose limits are to be set by then.

    Matplotlib would lay each out by itself, which takes as long as all else of a picture; where it stands is all that
    is needed of that.
    """
    x, y = transform.transform(at)
    figure = axes.get_figure(root=True)
    assert figure is not None
    below = LABEL_SIZE * (0.35 if va == "center" else 0.8)
    down = figure.bbox.height - float(y) + below
    _LABELS.setdefault(figure, []).append(AxisLabel(float(x), down, label, ANCHORS[ha]))


def labels(figure: "Figure") -> Sequence[AxisLabel]:
    """What stands beside the axes of a picture, which is written into it when it is turned into SVG."""
    return _LABELS.get(figure, ())


def _round(lowest: float, highest: float, whole: bool = False) -> list[float]:
    """A few round numbers in that range."""
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(5, integer=whole).tick_values(lowest, highest)
    return [float(tick) for tick in found if lowest <= tick <= highest]


def _along_steps(axes: "Axes", steps: Sequence[int]) -> None:
    last = max(steps, default=0)
    axes.set_xlim(-0.02 * (last or 1), 1.02 * (last or 1))
    ticks = [int(tick) for tick in _round(0, last, whole=True)]
    _along_x(axes, ticks, map(str, ticks))


def _along_decades(axes: "Axes", lowest: float, highest: float) -> None:
    low, high = round(np.log10(lowest)), round(np.log10(highest))
    powers = range(low, high + 1, max(1, (high - low) // 5))
    _along_y(axes, [10.0**power for power in powers], [f"1e{power}" for power in powers])


def _short(name: str) -> str:
    """A tensor's name that fits beside its row: the end of it tells more."""
    shown = visible(name.removeprefix("parameters/"))
    return shown if len(shown) <= LABEL else f"…{shown[1 - LABEL :]}"
