"""Makes crosscheck/libraries/optimizers.json and docs/optimizers.md by running both: make tables-optimizers."""

import platform
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
from tables.optax_cases import CLIPPING, OPTIMIZERS, SCHEDULES, Case
from tables.replay import Run, compared, expressions, run

from crosscheck.libraries import made, optimizers, pages
from crosscheck.libraries.optimizers import Counterpart, Optimizers, Section, Tried

ROOT = Path(__file__).parents[2]
PACKAGES = ("torch", "optax", "jax", "numpy")


def tried(code: str, mine: Run, measure: str) -> Tried:
    try:
        return compared(code, mine, run(code, measure, "optax"), measure)
    except (TypeError, ValueError, AttributeError, NotImplementedError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
        return Tried(code=code, parts_at=1, size=1.0, at_end=1.0, failed=reason)


def lasts(one: Tried, steps: list[str]) -> float:
    """How long it stays equal; what never parts lasts longest."""
    if one.failed:
        return -1.0
    if one.parts_at is None:
        return float("inf")
    return float(one.parts_at) if isinstance(one.parts_at, int) else float(steps.index(one.parts_at))


def row(section: Section, case: Case) -> Counterpart:
    mine = run(case.torch, case.measure, "torch")
    found = sorted(
        (
            (count, place, tried(code, mine, case.measure))
            for place, template in enumerate(case.templates)
            for count, code in expressions(template)
        ),
        key=lambda one: one[:2],
    )
    first = next(one for count, place, one in found if count == place == 0)
    best = max((one for *_, one in found), key=lambda one: (lasts(one, mine.names or []), -one.size))
    if best.parts_at is None:
        best = next(one for *_, one in found if one.parts_at is None and not one.failed)
    name = case.torch.partition("(")[0].rpartition(".")[2]
    return Counterpart(
        section=section,
        name=name,
        torch=case.torch,
        measure=case.measure,
        namesake=first if case.named else None,
        best=best if best.code != first.code or not case.named else None,
        tried=len(found),
    )


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    sections: tuple[tuple[Section, tuple[Case, ...]], ...] = (
        ("optimizers", OPTIMIZERS),
        ("schedules", SCHEDULES),
        ("clipping", CLIPPING),
    )
    rows = []
    for section, cases in sections:
        for case in cases:
            rows.append(row(section, case))
            print(f"{time.process_time():6.1f} s", end=" ")
            print(f"{rows[-1].verdict:22} {case.torch}", flush=True)
    table = Optimizers(
        made=made.Made(
            date=date.today().isoformat(),
            python=platform.python_version(),
            machine=f"{platform.system()} {platform.machine()}, CPU",
            versions={name: version(name).partition("+")[0] for name in PACKAGES},
            command="make tables-optimizers",
        ),
        rows=tuple(rows),
    )
    made.write(table, optimizers.PATH)
    (ROOT / "docs" / "optimizers.md").write_text(pages.optimizers(table))


if __name__ == "__main__":
    main()
