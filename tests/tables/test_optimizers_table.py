"""The table of optimizers is what running gives, and says so where the versions are no longer those."""

import inspect
from importlib.metadata import version
from pathlib import Path

import jax
import msgspec
import optax
import pytest
import torch
from tables import replay
from tables.optax_cases import Template

from crosscheck.libraries import made, optimizers, pages
from crosscheck.libraries.optimizers import Counterpart, Tried

ROOT = Path(__file__).parents[2]
TABLE = optimizers.table()
SAMPLE = (
    "torch.optim.SGD(p, lr=0.01, momentum=0.9)",
    "torch.optim.RMSprop(p, lr=0.01, momentum=0.9)",
    "torch.optim.Adam(p, lr=0.01, amsgrad=True)",
    "torch.optim.Rprop(p, lr=0.01)",
    "lr_scheduler.CosineAnnealingLR(o, 20)",
    "lr_scheduler.OneCycleLR(o, 0.1, total_steps=60)",
    "clip_grad_norm_(p, 1e-4)",
)
"""Of each verdict, and of each section."""


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def row_of(code: str) -> Counterpart:
    return next(row for row in TABLE.rows if row.torch == code)


def run_again(row: Counterpart, code: str) -> Tried:
    mine, theirs = (replay.run(one, row.measure, side) for one, side in ((row.torch, "torch"), (code, "optax")))
    return replay.compared(code, mine, theirs, row.measure)


@pytest.mark.by_default("torch.optim.*")
@pytest.mark.parametrize("code", SAMPLE)
@pytest.mark.usefixtures("double")
def test_a_sample_is_what_running_gives(code: str) -> None:
    if {name: version(name).partition("+")[0] for name in ("torch", "optax")}.items() - TABLE.made.versions.items():
        pytest.skip("torch or optax is not the one that the table was made with")
    row = row_of(code)
    for recorded in filter(None, (row.namesake, row.best)):
        found = run_again(row, recorded.code)
        assert found.parts_at == recorded.parts_at
        if recorded.parts_at is not None:
            assert found.size == pytest.approx(recorded.size, rel=0.05)


@pytest.mark.usefixtures("double")
def test_another_formula_is_seen() -> None:
    row = row_of("torch.optim.SGD(p, lr=0.01, momentum=0.9)")
    assert run_again(row, "optax.sgd(0.01, momentum=0.9)").parts_at is None
    other = run_again(row, "optax.sgd(0.01, momentum=0.9 + 1e-9)")
    assert isinstance(other.parts_at, int)
    assert 0 < other.size < 1e-6


def test_the_sample_has_every_verdict() -> None:
    assert {row_of(code).verdict for code in SAMPLE} >= {"equal", "equal with arguments", "never equal"}
    assert {row_of(code).section for code in SAMPLE} == {"optimizers", "schedules", "clipping"}


def test_the_versions_are_those_that_are_pinned() -> None:
    pinned = made.pins((ROOT / "constraints" / "3.11.txt").read_text())
    assert made.outdated(TABLE.made, pinned) == []
    (said,) = made.outdated(TABLE.made, pinned | {"optax": "0.3.0"})
    assert said == f"optax is pinned to 0.3.0, and the table was made with {pinned['optax']}: make tables-optimizers"


def test_every_class_has_a_row() -> None:
    known = {row.name for row in TABLE.rows}
    for module, base in ((torch.optim, torch.optim.Optimizer), (torch.optim.lr_scheduler, object)):
        public = getattr(module, "__all__", None) or dir(module)
        classes = {
            name
            for name in public
            if inspect.isclass(one := getattr(module, name, None)) and issubclass(one, base) and name[0].isupper()
        }
        assert classes - known <= {"Optimizer", "LRScheduler"}
        assert len(classes) > 10


def test_what_optax_has_by_that_name_was_run() -> None:
    lower = {name.lower(): name for module in (optax, optax.contrib) for name in dir(module)}
    for name in {row.name for row in TABLE.rows if row.section == "optimizers"} & {
        name for name in dir(torch.optim) if name.lower() in lower
    }:
        namesakes = [row.namesake.code for row in optimizers.rows_of(name) if row.namesake is not None]
        assert any(f".{name.lower()}(" in code for code in namesakes), name


def test_the_page_is_the_table() -> None:
    assert (ROOT / "docs" / "optimizers.md").read_text() == pages.optimizers(TABLE)
    first = TABLE.rows[0]
    changed = msgspec.structs.replace(first, namesake=Tried(code="optax.sgd(0.01)", parts_at=7, size=0.5, at_end=0.5))
    assert pages.optimizers(msgspec.structs.replace(TABLE, rows=(changed, *TABLE.rows[1:]))) != pages.optimizers(TABLE)


def test_all_combinations_of_options_are_tried() -> None:
    template = Template("optax.f(0.1{})", {"eps": (1e-8, 0.0), "b": (True,)})
    found = {code: count for count, code in replay.expressions(template)}
    assert len(found) == 6
    assert found["optax.f(0.1)"] == 0
    assert found["optax.f(0.1, eps=1e-08, b=True)"] == 2
    assert [code for _, code in replay.expressions(Template("optax.g({})", {"n": (2,)}))] == [
        "optax.g()",
        "optax.g(n=2)",
    ]
