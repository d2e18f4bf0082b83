"""The experiments that faults are planted on: those of every comparison, and those of `experiments/`.

The latter have the options that the shipped ones never vary. `crosscheck explore` drew them and made them as small as
they are, by the faults that are planted on them here: `tests/explore_faults.py` does it again. Those of `recipes/`,
below it, have options of the recipe or of the data that no shipped one has, several in a file.
"""

from pathlib import Path

from spec import experiment as experiments
from spec.experiment import Experiment

PLACE = Path(__file__).parent / "experiments"

RECIPES = PLACE / "recipes"


def names() -> list[str]:
    """Of all of them."""
    return [*experiments.shipped(), *experiments.drawn(), *experiments.named_in(PLACE), *experiments.named_in(RECIPES)]


def load(name: str) -> Experiment:
    """One of them. Raises SpecError for another name."""
    return experiments.load(name, beside=RECIPES if name in experiments.named_in(RECIPES) else PLACE)
