"""What every task is made of: the batch, the base of all tasks, and what is done to batches."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np

IGNORED = -100
"""The target of a step that no loss counts, such as padding. Source: `torch.nn.CrossEntropyLoss.ignore_index`."""


class Batch(NamedTuple):
    """One batch; a NamedTuple, hence easily mapped to a framework's own arrays.

    inputs: floating (batch, time, features) or int64 indices (batch, time).
    targets: int64 (batch, time), or (batch,) where one step is read out; IGNORED where nothing is asked. Of a
        regression floating (batch, time, outputs) or (batch, outputs), the logits' very shape; NaN where nothing is.
    lengths: int64 (batch,), valid steps of each sequence, 0 for some if not for all; None where all are full.
    decoder_inputs: int64 (batch, target time), the targets shifted right behind the start symbol; None where the
        task has none. Only a decoder reads them.
    initial: floating states before the first step, names and shapes as `Model.initial_states` has them; None where
        they are zero.
    resets: bool (batch, time), the steps at which something new begins within a sequence: the state before such a step
        is zero, see `spec.models.recurrent`. At padding they mean nothing. None where there are none.
    """

    inputs: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray | None = None
    decoder_inputs: np.ndarray | None = None
    initial: dict[str, np.ndarray] | None = None
    resets: np.ndarray | None = None


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all tasks.

    Each also has, as a field or as a property: `classes`, how many to choose from, or numbers to say of a regression;
    `length`, steps of an input; `batch_size`, sequences of a training batch; `input_size`, features of a step or number
    of indices; `indices`, whether inputs are indices for an embedding.

    Batches of a task have no states to begin with, whose shapes are the model's: `Experiment.batch` adds them.
    """

    drawn: ClassVar[bool] = True
    """Whether batches depend on the seed and the step; where they do not, one serves for all."""

    drawn_together: ClassVar[int] = 1
    """Steps whose batches come out of one generator."""

    validates: ClassVar[bool] = False
    """Whether more is kept for validations than the evaluation batch has: then it has `validation_batches`."""

    ragged: ClassVar[bool] = False
    """Whether batches have lengths."""

    spells: ClassVar[bool] = False
    """Whether batches have what a decoder reads."""

    transduces: ClassVar[bool] = False
    """Whether targets have lengths of their own, so that only a model that decodes can learn them."""

    @property
    def numeric(self) -> bool:
        """Whether targets are numbers (regression), and not classes."""
        return False

    @property
    def readout(self) -> str:
        """Which steps are asked for, as `Model.readout` has it."""
        return "every step"

    @property
    def initial_deviation(self) -> float:
        """Standard deviation of the states that recurrent models begin with; 0 where they begin with zeros."""
        return 0.0

    @property
    def resets(self) -> bool:
        """Whether batches say at which steps within a sequence something new begins."""
        return False

    has_lowest_loss: ClassVar[bool] = False
    """Whether it is known how low the loss can be, see `lowest_loss`."""

    @property
    def target_length(self) -> int:
        """Steps of the targets, where every step is asked for."""
        return self.length  # type: ignore[attr-defined]

    @property
    def widths(self) -> tuple[int, ...]:
        """The steps that training batches may have, padding included, the shortest first: several where sequences are
        put into buckets by their lengths. Batches of several widths cannot be stacked."""
        return (self.length,)  # type: ignore[attr-defined]

    @property
    def evaluated(self) -> int:
        """Sequences that the model is judged on, where that is more than a training batch may have."""
        return 1

    @property
    def lowest_loss(self) -> float | None:
        """The mean cross-entropy, or of numbers the mean squared error, of the best guess that can be made, on what the
        model is judged on; None where nobody knows it. Computed when it is asked for."""
        return None

    def batch(self, seed: int, step: int, dtype: str) -> Batch:
        """The training batch of that step. Features have the given dtype ("float32" or "float64")."""
        raise NotImplementedError

    def batches(self, seed: int, steps: range, dtype: str) -> Batch:
        """The training batches of at least one step, in the order of `steps`, which every array's first axis is."""
        if self.drawn:
            return stack_batches([self.batch(seed, step, dtype) for step in steps])
        return map_arrays(lambda array: np.broadcast_to(array, (len(steps), *array.shape)), self.batch(seed, 0, dtype))

    def evaluation_batch(self, dtype: str) -> Batch:
        """The batch on which the model is judged, the same at every epoch."""
        raise NotImplementedError

    def validation_batches(self, dtype: str) -> Iterator[Batch]:
        """All that is kept for validations, in batches."""
        raise NotImplementedError

    @property
    def streams(self) -> bool:
        """Whether sequences go on from one batch to the next, and with them a recurrent model's state."""
        return False

    def goes_on(self, steps: range) -> np.ndarray | None:
        """Which sequences of these steps' training batches go on where those of the step before ended, whatever the
        seed: bool (steps, batch). The others begin anew, with a state of zeros. None where none ever goes on.

        The state is a number there, through which no gradient flows: truncated back-propagation through time.
        Source: Williams and Peng (1990).
        """
        del steps
        return None

    @property
    def data_source(self) -> str:
        """What the batches are drawn from, for people, where that is somebody's data; empty where it is not."""
        return ""

    def bits_per_byte(self, logits: np.ndarray, batch: Batch) -> float | None:
        """What a byte of the batch's targets takes, where they are bytes of a text; None where they are not."""
        del logits, batch
        return None

    def predictions(self, logits: np.ndarray) -> np.ndarray:
        """What logits say: the chosen classes, see `predictions`; of a regression the outputs as they are."""
        return logits if self.numeric else predictions(logits)

    def describe(self, predictions: np.ndarray, batch: Batch) -> str:
        """A few words on the predictions, for the line that training prints."""
        if self.numeric:
            explained = explained_variance(predictions, batch.targets)
            more = "" if explained is None else f", R^2 {explained:.3f}"
            return f"RMSE: {root_mean_squared_error(predictions, batch.targets):.4g}{more}"
        right = np.mean((predictions == batch.targets)[batch.targets != IGNORED])
        return f"Accuracy: {right:.3f}"


