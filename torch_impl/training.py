"""The training loop."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spec import devices
from spec.errors import Unsupported
from spec.experiment import Experiment
from spec.framework import MaskSource, Replay, Settings, Trajectory
from spec.models import Embedding, keep_masks
from spec.parameters import Parameters, check, generator_for, seed_for
from spec.tasks import Batch, arrays_of, fingerprint, rows
from spec.training import SGD, State, Training
from torch_impl import optimizer as optimizers
from torch_impl.arrays import to_tensor
from torch_impl.build import build, check_gradients
from torch_impl.compilation import compile_model
from torch_impl.devices import ALONE, Ordered, Place, Replica, seed_on
from torch_impl.dropout import mode
from torch_impl.loss import compute_loss
from torch_impl.mixed_precision import without_gradients
from torch_impl.model import Model, TensorBatch
from torch_impl.parameters import export
from torch_impl.settings import computing, device_of, dtype_of


def train(
    experiment: Experiment,
    state: State,
    epochs: int,
    seed: int,
    settings: Settings,
    record: bool = False,
    masks: MaskSource = "own",
    part: int | None = None,
    place: Place = ALONE,
    ordered: bool = False,
) -> Trajectory:
    """See spec.framework.Side: train. place: where it is one of several devices that train together; what comes back
    on the first is the whole training. ordered: whether shares are added up in one order."""
    training, task = experiment.training, experiment.task
    check_gradients(experiment.model)
    _check_sparse(experiment)
    with computing(settings, experiment):
        model = build(experiment.model, state.parameters, settings)
        compile_model(model, settings)
        replica = Ordered(model, place) if ordered else Replica(model, place)
        optimizer = optimizers.make(training, dict(model.named_parameters()))
        optimizers.load_slots(optimizer, model, state.slots, state.step)
        evaluation_batch = to_tensors(experiment.evaluation_batch(settings.precision), settings)
        step = state.step
        carried = carried_of(experiment, state, settings)
        model.ended = {} if carried else None
        followed = experiment.goes_on(range(step, step + epochs * training.steps_per_epoch))
        rows: Any = followed
        ends: list[Parameters] = []
        losses: list[float] = []
        logits: list[np.ndarray] = []
        state_views: dict[str, Tensor] = {}
        trace: list[Tensor] = []
        handed: list[int] = []
        arrays = experiment.batch(seed, step, settings.precision)
        batch = to_tensors(arrays, settings)
        each = part or training.steps_per_epoch
        compared = devices.compared(epochs * each)
        for _ in range(epochs):
            for _ in range(each):
                if task.drawn:
                    arrays = experiment.batch(seed, step, settings.precision)
                    batch = to_tensors(arrays, settings)
                if record:
                    goes_on = None if followed is None else followed[len(losses)]
                    handed.append(fingerprint(_to_arrays(batch, carried), goes_on))
                if carried:
                    batch = going_on(batch, carried, to_tensor(rows[len(losses)], device=batch.inputs.device))
                optimizer.zero_grad()
                loss = backward(training, replica, batch, dropout_of(experiment, arrays, seed, step, masks))
                # Numbers from here on: no step's gradient reaches into the one before.
                ended = {name: state.detach() for name, state in (model.ended or {}).items()}
                carried = {name: replica.joined(state, len(batch.inputs)) for name, state in ended.items()}
                descend(training, model, optimizer, step)
                step += 1
                losses.append(loss.item())
                if compared[len(losses) - 1]:
                    replica.compare(step)
                if record:
                    # Steps write in place, and slots are there from the first one on: the views stay good.
                    state_views = state_views or _views(model, optimizer, training.optimizer.slots)
                    trace.append(torch.cat([optimizers.dense(view).reshape(-1) for view in state_views.values()]))
                    ends.append(_to_numpy(carried))
            if place.number == 0:
                logits.append(evaluate(model, evaluation_batch))
        slots = optimizers.slots(optimizer, model, training.optimizer.slots)
        recorded = _split(trace, state_views)
        return Trajectory(
            state=State(export(model), slots, step, _to_numpy(carried)),
            losses=np.array(replica.totals(losses), settings.precision),
            logits=np.array(logits),
            parameters={name: recorded[name] for name, _ in model.named_parameters() if record},
            slots={name: recorded[name] for name in slots if record},
            carried=_stack(ends),
            batches=np.array(handed, np.int64) if record else None,
        )


def backward(
    training: Training, replica: Replica, batch: TensorBatch, dropout: dict[str, np.ndarray] | int
) -> Float[Tensor, ""]:
    """The loss of the replica's share of the batch, whose gradient is added to those that its model holds, part by
    part. With the last part come those of the other replicas."""
    model = replica.model
    replica.rescale(batch)
    total = batch.inputs.new_zeros((), dtype=next(model.parameters()).dtype)
    for number, (place, part) in enumerate(replica.parts(training, len(batch.inputs))):
        masks = dropout_in(training, dropout, number % training.accumulate, part, place)
        with mode(model, masks), replica.adding(number == training.accumulate - 1):
            share = batch if place.devices * training.accumulate == 1 else rows(batch, part)
            loss = compute_loss(training.loss, replica(share), share.targets, whole_of(training, batch, place))
            replica.backward(loss)
        total += loss.detach()
    return replica.finish(total)


def whole_of(training: Training, batch: TensorBatch, place: Place = ALONE) -> Tensor | None:
    """The targets by which each part's losses are divided; None where there is one part."""
    return batch.targets if place.devices * training.accumulate > 1 else None


