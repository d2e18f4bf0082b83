"""Sizes at which an implementation takes other code, such as a kernel that pays from some size on.

It declares them by kind (see spec.models.base.SIZES, and TRAINED here), so that they are asked for on both sides of
each:

    SIZES = {"attention weights": (10**6,)}

With `--thorough`, crosscheck asks for forward and gradients at every size of ASKED, beside the small ones of all other
cases, in both precisions; and for a training that is larger than all of TRAINED.
"""

from typing import Any

from spec.choices import read
from spec.errors import UsageError
from spec.models.base import SIZES

ATTRIBUTE = "SIZES"
"""The implementation's mapping, kind -> sizes from which on it takes other code; may be missing from a module."""

ASKED: dict[str, int] = {"large": 2 * 10**5, "larger": 2 * 10**6}
"""By the name of the case, how much it computes, at least, of each kind that the model computes at all."""

SMALL = 5 * 10**4
"""What the other cases do not exceed, of any kind, with models as small as the shipped ones."""


STEP, TRAINING, RECORDED = (
    "multiplications of a training step",
    "multiplications of a training",
    "values of a training's steps",
)
TRAINED: dict[str, int] = {STEP: 10**7, TRAINING: 11 * 10**8, RECORDED: 2 * 10**7}
"""Kinds of size by which trainings choose their code, and as how much of each the large one has at least: of forward
passes; of the parameters, and of the slots of an optimizer that keeps one for each, after every step."""


def check(name: str, implementation: Any) -> None:
    """Raise UsageError unless the module declares sizes that are asked for on both sides, or none."""
    what = f"{name}: {ATTRIBUTE}"
    declared = read(name, implementation, ATTRIBUTE, "sizes")
    every = [size for sizes in declared.values() for size in sizes]
    sound = all(issubclass(type(size), int) and not isinstance(size, bool) for size in every)
    if not sound or not set(declared) <= {*SIZES, *TRAINED}:
        known = ", ".join(map(repr, (*SIZES, *TRAINED)))
        raise UsageError(f"{what}: expected a mapping from some of {known} to whole numbers, got {declared!r}")
    for kind, sizes in declared.items():
        for size in sizes:
            least, most = (0, TRAINED[kind]) if kind in TRAINED else (SMALL, max(ASKED.values()))
            if not least < size <= most:
                raise UsageError(
                    f"{what}: {kind}: expected sizes above {least} and up to {most}, on both sides of which something "
                    f"is asked, got {size}"
                )
