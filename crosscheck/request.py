"""What a worker asks of an implementation: the same start on either side and in any process."""

import msgspec

from spec import parameters
from spec.convergence import CONVERGENCE
from spec.experiment import Experiment
from spec.framework import Device, Precision, Recurrence, Settings
from spec.parameters import Parameters

SPREAD = 0.1
"""Half-width of the noise on parameters whose law is a constant: a zero bias would hide that it is missing."""


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

    def start(self, experiment: Experiment) -> Parameters:
        """The parameters that both sides are given."""
        return parameters.draw(experiment.model.parameters(), self.seed, self.precision, SPREAD)
