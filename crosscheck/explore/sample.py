"""The experiments out of explore that every comparison has: options that those of spec/experiments never vary.

They are kept as files, since what a seed draws changes with every new option of the spec.
"""

from pathlib import Path

from spec import experiment as experiments
from spec.experiment import Experiment

PLACE = Path(__file__).parent / "drawn"


def names() -> list[str]:
    """Of all of them."""
    return sorted(path.stem for path in PLACE.glob("*.toml"))


def load(argument: str) -> Experiment:
    """One of them, or what spec.experiment.load makes of the argument. Raises what that raises."""
    known = argument in names()
    return experiments.load(str(PLACE / f"{argument}.toml") if known else argument)
