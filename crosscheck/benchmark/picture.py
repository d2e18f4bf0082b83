"""The ratios as bars, and how time and memory grow, as a picture."""

import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from crosscheck.benchmark.report import against
from crosscheck.benchmark.result import BenchmarkRow, BenchmarkSummary, Contender
from spec.benchmark import Layer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which differ for the colour-blind too; markers tell them apart in grey.
STYLES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"), ("#56B4E9", "P"))

SUBJECT = ("#000000", "X")

PANELS = (("time", "seconds"), ("time", "memory"), ("batch", "seconds"), ("hidden", "seconds"))
"""What grows, and what is shown of it."""

AXES = {"time": "time steps T", "batch": "sequences B", "hidden": "units H"}


def picture(summary: BenchmarkSummary) -> bytes:
    """A PNG: on the left a bar for each ratio with its quartiles, on the right the growing sizes, both axes
    logarithmic. A panel is left out where nothing of it was measured; sizes that grow have no bars where it was.
    """
    # Imported here, since it takes a second, and without pyplot, which would look for a display.
    from matplotlib.figure import Figure

    growing = [panel for panel in PANELS if _series(summary.rows, *panel)]
    drawn_as_curves = {series for series, _ in growing}
    compared = [
        row
        for row in summary.rows
        if row.ratios(summary.subject) and getattr(row.workload, "series", "") not in drawn_as_curves
    ]
    height = max(4.0, 1.5 + 0.29 * sum(len(row.ratios(summary.subject)) for row in compared), 2.6 * len(growing))
    figure = Figure(figsize=(8 if not growing else 15, height), dpi=100)
    halves: Any = figure.subfigures(1, 2) if growing else (figure, None)
    left, right = halves
    left.subplots_adjust(left=0.36, right=0.95, top=1 - 0.75 / height, bottom=1.5 / height)
    _bars(left.add_subplot(), summary, compared, height)
    if right is not None:
        right.subplots_adjust(left=0.1, right=0.97, top=1 - 0.75 / height, bottom=0.6 / height, hspace=0.35, wspace=0.3)
        colors = _styles(against(summary)) | {summary.subject: SUBJECT}
        for index, (series, shown) in enumerate(growing):
            for column, (cell, points) in enumerate(sorted(_series(summary.rows, series, shown).items())):
                axes = right.add_subplot(len(growing), 2, 2 * index + column + 1)
                _curves(axes, points, shown, colors)
                axes.set_title(f"{cell}, forward and backward", loc="left", fontsize="medium")
                axes.set_xlabel(AXES[series])
                axes.set_ylabel("seconds" if shown == "seconds" else "memory, MiB")
                if index == column == 0:
                    axes.legend(frameon=False, fontsize="small")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def _bars(axes: "Axes", summary: BenchmarkSummary, rows: Sequence[BenchmarkRow], height: float) -> None:
    """A bar for each ratio, from 1 on, a workload's next to each other. height: of the picture, in inches."""
    colors = _styles(against(summary))
    place, ticks, labels = 0.0, [], []
    seen: set[str] = set()
    for row in rows:
        ratios = row.ratios(summary.subject)
        ticks.append(place + (len(ratios) - 1) / 2)
        labels.append(row.workload.name)
        for ratio in ratios:
            wall = ratio.wall
            if not math.isfinite(wall.high) or wall.median <= 0:
                place += 1
                continue
            spread = [[wall.median - wall.low], [wall.high - wall.median]]
            label = f"against {ratio.against}" if ratio.against not in seen else None
            seen.add(ratio.against)
            axes.barh(place, wall.median - 1, left=1, height=0.85, color=colors[ratio.against][0], label=label)
            axes.errorbar(wall.median, place, xerr=spread, color="#333333", elinewidth=1, capsize=2)
            axes.text(
                1.02, place, f"{wall.median:.3g}", transform=axes.get_yaxis_transform(), fontsize="x-small", va="center"
            )
            place += 1
        place += 0.6
    for target in summary.targets:
        if target.sense == "at least" and target.workload in labels:
            names = [ratio.against for ratio in rows[labels.index(target.workload)].ratios(summary.subject)]
            other = target.what.removeprefix("times as fast as ")
            at = ticks[labels.index(target.workload)] - (len(names) - 1) / 2 + names.index(other)
            axes.plot([target.wanted] * 2, [at - 0.45, at + 0.45], color="black", linewidth=2)
    axes.plot([], [], color="black", linewidth=2, label="to be reached")
    axes.axvline(1, color="#333333", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(ticks, labels, fontsize="small")
    axes.set_ylim(place, -1)
    axes.set_title(f"Times as fast as the others: {summary.subject}\nmedian of rounds, with quartiles", loc="left")
    axes.set_xlabel("their time / its time (right of 1: it is faster)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    # Below, where it hides no bar.
    axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(-0.5, -0.6 / height), ncols=2)


def _curves(
    axes: "Axes",
    points: dict[str, list[tuple[int, float, float, float]]],
    shown: str,
    styles: dict[str, tuple[str, str]],
) -> None:
    sizes = sorted({size for curve in points.values() for size, *_ in curve})
    for name, curve in points.items():
        color, marker = styles[name]
        at, middle, low, high = (list(column) for column in zip(*curve, strict=True))
        spread = [[m - x for m, x in zip(middle, low, strict=True)], [x - m for m, x in zip(middle, high, strict=True)]]
        axes.errorbar(
            at, middle, spread if shown == "seconds" else None, color=color, marker=marker, markersize=4, capsize=2,
            linewidth=1.3, label=name,
        )  # fmt: skip
    first = min(curve[0][1] for curve in points.values())
    axes.plot(sizes, [0.8 * first * size / sizes[0] for size in sizes], color="#999999", linestyle=":", label="linear")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)


def _series(
    rows: Sequence[BenchmarkRow], series: str, shown: str
) -> dict[str, dict[str, list[tuple[int, float, float, float]]]]:
    """Of each cell and contender, (size, median, low, high) at every point, where there are at least two."""
    values: Callable[[Contender], tuple[float, float, float]] = _seconds if shown == "seconds" else _memory
    found: dict[str, dict[str, list[tuple[int, float, float, float]]]] = {}
    for row in rows:
        workload = row.workload
        if not isinstance(workload, Layer) or workload.series != series:
            continue
        for contender in row.contenders:
            if contender.measured and (shown == "seconds" or contender.memory):
                curve = found.setdefault(workload.cell, {}).setdefault(contender.name, [])
                curve.append((workload.size, *values(contender)))
    curves = {
        cell: {name: sorted(curve) for name, curve in by_name.items() if len(curve) > 1}
        for cell, by_name in found.items()
    }
    return {cell: by_name for cell, by_name in curves.items() if by_name}


def _seconds(found: Contender) -> tuple[float, float, float]:
    return found.wall.median, found.wall.low, found.wall.high


def _memory(found: Contender) -> tuple[float, float, float]:
    size = (found.memory or 0) / 2**20
    return size, size, size


def _styles(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    return {name: STYLES[index % len(STYLES)] for index, name in enumerate(names)}
