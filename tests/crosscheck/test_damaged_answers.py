"""An answer that is cut, of another shape or type, or not there is red in every check, and ends none of them."""

import re
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from crosscheck.checks import LADDER, ON_REQUEST, Check
from crosscheck.comparison import Arrays, Place
from crosscheck.probes import equations
from crosscheck.request import Request
from spec.experiment import Experiment, load, override
from tests.crosscheck import fake_framework

DAMAGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a number": lambda array: np.array(array.flat[0]) if array.size else np.array(0.0),
    "empty": lambda array: array.reshape(-1)[:0],
    "short": lambda array: array[:-1] if array.ndim else array[None],
    "long": lambda array: np.concatenate([array, array]) if array.ndim else np.stack([array, array]),
    "an axis more": lambda array: array[None],
    "an axis less": lambda array: array.reshape(-1) if array.ndim > 1 else array[:, None],
    "whole numbers": lambda array: np.zeros(array.shape, np.int64),
    "truth values": lambda array: np.zeros(array.shape, bool),
    "half precision": lambda array: np.clip(array, -1e4, 1e4).astype(np.float16),
    "not finite": lambda array: np.full(array.shape, np.nan, array.dtype),
}

OWN = re.compile(
    r"^envelope/|^start/[^/]*$|(^|/)(asked|method)$|/(Python|NumPy) before$|(plain|resumed|again)/(parameters|slots)/"
)
"""What a check writes down itself, no answer of an implementation; and what was recorded though nobody asked."""


# Of masks, which the fake does not draw, the check dropout looks at shape and type before anything else.
CHECKS = [check for check in LADDER if check not in ON_REQUEST and check.NAME != "dropout"]


def representatives(names: list[str]) -> list[str]:
    """One of the names that differ in a number or a parameter alone."""
    kinds = {re.sub(r"\d+", "0", re.sub(r"[^/]*\.(weight|bias)\w*", "tensor", name)): name for name in names}
    return [name for name in kinds.values() if not OWN.search(name)]


def damaged(array: np.ndarray, finite: bool) -> dict[str, np.ndarray]:
    """The array in every way in which it is another one, by the way's name. finite: whether values are looked at."""
    found: dict[str, np.ndarray] = {}
    for way, damage in DAMAGES.items():
        if way != "not finite" or (array.dtype.kind == "f" and finite):
            other = damage(array)
            if (other.dtype, other.shape, other.tobytes()) != (array.dtype, array.shape, array.tobytes()):
                found[way] = other
    return found


@pytest.mark.by_default(
    "forward",
    "initialization",
    "trajectory",
    "shipped-path",
    "loss",
    "optimizer",
    "structure",
    "round-trip",
    "members",
    "generation",
    "outcome",
)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.NAME)
def test_it_is_red(check: Check):
    batch = {"task__batch_size": 2} if check.NAME == "devices" else {}
    asked = override(load("hello-gru"), training__epochs=4, training__steps_per_epoch=2, **batch)
    assert not check.inapplicable(asked)
    unseen: dict[str, str] = {}
    judged = 0
    for precision in check.PRECISIONS[:1]:  # What is judged is judged alike in each.
        # By default devices are asked of what is cut with the batch beside its inputs.
        for case in check.cases(asked, precision, check.NAME == "devices"):
            place = Place(asked.name, check.NAME, precision, case, ("one", "two"))
            requests = [Request(precision, "cpu", 0, envelope=envelope) for envelope in (True, False)]
            one, two = (dict(check.record(fake_framework, asked, case, request)) for request in requests)
            assert judgement(check, asked, place, one, two) == "green"
            for key in representatives(list(two)):
                others = {
                    way: two | {key: array} for way, array in damaged(two[key], check.NAME != "structure").items()
                }
                others["missing"] = {name: array for name, array in two.items() if name != key}
                for way, other in others.items():
                    judged += 1
                    if (said := judgement(check, asked, place, one, other)) != "red":
                        unseen[f"{precision}, {case}: {key}, {way}"] = said
    assert unseen == {}
    assert judged >= len(DAMAGES)


def judgement(check: Check, asked: Experiment, place: Place, one: Arrays, two: Arrays) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = check.compare(asked, place, one, two)
        except Exception as error:
            return repr(error)
    # The fake has equations of its own.
    return "red" if any(c.failed for c in found if c.other != equations.EXACT) else "green"
