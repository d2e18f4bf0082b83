"""Does explore find the faults in what shipped experiments never vary, and name the option? Takes minutes.

    python tests/explore_faults.py            # those of crosscheck/faults/table with an option, as --seed 0 draws
    python tests/explore_faults.py --seed 3 --write 'torch_impl/beta*'

Of each fault: how many experiments are drawn until the first that shows it, of those that ten minutes come to; whether
the smallest that still does names the option; --write keeps that one as the experiment that the fault is planted on.
"""

import argparse
import sys
import tempfile
import time
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from crosscheck.checks.wanted import Wanted  # noqa: E402
from crosscheck.comparison import Comparison  # noqa: E402
from crosscheck.explore import shrinking  # noqa: E402
from crosscheck.explore.drawing import Drawn, draw  # noqa: E402
from crosscheck.explore.pair import Pair, Question  # noqa: E402
from crosscheck.faults import given, plant  # noqa: E402
from crosscheck.faults.fault import Fault  # noqa: E402
from crosscheck.faults.table import FAULTS  # noqa: E402
from spec import experiment as experiments  # noqa: E402
from spec.experiment import Experiment  # noqa: E402

IN_TEN_MINUTES = 150
"""Experiments; see tests/crosscheck/test_explore.py."""

SHRINKING = 60.0
"""Seconds."""


def found(fault: Fault, seed: int, place: Path) -> tuple[Drawn, Drawn] | None:
    """The first experiment that fails, and the smallest that does; None where none of ten minutes fails.

    The other side is the unedited copy of the same implementation, which takes a tenth of the time that two frameworks
    do. What does not name the option is passed over: the fault is not live there.
    """
    copy = plant.plant(fault, plant.source(fault.implementation), place / "copy")
    names = (str(copy), fault.implementation)
    pair = Pair(names, names, place / "pair", 120.0)
    wanted = Wanted([fault.check], [fault.precision])
    try:
        for number in range(IN_TEN_MINUTES):
            drawn = draw(seed, number)
            if fault.option not in experiments.to_toml(drawn.experiment):
                continue
            verdict = pair.ask(Question(drawn.experiment, seed), wanted, together=True)
            if verdict.failures:

                def fails(experiment: Experiment, first: Comparison = verdict.failures[0]) -> bool:
                    again = pair.ask(Question(experiment, seed), wanted, together=True)
                    return shrinking.alike(again, first)

                return drawn, shrinking.shrink(drawn, fails, SHRINKING, place)
    finally:
        pair.close()
    return None


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=["*"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    missed = 0
    for fault in FAULTS:
        if not fault.option or not any(fnmatchcase(plant.label(fault), name) for name in options.names):
            continue
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="explore-faults-") as place:
            both = found(fault, options.seed, Path(place))
        if both is None:
            missed += 1
            print(f"{plant.label(fault)}: not found in {IN_TEN_MINUTES} experiments", flush=True)
            continue
        drawn, smallest = both
        about = f"Shrunk by crosscheck explore from seed {options.seed}, number {drawn.experiment.name.split('-')[-1]}"
        kept = msgspec.structs.replace(smallest.experiment, name=fault.experiment, description=about)
        text = experiments.to_toml(kept)
        named = fault.option in text
        missed += not named
        told = f"{drawn.experiment.name}, {len(drawn.choices)} choices, shrunk to {len(smallest.choices)}"
        seconds = time.monotonic() - begin
        print(
            f"{plant.label(fault)}: {told}, {'names' if named else 'DOES NOT NAME'} {fault.option!r}, {seconds:.0f} s",
            flush=True,
        )
        if options.write:
            (given.PLACE / f"{fault.experiment}.toml").write_text(text)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
