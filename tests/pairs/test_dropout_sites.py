"""Masks are told from other zeros, and one that drops nothing by chance is not missed."""

from collections.abc import Callable

import numpy as np

from crosscheck.pair.dropout import MOST_RUNS, Site, _of_sites, sites_of
from spec.pair import Intermediate

SHAPE = (3, 4)


def entry(number: int, op: str, value: np.ndarray, *operands: int) -> Intermediate:
    return Intermediate(number, op, "layer", "", value, (), operands, False)


def ran(mask: Callable[[np.random.Generator], np.ndarray], seed: int) -> list[Intermediate]:
    """A run in which a value is multiplied with a mask; another seed draws another one."""
    x = np.random.default_rng(100).standard_normal(SHAPE)
    drawn = mask(np.random.default_rng(20 + seed))
    return [entry(0, "mul", x), entry(1, "mul", drawn), entry(2, "mul", x * drawn, 0, 1)]


def found(mask: Callable[[np.random.Generator], np.ndarray], runs: int) -> list[Site]:
    return list(sites_of([ran(mask, seed) for seed in range(runs)]))


def test_a_mask_that_drops_nothing_in_one_run_is_seen_in_others():
    def mask(random: np.random.Generator) -> np.ndarray:
        return (random.random(SHAPE) >= 0.1) / 0.9

    alone = [bool(mask(np.random.default_rng(20 + seed)).all()) for seed in range(MOST_RUNS)]
    assert 0 < sum(alone) < MOST_RUNS
    (site,) = found(mask, MOST_RUNS)
    assert abs(site.rate - 0.1) < 1e-12
    assert (site.size, site.whole) == (12, True)
    assert site.runs == MOST_RUNS - sum(alone)


def test_padding_is_no_dropout():
    """Zeros that no seed moves, however large what they leave is."""
    valid = np.arange(SHAPE[1]) < 3
    for scale in (1e30, 2.0):
        assert found(lambda random, scale=scale: np.where(valid, 0.0, scale) * np.ones(SHAPE), 3) == []


def test_what_falls_together_is_one_number():
    (site,) = found(lambda random: (random.random((3, 1)) >= 0.5) * 2.0 * np.ones(SHAPE), MOST_RUNS)
    assert site.size == 3
    (site,) = found(lambda random: (random.random(SHAPE) >= 0.5) * 2.0, MOST_RUNS)
    assert site.size == 12


def test_what_was_flattened_before_it_was_dropped_is_seen():
    """A mask that is chosen by, so that no intermediate is the mask itself; flattening is no intermediate either."""

    def run(seed: int) -> list[Intermediate]:
        x = np.random.default_rng(100).standard_normal(SHAPE)
        kept = np.random.default_rng(20 + seed).random(12) >= 0.5
        larger = x.reshape(12) / 0.5
        return [entry(0, "tanh", x), entry(1, "div", larger, 0), entry(2, "select_n", np.where(kept, larger, 0), 1)]

    (site,) = sites_of([run(seed) for seed in range(MOST_RUNS)])
    assert abs(site.rate - 0.5) < 1e-12
    assert (site.number, site.size) == (2, 12)


def site(module: str) -> Site:
    return Site(0, module, "", "mul", 0.1, 0, 16, 2, 1.0, True, True, False)


def test_of_many_sites_those_that_one_side_has_alone_are_named():
    ours = [site(f"decoder.block.{number}.{name}") for number in range(3) for name in ("attention", "cross", "drop")]
    theirs = [site(f"decoder.block.{name}") for _ in range(3) for name in ("attention", "drop")]
    (found,) = _of_sites(ours, theirs)
    assert found.text == (
        "original drops at 9 places (alone at decoder.block.0.cross 0.1, decoder.block.1.cross 0.1, "
        "decoder.block.2.cross 0.1), port at 6 (none alone)"
    )
    assert found.first is not None
    assert found.first.module == "decoder.block.0.cross"
    (found,) = _of_sites([site("a"), site("b")], [site("c")])
    assert found.text == "original drops at 2 places (a 0.1, b 0.1), port at 1 (c 0.1)"
    (found,) = _of_sites([site("a")], [])
    assert found.text == "original drops at 1 place (a 0.1), port at 0 (none)"
