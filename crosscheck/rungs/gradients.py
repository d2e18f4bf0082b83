"""The loss and its gradient by every parameter, on the experiment's own batch and on a ragged one."""

import numpy as np

from crosscheck import tolerance, zero_gradient
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.dead import dead
from crosscheck.request import CASES, Request
from spec.experiment import Experiment
from spec.framework import Framework, Precision

NAME: str = "gradients"
QUESTION: str = "do the loss and every parameter's gradient agree?"
PRECISIONS: tuple[Precision, ...] = ("float64", "float32")
SAME_INPUTS: bool = True


def inapplicable(experiment: Experiment) -> str:
    del experiment
    return ""


def cases(experiment: Experiment, precision: Precision, thorough: bool) -> tuple[str, ...]:
    del experiment, thorough
    return CASES[precision]


def record(framework: Framework, experiment: Experiment, case: str, request: Request) -> Arrays:
    batch = request.batch(experiment, case)
    loss, gradients = framework.gradients(experiment, request.start(experiment), batch, request.settings)
    return {"loss": np.array([loss], request.precision), **gradients}


def compare(experiment: Experiment, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    table = experiment.model.parameters()
    loss, gradient = tolerance.FORWARD[place.precision], tolerance.GRADIENT[place.precision]
    found = [
        place.close("loss", first.get("loss"), second.get("loss"), bound=loss.relative, floor=loss.floor, shape=(1,))
    ]
    largest = max(
        (float(np.abs(side[p.name]).max(initial=0.0)) for p in table for side in (first, second) if p.name in side),
        default=0.0,
    )
    for parameter in table:
        name, keep = parameter.name, zero_gradient.kept(parameter)
        one, two = first.get(name), second.get(name)
        if keep is None or keep.any() or one is None or two is None:
            found.append(
                place.close(
                    name,
                    one,
                    two,
                    bound=gradient.relative,
                    floor=gradient.floor * largest,
                    shape=parameter.shape,
                    keep=keep,
                )
            )
        if keep is not None and one is not None and two is not None and one.shape == two.shape == parameter.shape:
            found.append(zero_gradient.noise(place, parameter, one, two, gradient.relative * largest))
    # A single step has no step before it, and leaves recurrent weights without a gradient.
    if place.case == "own" and experiment.task.length > 1:
        found += dead(place, table, first, second)
    return found + place.only(["loss", *(p.name for p in table)], first, second)
