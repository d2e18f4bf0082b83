"""Faults that ensembles should see: how crosscheck faults records and judges them, on tiny implementations."""

import json
from pathlib import Path
from typing import Any

import pytest

from crosscheck.cli import command
from crosscheck.faults import campaign, ensembles
from crosscheck.faults import command as faults_command
from crosscheck.faults.campaign import Campaign
from crosscheck.faults.fault import Edit, Fault
from crosscheck.faults.table import FAULTS
from crosscheck.request import DEFAULT_IMPLEMENTATIONS
from spec import experiment as experiments
from tests.crosscheck.test_convergence import ENSEMBLE
from tests.crosscheck.test_faults import FAKE, LOSS_DOUBLED, Outcome, forward

DRAWS = ensembles.DRAWS

LOSSES = "np.exp(0.2 * drawn + 0.0)"


def slower(name: str, shift: float, **fields: Any) -> Fault:
    """Log losses that are higher by so much, where their standard deviation is 0.2 and the margin 0.05."""
    return planted(name, f"np.exp(0.2 * drawn + {shift})", **fields)


def planted(name: str, losses: str, **fields: Any) -> Fault:
    defaults: dict[str, Any] = {"implementation": "flax_impl", "experiment": "hello-rnn-cell"}
    return Fault(
        name=name,
        what=f"{name}.",
        edits=(Edit("__init__.py", LOSSES, losses),),
        check="convergence",
        tensor="log loss-AUC",
        precision="float32",
        **(defaults | fields),
    )


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Plant faults in tiny implementations that have ensembles; `losses` stands in for one's where it is given."""
    # The fake has equations of its own, so that the reference would blame both sides.
    monkeypatch.setattr("crosscheck.judging.verdict._blame", lambda *_: None)
    # Power is counted after each of them, and looked at after two.
    monkeypatch.setattr(ensembles, "DRAWS", 5)

    def go(*faults: Fault, options: tuple[str, ...] = (), losses: dict[str, str] | None = None) -> Outcome:
        sources = {}
        for name in DEFAULT_IMPLEMENTATIONS:
            sources[name] = tmp_path / "sources" / name
            sources[name].mkdir(parents=True, exist_ok=True)
            body = ENSEMBLE.replace(LOSSES, (losses or {}).get(name, LOSSES))
            (sources[name] / "__init__.py").write_text(FAKE.read_text() + body)
        parsed = command.COMMANDS["faults"][0]().parse_args([*options, "--out", str(tmp_path / "out")])
        parsed.clean = parsed.clean or 0
        checks = (
            command._checks(parsed.checks) if parsed.checks else ("structure", "forward", "gradients", "convergence")
        )
        code = faults_command.carry_out(parsed, checks, faults, sources)
        printed, progress = capsys.readouterr()
        return Outcome(code, printed, json.loads((tmp_path / "out" / "faults.json").read_text()), progress)

    return go


def test_each_is_recorded_with_its_own_checks_and_nothing_else(run: Any, tmp_path: Path):
    outcome = run(slower("slower", 0.2), slower("faster", -0.2, implementation="torch_impl"), forward("sine"))
    assert outcome.exit_code == 0, outcome.output
    assert outcome.trials() == {"slower": "caught", "faster": "caught", "sine": "caught"}
    assert outcome.trial("slower")["checks"] == {"convergence": "different"}
    assert list(outcome.trial("sine")["checks"]) == ["structure", "forward", "gradients"]
    # Nobody's equations are wrong, so that no side can be blamed.
    assert outcome.trial("slower")["blamed"] == "undecided"
    assert "detected, of convergence: 2 of 2" in outcome.output
    pairs = [(pair["sides"], pair["alarms"]) for pair in outcome.report["ensembles"]]
    assert pairs == [
        (["flax_impl, seed 0", "flax_impl, seed 1"], []),
        (["torch_impl, seed 0", "flax_impl, seed 0"], []),
        (["torch_impl, seed 0", "torch_impl, seed 1"], []),
    ]
    assert "ALL CAUGHT: 3 planted faults, 0 clean runs, 3 pairs of clean ensembles" in outcome.output
    assert (tmp_path / "out" / "faults-power.png").read_bytes().startswith(b"\x89PNG")
    assert "![curves](faults-power.png)" in (tmp_path / "out" / "faults.md").read_text()


def test_power_rises_with_the_members_and_with_the_effect(run: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ensembles, "DRAWS", DRAWS)
    outcome = run(slower("slower", 0.12), slower("much-slower", 0.3))
    curves = {}
    for name, effect in (("slower", 0.6), ("much-slower", 1.5)):
        power = outcome.trial(name)["power"]
        assert power["effect"] == pytest.approx(effect, abs=0.01)
        assert (power["solved"], power["solved_clean"]) == (1.0, 1.0)
        assert [point["members"] for point in power["points"]] == [*ensembles.MEMBERS, 1000]
        assert [point["draws"] for point in power["points"]] == [ensembles.DRAWS] * len(ensembles.MEMBERS) + [1]
        curves[name] = [point["detected"] / point["draws"] for point in power["points"]]
        assert all(point["low"] <= point["detected"] / point["draws"] <= point["high"] for point in power["points"])
        assert curves[name] == sorted(curves[name])
        assert curves[name][-1] == 1.0
    assert curves["slower"][0] == 0.0
    assert curves["much-slower"][2] > curves["slower"][2]
    assert "much-slower" in outcome.output


