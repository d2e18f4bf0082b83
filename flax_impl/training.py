"""The training loop: one compiled function that scans over epochs, and over the steps of each."""

import itertools
from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool

from flax_impl import compilation
from flax_impl import optimizer as optimizers
from flax_impl.arrays import to_array
from flax_impl.build import build, check_gradients, load
from flax_impl.devices import ALIKE, divided, parted
from flax_impl.dropout import set_mode
from flax_impl.loss import compute_loss
from flax_impl.model import ArrayBatch, Model, predict, run, valid_steps
from flax_impl.parameters import Layout, as_vector, canonical_names, from_vectors, to_canonical, to_native
from flax_impl.settings import computing
from spec.devices import compared as compared_after
from spec.devices import other_weights
from spec.errors import DeviceLost
from spec.experiment import Experiment
from spec.framework import MaskSource, Replay, Settings, Trajectory
from spec.models import keep_masks
from spec.parameters import Parameters, check, generator_for
from spec.tasks import Batch, fingerprint
from spec.training import State, StepConstants, Training, initial_state


class Carry(NamedTuple):
    """What a training step hands to the next. carried: see `spec.training.State`; empty where nothing is."""

    parameters: nnx.State
    optimizer: optax.OptState
    carried: dict[str, Array]


class Inputs(NamedTuple):
    """What a training step is given; for a scan, each with leading axes of epochs and steps.

    dropout: the step's number, from which its key is made; or masks by site; or None without dropout. goes_on: which
    sequences go on where those of the step before ended, bool (batch,); None where none ever does. compared: whether
    the devices' weights are compared after it, bool (); None on one device.
    """

    batch: ArrayBatch
    constants: StepConstants
    dropout: Any
    goes_on: Any = None
    compared: Any = None


class Recorded(NamedTuple):
    """What a training step hands on, where that is recorded: all parameters as one vector, see `as_vector`."""

    parameters: Array
    optimizer: optax.OptState
    carried: dict[str, Array]


class Outputs(NamedTuple):
    """What a training step leaves: its loss, and where it is recorded what it hands on. parted: see
    flax_impl.devices.parted; None on one device."""

    loss: Array
    recorded: Recorded | None
    parted: Array | None = None


def train(
    experiment: Experiment,
    state: State,
    epochs: int,
    seed: int,
    settings: Settings,
    record: bool = False,
    masks: MaskSource = "own",
    part: int | None = None,
    devices: int = 0,
) -> Trajectory:
    """See spec.framework.Side: train. devices: among how many batches are shared out; 0 for not at all."""
    training = experiment.training
    with computing(settings):
        _, layout = build(experiment.model)
        carry = first_carry(experiment, state, settings)
        steps = range(state.step, state.step + epochs * (part or training.steps_per_epoch))
        masks = masks if experiment.model.has_dropout else "own"
        records = record or compilation.records(experiment, epochs)
        train_epochs = compile_epochs(experiment, settings, records, masks, devices)
        evaluation_batch = to_arrays(experiment.evaluation_batch(settings.precision))
        inputs = stack_inputs(experiment, steps, seed, settings, masks, part)
        if devices:
            inputs = comparing(inputs, len(steps))
        carry, (outputs, logits) = train_epochs(carry, inputs, evaluation_batch, jax.random.key(seed))
        if outputs.parted is not None:
            check_alike(np.asarray(outputs.parted).reshape(-1), layout, devices, state.step)
        trace: Any = outputs.recorded if record else None
        # Recorded steps have axes (epochs, steps); callers want one.
        joined = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), trace)
        parameters, slots = ({}, {}) if joined is None else _canonical(training, layout, carry.parameters, joined)
        carried = {name: np.array(values) for name, values in carry.carried.items()}
        return Trajectory(
            state=State(
                to_canonical(layout, carry.parameters),
                optimizers.slots(training.optimizer, layout, carry.parameters, carry.optimizer),
                state.step + len(steps),
                carried,
            ),
            losses=np.asarray(outputs.loss).reshape(-1),
            logits=np.asarray(logits),
            parameters=parameters,
            slots=slots,
            carried={} if joined is None else joined.carried,
            batches=fingerprints(inputs) if record else None,
        )


