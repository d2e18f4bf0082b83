"""Every fault of the table in planted.py is found, by the check and at the place that it names; without, none is."""

import sys
from pathlib import Path

import pytest

from crosscheck.pair import ladder, report, subject
from crosscheck.pair.ladder import PairWanted
from crosscheck.pair.result import PairResult
from crosscheck.report import data

sys.path.append(str(Path(__file__).parent))
from planted import DROPOUT, FAULTS, INITIAL, LOOKS_LIKE, OPTIMIZER, PAIRS, Planted

pytestmark = pytest.mark.needs("torch", "flax")


def climbed(pair: str, faults: frozenset[str], seed: int = 0) -> PairResult:
    of = PAIRS[pair]

    def original(seed: int) -> object:
        return of.original(seed)

    def port(seed: int) -> object:
        return of.port(seed, faults)

    asked = subject.live((original, port), of.inputs, of.options(faults))
    return ladder.climb(asked, PairWanted(seed=seed), lambda _: None, lambda _: None)


def places(result: PairResult) -> str:
    """Names of differences, and where they are."""
    words = []
    for one in result.differences:
        words.append(one.name)
        words += [report.where(place) for place in (one.first, one.second) if place is not None]
    return "; ".join(words)


def explanations(result: PairResult) -> list[str]:
    """What differences are said to look like."""
    return [one.explanation.looks_like for one in result.differences if one.explanation and one.explanation.looks_like]


@pytest.mark.pairs
@pytest.mark.parametrize("planted", FAULTS, ids=lambda one: f"{one.pair}-{one.fault}")
def test_a_fault_is_found(planted: Planted):
    result = climbed(planted.pair, frozenset({planted.fault}))
    assert result.exit_code == 1, report.plain_text(result)
    failed = tuple(cell.check for cell in result.cells if cell.status == "different")
    assert set(planted.checks) <= set(failed), report.plain_text(result)
    assert planted.where in places(result), report.plain_text(result)
    said = explanations(result)
    expected = LOOKS_LIKE.get((planted.pair, planted.fault))
    assert bool(said) == bool(expected), report.plain_text(result)
    assert all(expected in words for words in said if expected), report.plain_text(result)


@pytest.mark.pairs
@pytest.mark.parametrize("pair", PAIRS)
def test_without_a_fault_nothing_is(pair: str):
    result = climbed(pair, frozenset())
    assert result.exit_code == 0, report.plain_text(result)


def test_faults_of_several_kinds_are_found_at_once():
    """Each by the one check that can, and no other; the others of the table take minutes."""
    together = {"rate": DROPOUT, "default decay": OPTIMIZER, "bias starts at zero": INITIAL, "summed": ("loss",)}
    result = climbed("classifier", frozenset(together))
    found = {one.check for one in result.differences}
    assert found - {"gradients"} == {check for checks in together.values() for check in checks}
    assert {one.name for one in result.differences if one.check == "initialization"} == {
        "initialization: up.bias, constant"
    }
    assert next(one for one in result.differences if one.check == "dropout").values == pytest.approx((0.2, 0.3))
    said = explanations(result)
    for words in ("the rate were 0.3", "the weight decay were 0.0001", "values began at 0 everywhere"):
        assert any(words in one for one in said)
    assert "looks like" in report.plain_text(result)
    assert "looks_like" in data.render(report.report_of(result)).decode()


def test_faults_are_many_and_none_twice():
    assert len(FAULTS) >= 60
    assert len({(one.pair, one.fault) for one in FAULTS}) == len(FAULTS)
