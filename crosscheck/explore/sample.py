"""The experiments out of explore that every comparison has: options that those of spec/experiments never vary.

They are kept as files, since what a seed draws changes with every new option of the spec.
"""

from pathlib import Path

from spec import experiment as experiments
from spec.experiment import Experiment

PLACE = Path(__file__).parent / "drawn"


def names() -> list[str]:
    """Of all of them."""
    return experiments.named_in(PLACE)


def load(argument: str) -> Experiment:
    """One of them, or what spec.experiment.load makes of the argument. Raises what that raises."""
    return experiments.load(argument, beside=PLACE)
