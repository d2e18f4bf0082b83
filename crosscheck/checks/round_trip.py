"""Canonical parameters into the framework's own modules and out again, bit for bit."""

from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.request import Request
from crosscheck.subject import Subject
from spec.framework import Framework, Precision

NAME: str = "round-trip"
QUESTION: str = "do parameters come back from the framework's own modules bit for bit?"
PRECISIONS: tuple[Precision, ...] = ("float64", "float32")
SAME_INPUTS: bool = True


def inapplicable(subject: Subject) -> str:
    del subject
    return ""


def cases(subject: Subject, precision: Precision, thorough: bool) -> tuple[str, ...]:
    del subject, precision, thorough
    return ("random",)


def record(framework: Framework, subject: Subject, case: str, request: Request) -> Arrays:
    del case
    sent = request.start(subject)
    returned = framework.open(subject, request.settings).round_trip(sent)
    return {
        f"{part}/{name}": a for part, arrays in (("sent", sent), ("returned", returned)) for name, a in arrays.items()
    }


def compare(subject: Subject, place: Place, first: Arrays, second: Arrays) -> list[Comparison]:
    names = [parameter.name for parameter in subject.parameters()]
    found = [
        place.against(side, "sent", first=True).identical(
            name, arrays.get(f"sent/{name}"), arrays.get(f"returned/{name}")
        )
        for name in names
        for side, arrays in zip(place.sides, (first, second), strict=True)
    ]
    return found + place.only([f"{part}/{name}" for name in names for part in ("sent", "returned")], first, second)