def dropout_in(
    training: Training, dropout: dict[str, np.ndarray] | int, number: int, part: slice, place: Place = ALONE
) -> dict[str, np.ndarray] | int:
    """The masks of a part: its rows of the whole batch's, or a seed of its own for torch's."""
    if isinstance(dropout, int):
        own = seed_on(dropout, place)
        return own if training.accumulate == 1 else seed_for(own, "part", number)
    return dropout if place.devices * training.accumulate == 1 else {s: mask[part] for s, mask in dropout.items()}


def descend(training: Training, model: Model, optimizer: torch.optim.Optimizer, step: int) -> None:
    """One optimizer step with the gradients that the model holds, clipping included."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * training.schedule.factor(step)
    optimizers.clip(training.clipping, model)
    optimizer.step()


def replay(experiment: Experiment, parameters: Parameters, gradients: list[Parameters], settings: Settings) -> Replay:
    """See spec.framework.Side: replay."""
    training = experiment.training
    with computing(settings, experiment):
        model = build(experiment.model, parameters, settings)
        optimizer = optimizers.make(training, dict(model.named_parameters()))
        trace: list[tuple[Parameters, Parameters]] = []
        for step, given in enumerate(gradients):
            check(experiment.model.parameters(), given, "gradients")
            for name, parameter in model.named_parameters():
                parameter.grad = to_tensor(given[name], parameter.dtype, parameter.device)
            descend(training, model, optimizer, step)
            trace.append((export(model), optimizers.slots(optimizer, model, training.optimizer.slots)))
        return Replay(_stack([parameters for parameters, _ in trace]), _stack([slots for _, slots in trace]))


def evaluate(model: Model, batch: TensorBatch) -> np.ndarray:
    """Logits in eval mode, leaving the parameters as they are."""
    with without_gradients(), mode(model, None), _unchanged(model.embedding):
        return model.predict(batch).cpu().numpy()


def _check_sparse(experiment: Experiment) -> None:
    """Raise Unsupported where the recipe does with sparse gradients what torch cannot."""
    inputs, training = experiment.model.inputs, experiment.training
    if not isinstance(inputs, Embedding) or not inputs.sparse:
        return
    if not isinstance(training.optimizer, SGD):
        name = type(training.optimizer).__name__
        raise Unsupported(f"training.optimizer.name: expected SGD beside a sparse embedding (torch), got {name}")
    if decay := training.weight_decay("embedding.weight", 2):
        raise Unsupported(
            f"training.optimizer.weight_decay: expected 0 beside a sparse embedding (torch adds no dense decay to a "
            f"sparse gradient), got {decay} for embedding.weight"
        )
    if training.clipping is not None:
        raise Unsupported(
            "training.clipping: expected none beside a sparse embedding (torch has no norm of it), got one"
        )


@contextmanager
def _unchanged(embedding: nn.Embedding | None) -> Iterator[None]:
    """Put rows back that torch rescales for good wherever it looks them up, in evaluation too."""
    if embedding is None or embedding.max_norm is None:
        yield
        return
    before = embedding.weight.detach().clone()
    yield
    embedding.weight.copy_(before)


def dropout_of(
    experiment: Experiment, batch: Batch, seed: int, step: int, masks: MaskSource
) -> dict[str, np.ndarray] | int:
    """Masks of the spec, or a seed for torch's own: a function of (seed, step) either way, so that resuming works."""
    if not experiment.model.has_dropout:
        return {}
    if masks == "own":
        return seed_for(seed, "dropout", step)
    size, time = batch.inputs.shape[:2]
    return keep_masks(experiment.model, size, time, generator_for(seed, "dropout", step))


