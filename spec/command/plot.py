"""The loss over the epochs, as a picture."""

import io
from collections.abc import Sequence

from spec.command.events import Epoch
from spec.experiment import MEANS, Experiment
from spec.training import CannotLearn, LossAtMost

# Two colours that also differ for the colour-blind, and in grey.
TRAINING, EVALUATION, MARK = "#9ecae1", "#08519c", "#d95f02"


def loss_plot(experiment: Experiment, implementations: Sequence[str], seed: int, epochs: Sequence[Epoch]) -> bytes:
    """A PNG: both losses over the epochs, where it is first solved, and the lowest loss where that is known.

    implementations: who trained, in turn, each once.
    """
    # Imported here, since it takes a second, and without pyplot, which would look for a display.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    numbers = [epoch.epoch for epoch in epochs]
    losses, evaluation_losses = [e.loss for e in epochs], [e.evaluation_loss for e in epochs]
    marker = "o" if len(epochs) == 1 else None  # A line through one point cannot be seen.
    axes.plot(numbers, losses, color=TRAINING, marker=marker, linewidth=3, label="training, before each step")
    axes.plot(numbers, evaluation_losses, color=EVALUATION, marker=marker, label="evaluation, after each epoch")
    if first := next((epoch for epoch in epochs if epoch.solved), None):
        axes.plot(first.epoch, first.evaluation_loss, "o", color=MARK, label=f"first solved: epoch {first.epoch}")
    if (lowest := experiment.task.lowest_loss) is not None and experiment.training.loss in MEANS:
        axes.axhline(lowest, color=MARK, linewidth=1, linestyle="--", label=f"lowest that there is: {lowest:.4g}")
    if isinstance(experiment.outcome, LossAtMost):
        most = experiment.outcome.loss_at_most
        axes.axhline(most, color=MARK, linewidth=1, linestyle="--", label=f"to be reached: {most:.4g}")
    if isinstance(experiment.outcome, CannotLearn):
        floor = experiment.outcome.loss_at_least
        axes.axhline(floor, color=MARK, linewidth=1, linestyle="--", label=f"floor: {floor:.4g}")
    axes.set_title(f"{experiment.name}, {' then '.join(implementations)}, seed {seed}", loc="left")
    axes.set_xlabel("epoch")
    axes.set_ylabel(experiment.training.loss.words)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
