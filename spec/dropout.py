"""Where units are dropped in training, and the masks that both sides are given."""

from typing import Any, Protocol

import msgspec
import numpy as np


class DropoutSite(msgspec.Struct, frozen=True):
    """One place where units are dropped in training: shape of what is dropped from, and the probability."""

    shape: tuple[int, ...]
    rate: float


class Dropping(Protocol):
    """What drops units: a model, or whatever stands for one."""

    def dropout_sites(self, batch: int, time: int) -> dict[str, DropoutSite]:
        """Where, by name, for a batch of that size."""
        ...


def keep_masks(model: Dropping, batch: int, time: int, generator: "np.random.Generator") -> dict[str, Any]:
    """Draw one step's dropout masks: 0 where a unit is dropped, 1 / (1 - rate) where it is kept, float64.

    crosscheck gives both sides these bytes, so that training with dropout can be compared step by step.
    """
    return {
        name: (generator.random(site.shape) >= site.rate) / (1.0 - site.rate)
        for name, site in model.dropout_sites(batch, time).items()
    }
