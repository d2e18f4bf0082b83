"""Explanations: a variant is named where it is the cause, and only there; nothing is tried where nothing differs.

The side that departs is the reference itself, computing by a variant, so that no framework is needed.
"""

import inspect
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

import spec.reference
from crosscheck.checks import LADDER
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.diagnosis import vote
from crosscheck.explain import catalogue, experiments
from crosscheck.explain.explanation import Budget, Explanation, Fit, OutOfTime, settled
from crosscheck.explain.variant import Case, Variant, Varied, applied, recipe
from crosscheck.explain.variants import gelu, layer_norm
from crosscheck.faults.plant import label
from crosscheck.faults.table import FAULTS
from crosscheck.faults.table.explained import EXPLAINED
from crosscheck.probes import equations
from crosscheck.report.details import looks_like
from crosscheck.request import Request
from spec import experiment as spec_experiments
from spec.experiment import Experiment, load, override

SIDES: tuple[str, str] = ("honest", "other")
CHECKS = {check.NAME: check for check in LADDER}


def recorded(experiment: Experiment, check: str, case: str, made: Any, envelope: bool = False) -> Arrays:
    request = Request("float64", "cpu", 0, envelope=envelope)
    with np.errstate(all="ignore"):
        return CHECKS[check].record(made, experiment, case, request)


def explained(
    experiment: Experiment,
    check: str,
    case: str,
    made: Any,
    seconds: float = 1e3,
    spoil: Callable[[Arrays], Arrays] = lambda arrays: arrays,
) -> Explanation | None:
    """What the first difference looks like between the reference and what `made` answers, which is the second side."""
    first = recorded(experiment, check, case, spec.reference, envelope=True)
    second = spoil(recorded(experiment, check, case, made))
    place = Place(experiment.name, check, "float64", case, SIDES)
    with np.errstate(all="ignore"):
        comparisons = CHECKS[check].compare(experiment, place, first, second)
    sides: dict[str, Arrays] = dict(zip(SIDES, (first, second), strict=True))
    blame = vote.find(experiment, comparisons, sides, 0)
    failure = next((one for one in comparisons if one.failed), None)
    if failure is None or blame is None:
        return None
    assert blame.at_fault == "other"
    return experiments.explain(experiment, failure, blame, {case: sides}, 0, seconds)


def variants(experiment: Experiment, check: str, case: str = "own") -> list[tuple[str, Variant]]:
    """All that the catalogue has for it, where nothing can be solved for."""
    failure = Comparison(
        experiment=experiment.name,
        check=check,
        precision="float64",
        case=case,
        tensor="",
        sides=SIDES,
        passed=False,
        elements=1,
        step=3,
    )
    case_of = Case(experiment, check, failure, {}, {}, lambda *_: None)
    found = []
    for name, module in catalogue.files().items():
        if hasattr(module, "of_experiment"):
            found += [(name, variant) for variant in module.of_experiment(case_of)]
    return found


def named(experiment: Experiment, check: str, words: str, case: str = "own") -> Variant:
    return next(variant for _, variant in variants(experiment, check, case) if words in variant.words)


TRUE = [
    ("hello-transformer-norm-first", "forward", "own", "GELU were the tanh approximation"),
    ("hello-transformer", "forward", "own", "LayerNorm's epsilon were 1e-12"),
    ("hello-transformer", "forward", "own", "norms came first"),
    ("hello-gru", "forward", "own", "the reset gate acted on the state"),
    ("hello-gru", "forward", "own", "gates stood in the order z, r, n"),
    ("hello-lstm", "forward", "own", "1 were added to the forget gate"),
    ("hello-self-attention", "forward", "ragged", "valid keys were masked, and padding were not"),
    ("hello-rnn", "loss", "every step", "labels were smoothed by 0.1"),
    ("hello-rnn", "loss", "every step", "each sequence's mean were taken first"),
    ("hello-rnn", "optimizer", "replay", "Adam's epsilon were added before the correction"),
    ("hello-lstm-adamw-warm-up", "optimizer", "replay", "the weight decay were 0.0001"),
    ("hello-lstm-adamw-warm-up", "optimizer", "replay", "the schedule were a step behind"),
    ("hello-gru-clipping", "optimizer", "replay", "each tensor were clipped by its own norm"),
    ("hello-rnn-cell", "gradients", "own", "no gradient went through time"),
    ("hello-gru", "round-trip", "random", "the two biases were one"),
]


