"""The contract: a few functions that make a module an implementation. NumPy arrays and canonical names throughout.

Any module that has these functions is one, ours and a stranger's; crosscheck imports
it by name. What an implementation leaves out it says by raising `spec.errors.Unsupported`; options of the spec that it
neither differentiates nor trains it may declare beforehand, in a mapping `LEAVES_OUT`: see `spec.options`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
import numpy as np

from spec.parameters import Parameters
from spec.tasks import Batch
from spec.training import State

Device = Literal["cpu", "cuda", "tpu"]
Precision = Literal["float32", "float64"]
Recurrence = Literal["automatic", "scan", "fused", "recomputed"]


class Settings(msgspec.Struct, frozen=True):
    """How to compute. Arguments, never globals that a caller must remember.

    matmul_precision: "highest" computes products in `precision`; "default" leaves the framework its shortcut on an
    accelerator (TF32 on a GPU, bfloat16 on a TPU). No effect on a CPU.
    recurrence: how recurrent layers are computed and differentiated, which moves results by rounding alone. "scan" is
    the one that is read most easily, differentiated by the framework; "fused" has a backward pass of its own, the
    fastest but for small layers; "recomputed" saves memory on long sequences; "automatic" is the first or the second,
    by size. Implementations that have one formulation ignore it.
    compiled: whether to spend seconds on compiling so that trainings run faster, which moves results by rounding alone:
    for an implementation that compiles nothing otherwise, or with less effort. Others ignore it.
    deterministic: whether to compute the same bits every time on an accelerator too, where the framework has a choice:
    slower, and what crosscheck asks for. On a CPU everything is deterministic, whatever this says.
    """

    precision: Precision = "float32"
    device: Device = "cpu"
    matmul_precision: Literal["highest", "default"] = "highest"
    recurrence: Recurrence = "automatic"
    compiled: bool = False
    deterministic: bool = False


class Gradients(NamedTuple):
    """loss: a scalar. parameters: canonical name -> gradient, shaped like the parameter.

    inputs: the gradient by `batch.inputs`, of their shape and precision, zero at padding; None where they are indices.
    """

    loss: float
    parameters: Parameters
    inputs: np.ndarray | None = None


class LossGradient(NamedTuple):
    """loss: a scalar. logits: its gradient by the logits, of their shape."""

    loss: float
    logits: np.ndarray


class Trajectory(NamedTuple):
    """What a stretch of training left behind, all floating arrays in the settings' precision.

    state: after the last step.
    losses: (steps,), the loss of each step's batch, before the step and as it was minimized.
    logits: (epochs, *logits' shape), of the task's evaluation batch after each epoch, in eval mode.
    parameters, slots: name -> (steps, *shape), after each step; empty unless recorded.
    """

    state: State
    losses: np.ndarray
    logits: np.ndarray
    parameters: Parameters
    slots: Parameters


class Replay(NamedTuple):
    """What the optimizer made of given gradients.

    parameters: name -> (steps, *shape), after each step. slots: the same of "<parameter>.<slot>".
    """

    parameters: Parameters
    slots: Parameters


class Ensemble(NamedTuple):
    """What the trainings of many seeds came to, one member a seed, in the order of the seeds.

    losses: (members, steps), as `Trajectory.losses`.
    logits: (members, *logits' shape), of the last epoch's evaluation.
    first_solved: int64 (members,), the time to solve: the first epoch, counted from 1, whose evaluation is solved,
        whether or not later ones are; -1 where none is.
    method: how they were trained: "jit(vmap(scan))", "vmap", "loop".
    """

    losses: np.ndarray
    logits: np.ndarray
    first_solved: np.ndarray
    method: str


Dropout = Mapping[str, np.ndarray] | int | None
"""Masks by site (see `spec.models.keep_masks`); a seed for the framework's own generator; or None, for eval mode."""

MaskSource = Literal["own", "spec"]
"""Whose dropout masks training uses: the framework's own generator's, or those that the spec draws."""


class Framework(Protocol):
    """What a module must offer to be an implementation.

    All functions are pure: same arguments, same result, nothing remembered. All raise `DeviceMissing` for a device
    that is not there, `ParameterMismatch` for parameters that do not fit, and `Unsupported` for what they leave out.
    """

    def describe(self, settings: Settings) -> dict[str, str]:
        """Names and versions of what computes, and the device's name."""
        ...

    def overhead(self) -> dict[str, float]:
        """Seconds that this process has spent so far on what is not computing, by kind: "tracing", "compiling", ...

        It informs, as the times in a report do. May be missing from a module.
        """
        ...

    def initialize(self, experiment: Any, seed: int, settings: Settings) -> Parameters:
        """Parameters drawn from the spec's laws with the framework's own generator."""
        ...

    def round_trip(self, experiment: Any, parameters: Parameters, settings: Settings) -> Parameters:
        """Parameters after they were put into the framework's own modules and taken out again."""
        ...

    def forward(
        self,
        experiment: Any,
        parameters: Parameters,
        batch: Batch,
        settings: Settings,
        dropout: Dropout = None,
    ) -> dict[str, np.ndarray]:
        """Every named intermediate of the model, `logits` included, as `model.intermediates()` lists them."""
        ...

    def gradients(
        self,
        experiment: Any,
        parameters: Parameters,
        batch: Batch,
        settings: Settings,
        dropout: Dropout = None,
    ) -> Gradients:
        """The recipe's loss on the batch, its gradient by every parameter, and by inputs that are numbers."""
        ...

    def loss_gradient(
        self, experiment: Any, logits: np.ndarray, targets: np.ndarray, settings: Settings
    ) -> LossGradient:
        """The recipe's loss alone, of given logits, and its gradient by them, through the code that `train` runs.

        logits: (batch, time, classes) or (batch, classes), of the settings' precision. targets: int64 of that shape
        without classes, of which at least one is not IGNORED.
        May be missing from a module.
        """
        ...

    def predict(self, experiment: Any, parameters: Parameters, batch: Batch, settings: Settings) -> np.ndarray:
        """The logits by which `train` judges the model: greedy where it decodes step by step, else `forward`'s.

        May be missing from a module.
        """
        ...

    def train(
        self,
        experiment: Any,
        state: State,
        epochs: int,
        seed: int,
        settings: Settings,
        record: bool = False,
        masks: MaskSource = "own",
    ) -> Trajectory:
        """Train `epochs` epochs (at least 1) on from `state`, through the code that the train command runs.

        `seed` determines the batches and the dropout masks of each step, together with the step's number, so that a
        training in several stretches is the same as one in a single stretch.
        """
        ...

    def replay(
        self, experiment: Any, parameters: Parameters, gradients: list[Parameters], settings: Settings
    ) -> Replay:
        """The recipe's optimizer alone, from its first step on, given the gradients of every step.

        Clipping, schedule and update are those of `train`. May be missing from a module.
        """
        ...

    def train_starts(
        self, experiment: Any, starts: Sequence[Parameters], seed: int, settings: Settings
    ) -> list[Trajectory]:
        """The whole recipe from each of several starts, recorded, with the same batches and the spec's masks.

        What `train` gives from each of them, but for rounding; together, where that is faster. It shows what a change
        of the start comes to, so each must not depend on the others. May be missing from a module.
        """
        ...

    def train_ensemble(
        self, experiment: Any, seeds: Sequence[int], settings: Settings, chunk: int | None = None
    ) -> Ensemble:
        """Train one member for each seed through the whole recipe (at least 1 epoch and 1 seed), many at once.

        A member is the run that starts from `initialize` with its seed and trains with it, but for rounding; it does
        not depend on the others. chunk: members trained at once, which bounds the memory; None leaves it to
        `spec.ensemble`. Who compiles for a number of members fills up to it, so that equal chunks compile once.
        May be missing from a module.
        """
        ...


CONTRACT = (
    "describe",
    "overhead",
    "initialize",
    "round_trip",
    "forward",
    "gradients",
    "loss_gradient",
    "predict",
    "train",
    "replay",
    "train_starts",
    "train_ensemble",
)
"""The functions of the contract, by name."""

OPTIONAL = ("overhead", "loss_gradient", "predict", "replay", "train_starts", "train_ensemble")
"""Those that a module may lack; crosscheck then reports "not checked"."""


def compiles(framework: Framework) -> bool:
    """Whether an implementation compiles trainings, and so anew for another length: `overhead` tells."""
    overhead = getattr(framework, "overhead", None)
    return overhead is not None and "compiling" in overhead()
