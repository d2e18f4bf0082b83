"""Trainings side by side: stock modules under `torch.func.vmap`, one optimizer over their stacked parameters."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from spec.experiment import Experiment, override
from spec.framework import Settings
from spec.models import Embedding
from spec.parameters import Parameters
from spec.tasks import rows
from spec.training import Clipping
from torch_impl import optimizer as optimizers
from torch_impl.arrays import to_tensor
from torch_impl.build import build
from torch_impl.dropout import given
from torch_impl.loss import compute_loss
from torch_impl.model import Model, TensorBatch
from torch_impl.recurrent import PACKS
from torch_impl.settings import dtype_of
from torch_impl.training import going_on, whole_of
from torch_impl.vmapping import TakenApart

Stacked = dict[str, Tensor]
"""Canonical name -> (members, *shape)."""


class Members:
    """Trainings side by side, a step at a time: stacked parameters, and one optimizer for all of them.

    own_batches, own_masks: whether each member has its own, stacked like the parameters, or all share one.
    """

    def __init__(
        self,
        experiment: Experiment,
        starts: Sequence[Parameters],
        settings: Settings,
        own_batches: bool,
        own_masks: bool,
    ):
        spec = experiment.model
        # Rescaling rows in place, and sparse gradients, have no rule for vmap, and its rule for padding_idx freezes a
        # row of the first member alone: the first and the last are done here, sparse ones are the same values.
        plain = experiment
        if isinstance(spec.inputs, Embedding):
            left_out = {"model__inputs__max_norm": None, "model__inputs__padding_idx": None}
            plain = override(experiment, **left_out, model__inputs__sparse=False)
        model = build(plain.model, starts[0], settings)
        _without_own_dropout(model)
        _without_packing(model)
        self.training = experiment.training
        self.rescaled = spec.inputs if getattr(spec.inputs, "max_norm", None) is not None else None
        self.padding = getattr(spec.inputs, "padding_idx", None)
        self.trained = {name: nn.Parameter(to_tensor(np.stack([s[name] for s in starts]))) for name in starts[0]}
        self.parameters = {name: parameter.detach() for name, parameter in self.trained.items()}
        self.optimizer = optimizers.make(experiment.training, self.trained, stacked=1)
        # Each member's own, whatever else they share.
        zeros = {
            name: torch.zeros(len(starts), *shape, dtype=dtype_of(settings))
            for name, shape in experiment.carried.items()
        }
        self.carried: Stacked = zeros
        self.gradients = _member_gradients(experiment, model, own_batches, own_masks)
        self.evaluate = _member_logits(model)

    def step(self, step: int, batch: TensorBatch, masks: Mapping[str, Tensor], goes_on: Tensor | None = None) -> Tensor:
        """One optimizer step of every member; their losses before it, (members,).

        goes_on: which sequences go on where those of the step before ended, bool (batch,); None where none ever does.
        """
        if goes_on is not None:
            batch = going_on(batch, self.carried, goes_on)
        if self.rescaled is not None:
            rows = self.parameters["embedding.weight"]
            rows.copy_(renormalized(self.rescaled, rows, batch))
        found, losses, self.carried = self.gradients(self.parameters, batch, masks)
        # vmap leaves some with their axes swapped in memory, and the fused optimizers read them as if they were not.
        gradients = {name: gradient.contiguous() for name, gradient in found.items()}
        if self.padding is not None:
            gradients["embedding.weight"][:, self.padding] = 0
        clip_members(self.training.clipping, gradients)
        for name, parameter in self.trained.items():
            parameter.grad = gradients[name]
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.training.schedule.factor(step)
        self.optimizer.step()
        return losses

    def logits(self, batch: TensorBatch, parameters: Stacked) -> np.ndarray:
        """Logits in eval mode, (members, *logits' shape), of these stacked parameters."""
        at = dict(parameters)
        if self.rescaled is not None:
            at["embedding.weight"] = renormalized(self.rescaled, at["embedding.weight"], batch)
        return self.evaluate(at, batch).numpy()

    def state(self) -> Parameters:
        """A copy of every member's parameters and slots, by canonical name, (members, *shape) each."""
        slots = {
            f"{name}.{slot}": self.optimizer.state[parameter][slot]
            for slot in self.training.optimizer.slots
            for name, parameter in self.trained.items()
        }
        return {name: values.detach().numpy().copy() for name, values in {**self.parameters, **slots}.items()}


def _member_gradients(
    experiment: Experiment, model: Model, own_batches: bool, own_masks: bool
) -> Callable[..., tuple[Stacked, Tensor, Stacked]]:
    """The function of (stacked parameters, batch, masks by site) to every member's gradients, loss and states in which
    its sequences ended, where those are carried on."""
    carries = bool(experiment.carried)

    # Only they need it, and to look at every operation is a tenth of a step's time.
    recurrent = any(isinstance(module, nn.RNNBase | nn.RNNCellBase) for module in model.modules())

    training = experiment.training
    count = training.accumulate

    def loss_of(
        parameters: Stacked, batch: TensorBatch, masks: Mapping[str, Tensor], whole: Tensor | None
    ) -> tuple[Tensor, Stacked]:
        model.ended = {} if carries else None
        with given(model, masks):
            # No two parameters of the spec are one tensor.
            logits = functional_call(model, parameters, (batch,), tie_weights=False)
        ended, model.ended = model.ended or {}, None
        return compute_loss(training.loss, logits, batch.targets, whole), ended

    def apply(parameters: Stacked, batch: TensorBatch, masks: Mapping[str, Tensor]) -> tuple[Stacked, Tensor, Stacked]:
        axes: Any = [None if array is None or not own_batches else 0 for array in batch]
        axes = TensorBatch(*axes)
        if carries:
            axes = axes._replace(initial=0)
        in_dims = (0, axes, 0 if masks and own_masks else None, axes.targets if count > 1 else None)
        members = vmap(loss_of, in_dims=in_dims)
        leaves = {name: values.detach().requires_grad_() for name, values in parameters.items()}
        # Members do not depend on each other, so the gradient of their sum is each one's own. `torch.func.grad` inside
        # vmap gives the same and takes a quarter longer.
        total: list[Tensor] = []
        losses, carried = torch.zeros(()), {}
        for part in _parts(batch, own_batches, count):
            with TakenApart() if recurrent else nullcontext():
                share, ended = members(leaves, part, masks, whole_of(training, batch))
            found = torch.autograd.grad(share.sum(), list(leaves.values()), materialize_grads=True)
            total = [one + two for one, two in zip(total, found, strict=True)] if total else list(found)
            losses = losses + share.detach()
            carried = {name: state.detach() for name, state in ended.items()}
        return dict(zip(leaves, total, strict=True)), losses, carried

    return apply


def _parts(batch: TensorBatch, own_batches: bool, count: int) -> Iterator[TensorBatch]:
    """The parts of a batch, or of every member's."""
    if count == 1:
        yield batch
        return
    axis = 1 if own_batches else 0
    size = batch.inputs.shape[axis] // count
    for number in range(count):
        yield rows(batch, slice(number * size, (number + 1) * size), axis)


def _member_logits(model: Model) -> Callable[[Stacked, TensorBatch], Tensor]:
    """The function of (stacked parameters, evaluation batch) to every member's logits, in eval mode."""
    predict = _Predict(model)

    def logits_of(parameters: Stacked, batch: TensorBatch) -> Tensor:
        named = {f"model.{name}": value for name, value in parameters.items()}
        # vjp has the stock layers taken apart into operations that have a rule for vmap; no gradient is computed.
        logits: Any = vjp(lambda values: functional_call(predict, values, (batch,), tie_weights=False), named)[0]
        return logits.detach()

    def apply(parameters: Stacked, batch: TensorBatch) -> Tensor:
        return vmap(logits_of, in_dims=(0, None))(parameters, batch)

    return apply


class _Predict(nn.Module):
    """A model whose call is its `predict`: `functional_call` calls modules only."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, batch: TensorBatch) -> Tensor:
        return self.model.predict(batch)


def _without_own_dropout(model: Model) -> None:
    """Drop nothing by torch's generator: the members' masks are drawn outside.

    Not eval mode throughout, in which Transformer layers take a fast path that has no rule for vmap.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.RNNBase):
            module.eval()


