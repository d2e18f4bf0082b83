"""The equations, executable: every model, loss and optimizer in plain NumPy float64, to be read and to arbitrate.

Satisfies `spec.framework.Framework` as they do, so it is the third voice where the two differ.
Derivatives come from the complex-step method, which needs no rules of differentiation: with f analytic,
f'(x) = Im f(x + i h) / h to machine precision, since nothing is subtracted (Squire and Trapp, 1998). For small shapes.
"""

from spec.experiment import Experiment
from spec.framework import Settings, Side, side_of
from spec.reference.contract import describe, forced, forward, gradients, initialize, loss_gradient, round_trip, slopes
from spec.reference.generation import generate
from spec.reference.optimizer import step as optimizer_step
from spec.reference.training import (
    advance,
    gradients_at,
    predict,
    replay,
    slopes_at,
    train,
    train_ensemble,
    train_starts,
)

__all__ = [
    "advance",
    "describe",
    "forced",
    "forward",
    "generate",
    "gradients",
    "gradients_at",
    "initialize",
    "loss_gradient",
    "open",
    "optimizer_step",
    "predict",
    "replay",
    "round_trip",
    "slopes",
    "slopes_at",
    "train",
    "train_ensemble",
    "train_starts",
]


def open(experiment: Experiment, settings: Settings) -> Side:
    """See spec.framework.Framework.open."""
    return side_of(globals(), experiment, settings)