def fingerprints(inputs: Inputs | list[list[Inputs]]) -> np.ndarray:
    """Those of the batches of all steps, see spec.tasks.fingerprint; before the inputs are given to who compiles."""
    if isinstance(inputs, Inputs):
        epochs, each = inputs.batch.inputs.shape[:2]
        places = itertools.product(range(epochs), range(each))
        steps = [jax.tree.map(lambda x, at=at: np.asarray(x)[at], inputs) for at in places]
    else:
        steps = [step for epoch in inputs for step in epoch]
    return np.array([fingerprint(step.batch, step.goes_on) for step in steps], np.int64)


def comparing(inputs: Inputs | list[list[Inputs]], steps: int) -> Inputs | list[list[Inputs]]:
    """The inputs of so many steps, some of which the devices compare their weights after."""
    compared = np.array(compared_after(steps))
    if isinstance(inputs, Inputs):
        return inputs._replace(compared=compared.reshape(inputs.batch.inputs.shape[:2]))
    each = iter(compared)
    return [[step._replace(compared=next(each)) for step in epoch] for epoch in inputs]


def check_alike(found: np.ndarray, layout: Layout, devices: int, step: int) -> None:
    """Raise DeviceLost where devices had other weights after one of the steps, the first of which follows so many.

    found: what `parted` gave after each.
    """
    for number in np.flatnonzero(found != ALIKE)[:1]:
        device, leaf = divmod(int(found[number]), len(layout))
        raise DeviceLost(other_weights(device, devices, step + int(number) + 1, canonical_names(layout)[leaf]))


def _recorded(carry: Carry) -> Recorded:
    """What is kept of a step."""
    return Recorded(as_vector(carry.parameters), carry.optimizer, carry.carried)


def _canonical(
    training: Training, layout: Layout, like: nnx.State, recorded: Recorded
) -> tuple[Parameters, Parameters]:
    """The parameters and slots of recorded steps under their canonical names, each with an axis of steps.

    like: parameters of one step.
    """
    parameters = to_canonical(layout, from_vectors(np.asarray(recorded.parameters), like))
    return parameters, optimizers.slots(training.optimizer, layout, like, recorded.optimizer)


def first_carry(experiment: Experiment, state: State, settings: Settings) -> Carry:
    """What the first training step from that state is given. Raises ParameterMismatch."""
    _, layout = build(experiment.model)
    native = load(experiment.model, state.parameters, settings)
    optimizer = experiment.training.optimizer
    loaded = optimizers.load_slots(optimizer, layout, native, state.slots, state.step)
    return Carry(native, loaded, carried_of(experiment, state, settings))


@cache
def compile_epochs(
    experiment: Experiment, settings: Settings, record: bool, masks: MaskSource, devices: int = 0
) -> Callable:
    """The jitted function that trains; compiled once for each number of epochs.

    Takes the carry, the inputs of every step, the evaluation batch and a key for dropout. Returns the carry, the
    outputs of every step and the evaluation logits of every epoch. Where batches have several widths, which no array
    holds, it is a loop over compiled steps, once for each width, and a compiled evaluation.
    """
    divide = partial(divided, devices=devices, settings=settings) if devices else None
    compare = partial(parted, devices=devices, settings=settings) if devices else None
    step = make_step(experiment, record, masks, divide, compare)
    graph, _ = build(experiment.model)
    if len(experiment.task.widths) > 1:
        return _loop(step, graph, compilation.options(settings, compilation.is_small(experiment)))

    def train_epochs(
        carry: Carry, inputs: Inputs, evaluation_batch: ArrayBatch, key: Array
    ) -> tuple[Carry, tuple[Outputs, Array]]:
        def epoch(carry: Carry, inputs: Inputs) -> tuple[Carry, tuple[Outputs, Array]]:
            carry, outputs = jax.lax.scan(lambda c, i: step(c, i, key), carry, inputs)
            return carry, (outputs, evaluate(graph, carry.parameters, evaluation_batch))

        return jax.lax.scan(epoch, carry, inputs)

    return compilation.jit(
        train_epochs, compilation.options(settings, compilation.is_small(experiment)), donate_argnums=0
    )