def carried_of(experiment: Experiment, state: State, settings: Settings) -> dict[str, Tensor]:
    """The states that the next batch's sequences may go on from; none where nothing is carried."""
    return {
        name: to_tensor(state.carried.get(name, np.zeros(shape)), dtype_of(settings), device_of(settings))
        for name, shape in experiment.carried.items()
    }


def going_on(batch: TensorBatch, carried: Mapping[str, Tensor], goes_on: Bool[Tensor, " batch"]) -> TensorBatch:
    """The batch with its sequences' states to begin with: those in which the step before ended, or zeros."""
    return batch._replace(initial={name: torch.where(goes_on[:, None], s, 0) for name, s in carried.items()})


def _to_numpy(tensors: Mapping[str, Tensor]) -> Parameters:
    """Copies as arrays."""
    return {name: tensor.numpy(force=True).copy() for name, tensor in tensors.items()}


def to_tensors(batch: Batch, settings: Settings) -> TensorBatch:
    """The batch on the device."""
    device = device_of(settings)
    return TensorBatch(
        to_tensor(batch.inputs, device=device),
        to_tensor(batch.targets, device=device),
        None if batch.lengths is None else to_tensor(batch.lengths, device=device),
        None if batch.decoder_inputs is None else to_tensor(batch.decoder_inputs, device=device),
        None if batch.initial is None else {n: to_tensor(s, device=device) for n, s in batch.initial.items()},
        None if batch.resets is None else to_tensor(batch.resets, device=device),
    )


def _to_arrays(batch: TensorBatch, carried: Mapping[str, Tensor]) -> Batch:
    """The batch as arrays again, without states that are carried."""
    arrays: Any = {
        name: None if tensor is None else tensor.numpy(force=True) for name, tensor in arrays_of(batch).items()
    }
    states = {} if carried else (batch.initial or {})
    return Batch(**arrays, initial={name: state.numpy(force=True) for name, state in states.items()})


def _views(model: Model, optimizer: torch.optim.Optimizer, slots: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors that a step changes in place, by their canonical names."""
    parameters = dict(model.named_parameters())
    found = {name: parameter.detach() for name, parameter in parameters.items()}
    return found | {f"{name}.{slot}": optimizer.state[p][slot] for name, p in parameters.items() for slot in slots}


def _split(trace: list[Tensor], views: dict[str, Tensor]) -> Parameters:
    """Steps that were recorded as one long vector each, taken apart: name -> (steps, *shape)."""
    if not trace:
        return {}
    columns = torch.stack(trace).cpu().split([view.numel() for view in views.values()], dim=1)
    named = zip(views.items(), columns, strict=True)
    return {name: column.reshape(-1, *view.shape).numpy() for (name, view), column in named}


def _stack(trace: list[Parameters]) -> Parameters:
    """One dictionary of arrays with a leading axis of steps."""
    return {name: np.stack([entry[name] for entry in trace]) for name in trace[0]} if trace else {}
