"""How much processor time renderings take, of a clean full run and of one experiment: python tests/report_speed.py

Figures of the last look are in docs/report.md.
"""

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from crosscheck.checks import BY_DEFAULT
from crosscheck.comparison import Comparison, Place
from crosscheck.judging.summary import SideSummary, Summary, conclude
from crosscheck.judging.verdict import Cell, Verdict
from crosscheck.report import data, junit, markdown, terminal
from crosscheck.report.experiments import report_of
from spec.experiment import drawn, load, shipped
from spec.framework import Precision

COMPARISONS = 92_567
"""Of a clean run of all experiments."""

STEPS = 60

SIDES = ("torch_impl", "flax_impl")

SECONDS = {"all": 3.0, "one": 0.5}


def made(names: list[str], comparisons: int) -> Summary:
    """A clean run of those experiments, with as many comparisons in all."""
    random = np.random.default_rng(0)
    verdicts = []
    for number, name in enumerate(names):
        experiment = load(name)
        tensors = [parameter.name for parameter in experiment.parameters()] + list(experiment.stages())
        count = comparisons // len(names) + (number < comparisons % len(names))
        found: list[Comparison] = []
        for tensor in ("loss", *(f"parameters/{parameter.name}" for parameter in experiment.parameters())):
            for precision in ("float64", "float32"):
                found.append(_trained(name, precision, tensor, random))
        while len(found) < count:
            check = BY_DEFAULT[len(found) % len(BY_DEFAULT)].NAME
            precision = ("float64", "float32")[len(found) % 2]
            place = Place(name, check, precision, f"case {len(found) % 9}", SIDES)
            first = random.standard_normal((4, 5)).astype(precision)
            one = place.close(tensors[len(found) % len(tensors)], first, first * (1 + 1e-9), bound=1e-6)
            found.append(one.at(f"point {len(found) % 7}", one.tensor))
        cells = [
            Cell(check=check.NAME, status="same", ratio=0.25, comparisons=10, elements=40, seconds=(0.5, 0.4))
            for check in BY_DEFAULT
        ]
        family = type(experiment.model).__name__
        verdicts.append(
            Verdict(
                experiment=name,
                hash=experiment.hash,
                argument=name,
                cells=cells,
                comparisons=found[:count],
                family=family,
            )
        )
    code, words = conclude(verdicts)
    sides = [
        SideSummary(name=name, implementation=name, describe={"x": "1"}, machine={"y": "2"}, seconds=9.0)
        for name in SIDES
    ]
    return Summary(
        sides=sides,
        checks=[check.NAME for check in BY_DEFAULT],
        precisions=["float64", "float32"],
        seed=0,
        device="cpu",
        seconds=99.0,
        exit_code=code,
        verdict=words,
        experiments=verdicts,
    )


def _trained(name: str, precision: Precision, tensor: str, random: np.random.Generator) -> Comparison:
    values = random.standard_normal((STEPS, 1 if tensor == "loss" else 40)).astype(precision)
    place = Place(name, "trajectory", precision, "recipe", SIDES)
    moved = (values * (1 + 1e-7)).astype(precision)
    allowed = np.geomspace(1e-6, 1e-3, STEPS)
    return place.close(tensor, values, moved, allowed=allowed, stepwise=True)


def main() -> int:
    """Print what each takes; 1 where it is too much."""
    every = [*shipped(), *drawn()]
    late = False
    for what, names, comparisons in (("all", every, COMPARISONS), ("one", ["hello-gru"], COMPARISONS // len(every))):
        summary = made(names, comparisons)
        begin = time.process_time()
        report = report_of(summary)
        taken = {"the record": time.process_time() - begin}
        sizes: dict[str, int] = {}
        renderings: dict[str, Callable[[], bytes]] = {
            "report.json": lambda report=report: data.render(report),
            "report-details.json.gz": lambda report=report: data.details(report),
            "report.md": lambda report=report: markdown.render(report).encode(),
            "junit.xml": lambda report=report: junit.render(report),
            "terminal": lambda report=report: _terminal(report),
        }
        for name, render in renderings.items():
            begin = time.process_time()
            sizes[name] = len(render())
            taken[name] = time.process_time() - begin
        total = sum(taken.values())
        late |= total > SECONDS[what]
        print(f"{len(names)} experiments, {summary.comparisons} comparisons: {total:.2f} s, of {SECONDS[what]:g}")
        for name, seconds in taken.items():
            size = f", {sizes[name] / 1e3:.0f} kB" if name in sizes else ""
            print(f"  {name}: {seconds:.3f} s{size}")
    return int(late)


def _terminal(report) -> bytes:
    shown = io.StringIO()
    terminal.show(report, Console(file=shown, width=80, force_terminal=True))
    return shown.getvalue().encode()


if __name__ == "__main__":
    sys.exit(main())
