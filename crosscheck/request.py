"""What a worker asks of an implementation: the same start on either side and in any process."""

import msgspec

from crosscheck.subject import Subject
from spec.convergence import CONVERGENCE
from spec.framework import Device, Options, Precision, Settings
from spec.parameters import Parameters

DEFAULT_IMPLEMENTATIONS = ("torch_impl", "flax_impl")
"""The first is what the other is compared with; neither is assumed to be right."""


class Request(msgspec.Struct, frozen=True):
    """How one check is to be recorded.

    envelope: whether this side also measures what rounding does to it. seeds: members of an ensemble.
    options: see spec.framework.Options.
    """

    precision: Precision
    device: Device
    seed: int
    envelope: bool = False
    seeds: int = CONVERGENCE.seeds
    options: Options = Options()

    @property
    def settings(self) -> Settings:
        """The settings to hand to the implementation."""
        return Settings(
            precision=self.precision,
            device=self.device,
            deterministic=self.device != "cpu",
            **msgspec.structs.asdict(self.options),
        )

    def start(self, subject: Subject) -> Parameters:
        """The parameters that both sides are given."""
        return subject.start(self.seed, self.precision)
