"""The table of planted faults: it fits today's sources, covers the catalogue, and its quick choice is caught."""

from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import get_args

import pytest

from crosscheck.checks import BY_DEFAULT
from crosscheck.checks.wanted import Wanted
from crosscheck.cli.command import main
from crosscheck.faults import given, plant
from crosscheck.faults.command import QUICK, quick
from crosscheck.faults.fault import Fault
from crosscheck.faults.table import FAULTS, NOT_APPLICABLE
from spec.experiment import to_toml
from spec.framework import Precision

CATALOGUE = """
01 02 04 05 07 08 10 11 13 14 16 17 19 20 22 23 25 26 28 29 31 32 34 35 37 38 40 41 43 44 46 47 49 50 52 53 55 56 58 59
61 62 64 65 67 68 70 71 73 74 76 77 79 80 82 83 85 86 88 89 91 92 94
"""
"""The numbers of the catalogue of porting bugs; those that are missing were never given."""

ENTRIES = {f"PB{number}" for number in CATALOGUE.split()}

Kind = Callable[[Fault], bool]


def named(*patterns: str) -> Kind:
    return lambda fault: any(fnmatchcase(fault.name, pattern) for pattern in patterns)


KINDS: dict[str, Kind] = {
    "initial law": lambda fault: fault.check == "initialization",
    "optimizer slots after several steps": named("slots-forgotten-at-each-epoch", "second-moment-from-new-mean"),
    "ragged batches": named("backward-starts-in-the-padding", "padding-moves-the-state"),
    "batch larger than one": named("softmax-over-the-batch", "positions-by-example", "decoder-starts-from-first-*"),
    "four layers": named("fourth-layer-*"),
    "gradients at zeros": named("relu-by-*"),
    "float32 with offset inputs": named("layer-norm-fast-variance"),
    "train mode": named("trained-in-eval-mode", "dropout-not-scaled"),
    "a changing learning rate": named("schedule-ignored", "warm-up-*", "learning-rate-stays-*"),
}
"""What shows only under a condition of its own. Names, since a condition is no field of a fault."""


@pytest.mark.parametrize("fault", FAULTS, ids=plant.label)
def test_every_edit_fits_the_sources(fault: Fault):
    assert plant.edited(fault, plant.source(fault.implementation))


def test_a_fault_is_planted_where_a_comparison_of_everything_asks():
    """Where another experiment stands for that one, nobody would look by default."""
    by_name = {check.NAME: check for check in BY_DEFAULT}
    everything = Wanted(list(by_name), list(get_args(Precision)))
    unasked = [
        f"{plant.label(fault)}: {fault.check} asks nothing of {fault.experiment}"
        for fault in FAULTS
        if fault.check in by_name
        and not everything.cases(given.load(fault.experiment), by_name[fault.check], fault.precision)
    ]
    assert not unasked


def test_an_edit_of_a_function_names_it():
    """Else the same text in a function above would take its place one day."""
    sources = {side: plant.source(side) for side in ("torch_impl", "flax_impl")}
    unnamed = [
        f"{plant.label(fault)}: {edit.place} has it in {name}"
        for fault in FAULTS
        for edit in fault.edits
        if edit.place == edit.file
        for text in [(sources[fault.implementation] / edit.file).read_text()]
        for name, begin, end in plant.definitions(text)
        if edit.old in text[begin:end]
    ]
    assert unnamed == []


def test_names_experiments_and_checks_are_there():
    plant.verify(FAULTS)


def test_tensors_are_patterns_of_what_a_check_compares():
    """A pattern that any name fits says nothing, but where a side gives no answer."""
    loose = [plant.label(fault) for fault in FAULTS if fault.tensor == "*" and fault.check != "structure"]
    assert loose == []


def test_the_catalogue_is_covered():
    planted = {entry for fault in FAULTS for entry in fault.entries}
    assert planted | set(NOT_APPLICABLE) == ENTRIES
    assert not planted & set(NOT_APPLICABLE)
    assert all(NOT_APPLICABLE.values())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_fault(kind: str):
    assert any(KINDS[kind](fault) for fault in FAULTS)


def test_both_sides_have_faults_on_every_check_but_the_outcome():
    missing = {
        (check.NAME, side)
        for check in BY_DEFAULT
        for side in ("torch_impl", "flax_impl")
        if not any((fault.check, fault.implementation) == (check.NAME, side) for fault in FAULTS)
    }
    assert missing == {("outcome", "torch_impl"), ("outcome", "flax_impl")}


def test_what_only_explore_shows_is_planted_on_what_it_shrank_to_the_option():
    on = Counter((fault.implementation, fault.experiment) for fault in FAULTS if fault.option)
    found = sorted(path.stem for path in given.PLACE.glob("*.toml"))
    assert len(found) >= 20
    # Each option once on either side.
    assert on == Counter((side, name) for side in ("torch_impl", "flax_impl") for name in found)
    for fault in FAULTS:
        if fault.option:
            assert fault.option in to_toml(given.load(fault.experiment)), plant.label(fault)
    for name in found:
        assert given.load(name).description.startswith("Shrunk by crosscheck explore from seed ")
    # All that is not the option is as simple as an experiment can be.
    sizes = sorted(given.load(name).model.parameter_count for name in found)
    assert sizes[len(sizes) // 2] < 100


def test_the_quick_choice_is_small_and_the_same_every_time():
    chosen = quick(FAULTS)
    assert 8 <= len(chosen) <= QUICK
    assert {fault.implementation for fault in chosen} == {"torch_impl", "flax_impl"}
    assert chosen == quick(FAULTS)
    steps = [given.load(fault.experiment).training for fault in chosen]
    assert max(training.epochs * training.steps_per_epoch for training in steps) <= 1500


@pytest.mark.long
@pytest.mark.needs("torch", "flax")
def test_some_of_the_quick_choice_are_caught(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Two copies of either side, each up to the check that should see its fault; `make faults` plants all of them."""
    chosen = [f for f in quick(FAULTS) if f.check in ("loss", "gradients")]
    assert {fault.implementation for fault in chosen} == {"torch_impl", "flax_impl"}
    code = main(["faults", *map(plant.label, chosen), "--first", "--out", str(tmp_path)])
    output = capsys.readouterr().out
    assert code == 0, output
    assert f"ALL CAUGHT: {len(chosen)} planted faults" in output
