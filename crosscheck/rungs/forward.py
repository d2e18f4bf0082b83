"""Every named intermediate of the forward pass, on the experiment's own batch and on a ragged one."""

from crosscheck import tolerance
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.request import CASES, Request
from spec.experiment import Experiment
from spec.framework import Framework, Precision

NAME: str = "forward"
QUESTION: str = "does every stage of the forward pass compute the same, and does padding change nothing?"
PRECISIONS: tuple[Precision, ...] = ("float64", "float32")
SAME_INPUTS: bool = True

CLEAN = "clean padding/"
"""Before the names of what the ragged batch gave without garbage in its padding."""


def inapplicable(experiment: Experiment) -> str:
    del experiment
    return ""


def cases(experiment: Experiment, precision: Precision, thorough: bool) -> tuple[str, ...]:
    del experiment, thorough
    return CASES[precision]


def record(framework: Framework, experiment: Experiment, case: str, request: Request) -> Arrays:
    def run(case: str) -> Arrays:
        batch = request.batch(experiment, case)
        return framework.forward(experiment, request.start(experiment), batch, request.settings)

    if case == "own":
        return run("own")
    # Of the same shape, hence without another compilation.
    return {**run("ragged"), **{CLEAN + name: array for name, array in run("ragged, clean").items()}}


def compare(experiment: Experiment, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    names = list(experiment.model.intermediates())
    bound = tolerance.FORWARD[place.precision]
    found = [
        place.close(name, first.get(name), second.get(name), bound=bound.relative, floor=bound.floor) for name in names
    ]
    if place.case == "own":
        return found + place.only(names, first, second)
    for side, arrays in zip(place.sides, (first, second), strict=True):
        found += [
            place.close(
                f"{name} (garbage against clean padding)",
                arrays.get(name),
                arrays.get(CLEAN + name),
                bound=bound.relative,
                floor=bound.floor,
                sides=(f"{side}, garbage", f"{side}, clean"),
            )
            for name in names
        ]
    return found + place.only(names + [CLEAN + name for name in names], first, second)