@pytest.mark.parametrize(("name", "check", "case", "words"), TRUE)
def test_a_known_variant_is_named(name: str, check: str, case: str, words: str):
    experiment = load(name)
    found = explained(experiment, check, case, Varied(named(experiment, check, words, case)))
    assert found is not None
    assert words in found.looks_like
    assert found.side == "other"
    assert found.before is not None
    assert found.before > 1
    assert found.after is not None
    assert found.after <= 1


@pytest.mark.parametrize(
    ("name", "check", "case", "change", "words"),
    [
        (
            "hello-transformer",
            "forward",
            "own",
            lambda e: override(e, model__layer_norm_epsilon=3.7e-4),
            "LayerNorm's epsilon were 0.00037 (1e-05 in the equations)",
        ),
        ("hello-rnn", "optimizer", "replay", recipe("", optimizer__beta1=0.87).experiment, "beta1 were 0.87"),
        (
            "hello-rnn",
            "optimizer",
            "replay",
            recipe("", optimizer__learning_rate=0.0123).experiment,
            "rate were 0.0123",
        ),
    ],
)
def test_a_constant_is_solved_for(name: str, check: str, case: str, change: Any, words: str):
    found = explained(load(name), check, case, Varied(Variant("", experiment=change)))
    assert found is not None
    assert words in found.looks_like


def test_what_is_no_known_variant_is_not_named():
    """By chance, by a constant that nobody writes, and by two variants at once."""

    def noisy(arrays: Arrays) -> Arrays:
        random = np.random.default_rng(0)
        return {n: a * (1 + 1e-9 * random.standard_normal(a.shape)) for n, a in arrays.items()}

    found = explained(load("hello-gru"), "forward", "own", spec.reference, spoil=noisy)
    assert found is not None
    assert not found.looks_like
    assert len(found.tried) > 10
    both = load("hello-transformer-norm-first")
    two = named(both, "forward", "tanh approximation")._replace(
        experiment=lambda e: override(e, model__layer_norm_epsilon=1e-6)
    )
    found = explained(both, "forward", "own", Varied(two))
    assert found is not None
    assert not found.looks_like
    third = Variant("", experiment=lambda e: override(e, model__layer_norm_epsilon=1e-5 * np.pi))
    found = explained(load("hello-transformer"), "forward", "own", Varied(third))
    assert found is not None
    assert not found.looks_like


def test_nothing_is_tried_where_nothing_differs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(catalogue, "of_experiment", lambda case: pytest.fail("tried"))
    assert explained(load("hello-gru"), "forward", "own", spec.reference) is None


def test_without_time_nothing_is_named():
    experiment = load("hello-gru")
    slow = Varied(named(experiment, "forward", "the reset gate acted on the state"))
    found = explained(experiment, "forward", "own", slow, seconds=0.0)
    assert found is not None
    assert not found.looks_like
    assert found.stopped


def test_what_cannot_be_told_apart_is_not_named():
    one, two, other = (
        Fit(file=file, words=words, source="", ratio=0.1)
        for file, words in (("a", "x were y"), ("a", "x were z"), ("b", "u were v"))
    )
    assert settled([one, two], [], "", "s", 9.0, 0.0).looks_like == "as if x were y, or x were z"
    apart = settled([one, other], [], "", "s", 9.0, 0.0)
    assert not apart.looks_like
    assert not apart.variant
    assert "not told apart" in apart.stopped
    assert "u were v" in apart.stopped


