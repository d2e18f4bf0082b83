"""The experiments that faults are planted on: those of every comparison, and those of `experiments/`.

The latter have the options that the shipped ones never vary. `crosscheck explore` drew them and made them as small as
they are, by the faults that are planted on them here: `tests/explore_faults.py` does it again.
"""

from pathlib import Path

from spec import experiment as experiments
from spec.experiment import Experiment

PLACE = Path(__file__).parent / "experiments"


def names() -> list[str]:
    """Of all of them."""
    return [*experiments.shipped(), *experiments.drawn(), *experiments.named_in(PLACE)]


def load(name: str) -> Experiment:
    """One of them. Raises SpecError for another name."""
    return experiments.load(name, beside=PLACE)
