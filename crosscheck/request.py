"""What a worker asks of an implementation: the same start on either side and in any process."""

import msgspec

from crosscheck.subject import Subject
from spec.convergence import CONVERGENCE
from spec.framework import Device, Precision, Recurrence, Settings
from spec.parameters import Parameters

DEFAULT_IMPLEMENTATIONS = ("torch_impl", "flax_impl")
"""The first is what the other is compared with; neither is assumed to be right."""


class Request(msgspec.Struct, frozen=True):
    """How one check is to be recorded.

    envelope: whether this side also measures what rounding does to it. seeds: members of an ensemble.
    recurrence, compiled: see spec.framework.Settings.
    """

    precision: Precision
    device: Device
    seed: int
    envelope: bool = False
    seeds: int = CONVERGENCE.seeds
    recurrence: Recurrence = Settings().recurrence
    compiled: bool = Settings().compiled

    @property
    def settings(self) -> Settings:
        """The settings to hand to the implementation."""
        return Settings(
            precision=self.precision,
            device=self.device,
            recurrence=self.recurrence,
            compiled=self.compiled,
            deterministic=self.device != "cpu",
        )

    def start(self, subject: Subject) -> Parameters:
        """The parameters that both sides are given."""
        return subject.start(self.seed, self.precision)
