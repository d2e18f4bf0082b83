"""An implementation in a few lines of NumPy: it satisfies the contract and obeys its test.

Its training learns nothing. It is a function of (state, seed, step) as the contract asks, so that a resumed run can be
held against an uninterrupted one, and it goes wrong where `behaviour` says so.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from spec.errors import DeviceMissing, Unsupported
from spec.experiment import Experiment
from spec.framework import Dropout, Gradients, MaskSource, Settings, Side, Trajectory, side_of
from spec.parameters import Parameters, draw, generator_for
from spec.tasks import Batch
from spec.training import State


@dataclass
class Behaviour:
    """What the next training does; steps are counted from 1."""

    solves_at_step: int | None = 1
    nan_at_step: int | None = None
    infinite_logits_at_step: int | None = None
    interrupted_at_step: int | None = None
    crash: Exception | None = None
    seconds_per_epoch: float = 0.0


behaviour = Behaviour()
calls: list[tuple[str, Any]] = []
"""What was called since the test began: the function, and for `train` the number of epochs."""


def describe(settings: Settings) -> dict[str, str]:
    calls.append(("describe", settings))
    if settings.device != "cpu":
        raise DeviceMissing(f"device: expected cpu, got {settings.device}")
    return {"fake": "1.0", "device": "cpu (paper)"}


def initialize(experiment: Experiment, seed: int, settings: Settings) -> Parameters:
    calls.append(("initialize", seed))
    if getattr(experiment.model.inputs, "sparse", False):
        raise Unsupported("sparse: not here")
    return draw(experiment.model.parameters(), seed, settings.precision)


def round_trip(experiment: Experiment, parameters: Parameters, settings: Settings) -> Parameters:
    return parameters


def forward(
    experiment: Experiment, parameters: Parameters, batch: Batch, settings: Settings, dropout: Dropout = None
) -> dict[str, np.ndarray]:
    """An RNNCell without a head, computed; of any other model, zeros."""
    calls.append(("forward", None))
    if "cell.weight_ih" not in parameters:
        count, time_steps = batch.inputs.shape[:2]
        return {name: np.zeros((count, time_steps, 2)) for name in experiment.model.intermediates()}
    states = [np.zeros((len(batch.inputs), parameters["cell.bias_hh"].size), settings.precision)]
    for t in range(batch.inputs.shape[1]):
        drive = batch.inputs[:, t] @ parameters["cell.weight_ih"].T + parameters["cell.bias_ih"]
        states.append(np.tanh(drive + states[-1] @ parameters["cell.weight_hh"].T + parameters["cell.bias_hh"]))
    h = np.stack(states[1:], 1)
    return {"cell.h": h, "logits": h}


def gradients(
    experiment: Experiment, parameters: Parameters, batch: Batch, settings: Settings, dropout: Dropout = None
) -> Gradients:
    raise Unsupported("gradients: not here")


def train(
    experiment: Experiment,
    state: State,
    epochs: int,
    seed: int,
    settings: Settings,
    record: bool = False,
    masks: MaskSource = "own",
    part: int | None = None,
) -> Trajectory:
    calls.append(("train", epochs))
    if behaviour.crash is not None:
        raise behaviour.crash
    batch = experiment.evaluation_batch(settings.precision)
    losses, logits = [], []
    for _ in range(epochs):
        time.sleep(behaviour.seconds_per_epoch)
        for _ in range(part or experiment.training.steps_per_epoch):
            losses.append(np.nan if state.step + 1 == behaviour.nan_at_step else 1.0 / (state.step + 1))
            state = updated(experiment, state, seed)
            if state.step == behaviour.interrupted_at_step:
                raise KeyboardInterrupt
        logits.append(answer(experiment, batch, state))
    return Trajectory(state, np.array(losses, settings.precision), np.array(logits), {}, {})


def updated(experiment: Experiment, state: State, seed: int) -> State:
    """One step: every slot decays and takes noise, every parameter follows its slot, carried states stay zero."""
    generator = generator_for(seed, "fake", state.step)
    slots = {n: (0.9 * s + generator.normal(size=s.shape)).astype(s.dtype) for n, s in state.slots.items()}
    moved = {n: (p - 0.01 * slots[f"{n}.exp_avg"]).astype(p.dtype) for n, p in state.parameters.items()}
    carried = {name: np.zeros(shape, next(iter(moved.values())).dtype) for name, shape in experiment.carried.items()}
    return State(moved, slots, state.step + 1, carried)


def answer(experiment: Experiment, batch: Batch, state: State) -> np.ndarray:
    """Logits that are right from the step on at which `behaviour` wants them, and depend on the parameters."""
    right = behaviour.solves_at_step is not None and state.step >= behaviour.solves_at_step
    said = np.maximum(batch.targets, 0) if right else (batch.targets + 1) % experiment.model.classes
    if behaviour.infinite_logits_at_step is not None and state.step >= behaviour.infinite_logits_at_step:
        return np.full((*said.shape, experiment.model.classes), np.inf)
    mean = np.mean([p.mean() for p in state.parameters.values()])
    return (3.0 + 0.1 * np.tanh(mean)) * np.eye(experiment.model.classes)[said]


spent: dict[str, float] = {}
compiles = False


def open(experiment: Experiment, settings: Settings) -> Side:
    """A side of the functions of those names that are here, as a test may have put more."""
    return side_of(globals(), experiment, settings, compiles=compiles, spent=spent)
