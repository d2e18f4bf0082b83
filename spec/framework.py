"""The contract: two functions that make a module an implementation. NumPy arrays and canonical names throughout.

Any module that has `describe` and `open` is an implementation, and crosscheck imports it by name. `open` gives a
`Side`: functions bound to what is asked about and to the settings. What an implementation leaves out, its functions (or
`open`) say by raising `spec.errors.Unsupported`; options of the spec that it neither differentiates nor trains it may
declare beforehand, in a mapping `LEAVES_OUT`: see `spec.options`; and in a mapping `CHOICES` what it alone has a choice
of: see `spec.choices`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, NoReturn, Protocol

import msgspec
import numpy as np

from spec.errors import Unsupported
from spec.parameters import Parameters
from spec.tasks import Batch
from spec.training import State

Device = Literal["cpu", "cuda", "tpu"]
Precision = Literal["float32", "float64"]


class Settings(msgspec.Struct, frozen=True):
    """How to compute. Arguments, never globals that a caller must remember.

    matmul_precision: "highest" computes products in `precision`; "default" leaves the framework its shortcut on an
    accelerator (TF32 on a GPU, bfloat16 on a TPU). No effect on a CPU.
    deterministic: whether to compute the same bits every time on an accelerator too, where the framework has a choice:
    slower, and what crosscheck asks for. On a CPU everything is deterministic, whatever this says.
    compiled: whether to spend seconds on compiling so that trainings run faster: for an implementation that compiles
    nothing otherwise, or with less effort. It moves results by rounding alone.
    choices: (name, value) of what this implementation alone has a choice of, see spec.choices.
    devices: how many devices of that kind `train_on_devices` computes on; all else is computed on the first.
    fixed_order: whether `train_on_devices` takes each batch in spec.devices.SHARDS shares and adds their gradients in
    that order, so that weights are the same bits on every number of devices that divides them. On a CPU.
    """

    precision: Precision = "float32"
    device: Device = "cpu"
    matmul_precision: Literal["highest", "default"] = "highest"
    deterministic: bool = False
    compiled: bool = False
    choices: tuple[tuple[str, str], ...] = ()
    devices: int = 1
    fixed_order: bool = False


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
    logits: (epochs, *logits' shape), of the task's evaluation batch after each epoch, or part of one, in eval mode.
    parameters, slots, carried: name -> (steps, *shape), after each step, as `State` has them; empty unless recorded.
    batches: int64 (steps,), the `spec.tasks.fingerprint` of what each step was trained on, taken where it is handed to
        the step and not where it is drawn; None unless recorded, and where an implementation does not say.
    """

    state: State
    losses: np.ndarray
    logits: np.ndarray
    parameters: Parameters
    slots: Parameters
    carried: Parameters = {}  # noqa: RUF012 (nobody writes into it)
    batches: np.ndarray | None = None

    def after(self, steps: int, before: int = 0) -> State:
        """The state after so many of its recorded steps, at least one. before: the steps that it began after."""
        parameters, slots, carried = (
            {name: array[steps - 1] for name, array in held.items()}
            for held in (self.parameters, self.slots, self.carried)
        )
        return State(parameters, slots, before + steps, carried)


class Replay(NamedTuple):
    """What the optimizer made of given gradients.

    parameters: name -> (steps, *shape), after each step. slots: the same of "<parameter>.<slot>".
    """

    parameters: Parameters
    slots: Parameters


