"""What a worker asks of an implementation: the same start on either side and in any process."""

from pathlib import Path

import msgspec

from crosscheck.subject import Subject
from spec.convergence import CONVERGENCE
from spec.framework import Device, Precision, Settings
from spec.parameters import Parameters

DEFAULT_IMPLEMENTATIONS = ("torch_impl", "flax_impl")
"""The first is what the other is compared with; neither is assumed to be right."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What moves results by rounding alone; one record from the command line to workers, recordings and the report.

    compiled: see spec.framework.Settings. choices: "IMPLEMENTATION.CHOICE" -> value, see spec.choices.
    """

    compiled: bool = False
    choices: dict[str, str] = {}

    def words(self) -> list[str]:
        """What asks for them on a command line; nothing for what is as it is by default."""
        chosen = [word for choice, value in self.choices.items() for word in ("--choice", f"{choice}={value}")]
        return [*(["--compile"] if self.compiled else []), *chosen]

    def of(self, implementation: str) -> "Options":
        """Those that concern one implementation, given by its module's name or path."""
        mine = {c: value for c, value in self.choices.items() if c.rpartition(".")[0] == owner(implementation)}
        return msgspec.structs.replace(self, choices=mine)


def owner(implementation: str) -> str:
    """What the choices of an implementation are named after: its module, where it is given by a path too."""
    return Path(implementation).name.removesuffix(".py")


class Request(msgspec.Struct, frozen=True):
    """How one check is to be recorded.

    envelope: whether this side also measures what rounding does to it. seeds: members of an ensemble.
    options: what this implementation is to compute by.
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
            compiled=self.options.compiled,
            choices=tuple((choice.rpartition(".")[2], value) for choice, value in self.options.choices.items()),
        )

    def start(self, subject: Subject) -> Parameters:
        """The parameters that both sides are given."""
        return subject.start(self.seed, self.precision)