@pytest.mark.parametrize(("shift", "status"), [(0.02, "same"), (0.05, "underpowered")])
def test_what_is_not_shown_to_be_different_survived(run: Any, shift: float, status: str):
    outcome = run(slower("little", shift))
    assert outcome.exit_code == 1
    assert outcome.trials() == {"little": "survived"}
    assert outcome.trial("little")["checks"] == {"convergence": status}
    assert "flax_impl/little on hello-rnn-cell: survived" in outcome.output


def test_a_fault_is_judged_as_strictly_as_in_a_run_of_all_experiments(run: Any, monkeypatch: pytest.MonkeyPatch):
    # 0.41 standard deviations: 3.6 standard errors beyond the margin.
    fault = slower("close", 0.0825)
    outcome = run(fault)
    assert outcome.trial("close")["checks"] == {"convergence": "underpowered"}
    monkeypatch.setattr(ensembles, "_trained", lambda: 1)
    assert run(fault).trial("close")["checks"] == {"convergence": "different"}


def test_clean_ensembles_that_differ_are_a_false_alarm_and_prove_nothing_about_a_fault(run: Any):
    outcome = run(slower("slower", 0.2), losses={"torch_impl": LOSSES.replace("0.0", "0.15")})
    assert outcome.exit_code == 1
    assert outcome.trials() == {"slower": "could not run"}
    assert outcome.report["ensemble_alarms"]["count"] == 1
    assert "clean ensembles, hello-rnn-cell, torch_impl, seed 0 / flax_impl, seed 0: false alarm" in outcome.output
    assert "1 false alarm" in outcome.output


def test_an_implementation_that_does_not_agree_with_itself_is_a_false_alarm(run: Any):
    # Which seeds are asked for depends on the campaign's seed.
    outcome = run(slower("slower", 0.4), losses={"flax_impl": f"({LOSSES} * (1.2 if seeds[0] % 3 else 1.0))"})
    pairs = {tuple(pair["sides"]): bool(pair["alarms"]) for pair in outcome.report["ensembles"]}
    assert pairs["flax_impl, seed 0", "flax_impl, seed 1"]
    assert outcome.exit_code == 1


def test_a_side_without_an_answer_could_not_run(run: Any):
    outcome = run(slower("slower", 0.2), losses={"torch_impl": "np.full(len(seeds), 1 // 0)"})
    assert outcome.exit_code == 3
    assert outcome.trials() == {"slower": "could not run"}
    assert "ZeroDivisionError" in outcome.output


def test_a_copy_that_raises_is_caught(run: Any):
    raising = planted("raises", "np.full(len(seeds), 1 // 0)")._replace(tensor="*")
    outcome = run(raising)
    assert outcome.exit_code == 0, outcome.output
    assert outcome.trial("raises")["checks"] == {"convergence": "crashed"}
    assert outcome.trial("raises")["power"] is None


def test_members_that_are_all_alike_are_caught(run: Any):
    outcome = run(planted("alike", "np.exp(0.0 * drawn)")._replace(tensor="distinct members"))
    assert outcome.exit_code == 0, outcome.output
    assert outcome.trial("alike")["power"]["points"][-1]["detected"] == 1
    # In units of no spread at all; JSON has no such number.
    assert outcome.trial("alike")["power"]["effect"] == "inf"


def test_clean_runs_have_no_ensembles(run: Any):
    outcome = run(LOSS_DOUBLED, slower("slower", 0.2), options=("--clean", "2", "--checks", "structure,gradients"))
    assert outcome.report["ensembles"] == []
    assert outcome.trials() == {"loss-doubled": "caught"}
    alone = run(slower("slower", 0.2), options=("--clean", "2", "--checks", "convergence"))
    assert alone.exit_code == 0, alone.output
    assert alone.report["clean"] == []


def test_an_experiment_is_recorded_once_for_all_its_faults():
    faults = [slower("a", 0.1), slower("b", 0.2), slower("c", 0.1, experiment="hello-rnn")]
    plan = Campaign(faults, 0, experiments.shipped(), 5, ["convergence"], False, {}, 1.0)
    recorded = campaign._clean_ensembles(plan)
    assert recorded == sorted(set(recorded))
    assert [(key.seed, key.side) for key in recorded if key.experiment == "hello-rnn"] == [(5, 0), (5, 1), (6, 1)]
    assert campaign.recordings(plan) == 3 + 6


CHECKS_BY_KIND = {
    "own-laws": "convergence",
    "gain": "convergence",
    "orthogonal": "convergence",
    "one-key": "convergence",
    "layers-as-copies": "convergence",
    "one-mask": "convergence",
    "first-batch": "convergence",
    "forget-bias-one": "convergence",
    # Milder forms of two kinds, from which ensembles converge alike, see docs/convergence.md.
    "layers-start-as-copies": "initialization",
    "batches-repeat-each-epoch": "trajectory",
}


@pytest.mark.parametrize("kind", CHECKS_BY_KIND)
def test_the_table_has_every_kind_of_fault_in_what_a_side_draws_for_itself(kind: str):
    assert any(kind in fault.name and fault.check == CHECKS_BY_KIND[kind] for fault in FAULTS)


def test_both_sides_have_faults_that_ensembles_should_see():
    assert {fault.implementation for fault in FAULTS if ensembles.seen(fault)} == set(DEFAULT_IMPLEMENTATIONS)


def test_the_quick_choice_has_none_of_them():
    assert not any(ensembles.seen(fault) for fault in faults_command.quick(FAULTS))