class Generation(NamedTuple):
    """What a model wrote on from a prompt.

    symbols: int64 (batch, count). logits: (batch, count, classes), those that each symbol was chosen by.
    """

    symbols: np.ndarray
    logits: np.ndarray


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


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """What an implementation does with one experiment (or whatever else it was opened with), under some settings.

    All functions are pure: same arguments, same result, nothing remembered. All raise `DeviceMissing` for a device
    that is not there, `ParameterMismatch` for parameters that do not fit, and `Unsupported` for what they leave out.
    Arguments that may be left out are handed over by name. The last eight functions may be missing, and None then;
    crosscheck reports "not checked" where nothing else will do: see `need`.

    initialize(seed): parameters drawn from the spec's laws with the framework's own generator.

    round_trip(parameters): parameters after they were put into the framework's own modules and taken out again.

    forward(parameters, batch, dropout=None): every named intermediate of the model, `logits` included, as
    `model.intermediates()` lists them. dropout: see `Dropout`.

    gradients(parameters, batch, dropout=None) -> `Gradients`: the recipe's loss on the batch, its gradient by every
    parameter, and by inputs that are numbers.

    train(state, epochs, seed, record=False, masks="own", part=None) -> `Trajectory`: train `epochs` epochs (at least 1)
    on from `state`, through the code that the train command runs. `seed` determines the batches and the dropout masks
    of each step, together with the step's number, so that a training in several stretches is the same as one in a
    single stretch. masks: see `MaskSource`. part: optimizer steps (at least 1) of each of these epochs where they are
    parts of the recipe's, each with its evaluation; handed over for parts alone.

    loss_gradient(logits, targets) -> `LossGradient`: the recipe's loss alone, of given logits, and its gradient by
    them, through the code that `train` runs. logits: (batch, time, classes) or (batch, classes), of the settings'
    precision. targets: int64 of that shape without classes, of which at least one is not IGNORED; or numbers of that
    very shape and precision, of which at least one is not NaN.

    predict(parameters, batch): the logits by which `train` judges the model: greedy where it decodes step by step, else
    `forward`'s.

    generate(parameters, prompt, count, temperature=0.0, seed=0) -> `Generation`: what the model writes on from a
    prompt, int64 (batch, time), by `count` symbols (at least 1), see spec.generation. Each step is computed once, from
    the state that the one before it left. Who compiles does so for a batch size alone, whatever the lengths. Raises
    InvalidBatch for a model that reads none of what it writes, and for a prompt that it cannot take.

    replay(parameters, gradients) -> `Replay`: the recipe's optimizer alone, from its first step on, given the gradients
    of every step. Clipping, schedule and update are those of `train`.

    train_starts(starts, seed) -> a list of `Trajectory`: the whole recipe from each of several starts, recorded, with
    the same batches and the spec's masks. What `train` gives from each of them, but for rounding; together, where that
    is faster. It shows what a change of the start comes to, so each must not depend on the others.

    train_on_devices: takes and gives what `train` does, but for rounding, and computes on the settings' `devices`, see
    spec.devices. Raises UsageError where batches are not to be shared out among so many, and DeviceLost where one is no
    more there. An implementation's own masks are others than those of `train`, with the same law.

    train_ensemble(seeds, chunk=None) -> `Ensemble`: one member for each seed trained through the whole recipe (at least
    1 epoch and 1 seed), many at once. A member is the run that starts from `initialize` with its seed and trains with
    it, but for rounding; it does not depend on the others. chunk: members trained at once, which bounds the memory;
    None leaves it to `spec.ensemble`. Who compiles for a number of members fills up to it, so that equal chunks compile
    once.

    generators(draw) -> states of the framework's process-wide random generators, by name; none where it has none. draw:
    whether a number is drawn from each first. No other function may leave them otherwise than it found them: they are
    the caller's.

    compiles: whether trainings are compiled, and so anew for another length. spent: seconds that this process has spent
    so far on what is not computing, by kind ("tracing", "compiling", ...), as they are when they are looked at; they
    inform, as the times in a report do. counts: how often it did something of that sort, by kind ("compilations").
    unheeded: which setting is not heeded here, and why, in a line for who asked for it; empty for none.
    """

    initialize: Callable[[int], Parameters]
    round_trip: Callable[[Parameters], Parameters]
    forward: Callable[..., dict[str, np.ndarray]]
    gradients: Callable[..., Gradients]
    train: Callable[..., Trajectory]
    loss_gradient: Callable[[np.ndarray, np.ndarray], LossGradient] | None = None
    predict: Callable[[Parameters, Batch], np.ndarray] | None = None
    generate: Callable[..., Generation] | None = None
    replay: Callable[[Parameters, list[Parameters]], Replay] | None = None
    train_starts: Callable[[Sequence[Parameters], int], list[Trajectory]] | None = None
    train_on_devices: Callable[..., Trajectory] | None = None
    train_ensemble: Callable[..., Ensemble] | None = None
    generators: Callable[[bool], dict[str, np.ndarray]] | None = None
    compiles: bool = False
    spent: Mapping[str, float] = {}
    counts: Mapping[str, int] = {}
    unheeded: str = ""

    def need(self, name: str) -> Callable[..., Any]:
        """A function that may be missing. Raises Unsupported where it is."""
        function = getattr(self, name)
        return missing(name) if function is None else function

    def functions(self) -> dict[str, Callable[..., Any]]:
        """Those that are there, by name."""
        every = {name: getattr(self, name) for name in FUNCTIONS}
        return {name: function for name, function in every.items() if function is not None}


FUNCTIONS = tuple(field for field in Side.__struct_fields__ if field not in ("compiles", "spent", "counts", "unheeded"))
"""Names of a side's functions."""

REQUIRED = tuple(field.name for field in msgspec.structs.fields(Side) if field.required)
"""Those that every side has."""


class Framework(Protocol):
    """What a module must offer to be an implementation."""

    def describe(self, settings: Settings) -> dict[str, str]:
        """Names and versions of what computes, and the device's name. Raises DeviceMissing."""
        ...

    def open(self, subject: Any, settings: Settings) -> Side:
        """The side of an `Experiment`, or of what else the implementation takes. Costs nothing: nothing is computed."""
        ...


def side_of(namespace: Mapping[str, Any], subject: Any, settings: Settings, **given: Any) -> Side:
    """A side of those functions of a namespace, such as a module's `globals()`, that have the names of a side's.

    Each is one of (subject, arguments ..., settings, options ...) there. given: what the side has as it is, whatever
    stands in the namespace. One that every side has, and that is nowhere, raises Unsupported when it is called.
    """
    made: dict[str, Any] = {name: partial(missing, name) for name in REQUIRED}
    made |= {name: bound(subject, settings, namespace[name]) for name in FUNCTIONS if name in namespace}
    return Side(**made | given)


def missing(name: str, *_: Any, **__: Any) -> NoReturn:
    """In the place of a function that an implementation does not have. Raises Unsupported."""
    raise Unsupported(f"it has no function `{name}`")


def bound(subject: Any, settings: Settings, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of (subject, arguments ..., settings, options ...), with subject and settings known: one of a side."""

    def call(*arguments: Any, **options: Any) -> Any:
        return function(subject, *arguments, settings, **options)

    return call
