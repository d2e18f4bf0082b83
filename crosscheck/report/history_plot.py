"""Runs over time, as a picture."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from crosscheck.report.history import PastRun
from crosscheck.report.model import FAILING, OPEN
from crosscheck.report.styles import STYLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAST = 100
"""So many runs are drawn, the last ones."""

TICKS = 12
"""Names below the picture, at most."""


def history_plot(runs: Sequence[PastRun]) -> bytes:
    """An SVG: above, each check's headroom over the runs, 1 being the bound; below, the seconds, with the verdict.

    Its text is text, and neither a date nor a random name stands in it: the same runs give the same bytes.
    """
    # Imported here, since it takes a second, and without pyplot, which would look for a display.
    import matplotlib as mpl
    from matplotlib.figure import Figure

    shown = list(runs)[-LAST:]
    with mpl.rc_context({"svg.hashsalt": "crosscheck", "svg.fonttype": "none"}):
        figure = Figure(figsize=(9, 6.4), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        _headroom(upper, shown)
        _seconds(lower, shown)
        picture = io.BytesIO()
        figure.savefig(picture, format="svg", metadata={"Date": None, "Title": "crosscheck over time"})
    return picture.getvalue()


def _headroom(axes: "Axes", runs: Sequence[PastRun]) -> None:
    checks = list(dict.fromkeys(check for run in runs for check in run.headroom))
    for index, check in enumerate(checks):
        color, marker = STYLES[index % len(STYLES)]
        places = [place for place, run in enumerate(runs) if check in run.headroom]
        values = [runs[place].headroom[check] for place in places]
        dashes = "-" if index < len(STYLES) else "--"
        axes.plot(
            places, values, color=color, marker=marker, markersize=4, linewidth=1.3, linestyle=dashes, label=check
        )
    axes.axhline(1, color="#b3261e", linewidth=1)
    axes.annotate("the bound", (0, 1), xytext=(2, 3), textcoords="offset points", color="#b3261e", fontsize="small")
    if any(value > 0 for run in runs for value in run.headroom.values()):
        axes.set_yscale("log")
    axes.set_ylabel("headroom: bound / difference")
    if checks:
        axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _plain(axes)


def _seconds(axes: "Axes", runs: Sequence[PastRun]) -> None:
    axes.plot(range(len(runs)), [run.seconds for run in runs], color="#666666", linewidth=1)
    for word, marker, color, statuses in (
        ("same", "o", "#2f7d32", None),
        ("open", "s", "#8a5a00", (*OPEN, "not checked")),
        ("failing", "X", "#b3261e", FAILING),
    ):
        of_it = [
            (place, run.seconds)
            for place, run in enumerate(runs)
            if (run.status in statuses if statuses else run.status not in (*OPEN, *FAILING, "not checked"))
        ]
        if of_it:
            axes.scatter(*zip(*of_it, strict=True), marker=marker, color=color, s=40, label=word, zorder=3)
    axes.set_ylim(0, 1.15 * max([1.0, *(run.seconds for run in runs)]))
    axes.set_ylabel("seconds")
    every = max(1, -(-len(runs) // TICKS))
    ticks = range(0, len(runs), every)
    # No mathematics in whatever somebody calls a commit.
    names = [(run.commit[:8] or run.date[:10] or "-").replace("$", r"\$") for run in runs]
    axes.set_xticks(list(ticks), [names[place] for place in ticks], rotation=40, ha="right", fontsize="small")
    axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _plain(axes)


def _plain(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
