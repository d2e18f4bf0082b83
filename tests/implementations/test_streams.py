"""Streams: the state that is carried from batch to batch, through checkpoints, frameworks and ensembles."""

import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import flax_impl
import torch_impl
from spec import ensemble, parameters
from spec.command import main, session
from spec.command.run_directory import RunDirectory
from spec.command.session import Request
from spec.errors import ParameterMismatch
from spec.experiment import load, override
from spec.framework import Settings, Trajectory
from spec.tasks import Batch, Text
from spec.training import State, initial_state

TEXT = load("text-lstm")
DOUBLE = Settings("float64")
BOTH = pytest.mark.parametrize("side", [torch_impl, flax_impl], ids=lambda side: side.__name__)


def begin() -> State:
    return initial_state(TEXT.training.optimizer, TEXT.start(0, "float64"))


def through_a_checkpoint(trajectory: Trajectory, side: ModuleType, directory: Path) -> State:
    """The state as it comes back from the disk."""
    epochs = trajectory.state.step // TEXT.training.steps_per_epoch
    checkpoint = Request(side.__name__, TEXT, 0, DOUBLE, {}).checkpoint(trajectory.state, epochs)
    run = RunDirectory(directory)
    run.path.mkdir()
    run.save_checkpoint(checkpoint)
    return run.load_checkpoint(TEXT).state


@BOTH
def test_a_resumed_training_has_the_bits_of_a_whole_one(side: ModuleType, tmp_path: Path) -> None:
    opened = side.open(TEXT, DOUBLE)
    first = opened.train(begin(), 2, 0)
    second = opened.train(first.state, 2, 0)
    again = opened.train(through_a_checkpoint(first, side, tmp_path / "run"), 2, 0)
    assert again.losses.tobytes() == second.losses.tobytes()
    assert again.state.carried.keys() == TEXT.carried.keys()
    for name, state in again.state.carried.items():
        assert state.tobytes() == second.state.carried[name].tobytes()
        assert np.abs(state).max() > 0.01


STOPPED = """
import os, signal, sys
from spec.command import main, session
offer = session.Saver.offer

def stop(saver, checkpoint):
    offer(saver, checkpoint)
    if checkpoint.origin.steps == 7:
        os.kill(os.getpid(), signal.SIGKILL)

session.Saver.offer = stop
main(sys.argv[1], sys.argv[2:])
"""
"""A command that is killed once the checkpoint after step 7 is offered, in the midst of the second epoch."""


@pytest.mark.by_default("torch_impl")
@BOTH
def test_a_run_that_is_killed_within_an_epoch_has_the_bits_of_a_whole_one(
    side: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three windows a stream and four steps an epoch: at step 7 two of three streams are in their midst."""
    monkeypatch.setattr(session, "loss_plot", lambda *_: b"a plot")
    name = side.__name__
    arguments = ["text-lstm", "--epochs", "3", "--checkpoint-steps", "3", "--seed", "2"]
    assert main(name, [*arguments, "--out", str(tmp_path / "whole")]) == 0
    killed = [*arguments, "--out", str(tmp_path / "killed")]
    root = str(Path(__file__).parents[2])
    ended = subprocess.run([sys.executable, "-c", STOPPED, name, *killed], cwd=root, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    before, described = parameters.load(tmp_path / "killed" / "checkpoint.safetensors")
    assert described["steps"] == "7"
    assert all(np.abs(state).max() > 0 for name, state in before.items() if name.startswith("carried."))
    assert main(name, ["--resume", "--out", str(tmp_path / "killed")]) == 0
    for file in ("checkpoint.safetensors", "parameters.safetensors", "best.safetensors"):
        whole, resumed = (parameters.load(tmp_path / run / file)[0] for run in ("whole", "killed"))
        assert {n: array.tobytes() for n, array in whole.items()} == {n: a.tobytes() for n, a in resumed.items()}


def test_the_other_framework_goes_on_with_the_state(tmp_path: Path) -> None:
    torch_side, flax_side = (side.open(TEXT, DOUBLE) for side in (torch_impl, flax_impl))
    first = torch_side.train(begin(), 2, 0)
    expected = torch_side.train(first.state, 2, 0)
    state = through_a_checkpoint(first, torch_impl, tmp_path / "run")
    assert np.allclose(flax_side.train(state, 2, 0).losses, expected.losses, rtol=0, atol=1e-12)
    # It is the carried state that does it.
    lost = flax_side.train(state._replace(carried={}), 2, 0)
    assert np.abs(lost.losses - expected.losses).max() > 1e-4


@BOTH
def test_members_carry_a_state_each(side: ModuleType) -> None:
    opened = side.open(TEXT, DOUBLE)
    seeds = list(range(3))
    found = opened.train_ensemble(seeds, chunk=3)
    for seed, losses in zip(seeds, found.losses, strict=True):
        start = initial_state(TEXT.training.optimizer, opened.initialize(seed))
        alone = opened.train(start, TEXT.training.epochs, seed)
        assert np.allclose(losses, alone.losses, rtol=0, atol=1e-12)


def test_carried_states_of_another_shape_are_refused(tmp_path: Path) -> None:
    trained = torch_impl.open(TEXT, DOUBLE).train(begin(), 1, 0)
    carried = {name: state[:, :-1] for name, state in trained.state.carried.items()}
    for wrong in (carried, {}):
        state = trained.state._replace(carried=wrong)
        with pytest.raises(ParameterMismatch, match=r"expected the carried states \{'rnn\.h_0': \(1, 6, 16\)"):
            through_a_checkpoint(trained._replace(state=state), torch_impl, tmp_path / str(len(wrong)))


def test_windows_that_do_not_follow_each_other_carry_nothing() -> None:
    windows = override(TEXT, task__stream=1)
    trained = torch_impl.open(windows, DOUBLE).train(begin(), 1, 0)
    assert (windows.carried, trained.state.carried) == ({}, {})


@pytest.mark.by_default("3-*")
@BOTH
@pytest.mark.parametrize("steps", [9, 5, 3])
def test_members_hold_a_bounded_part_of_their_recipe(
    side: ModuleType, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five epochs of four steps: two epochs, one, or a part of one at a time; the losses are the very same."""
    opened = side.open(TEXT, DOUBLE)
    whole = opened.train_ensemble([3, 4])
    each = ensemble.batch_bytes(TEXT.batch(0, 0, "float64"))
    asked: list[int] = []
    batches = Text.batches

    def bounded(task: Text, seed: int, steps: range, dtype: str) -> Batch:
        asked.append(len(steps))
        return batches(task, seed, steps, dtype)

    monkeypatch.setattr(Text, "batches", bounded)
    monkeypatch.setattr(ensemble, "MEMORY", steps * each)
    found = opened.train_ensemble([3, 4])
    assert 1 <= max(asked) <= steps
    assert np.allclose(found.losses, whole.losses, rtol=0, atol=1e-12)
    assert np.allclose(found.logits, whole.logits, rtol=0, atol=1e-12)
    assert found.first_solved.tolist() == whole.first_solved.tolist()