def map_arrays(function: Callable[..., Any], *batches: Batch) -> Batch:
    """The function of each array that the batches have, and of its counterparts; None where they have none."""
    first, *others = batches
    arrays = {
        name: None if array is None else function(array, *(getattr(other, name) for other in others))
        for name, array in arrays_of(first).items()
    }
    initial = first.initial
    if initial is not None:
        initial = {
            name: function(state, *(other.initial[name] for other in others if other.initial is not None))
            for name, state in initial.items()
        }
    return first._replace(**arrays, initial=initial)


def arrays_of(batch: Any) -> dict[str, Any]:
    """What a batch, or a framework's own record of one, has beside its states, whose first axis is another."""
    return {name: array for name, array in batch._asdict().items() if name != "initial"}


def stack_batches(batches: Sequence[Batch]) -> Batch:
    """Batches of the same shapes as one, every array with a leading axis."""
    return map_arrays(lambda *arrays: np.stack(arrays), *batches)


def repeat(batch: Batch, times: int) -> Batch:
    """A batch of the same sequences so many times over."""
    arrays = {n: None if array is None else np.concatenate([array] * times) for n, array in arrays_of(batch).items()}
    # The sequences are a state's last axis but one.
    states = (batch.initial or {}).items()
    initial = {name: np.concatenate([state] * times, axis=-2) for name, state in states} or None
    return batch._replace(**arrays, initial=initial)


def rows(batch: Any, part: slice, axis: int = 0) -> Any:
    """Some sequences of a batch, or of a framework's own record of one; axis: which they are of all but the states."""
    where = (slice(None),) * axis + (part,)
    arrays = {name: None if array is None else array[where] for name, array in arrays_of(batch).items()}
    # The sequences are a state's last axis but one.
    states = None if batch.initial is None else {name: state[..., part, :] for name, state in batch.initial.items()}
    return batch._replace(**arrays, initial=states)