def _loop(
    step: Callable[[Carry, Inputs, Array], tuple[Carry, Outputs]], graph: nnx.GraphDef, options: compilation.Options
) -> Callable:
    """What `compile_epochs` gives, a call for each step; its inputs are lists, an epoch's and in it a step's."""
    train_step = compilation.jit(step, options, donate_argnums=0)
    judge = compilation.jit(lambda parameters, batch: evaluate(graph, parameters, batch), options)

    def train_epochs(
        carry: Carry, inputs: list[list[Inputs]], evaluation_batch: ArrayBatch, key: Array
    ) -> tuple[Carry, Any]:
        epochs, logits = [], []
        for epoch in inputs:
            every = []
            for given in epoch:
                carry, outputs = train_step(carry, given, key)
                every.append(outputs)
            epochs.append(jax.tree.map(lambda *values: np.stack(values), *every))
            logits.append(judge(carry.parameters, evaluation_batch))
        return carry, (jax.tree.map(lambda *values: np.stack(values), *epochs), np.stack(logits))

    return train_epochs


def make_step(
    experiment: Experiment,
    record: bool,
    masks: MaskSource,
    divide: Callable[..., Callable] | None = None,
    compare: Callable[[nnx.State], Array] | None = None,
) -> Callable[[Carry, Inputs, Array], tuple[Carry, Outputs]]:
    """One step of training as a pure function. Raises Unsupported where the gradients are not to be had.

    divide: has a gradient computed on several devices, see flax_impl.devices.divided. compare: has them compare their
    weights, see flax_impl.devices.parted.
    """
    training = experiment.training
    check_gradients(experiment.model)
    graph, layout = build(experiment.model)
    returned = experiment.model.returned_states() if experiment.carried else ()
    carries = list(zip(experiment.carried, returned, strict=True))

    def step(carry: Carry, inputs: Inputs, key: Array) -> tuple[Carry, Outputs]:
        dropout: Any = inputs.dropout
        if dropout is None:
            dropout = {}
        elif masks == "own":
            dropout = jax.random.fold_in(key, dropout)
        parameters = renormalized(graph, carry.parameters, inputs.batch)
        if inputs.goes_on is not None:
            inputs = inputs._replace(batch=going_on(inputs.batch, carry.carried, inputs.goes_on))

        def loss_of(
            parameters: nnx.State, batch: ArrayBatch, dropout: Any, whole: Array | None = None
        ) -> tuple[Array, dict[str, Array]]:
            model: Model = nnx.merge(graph, parameters)
            set_mode(model, dropout)
            logits, recorded = run(model, batch)
            # Beside the loss: no step's gradient reaches into the one before.
            ended = {initial: recorded[returned] for initial, returned in carries}
            return compute_loss(training.loss, logits, batch.targets, whole), ended

        def differentiate(
            parameters: nnx.State, batch: ArrayBatch, dropout: Any, whole: Array | None = None
        ) -> tuple[tuple[Array, dict[str, Array]], nnx.State]:
            if training.accumulate == 1:
                return jax.value_and_grad(loss_of, has_aux=True)(parameters, batch, dropout, whole)
            whole = batch.targets if whole is None else whole

            def part(total: tuple[Array, nnx.State], given: tuple[Array, ArrayBatch, Any]) -> tuple[Any, None]:
                number, cut, cut_masks = given
                own = jax.random.fold_in(dropout, number) if cut_masks is None else cut_masks
                (share, _), found = jax.value_and_grad(loss_of, has_aux=True)(parameters, cut, own, whole)
                return jax.tree.map(jnp.add, total, (share, found)), None

            cut_masks = None if isinstance(dropout, jax.Array) else jax.tree.map(partial(in_parts, training), dropout)
            nothing = (jnp.zeros((), dtype_of(parameters)), jax.tree.map(jnp.zeros_like, parameters))
            numbers = jnp.arange(training.accumulate)
            (loss, gradients), _ = jax.lax.scan(part, nothing, (numbers, cut_rows(training, batch), cut_masks))
            return (loss, {}), gradients

        compute = differentiate if divide is None else divide(differentiate, experiment)
        (loss, carried), gradients = compute(parameters, inputs.batch, dropout)
        trained = carry._replace(parameters=parameters, carried=carried)
        carry = descend(training, layout, trained, gradients, inputs.constants)
        found = None
        if compare is not None:
            found = jax.lax.cond(inputs.compared, compare, lambda _: jnp.asarray(ALIKE), carry.parameters)
        return carry, Outputs(loss, _recorded(carry) if record else None, found)

    return step


