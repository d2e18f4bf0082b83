"""Dropout's masks for the members of an ensemble: drawn outside of `vmap`, by the seeds that each has alone."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from spec.experiment import Experiment
from spec.framework import Settings
from spec.tasks import Batch
from torch_impl.build import build
from torch_impl.dropout import mode
from torch_impl.recurrent import Recurrent
from torch_impl.settings import dtype_of
from torch_impl.training import dropout_of, to_tensors


class Site(NamedTuple):
    """A place that drops units: its name, a tensor laid out like what is dropped from, and the probability.

    time_first: whether that tensor's first two axes are (time, batch), where the site's own are (batch, time).
    """

    name: str
    template: Tensor
    rate: float
    time_first: bool


def dropout_sites(experiment: Experiment, start: Mapping[str, np.ndarray], settings: Settings) -> list[Site]:
    """Where a member trained alone draws its masks, in the order in which it does."""
    if not experiment.model.has_dropout:
        return []
    arrays = experiment.batch(0, 0, settings.precision)
    model = build(experiment.model, dict(start), settings)
    sites: list[Site] = []

    def watch(name: str, module: nn.Dropout) -> None:
        def see(_: nn.Module, inputs: tuple[Tensor]) -> None:
            if module.p:
                sites.append(Site(name, inputs[0].detach(), module.p, time_first=False))

        module.register_forward_pre_hook(see)

    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            watch(name, module)
    with mode(model, 0):
        model(to_tensors(arrays, settings))
    if isinstance(model, Recurrent):
        batch, time = arrays.inputs.shape[:2]
        like = torch.empty(time, batch, model.rnn.hidden_size * model.directions, dtype=dtype_of(settings))
        between = range(model.rnn.num_layers - 1)
        sites += [Site(f"rnn.dropout_l{layer}", like, model.rnn.dropout, time_first=True) for layer in between]
    return sites


class Masks:
    """Every member's masks of a step: the very ones that torch draws for it alone, with its seed."""

    def __init__(self, experiment: Experiment, sites: list[Site], seeds: Sequence[int]):
        self.experiment, self.sites, self.seeds = experiment, sites, seeds
        self.generator = torch.Generator()
        # Laid out like what is dropped from, which is the order in which the generator fills them.
        self.kept = [
            torch.empty_strided(
                (len(seeds), *site.template.shape),
                (site.template.numel(), *site.template.stride()),
                dtype=site.template.dtype,
            )
            for site in sites
        ]
        # Taken apart once: to do so at every step takes longer than to draw them.
        self.by_member = list(zip(*(kept.unbind() for kept in self.kept), strict=True))

    def draw(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """By site, (members, *site's shape); nothing where nothing is dropped."""
        if not self.sites:
            return {}
        for seed, own in zip(self.seeds, self.by_member, strict=True):
            self.generator.manual_seed(int(np.asarray(dropout_of(self.experiment, batch, seed, step, "own"))))
            for site, kept in zip(self.sites, own, strict=True):
                kept.bernoulli_(1 - site.rate, generator=self.generator)
        scaled = {}
        for site, kept in zip(self.sites, self.kept, strict=True):
            mask = kept / (1 - site.rate)
            scaled[site.name] = mask.transpose(1, 2) if site.time_first else mask
        return scaled
