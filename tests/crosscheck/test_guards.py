"""Each way in which a comparison could be empty or a fault could pass unseen: planted, and seen to be red."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crosscheck.exit_codes import PARTLY_CHECKED
from spec.experiment import load, shipped

FAKE = Path(__file__).parent / "fake_framework.py"

RunCrosscheck = Callable[..., Any]
Edit = Callable[..., str]

FORWARD = '    outputs["logits"] = np.broadcast_to(mean[..., None], shape).copy()\n'
TRAIN = "    return Trajectory(\n"
GRADIENTS = "    return Gradients("


def test_two_copies_are_the_same(run_crosscheck: RunCrosscheck, fake: Edit):
    outcome = run_crosscheck(fake())
    assert outcome.exit_code == 0
    assert "THE SAME in what was asked: 1 experiment, " in outcome.output
    assert outcome.report["experiments"][0]["status"] == "same"
    # Nothing is dropped, features are not written, and a batch of one sequence is not shared out.
    unasked = ("dropout", "generation", "devices")
    cells = [cell for cell in outcome.report["experiments"][0]["cells"] if cell["check"] not in unasked]
    assert {cell["status"] for cell in cells} == {"same"}
    assert all(cell["comparisons"] and cell["elements"] for cell in cells)


@pytest.mark.parametrize("value", ["np.nan", "np.inf"])
@pytest.mark.parametrize("both", [False, True])
def test_not_finite(run_crosscheck: RunCrosscheck, fake: Edit, value: str, both: bool):
    second = fake((FORWARD, FORWARD + f'    outputs["logits"][0, 1] = {value}\n'))
    outcome = run_crosscheck(second, "--checks", "forward", first=second if both else str(FAKE))
    failure = outcome.failures()[0]
    assert outcome.exit_code == 1
    assert failure["tensor"] == "logits"
    assert failure["index"] == [0, 1, 0]
    assert failure["note"].startswith("not finite on both sides" if both else "not finite in")


@pytest.mark.parametrize(
    ("checks", "edit", "tensor", "note"),
    [
        ("forward", (FORWARD, '    del outputs["query"]\n' + FORWARD), "query", "missing in"),
        ("forward", (FORWARD, '    outputs["more"] = outputs["query"]\n' + FORWARD), "more", "not in the spec"),
        (
            "forward",
            (FORWARD, FORWARD + '    outputs["logits"] = outputs["logits"][:, 1:]\n'),
            "logits",
            "expected shape (1, 5, 4), got (1, 4, 4)",
        ),
        (
            "forward",
            (FORWARD, FORWARD + '    outputs["logits"] = outputs["logits"].astype("float32")\n'),
            "logits",
            "expected dtype float64, got float32",
        ),
        ("gradients", (GRADIENTS, '    del found["query.weight"]\n' + GRADIENTS), "query.weight", "missing in"),
        ("gradients", (GRADIENTS, '    found["more"] = np.ones(1)\n' + GRADIENTS), "more", "not in the spec"),
        ("trajectory", (TRAIN, '    trace[0][0].pop("query.weight")\n' + TRAIN), None, "KeyError"),
        ("trajectory", (TRAIN, "    losses.pop()\n" + TRAIN), "loss", "expected shape (6,)"),
        (
            "trajectory",
            ("slots={name: np.stack", "slots={} and {name: np.stack"),
            "slots/query.weight.exp_avg",
            "missing",
        ),
        ("trajectory", ("parameters={name: np.stack", "parameters={} and {name: np.stack"), None, "missing"),
        ("outcome", (TRAIN, "    logits[-1] = logits[-1] * np.nan\n" + TRAIN), "logits", "not finite"),
    ],
)
def test_tensors_that_cannot_be_compared(
    run_crosscheck: RunCrosscheck, fake: Edit, checks: str, edit: tuple[str, str], tensor: str | None, note: str
):
    outcome = run_crosscheck(fake(edit), "--checks", checks)
    assert outcome.exit_code in (1, 3)
    failure = outcome.failures()[0]
    assert tensor is None or failure["tensor"] == tensor
    assert note in failure["note"]
    assert note in outcome.output


@pytest.mark.parametrize(
    ("edit", "tensor", "found"),
    [
        (
            ("for name, array in parameters.items()}", 'for name, array in parameters.items() if name != "head.bias"}'),
            "head.bias",
            "missing",
        ),
        (
            ("name: array.astype(settings.precision)", "name: array.T.astype(settings.precision)"),
            "query.weight",
            "[9, 4]",
        ),
        (("name: array.astype(settings.precision)", "name: array.astype('float32')"), "query.weight", "float32"),
        (("    return {name: array", '    return {"more": np.ones(1)} | {name: array'), "more", "not in the spec"),
    ],
)
def test_structure(run_crosscheck: RunCrosscheck, fake: Edit, edit: tuple[str, str], tensor: str, found: str):
    outcome = run_crosscheck(fake(edit), "--checks", "structure")
    failures = [failure for failure in outcome.failures() if failure["tensor"] == tensor]
    assert outcome.exit_code == 1
    assert found in str(failures[0])


def test_round_trip_is_bit_for_bit(run_crosscheck: RunCrosscheck, fake: Edit):
    outcome = run_crosscheck(fake(("name: array.astype(settings.precision)", "name: np.nextafter(array, array + 1)")))
    assert outcome.status("structure") == "same"
    assert outcome.status("round-trip") == "different"
    assert outcome.failures()[0]["note"].endswith("are not the same bits")


def test_a_difference_is_reported_with_its_place_and_a_command(
    run_crosscheck: RunCrosscheck, fake: Edit, experiment: object
):
    second = fake((FORWARD, FORWARD + '    outputs["logits"][0, 2, 1] += 1e-6\n'))
    outcome = run_crosscheck(second, "--checks", "forward,gradients")
    failure = outcome.failures()[0]
    assert outcome.exit_code == 1
    assert (failure["check"], failure["precision"], failure["case"]) == ("forward", "float64", "own")
    assert (failure["tensor"], failure["index"]) == ("logits", [0, 2, 1])
    assert failure["difference"] == pytest.approx(1e-6)
    assert 0 < failure["bound"] < 1e-13
    command = f"python -m crosscheck {experiment} --checks forward --precision float64 --case own --implementations"
    assert command in outcome.output
    assert "DIFFERENT: 1 of 1 experiment (short)" in outcome.output


def test_padding_that_leaks_on_both_sides_is_a_difference(run_crosscheck: RunCrosscheck, fake: Edit):
    leaky = fake(("inputs = np.where(valid[..., None], inputs, 0)", "inputs = np.nan_to_num(inputs) / 1e30"))
    outcome = run_crosscheck(leaky, "--checks", "forward", first=leaky)
    assert outcome.exit_code == 1
    assert "(clean padding against the first point)" in outcome.failures()[0]["tensor"]


def test_trajectory_names_the_first_step_and_the_tensor_that_leads(run_crosscheck: RunCrosscheck, fake: Edit):
    second = fake(
        (
            "        losses.append(loss)\n",
            "        losses.append(loss)\n        if step == 3: gradient['value.bias'] = gradient['value.bias'] * 2\n",
        )
    )
    outcome = run_crosscheck(second, "--checks", "trajectory")
    failure = outcome.failures()[0]
    assert (failure["step"], failure["tensor"]) == (3, "slots/value.bias.exp_avg")


def test_the_state_that_training_returns_is_the_last_recorded(run_crosscheck: RunCrosscheck, fake: Edit):
    second = fake(("state=State(parameters,", "state=State({name: array * 2 for name, array in parameters.items()},"))
    outcome = run_crosscheck(second, "--checks", "trajectory")
    assert outcome.exit_code == 1
    assert outcome.failures()[0]["tensor"] == "final parameters/query.weight"


def test_an_implementation_that_writes_into_its_arguments(run_crosscheck: RunCrosscheck, fake: Edit):
    second = fake(("    found = {}\n", "    found = {}\n    parameters['head.bias'] += 1\n"))
    outcome = run_crosscheck(second, "--checks", "gradients")
    assert outcome.exit_code == 3
    assert "ArgumentChanged: gradients" in outcome.failures()[0]["note"]


def test_unsupported_is_never_passed(run_crosscheck: RunCrosscheck, fake: Edit):
    unsupported = "    from spec.errors import Unsupported\n    raise Unsupported('no gradients here')\n"
    second = fake(("    found = {}\n", unsupported + "    found = {}\n"))
    outcome = run_crosscheck(second, "--checks", "forward,gradients")
    assert outcome.exit_code == PARTLY_CHECKED
    assert outcome.status("forward") == "same"
    assert outcome.status("gradients") == "not checked"
    assert "no gradients here" in outcome.output
    assert "PARTLY CHECKED: 1 of 1 experiment (short), 1 check not checked: gradients not checked" in outcome.output
    only = run_crosscheck(second, "--checks", "gradients")
    assert only.exit_code == PARTLY_CHECKED


def test_half_a_check_is_not_a_pass(run_crosscheck: RunCrosscheck, fake: Edit):
    ragged = "    from spec.errors import Unsupported\n    if batch.lengths is not None: raise Unsupported('ragged')\n"
    outcome = run_crosscheck(
        fake(("    inputs = batch.inputs.as", ragged + "    inputs = batch.inputs.as")), "--checks", "forward"
    )
    assert outcome.exit_code == PARTLY_CHECKED
    assert outcome.status("forward") == "not checked"
    assert outcome.report["experiments"][0]["cells"][0]["comparisons"] > 0


def test_an_exception_loses_neither_the_other_checks_nor_the_other_experiments(
    run_crosscheck: RunCrosscheck, fake: Edit
):
    crash = "    if experiment.name == 'short': raise ValueError('planted')\n"
    second = fake(("    found = {}\n", crash + "    found = {}\n"))
    short = run_crosscheck().report["experiments"][0]["argument"]
    outcome = run_crosscheck(second, "--checks", "forward,gradients", experiments=(short, "hello-rnn"))
    rows = {row["experiment"]: [cell["status"] for cell in row["cells"]] for row in outcome.report["experiments"]}
    assert rows == {"short": ["same", "crashed"], "hello-rnn": ["same", "same"]}
    assert outcome.exit_code == 3
    assert "ValueError: planted" in outcome.output
    assert "Traceback" in outcome.failures()[0]["traceback"]


@pytest.mark.parametrize(
    ("death", "reason"),
    [("os._exit(7)", "ended with exit code 7"), ("os.kill(os.getpid(), 9)", "was killed by SIGKILL")],
)
def test_a_process_that_dies_takes_its_experiment_alone(
    run_crosscheck: RunCrosscheck, fake: Edit, death: str, reason: str
):
    crash = f"    import os\n    if experiment.name == 'short': {death}\n"
    second = fake(("    found = {}\n", crash + "    found = {}\n"))
    short = run_crosscheck().report["experiments"][0]["argument"]
    outcome = run_crosscheck(second, "--checks", "forward,gradients", experiments=(short, "hello-rnn", "hello-gru"))
    rows = {row["experiment"]: row["status"] for row in outcome.report["experiments"]}
    assert rows == {"short": "crashed", "hello-rnn": "same", "hello-gru": "same"}
    assert outcome.exit_code == 3
    assert reason in outcome.output


@pytest.mark.long
def test_no_answer_in_time(run_crosscheck: RunCrosscheck, fake: Edit):
    second = fake(("    found = {}\n", "    import time\n    time.sleep(60)\n    found = {}\n"))
    outcome = run_crosscheck(second, "--checks", "gradients", "--timeout", "5")
    assert outcome.exit_code == 3
    assert "no answer within 5 s" in outcome.output


def test_what_an_implementation_prints_does_not_disturb(run_crosscheck: RunCrosscheck, fake: Edit):
    second = fake(("    found = {}\n", "    print('{\"noise\": 1}')\n    found = {}\n"))
    assert run_crosscheck(second, "--checks", "gradients").exit_code == 0


def test_outcome_that_falls_short(run_crosscheck: RunCrosscheck, fake: Edit):
    second = fake(("right * 5.0", "(1 - right) * 5.0"))
    outcome = run_crosscheck(second, "--checks", "outcome")
    failure = outcome.failures()[0]
    assert outcome.exit_code == 1
    assert failure["tensor"] == "solved"
    assert failure["values"] == ["0 of 3", "at least 0.99"]


def test_a_control_that_learns_is_a_difference(run_crosscheck: RunCrosscheck):
    outcome = run_crosscheck(str(FAKE), "--checks", "outcome", experiments=("hello-self-attention-no-positions",))
    assert outcome.exit_code == 1
    assert [f["tensor"] for f in outcome.failures()] == ["solved", "final loss"] * 2


def test_nothing_to_train_is_not_applicable(run_crosscheck: RunCrosscheck):
    outcome = run_crosscheck(experiments=("course-rnn-walk",))
    assert outcome.exit_code == 0
    assert outcome.status("trajectory") == outcome.status("outcome") == "not applicable"


def test_an_outcome_that_is_not_stated_is_not_held_against_anybody(run_crosscheck: RunCrosscheck, experiment: Path):
    text = experiment.read_text()
    experiment.write_text(text[: text.index("[outcome]")].replace("seeds = 3\n", ""))
    outcome = run_crosscheck()
    assert outcome.exit_code == 0
    assert outcome.status("outcome") == "not applicable"
    (cell,) = (c for c in outcome.report["experiments"][0]["cells"] if c["check"] == "outcome")
    assert cell["reason"] == "the experiment states no outcome"
    assert outcome.status("trajectory") == "same"


def test_every_shipped_experiment_is_there_once_and_in_order(run_crosscheck: RunCrosscheck):
    outcome = run_crosscheck(str(FAKE), "--checks", "structure,round-trip,forward", experiments=tuple(shipped()))
    # The fake has no `predict`, and so no forward pass of a model that decodes.
    assert outcome.exit_code == PARTLY_CHECKED
    rows = {row["experiment"]: row["status"] for row in outcome.report["experiments"]}
    assert [n for n, status in rows.items() if status != "same"] == [n for n in rows if load(n).model.decodes]
    assert [row["experiment"] for row in outcome.report["experiments"]] == shipped()
    decoding = sum(load(n).model.decodes for n in rows)
    said = f"PARTLY CHECKED: {decoding} of {len(shipped())} experiments (hello-encoder-decoder, "
    assert said in outcome.output
