"""Detection against the number of seeds, as a picture."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from crosscheck.faults.findings import Power, Trial
from crosscheck.report.styles import STYLES
from crosscheck.request import DEFAULT_IMPLEMENTATIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def power_plot(trials: Sequence[Trial]) -> bytes:
    """A PNG: for each fault that ensembles should see, the share of draws in which it is DIFFERENT, with its interval,
    over the members of each ensemble. A panel for each implementation that faults are planted in.
    """
    # Imported here, since it takes a second, and without pyplot, which would look for a display.
    from matplotlib.figure import Figure

    known = [(trial, trial.power) for trial in trials if trial.power]
    sides = [side for side in DEFAULT_IMPLEMENTATIONS if any(trial.implementation == side for trial, _ in known)]
    figure = Figure(figsize=(6.2 * len(sides), 5.2), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(sides), sharey=True, squeeze=False)[0]
    for axes, side in zip(panels, sides, strict=True):
        _panel(axes, [(trial, power) for trial, power in known if trial.implementation == side])
        axes.set_title(f"planted in {side}", loc="left")
    panels[0].set_ylabel("share of draws that are DIFFERENT")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _panel(axes: "Axes", curves: Sequence[tuple[Trial, Power]]) -> None:
    numbers = sorted({point.members for _, power in curves for point in power.points})
    for index, (trial, power) in enumerate(curves):
        color, marker = STYLES[index % len(STYLES)]
        # Beside one another: most curves end at 1, where they would hide each other.
        aside = 1.03 ** (index - (len(curves) - 1) / 2)
        drawn = [point for point in power.points if point.draws > 1]
        shares = [point.detected / point.draws for point in power.points]
        spread = [
            [point.detected / point.draws - point.low for point in drawn],
            [point.high - point.detected / point.draws for point in drawn],
        ]
        places = [point.members * aside for point in power.points]
        label = f"{trial.name} ({trial.experiment}, {power.effect:+.2f})"
        axes.plot(places, shares, color=color, marker=marker, markersize=5, linewidth=1.5, label=label)
        at = [point.members * aside for point in drawn]
        axes.errorbar(at, shares[: len(drawn)], spread, color=color, linestyle="", elinewidth=0.8, capsize=2)
    axes.set_xscale("log")
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.minorticks_off()
    axes.set_xlabel("seeds a side")
    axes.set_ylim(-0.03, 1.03)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(
        frameon=False,
        fontsize="small",
        loc="upper left",
        bbox_to_anchor=(0, -0.14),
        title="fault (experiment, effect on log loss-AUC in standard deviations)",
        title_fontsize="small",
        alignment="left",
    )