def cut_rows(training: Training, batch: ArrayBatch) -> ArrayBatch:
    """The batch with a leading axis of its parts."""
    cut: Any = jax.tree.map(partial(in_parts, training), batch._replace(initial=None))
    # The sequences are a state's last axis but one.
    states = jax.tree.map(
        lambda state: jnp.moveaxis(in_parts(training, jnp.moveaxis(state, -2, 0)), 1, -2), batch.initial
    )
    return cut._replace(initial=states)


def in_parts(training: Training, array: Array) -> Array:
    """An array of so many sequences with a leading axis of the batch's parts."""
    return array.reshape(training.accumulate, -1, *array.shape[1:])


def dtype_of(parameters: nnx.State) -> Any:
    """That of all parameters."""
    return jax.tree.leaves(parameters)[0].dtype


def descend(training: Training, layout: Layout, carry: Carry, gradients: nnx.State, at: StepConstants) -> Carry:
    """The carry after one optimizer step with these gradients, clipping included."""
    clipped = optimizers.clip(training.clipping, gradients)
    at, decay = optimizers.own(training, layout, carry.parameters, at)
    optimizer = optimizers.make(training.optimizer, at, decay)
    updates, state = optimizer.update(clipped, carry.optimizer, carry.parameters)
    updated: Any = optax.apply_updates(carry.parameters, updates)
    return carry._replace(parameters=updated, optimizer=state)


def replay(experiment: Experiment, parameters: Parameters, gradients: list[Parameters], settings: Settings) -> Replay:
    """See spec.framework.Side: replay."""
    training = experiment.training
    with computing(settings):
        _, layout = build(experiment.model)
        carry = first_carry(experiment, initial_state(training.optimizer, parameters), settings)
        for given in gradients:
            check(experiment.model.parameters(), given, "gradients")
        stacked = {
            name: np.stack([given[name] for given in gradients], dtype=settings.precision) for name in parameters
        }
        constants = stack_constants(training, range(len(gradients)), settings)
        found = _compile_replay(training, layout, settings)(carry, to_native(layout, stacked), constants)
        return Replay(*_canonical(training, layout, carry.parameters, found))


@cache
def _compile_replay(
    training: Training, layout: Layout, settings: Settings
) -> Callable[[Carry, nnx.State, StepConstants], Recorded]:
    """The jitted function from the first carry, and every step's gradients and constants, to what every step leaves."""

    def step(carry: Carry, given: tuple[nnx.State, StepConstants]) -> tuple[Carry, Recorded]:
        carry = descend(training, layout, carry, *given)
        return carry, _recorded(carry)

    def replay_steps(carry: Carry, gradients: nnx.State, constants: StepConstants) -> Recorded:
        return jax.lax.scan(step, carry, (gradients, constants))[1]

    return compilation.jit(replay_steps, compilation.options(settings, quick=True))


