"""Implementations that do nothing, or hardly anything: none of them is ever the same as one that works."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crosscheck.checks import BY_DEFAULT
from crosscheck.exit_codes import DIFFERENT, PARTLY_CHECKED, SAME
from spec.exit_codes import COULD_NOT_RUN, USAGE

FAKE = str(Path(__file__).parent / "fake_framework.py")

RunCrosscheck = Callable[..., Any]
Edit = Callable[..., str]

QUICK = ",".join(check.NAME for check in BY_DEFAULT if check.NAME not in ("initialization", "dropout", "outcome"))
"""The checks that take the fake implementation milliseconds."""

UNSUPPORTED = "    from spec.errors import Unsupported\n"
BODIES = {
    "initialize": "    return spec_parameters.draw(",
    "round_trip": "    return {name: array.astype(settings.precision)",
    "forward": "    inputs = batch.inputs.astype(",
    "gradients": "    found = {}\n",
    "loss_gradient": "    right, asked = wanted(experiment, targets)",
    "train": "    task, training = experiment.task",
    "replay": "    training = experiment.training\n    parameters, slots",
}
"""Where each function of the fake implementation begins."""

DECLARED = "LEAVES_OUT = {'sparse embedding gradients': 'for no reason', 'attention dropout': 'for none'}\n\n\n"
DESCRIBE = "def describe(settings"


def raising(function: str, when: str = "True") -> tuple[str, str]:
    """An edit: that function leaves everything out that `when` is true of."""
    body = BODIES[function]
    return body, f"{UNSUPPORTED}    if {when}: raise Unsupported('not here')\n{body}"


@pytest.mark.by_default("False-*")
@pytest.mark.parametrize(
    ("functions", "when", "checks"),
    [
        (tuple(BODIES), "True", QUICK),
        (("forward", "gradients", "train"), "True", QUICK),
        (("forward",), "True", QUICK),
        (("gradients",), "True", QUICK),
        (("train",), "True", QUICK),
        (("forward", "gradients", "train"), "settings.precision == 'float64'", QUICK),
        (("forward", "gradients", "train"), "settings.precision == 'float32'", QUICK),
        (("train",), "settings.precision == 'float32'", QUICK),
        (("forward",), "batch.lengths is not None", "forward"),
        (("gradients",), "batch.lengths is None", "gradients"),
        (("forward",), "len(batch.inputs) == 1", "forward"),
        (("train",), "state.step > 0", "trajectory"),
        (("round_trip", "forward"), "True", "structure,round-trip,forward"),
        (("loss_gradient",), "True", "structure,loss"),
        (("replay",), "True", "optimizer"),
    ],
)
@pytest.mark.parametrize("both", [False, True])
def test_what_is_left_out_is_never_the_same(
    run_crosscheck: RunCrosscheck, fake: Edit, functions: tuple[str, ...], when: str, checks: str, both: bool
):
    """It declares that it leaves out options, of which the experiment has none."""
    lazy = fake((DESCRIBE, DECLARED + DESCRIBE), *(raising(function, when) for function in functions))
    outcome = run_crosscheck(lazy, "--checks", checks, **({"first": lazy} if both else {}))
    assert outcome.exit_code == PARTLY_CHECKED
    assert outcome.report["verdict"].startswith("PARTLY CHECKED: 1 of 1 experiment (short), ")
    assert outcome.report["experiments"][0]["status"] == "partly checked"
    assert "THE SAME" not in outcome.output


@pytest.mark.by_default("True-*", "False-forward-None", "False-initialize-*", "False-train-*")
@pytest.mark.parametrize(
    ("function", "answer"),
    [
        ("forward", "{}"),
        ("forward", "{name: np.float64(0) for name in experiment.model.intermediates()}"),
        ("forward", "{name: np.zeros((), settings.precision) for name in experiment.model.intermediates()}"),
        ("forward", "{name: np.zeros(0, settings.precision) for name in experiment.model.intermediates()}"),
        ("forward", "None"),
        ("gradients", "Gradients(0.0, {})"),
        ("gradients", "Gradients(0.0, {name: np.zeros(0) for name in parameters})"),
        ("loss_gradient", "LossGradient(0.0, np.zeros(()))"),
        ("loss_gradient", "LossGradient(0.0, np.zeros_like(logits)[:0])"),
        ("replay", "Replay({}, {})"),
        ("round_trip", "{}"),
        ("initialize", "{}"),
        ("train", "Trajectory(state, np.zeros(0), np.zeros(0), {}, {})"),
    ],
)
@pytest.mark.parametrize("both", [False, True])
def test_an_answer_of_nothing_is_not_an_answer(
    run_crosscheck: RunCrosscheck, fake: Edit, function: str, answer: str, both: bool
):
    empty = fake((BODIES[function], f"    if True: return {answer}\n{BODIES[function]}"))
    outcome = run_crosscheck(empty, "--checks", QUICK, **({"first": empty} if both else {}))
    assert outcome.exit_code in (DIFFERENT, COULD_NOT_RUN)


def test_a_first_answer_that_is_given_for_ever_is_seen(run_crosscheck: RunCrosscheck, fake: Edit):
    body = BODIES["round_trip"]
    edited = fake(
        ("def round_trip(", "KEPT = {}\n\n\ndef round_trip("),
        (body, "    parameters = KEPT.setdefault((experiment.name, settings.precision), parameters)\n" + body),
    )
    outcome = run_crosscheck(edited, "--checks", QUICK)
    assert outcome.exit_code == DIFFERENT
    failed = [c["check"] for c in outcome.report["experiments"][0]["comparisons"] if not c["passed"]]
    assert failed[0] == "round-trip"


@pytest.mark.parametrize("name", ["loss_gradient", "replay"])
def test_an_optional_function_that_is_missing_is_said(run_crosscheck: RunCrosscheck, fake: Edit, name: str):
    outcome = run_crosscheck(fake((f"def {name}(", f"def _{name}(")), "--checks", QUICK)
    assert outcome.exit_code == SAME
    assert f"it has no function `{name}`" in outcome.output
    assert "1 check not checked" in outcome.report["verdict"]


def test_a_decoder_without_greedy_decoding_is_partly_checked(run_crosscheck: RunCrosscheck):
    outcome = run_crosscheck(
        FAKE, "--precision", "float64", "--checks", "forward", experiments=("hello-encoder-decoder",)
    )
    assert outcome.exit_code == PARTLY_CHECKED
    assert "it has no function `predict`" in outcome.output


SPARSE = "hello-embedding-sparse"
HAS = "getattr(experiment.model.inputs, 'sparse', False)"
CHECKS = "structure,round-trip,forward,loss,gradients,optimizer,trajectory"


@pytest.mark.parametrize(
    ("functions", "declares", "code"),
    [
        (("gradients", "train", "replay"), True, SAME),
        (("gradients",), True, SAME),
        ((), True, SAME),
        (("gradients", "train", "replay"), False, PARTLY_CHECKED),
        (("gradients",), False, PARTLY_CHECKED),
        (("forward", "gradients", "train"), True, PARTLY_CHECKED),
        (("forward",), True, PARTLY_CHECKED),
    ],
)
def test_a_declared_option_covers_training_and_never_forward(
    run_crosscheck: RunCrosscheck, fake: Edit, functions: tuple[str, ...], declares: bool, code: int
):
    declaration = "LEAVES_OUT = {'sparse embedding gradients': 'not on paper'}\n\n\n"
    edits = [raising(function, HAS) for function in functions]
    second = fake(*edits, *([(DESCRIBE, declaration + DESCRIBE)] if declares else []))
    outcome = run_crosscheck(second, "--checks", CHECKS, experiments=(SPARSE, "hello-embedding-rnn"))
    assert outcome.exit_code == code, outcome.output
    left = f"1 experiment's training left out by {second}: sparse embedding gradients"
    assert (left in outcome.report["verdict"]) == bool(declares and "gradients" in functions)
    if code == SAME and functions:
        cells = {cell["check"]: cell for cell in outcome.report["experiments"][0]["cells"]}
        assert cells["gradients"]["status"] == "left out"
        assert cells["forward"]["status"] == "same"
        assert outcome.report["experiments"][1]["status"] == "same"


def test_nothing_but_what_is_declared_to_be_left_out_is_not_the_same(run_crosscheck: RunCrosscheck, fake: Edit):
    declaration = "LEAVES_OUT = {'sparse embedding gradients': 'not on paper'}\n\n\n"
    second = fake(raising("gradients", HAS), (DESCRIBE, declaration + DESCRIBE))
    outcome = run_crosscheck(second, "--checks", "gradients", experiments=(SPARSE,))
    assert outcome.exit_code == PARTLY_CHECKED
    assert "nothing was compared in 1 experiment, 1 experiment's training left out" in outcome.report["verdict"]
    # Beside one that is compared it does not count among the same.
    outcome = run_crosscheck(second, "--checks", "gradients", experiments=(SPARSE, "hello-embedding-rnn"))
    assert outcome.exit_code == SAME
    assert "1 of 2 experiments, nothing to compare in the others" in outcome.report["verdict"]


@pytest.mark.parametrize(
    ("declaration", "problem"),
    [
        ("{'forward': 'too hard'}", "expected some of 'sparse embedding gradients'"),
        ("{'dropout': 'too hard'}", "got 'dropout'"),
        ("{'sparse embedding gradients': ''}", "expected a reason"),
        ("{'sparse embedding gradients': 3}", "expected a reason"),
        ("['sparse embedding gradients']", "expected a mapping"),
        ("True", "expected a mapping"),
        ("type('Broken', (dict,), {'items': lambda self: 1 / 0})()", "to reasons, got ZeroDivisionError: division by"),
        ("type('Broken', (dict,), {'items': lambda self: exit(7)})()", "to reasons, got SystemExit: 7"),
        ("type('Broken', (dict,), {'items': lambda self: [([], 'none')]})()", "to reasons, got TypeError: unhashable"),
        ("type('Broken', (), {'__repr__': lambda self: 1 / 0})()", "to reasons, got ZeroDivisionError"),
    ],
)
def test_a_declaration_of_what_cannot_be_declared_is_refused(
    run_crosscheck: RunCrosscheck, fake: Edit, declaration: str, problem: str
):
    outcome = run_crosscheck(fake((DESCRIBE, f"LEAVES_OUT = {declaration}\n\n\n{DESCRIBE}")), "--checks", "forward")
    assert outcome.exit_code == USAGE
    assert problem in outcome.errors
    assert outcome.errors.count("error: ") == 1
    assert outcome.report == {}


@pytest.mark.parametrize(
    "narrowing",
    [
        ("--checks", "structure"),
        ("--checks", "structure,forward", "--precision", "float64"),
        ("--checks", "forward", "--case", "own"),
    ],
)
def test_what_the_user_leaves_out_is_scope(run_crosscheck: RunCrosscheck, narrowing: tuple[str, ...]):
    outcome = run_crosscheck(FAKE, *narrowing)
    assert outcome.exit_code == SAME
    assert outcome.report["verdict"].startswith("THE SAME in what was asked: 1 experiment")


def test_both_sides_alike_and_none_the_equations(fake: Edit, run_crosscheck: RunCrosscheck):
    """Unless an implementation says that it follows equations of its own, which the report then says too."""
    follows = fake(("FOLLOWS_SPEC = False", ""))
    outcome = run_crosscheck(follows, "--checks", "forward,gradients")
    assert outcome.exit_code == DIFFERENT
    (experiment,) = outcome.report["experiments"]
    failed = [comparison for comparison in experiment["comparisons"] if not comparison["passed"]]
    assert {comparison["other"] for comparison in failed} == {"spec.reference"}
    assert experiment["blame"]["at_fault"] == follows
    outcome = run_crosscheck(fake(), "--checks", "forward,gradients")
    assert outcome.exit_code == SAME
    assert outcome.output.count("equations its own") == 2


def test_what_says_whether_it_follows_the_spec_is_a_truth_value(fake: Edit, run_crosscheck: RunCrosscheck):
    outcome = run_crosscheck(fake(("FOLLOWS_SPEC = False", "FOLLOWS_SPEC = 'no'")), "--checks", "forward")
    assert outcome.exit_code == USAGE
    assert "FOLLOWS_SPEC: expected True or False, got 'no'" in outcome.errors