def test_a_file_that_fails_keeps_no_other_from_being_tried(monkeypatch: pytest.MonkeyPatch):
    def broken(case: Case) -> Any:
        raise RuntimeError

    monkeypatch.setattr(layer_norm, "of_experiment", broken)
    experiment = load("hello-transformer-norm-first")
    found = explained(experiment, "forward", "own", Varied(named_in(gelu, experiment)))
    assert found is not None
    assert found.variant == "gelu"


def named_in(module: Any, experiment: Experiment) -> Variant:
    return Variant("", substitutes={"transformer.gelu": module.tanh_gelu})


@pytest.mark.parametrize("name", spec_experiments.shipped())
def test_every_file_can_be_asked_about_every_experiment(name: str):
    experiment = load(name)
    for check in (*experiments.CHECKS, "trajectory", "shipped-path"):
        found = variants(experiment, check)
        assert all(variant.words for _, variant in found)


def test_words_stand_in_one_file():
    files: dict[str, set[str]] = {}
    for name in ("hello-gru", "hello-transformer", "hello-lstm-attention", "hello-multi-head-attention"):
        for check in (*experiments.CHECKS, "trajectory", "shipped-path"):
            for file, variant in variants(load(name), check):
                files.setdefault(variant.words, set()).add(file)
    assert {words: found for words, found in files.items() if len(found) > 1} == {}


def test_the_reference_is_left_as_it_was():
    from spec.reference import transformer

    kept = transformer.gelu
    seen = []

    def failing() -> None:
        with applied(Variant("", substitutes={"transformer.gelu": gelu.silu})):
            seen.append(transformer.gelu)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert seen == [gelu.silu]
    assert transformer.gelu is kept


def test_what_faults_must_look_like_is_known():
    assert set(EXPLAINED) <= {label(fault) for fault in FAULTS}
    sources = "".join(inspect.getsource(module) for module in catalogue.files().values())
    assert len(EXPLAINED) > 150
    assert "GELU were the tanh approximation" in sources


def test_files_that_are_likely_are_tried_first():
    experiment = load("hello-transformer-norm-first")
    failure = Comparison(
        experiment=experiment.name,
        check="forward",
        precision="float64",
        case="own",
        tensor="",
        sides=SIDES,
        passed=False,
        elements=1,
    )

    def order(stage: str) -> list[str]:
        case = Case(experiment, "forward", failure, {}, {}, lambda *_: None, stage)
        return list(dict.fromkeys(file for file, _ in catalogue.of_experiment(case)))

    assert order("encoder.layers.0.norm1")[0] == "layer_norm"
    assert order("encoder.layers.0.linear2")[0] == "gelu"
    assert sorted(order("encoder.layers.0.norm1")) == sorted(order("logits"))


def test_reports_say_what_it_looks_like():
    found = Explanation(looks_like="as if x were y", source="PB00")
    assert looks_like(found) == [("looks like", "as if x were y")]
    assert looks_like(None) == []
    tried = msgspec.structs.replace(found, looks_like="", tried=["a", "b"], stopped="not told apart: a; b")
    assert looks_like(tried) == [("looks like", "none of 2 known variants; not told apart: a; b")]


def test_gradients_of_more_than_the_equations_are_asked_for_are_not_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """One such question takes minutes, and a budget of time ends nothing in its midst."""

    def asked(*_: object) -> None:
        raise AssertionError("the reference was asked")

    monkeypatch.setattr(experiments, "ask", asked)
    place = Place("hello-gru", "gradients", "float64", "own", ("a", "b"))
    failure = place.close("rnn.bias_ih_l0", np.zeros(3), np.ones(3), allowed=0.5)

    def explanation() -> Explanation | None:
        recordings: Any = {key: {} for key in ("a", "b")}
        inquiry = experiments.Inquiry(load("hello-gru"), failure, "b", recordings, 0, Budget(60.0))
        return inquiry.explanation({}, "rnn.bias_ih_l0")

    with pytest.raises(AssertionError, match="was asked"):
        explanation()
    monkeypatch.setattr(equations, "LARGEST", 10)
    with pytest.raises(OutOfTime):
        explanation()
