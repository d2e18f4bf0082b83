"""An ensemble as a picture: how its losses spread over the steps, and when its members solve it."""

import io
from collections.abc import Mapping

import numpy as np

from spec.command.ensemble_summary import QUANTILES, loss_quantiles
from spec.command.events import Summary
from spec.command.plot import EVALUATION, MARK, TRAINING
from spec.ensemble import NEVER
from spec.experiment import Experiment
from spec.training import CannotLearn

BARS = 60
"""At most so many bars in the histogram of times."""


def ensemble_plot(experiment: Experiment, summary: Summary, arrays: Mapping[str, np.ndarray]) -> bytes:
    """A PNG: quantile bands of the training losses on the left, the distribution of times to solve on the right."""
    # Imported here, since it takes a second, and without pyplot, which would look for a display.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(11, 4.5), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    bands = loss_quantiles(arrays["losses"])
    bands[~np.isfinite(bands)] = np.nan  # Drawn as a gap.
    steps = np.arange(1, bands.shape[1] + 1)
    low, middle, high = (f"{100 * quantile:.0f} %" for quantile in QUANTILES)
    left.fill_between(steps, bands[0], bands[2], color=TRAINING, alpha=0.6, label=f"{low} to {high} of seeds")
    left.plot(steps, bands[1], color=EVALUATION, label=f"median ({middle})")
    if isinstance(experiment.outcome, CannotLearn):
        floor = experiment.outcome.loss_at_least
        left.axhline(floor, color=MARK, linewidth=1, linestyle="--", label=f"floor: {floor:.4g}")
    left.set_xlabel("step")
    left.set_ylabel(f"training loss, {experiment.training.loss.words}")
    left.set_ylim(bottom=0)
    left.set_title(f"{summary.experiment}, {summary.implementation}, {summary.seeds} seeds", loc="left")
    left.legend(frameon=False)

    epochs, times = experiment.training.epochs, arrays["first_solved"]
    edges = np.arange(0.5, epochs + 1, max(1, -(-epochs // BARS)))
    edges = np.append(edges, epochs + 0.5) if edges[-1] < epochs + 0.5 else edges
    solved = times[times != NEVER]
    # A share of all seeds, not of those that solve it.
    right.hist(solved, bins=edges.tolist(), weights=np.full(len(solved), 1 / len(times)), color=TRAINING)
    for epoch, name, style in ((summary.median_epochs, "median", "-"), (summary.late_epochs, "95 %", "--")):
        if epoch is not None:
            right.axvline(epoch, color=MARK, linestyle=style, label=f"{name}: epoch {epoch}")
    never = len(times) - len(solved)
    right.set_title(f"never solved: {never} of {len(times)}", loc="right", fontsize="medium")
    right.set_xlabel("first epoch that is solved")
    right.set_ylabel("share of seeds")
    right.set_xlim(0, epochs + 1)
    if right.get_legend_handles_labels()[0]:
        right.legend(frameon=False)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
