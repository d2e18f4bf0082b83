"""One of several devices that train together: a copy of the model, and a share of every batch's sequences.

`DistributedDataParallel` averages gradients over the devices. So each device's share of the whole batch's loss is taken
times their number, and the average is the whole batch's gradient. See spec.devices.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from spec.devices import SHARDS, Standing, checksums, parted, program, shares
from spec.errors import DeviceLost, Unsupported
from spec.experiment import Experiment
from spec.framework import Settings
from spec.models import Embedding
from spec.parameters import Parameters, seed_for
from spec.training import Training
from torch_impl.arrays import to_tensor
from torch_impl.model import Model, TensorBatch, valid_steps


class Place(NamedTuple):
    """Which of so many devices this process computes on."""

    number: int = 0
    devices: int = 1


ALONE = Place()
"""The only device."""

PACKAGE = __name__.partition(".")[0]

LIBRARIES = ("torch",)
"""What all devices are to have in the same version."""


class Replica:
    """The model's copy on one device, and what it does together with the others."""

    def __init__(self, model: Model, place: Place):
        self.model, self.place = model, place
        self.parted = place.devices > 1
        self.module: nn.Module = self.together()

    def together(self) -> nn.Module:
        """What is called in the place of the model."""
        return DistributedDataParallel(self.model) if self.parted else self.model

    def __call__(self, batch: TensorBatch) -> Tensor:
        """Logits of these sequences; gradients that are taken of them come to all devices."""
        embedding = self.model.embedding
        if not self.parted or embedding is None or embedding.max_norm is None:
            return self.module(batch)
        # Its rows are rescaled already, and another look may round them once more, on this device alone.
        limit, embedding.max_norm = embedding.max_norm, None
        try:
            return self.module(batch)
        finally:
            embedding.max_norm = limit

    def rescale(self, batch: TensorBatch) -> None:
        """Rescale the embedding's rows that a whole batch looks up, on each device, where it has a max_norm."""
        embedding = self.model.embedding
        if not self.parted or embedding is None or embedding.max_norm is None:
            return
        valid = valid_steps(batch)
        indices = batch.inputs.flatten() if valid is None else batch.inputs[valid]
        with torch.no_grad():
            torch.embedding_renorm_(embedding.weight, indices, embedding.max_norm, embedding.norm_type)

    def compare(self, step: int) -> None:
        """Raise DeviceLost on all devices where one has done another number of steps, or has other weights."""
        if self.place.devices > 1:
            parameters = {name: p.detach().numpy(force=True) for name, p in self.model.named_parameters()}
            compare(self.place, step, parameters)

    def parts(self, training: Training, size: int) -> list[tuple[Place, slice]]:
        """The sequences that this device takes of a batch of so many, cut into the recipe's parts; and whose share it
        is."""
        own = shares(size, self.place.devices)[self.place.number]
        return [(self.place, cut) for cut in cuts(own, training.accumulate)]

    @contextmanager
    def adding(self, last: bool) -> Iterator[None]:
        """While gradients are added to those that the model holds; the last ones bring in the other devices'."""
        if last or not isinstance(self.module, DistributedDataParallel):
            yield
            return
        with self.module.no_sync():
            yield

    def backward(self, loss: Float[Tensor, ""]) -> None:
        """Add the gradient of this device's share of the loss, of which the devices' average is to be their sum."""
        (loss if self.place.devices == 1 else loss * self.place.devices).backward()

    def finish(self, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Have the whole batch's gradient in the model, once all parts are done; of the loss, this device's share."""
        return loss

    def total(self, share: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The sum of what all devices have."""
        if self.place.devices > 1:
            dist.all_reduce(share)
        return share

    def totals(self, shares: list[float]) -> list[float]:
        """The same of numbers."""
        device = next(self.model.parameters()).device
        return self.total(to_tensor(np.array(shares), torch.float64, device)).tolist()

    def joined(self, states: Float[Tensor, "*layers share hidden"], size: int) -> Float[Tensor, "*layers batch hidden"]:
        """The states of all of a batch's sequences, of which each device has those of its own."""
        if self.place.devices == 1:
            return states
        whole = states.new_zeros(*states.shape[:-2], size, states.shape[-1])
        whole[..., shares(size, self.place.devices)[self.place.number], :] = states
        return self.total(whole)


class Ordered(Replica):
    """A replica that has the gradients of all shares of a batch, and adds them up in their order."""

    def together(self) -> nn.Module:
        self.parted = True
        self.gradients: list[Tensor] = []
        return self.model

    def parts(self, training: Training, size: int) -> list[tuple[Place, slice]]:
        own = shares(SHARDS, self.place.devices)[self.place.number]
        self.each = training.accumulate
        whole = list(enumerate(shares(size, SHARDS)))[own]
        return [(Place(number, SHARDS), cut) for number, share in whole for cut in cuts(share, training.accumulate)]

    def backward(self, loss: Float[Tensor, ""]) -> None:
        gradients = torch.autograd.grad(loss, list(self.model.parameters()), allow_unused=True, materialize_grads=True)
        self.gradients.append(torch.cat([loss.detach()[None], *(gradient.flatten() for gradient in gradients)]))

    def finish(self, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        own = torch.stack([sum_of(self.gradients[first : first + self.each]) for first in self._firsts()])
        self.gradients = []
        every = [torch.empty_like(own) for _ in range(self.place.devices)]
        if self.place.devices > 1:
            dist.all_gather(every, own)
        else:
            every = [own]
        loss, *gradients = sum_of(torch.cat(every)).split([1, *(p.numel() for p in self.model.parameters())])
        for parameter, gradient in zip(self.model.parameters(), gradients, strict=True):
            parameter.grad = gradient.view_as(parameter)
        return loss[0]

    def totals(self, shares: list[float]) -> list[float]:
        """The same: each is the whole batch's already."""
        return shares

    def _firsts(self) -> range:
        return range(0, len(self.gradients), self.each)


def compare(place: Place, step: int, parameters: Parameters) -> None:
    """Raise DeviceLost on all devices where one is about to compute something else than the others."""
    standings: list[Standing] = [Standing({}, 0, {})] * place.devices
    dist.all_gather_object(standings, Standing(program(PACKAGE, *LIBRARIES), step, checksums(parameters)))
    if words := parted(standings):
        raise DeviceLost(words)


def sum_of(vectors: "list[Tensor] | Tensor") -> Tensor:
    """Their sum, from the first to the last."""
    total, *others = vectors
    for vector in others:
        total = total + vector
    return total


def cuts(share: slice, parts: int) -> list[slice]:
    """A share in so many parts, in order."""
    within = shares(share.stop - share.start, parts)
    return [slice(share.start + cut.start, share.start + cut.stop) for cut in within]


def seed_on(dropout: int, place: Place) -> int:
    """The seed of a device's own masks: the same one everywhere would drop the same units of every share."""
    return dropout if place.devices == 1 else seed_for(dropout, "device", place.number)


def check(experiment: Experiment, settings: Settings) -> None:
    """Raise Unsupported for what torch does not compute on several devices as it does on one."""
    inputs = experiment.model.inputs
    if settings.devices == 1 and not settings.fixed_order:
        return
    if settings.compiled:
        raise Unsupported(f"--devices: expected 1 beside --compile (torch), got {settings.devices}")
    if isinstance(inputs, Embedding) and inputs.sparse:
        raise Unsupported(f"--devices: expected 1 beside a sparse embedding (torch), got {settings.devices}")
    if settings.device == "cuda" and torch.cuda.device_count() < settings.devices:
        raise Unsupported(
            f"--devices: expected at most the {torch.cuda.device_count()} CUDA devices that torch can see, got "
            f"{settings.devices}"
        )