def _without_packing(model: Model) -> None:
    """Take sequences of several lengths step by step."""
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            setattr(module, PACKS, False)


def clip_members(spec: Clipping | None, gradients: Stacked) -> None:
    """Limit each gradient, then scale each member's by its own norm: `torch.nn.utils.clip_grad_norm_` would take one
    norm of all."""
    if spec is None:
        return
    if spec.max_value is not None:
        for gradient in gradients.values():
            gradient.clamp_(-spec.max_value, spec.max_value)
    if spec.max_norm is None:
        return
    norms = torch.stack([torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients.values()])
    factors = (spec.max_norm / (torch.linalg.vector_norm(norms, dim=0) + spec.epsilon)).clamp(max=1)
    for gradient in gradients.values():
        gradient.mul_(factors.reshape(-1, *[1] * (gradient.ndim - 1)))


def renormalized(spec: Any, rows: Tensor, batch: TensorBatch) -> Tensor:
    """Every member's rows (members, num_embeddings, features) after max_norm, for one batch or for each member's."""
    indices = batch.inputs
    counted = torch.ones_like(indices, dtype=torch.bool)
    if batch.lengths is not None:
        counted = torch.arange(indices.shape[-1]) < batch.lengths[..., None]
    # Padding may hold no index at all, and uses no row.
    indices, counted = (
        array.reshape(len(rows), -1) if array.ndim == 3 else array.reshape(1, -1).expand(len(rows), -1)
        for array in (torch.where(counted, indices, 0), counted.long())
    )
    used = torch.zeros(rows.shape[:2], dtype=torch.long).scatter_add_(1, indices, counted) > 0
    norms = torch.linalg.vector_norm(rows, ord=spec.norm_type, dim=2)
    factors = torch.where(
        used & (norms > spec.max_norm), spec.max_norm / (norms + spec.renormalization_epsilon), torch.ones_like(norms)
    )
    return rows * factors[..., None]