def evaluate(graph: nnx.GraphDef, parameters: nnx.State, batch: ArrayBatch) -> Array:
    """Logits in eval mode."""
    model: Model = nnx.merge(graph, renormalized(graph, parameters, batch))
    set_mode(model, None)
    return predict(model, batch)


def renormalized(graph: nnx.GraphDef, parameters: nnx.State, batch: ArrayBatch) -> nnx.State:
    """The parameters after the embedding's max_norm, which acts before a row is used and outside the gradient."""
    # A tree of its own: merged modules share their variables with the state, and would write into the caller's.
    model: Model = nnx.merge(graph, jax.tree.map(lambda value: value, parameters))
    if model.embedding is None or model.embedding.spec.max_norm is None:
        return parameters
    model.embedding.renormalize(batch.inputs, valid_steps(batch))
    return nnx.state(model, nnx.Param)


def stack_inputs(
    experiment: Experiment, steps: range, seed: int, settings: Settings, masks: MaskSource, part: int | None = None
) -> Inputs | list[list[Inputs]]:
    """Every step's inputs, with leading axes (epochs, steps of an epoch or of a part of one); lists where batches have
    several widths."""
    each = part or experiment.training.steps_per_epoch
    if len(experiment.task.widths) > 1:
        stacked = (_inputs(experiment, range(step, step + 1), seed, settings, masks) for step in steps)
        alone = [jax.tree.map(lambda x: x[0], one) for one in stacked]
        return [alone[first : first + each] for first in range(0, len(alone), each)]
    flat = _inputs(experiment, steps, seed, settings, masks)
    return jax.tree.map(lambda x: x.reshape(-1, each, *x.shape[1:]), flat)


def _inputs(experiment: Experiment, steps: range, seed: int, settings: Settings, masks: MaskSource) -> Inputs:
    """Those of steps whose batches have one width, with a leading axis of steps."""
    training = experiment.training
    batches = to_arrays(experiment.batches(seed, steps, settings.precision))
    dropout = None
    if experiment.model.has_dropout and masks == "spec":
        batch, time = batches.inputs.shape[1:3]
        drawn = [keep_masks(experiment.model, batch, time, generator_for(seed, "dropout", step)) for step in steps]
        dropout = {site: np.stack([mask[site] for mask in drawn]).astype(settings.precision) for site in drawn[0]}
    elif experiment.model.has_dropout:
        dropout = np.array(steps, np.int32)
    constants = stack_constants(training, steps, settings)
    return Inputs(batches, constants, dropout, experiment.goes_on(steps))


@lru_cache(maxsize=16)
def stack_constants(training: Training, steps: range, settings: Settings) -> StepConstants:
    """Every step's constants, computed in double precision, with a leading axis of steps."""
    columns = zip(*(training.constants(step) for step in steps), strict=True)
    arrays: Any = [np.array(column, settings.precision) for column in columns]
    return StepConstants(*arrays)


def carried_of(experiment: Experiment, state: State, settings: Settings) -> dict[str, Array]:
    """The states that the next batch's sequences may go on from; none where nothing is carried."""
    return {
        name: jnp.array(state.carried.get(name, np.zeros(shape)), settings.precision)
        for name, shape in experiment.carried.items()
    }


def going_on(batch: ArrayBatch, carried: Mapping[str, Array], goes_on: Bool[Array, " batch"]) -> ArrayBatch:
    """The batch with its sequences' states to begin with: those in which the step before ended, or zeros."""
    return batch._replace(initial={name: jnp.where(goes_on[:, None], s, 0) for name, s in carried.items()})


def to_arrays(batch: Batch) -> ArrayBatch:
    """The batch for JAX, which takes NumPy's arrays as they are."""
    arrays: Any = jax.tree.map(to_array, tuple(batch))
    return ArrayBatch(*arrays)