def fingerprint(batch: Any, goes_on: np.ndarray | None = None) -> int:
    """Eight bytes of the SHA-256 of a batch as a step of training is handed it, as an int64: each of its arrays with
    name, dtype, shape and bytes. Whole numbers count as int64, in whatever width somebody keeps them.

    batch: a `Batch`, or a record of NumPy arrays with such fields. goes_on: see `Task.goes_on`; states that are carried
    are no data, and `initial` is None then.
    """
    found = hashlib.sha256()
    states = {f"initial.{name}": state for name, state in sorted((batch.initial or {}).items())}
    arrays = arrays_of(batch)
    for name, array in {**arrays, **states, "goes_on": goes_on}.items():
        if array is not None:
            plain = np.asarray(array, np.int64 if array.dtype.kind in "iub" else array.dtype.newbyteorder("<"), "C")
            found.update(f"{name} {plain.dtype.str} {plain.shape} ".encode() + plain.tobytes())
    return int.from_bytes(found.digest()[:8], "little", signed=True)


def valid_steps(lengths: np.ndarray, time: int) -> np.ndarray:
    """True where a step belongs to its sequence, False where it is padding, (batch, time)."""
    return np.arange(time) < lengths[:, None]


def is_numeric(targets: np.ndarray) -> bool:
    """Whether targets are numbers (regression), and not classes."""
    return targets.dtype.kind == "f"


def asked(targets: np.ndarray) -> np.ndarray:
    """Which targets are asked for, bool of their shape: classes that are not IGNORED, numbers that are not NaN."""
    return ~np.isnan(targets) if is_numeric(targets) else targets != IGNORED


def not_asked(targets: np.ndarray) -> float | int:
    """What stands among such targets where nothing is asked."""
    return np.nan if is_numeric(targets) else IGNORED


def logits_shape(targets: np.ndarray, classes: int) -> tuple[int, ...]:
    """The shape of the logits that are held against these targets."""
    return targets.shape if is_numeric(targets) else (*targets.shape, classes)


def shift_right(targets: np.ndarray, start: int) -> np.ndarray:
    """What a decoder sees under teacher forcing: `start`, then all targets but the last. Shape (..., time)."""
    previous = np.concatenate([np.full_like(targets[..., :1], start), targets[..., :-1]], axis=-1)
    return np.where(previous == IGNORED, start, previous)


def predictions(logits: np.ndarray) -> np.ndarray:
    """The chosen classes, int64, shape of the logits without their last axis. Ties go to the lowest index."""
    return np.argmax(logits, axis=-1)


def solved(logits: np.ndarray, batch: Batch) -> bool:
    """Whether every step that is asked for is predicted right; never so of numbers, of which none is met to the bit."""
    if is_numeric(batch.targets):
        return False
    known = asked(batch.targets)
    return bool(np.all(predictions(logits)[known] == batch.targets[known]))


def exact_match(predictions: np.ndarray, batch: Batch) -> np.ndarray:
    """The share of a batch's sequences of which everything that is asked for is predicted right: of predictions
    (..., *targets' shape), float64 (...)."""
    right = (predictions == batch.targets) | (batch.targets == IGNORED)
    sequences = len(batch.targets)
    before = right.shape[: right.ndim - batch.targets.ndim]
    return right.reshape(*before, sequences, -1).all(axis=-1).mean(axis=-1)


def root_mean_squared_error(outputs: np.ndarray, targets: np.ndarray) -> float:
    """The root of the mean of (output - target)^2 over what is asked for, in the unit of the targets."""
    known = asked(targets)
    with np.errstate(all="ignore"):
        return float(np.sqrt(np.mean((outputs[known].astype(np.float64) - targets[known]) ** 2)))


def explained_variance(outputs: np.ndarray, targets: np.ndarray) -> float | None:
    """R^2, the coefficient of determination: 1 - sum (output - target)^2 / sum (target - mean)^2 over what is asked
    for, with a mean for each output: 0 for who always says the mean, 1 for who is always right. None where no target
    differs from its mean."""
    known = asked(targets).reshape(-1, targets.shape[-1])
    differences, flat = (array.astype(np.float64).reshape(known.shape) for array in (outputs - targets, targets))
    counts = known.sum(axis=0)
    means = np.where(known, flat, 0).sum(axis=0) / np.maximum(counts, 1)
    total = float((np.where(known, flat - means, 0) ** 2).sum())
    with np.errstate(all="ignore"):
        return 1 - float((np.where(known, differences, 0) ** 2).sum()) / total if total else None
