"""What is learned: batches as a pure function of (task, seed, step), so that every side sees the same bytes."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec
import numpy as np

from spec.errors import InvalidBatch
from spec.limits import LARGEST_LENGTH
from spec.models import Embedding, Model
from spec.models.base import Length, NonNegative, Size
from spec.parameters import generator_for
from spec.typical import typical

IGNORED = -100
"""The target of a step that no loss counts, such as padding. Source: `torch.nn.CrossEntropyLoss.ignore_index`."""


STEPS_DRAWN_TOGETHER = 100
"""Steps whose batches come out of one generator: to make one takes longer than to draw a hundred batches from it."""


Text = Annotated[str, msgspec.Meta(min_length=1, max_length=LARGEST_LENGTH)]


class Batch(NamedTuple):
    """One batch; a NamedTuple, hence easily mapped to a framework's own arrays.

    inputs: floating (batch, time, features) or int64 indices (batch, time).
    targets: int64 (batch, time), or (batch,) where one step is read out; IGNORED where nothing is asked.
    lengths: int64 (batch,), valid steps of each sequence, 0 for some if not for all; None where all are full.
    decoder_inputs: int64 (batch, target time), the targets shifted right behind the start symbol; None where the
        task has none. Only a decoder reads them.
    initial: floating states before the first step, names and shapes as `Model.initial_states` has them; None where
        they are zero.
    """

    inputs: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray | None = None
    decoder_inputs: np.ndarray | None = None
    initial: dict[str, np.ndarray] | None = None


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all tasks.

    Each also has, as a field or as a property: `classes`, how many to choose from; `length`, steps of an input;
    `batch_size`, sequences of a training batch; `input_size`, features of a step or number of indices; `indices`,
    whether inputs are indices for an embedding.

    Batches of a task have no states to begin with, whose shapes are the model's: `Experiment.batch` adds them.
    """

    drawn: ClassVar[bool] = True
    """Whether batches depend on the seed and the step; where they do not, one serves for all."""

    drawn_together: ClassVar[int] = 1
    """Steps whose batches come out of one generator."""

    ragged: ClassVar[bool] = False
    """Whether batches have lengths."""

    spells: ClassVar[bool] = False
    """Whether batches have what a decoder reads."""

    @property
    def readout(self) -> str:
        """Which steps are asked for, as `Model.readout` has it."""
        return "every step"

    @property
    def initial_deviation(self) -> float:
        """Standard deviation of the states that recurrent models begin with; 0 where they begin with zeros."""
        return 0.0

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

    def describe(self, predictions: np.ndarray, batch: Batch) -> str:
        """A few words on the predictions, for the line that training prints."""
        right = np.mean((predictions == batch.targets)[batch.targets != IGNORED])
        return f"Accuracy: {right:.3f}"


class Spelling(Task, frozen=True, kw_only=True, tag_field="name"):
    """Turn one string into another, symbol by symbol: hello into ohlol.

    characters: the vocabulary, index by index. encoding: what the model is given.
    """

    characters: Annotated[Text, typical("eho", "ehlo", "ab", "abcde", "abcdefg", "abcdefghi")]
    source: Annotated[Text, typical(letters_of="characters")]
    target: Annotated[Text, typical(letters_of="characters", as_long_as="source")]
    encoding: Annotated[Literal["one-hot", "index"], typical("one-hot")]
    batch_size: Size = 1

    drawn: ClassVar[bool] = False
    spells: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if len(set(self.characters)) < len(self.characters):
            raise ValueError(f"characters: expected each one once, got {self.characters!r}")
        for key in ("source", "target"):
            unknown = sorted(set(getattr(self, key)) - set(self.characters))
            if unknown:
                raise ValueError(f"{key}: expected characters out of {self.characters!r}, got {unknown[0]!r}")
        if len(self.target) != len(self.source):
            raise ValueError(
                f"target: expected as many characters as the source has ({len(self.source)}), "
                f"got {len(self.target)} in {self.target!r}"
            )

    @property
    def classes(self) -> int:
        return len(self.characters)

    @property
    def length(self) -> int:
        return len(self.source)

    @property
    def input_size(self) -> int:
        return len(self.characters)

    @property
    def indices(self) -> bool:
        return self.encoding == "index"

    def batch(self, seed: int, step: int, dtype: str) -> Batch:
        del seed, step  # There is one pair of strings.
        return self._batch(self.batch_size, dtype)

    def evaluation_batch(self, dtype: str) -> Batch:
        return self._batch(1, dtype)

    def _batch(self, size: int, dtype: str) -> Batch:
        index = {character: number for number, character in enumerate(self.characters)}
        source, target = (
            np.tile(np.array([index[c] for c in text], np.int64), (size, 1)) for text in (self.source, self.target)
        )
        inputs = source if self.indices else (source[..., None] == np.arange(self.classes)).astype(dtype)
        return Batch(inputs, target, decoder_inputs=shift_right(target, self.classes))

    def describe(self, predictions: np.ndarray, batch: Batch) -> str:
        return "Predicted string: " + "".join(self.characters[index] for index in predictions[0])


class FirstSymbol(Task, frozen=True, kw_only=True, tag_field="name"):
    """Say after the last step which symbol came first: class = first symbol mod classes. Many to one.

    Training draws sequences uniformly; judged on every sequence there is, so that "solved" means it knows the rule.
    """

    vocabulary: Annotated[Size, typical(2, 3, 1, 4)]
    length: Annotated[Length, typical(*range(1, 6))]
    classes: Size
    batch_size: Size

    drawn_together: ClassVar[int] = STEPS_DRAWN_TOGETHER

    def __post_init__(self) -> None:
        # The exponent is bounded first: of a huge one, even the power would take forever.
        if self.vocabulary ** min(self.length, 64) > 10_000:
            raise ValueError(f"length: expected at most 10000 sequences in all, got {self.vocabulary}^{self.length}")
        if self.classes > self.vocabulary:
            raise ValueError(f"classes: expected at most the vocabulary's {self.vocabulary}, got {self.classes}")

    @property
    def input_size(self) -> int:
        return self.vocabulary

    @property
    def indices(self) -> bool:
        return True

    @property
    def readout(self) -> str:
        return "last step"

    def batch(self, seed: int, step: int, dtype: str) -> Batch:
        return map_arrays(lambda array: array[0], self.batches(seed, range(step, step + 1), dtype))

    def batches(self, seed: int, steps: range, dtype: str) -> Batch:
        del dtype  # Indices have none.
        shape = (STEPS_DRAWN_TOGETHER, self.batch_size, self.length)
        return self._batch(_out_of_blocks(steps, lambda block: _draw_symbols(seed, block, self.vocabulary, shape)))

    def evaluation_batch(self, dtype: str) -> Batch:
        del dtype
        return self._batch(np.array(list(itertools.product(range(self.vocabulary), repeat=self.length)), np.int64))

    def _batch(self, inputs: np.ndarray) -> Batch:
        return Batch(inputs, inputs[..., 0] % self.classes)


class Echo(Task, frozen=True, kw_only=True, tag_field="name"):
    """Say at each step which symbol came `delay` steps before, in sequences of several lengths.

    The first sequence of a batch has all `length` steps, the others anything from `shortest` on. Nothing is asked of
    the first `delay` steps, nor of padding, which holds symbols all the same. With `readout` "last step" it is asked
    after a sequence's last step alone, and nothing of a sequence that has no more than `delay`.

    encoding: what the model is given. initial_deviation: standard deviation of the states that a recurrent model
    begins with, which are drawn for each batch, so that it has to forget them; 0: it begins with zeros.
    Judged on a fixed draw of EVALUATED sequences of all lengths.
    """

    vocabulary: Annotated[Size, typical(2, 3, 1, 4, 6)]
    length: Annotated[Length, typical(*range(2, 8), 1)]
    shortest: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_LENGTH), typical(1, 0, 2)]
    delay: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_LENGTH), typical(1, 0, 2)]
    encoding: Annotated[Literal["one-hot", "index"], typical("one-hot")]
    batch_size: Size
    readout: Literal["every step", "last step"] = "every step"  # pyright: ignore[reportIncompatibleMethodOverride]
    initial_deviation: Annotated[NonNegative, typical(0.5, 1.0)] = 0.0  # pyright: ignore[reportIncompatibleMethodOverride]

    drawn_together: ClassVar[int] = STEPS_DRAWN_TOGETHER
    ragged: ClassVar[bool] = True
    spells: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.shortest > self.length:
            raise ValueError(f"shortest: expected at most length = {self.length}, got {self.shortest}")
        if self.delay >= self.length:
            raise ValueError(f"delay: expected less than length = {self.length}, got {self.delay}")

    @property
    def classes(self) -> int:
        return self.vocabulary

    @property
    def input_size(self) -> int:
        return self.vocabulary

    @property
    def indices(self) -> bool:
        return self.encoding == "index"

    def batch(self, seed: int, step: int, dtype: str) -> Batch:
        return map_arrays(lambda array: array[0], self.batches(seed, range(step, step + 1), dtype))

    def batches(self, seed: int, steps: range, dtype: str) -> Batch:
        shape = (STEPS_DRAWN_TOGETHER, self.batch_size)
        lengths = _out_of_blocks(steps, lambda block: _draw_lengths(seed, block, self.shortest, self.length, shape))
        symbols = _out_of_blocks(
            steps, lambda block: _draw_symbols(seed, block, self.vocabulary, (*shape, self.length))
        )
        return self._batch(symbols, lengths, dtype)

    def evaluation_batch(self, dtype: str) -> Batch:
        generator = generator_for(0, "evaluation")
        symbols = generator.integers(0, self.vocabulary, (EVALUATED, self.length), np.int64)
        lengths = self.length - np.arange(EVALUATED) % (self.length - self.shortest + 1)
        return self._batch(symbols, lengths, dtype)

    def _batch(self, symbols: np.ndarray, lengths: np.ndarray, dtype: str) -> Batch:
        """Of symbols (..., batch, time) and lengths (..., batch)."""
        steps = np.arange(self.length)
        asked = (steps >= self.delay) & (steps < lengths[..., None])
        targets = np.where(asked, np.roll(symbols, self.delay, axis=-1), IGNORED)
        inputs = symbols if self.indices else (symbols[..., None] == np.arange(self.vocabulary)).astype(dtype)
        if self.readout == "every step":
            return Batch(inputs, targets, lengths, decoder_inputs=shift_right(targets, self.classes))
        # Of an empty sequence the first step, of which nothing is asked either.
        last = np.maximum(lengths - 1, 0)[..., None]
        return Batch(inputs, np.take_along_axis(targets, last, axis=-1)[..., 0], lengths)


EVALUATED = 32
"""Sequences on which an `Echo` is judged."""


def _out_of_blocks(steps: Sequence[int], draw: Callable[[int], np.ndarray]) -> np.ndarray:
    """What is drawn for each of these steps, (steps, ...), of what `draw` gives for STEPS_DRAWN_TOGETHER at once.

    A copy of what is kept, which a caller may change.
    """
    blocks = range(min(steps) // STEPS_DRAWN_TOGETHER, max(steps) // STEPS_DRAWN_TOGETHER + 1)
    drawn = np.concatenate([draw(block) for block in blocks])
    return drawn[np.array(steps) - blocks[0] * STEPS_DRAWN_TOGETHER]


@lru_cache(maxsize=2)
def _draw_symbols(seed: int, block: int, vocabulary: int, shape: tuple[int, ...]) -> np.ndarray:
    """A block's indices, int64. Kept, since a loop asks for one step after another; few, since they may be large."""
    return generator_for(seed, "batch", block).integers(0, vocabulary, shape, np.int64)


@lru_cache(maxsize=2)
def _draw_lengths(seed: int, block: int, shortest: int, longest: int, shape: tuple[int, ...]) -> np.ndarray:
    """A block's lengths, int64, the first of each batch the longest."""
    drawn = generator_for(seed, "lengths", block).integers(shortest, longest + 1, shape, np.int64)
    drawn[..., 0] = longest
    return drawn


class Noise(Task, frozen=True, kw_only=True, tag_field="name"):
    """One fixed draw of standard normal features and random targets: something to look at, nothing to learn."""

    features: Size
    length: Length
    classes: Size
    batch_size: Size = 1

    @property
    def input_size(self) -> int:
        return self.features

    @property
    def indices(self) -> bool:
        return False

    def batch(self, seed: int, step: int, dtype: str) -> Batch:
        generator = generator_for(seed, "batch", step)
        inputs = generator.normal(size=(self.batch_size, self.length, self.features)).astype(dtype)
        return Batch(inputs, generator.integers(0, self.classes, (self.batch_size, self.length), np.int64))

    def evaluation_batch(self, dtype: str) -> Batch:
        return self.batch(0, 0, dtype)


AnyTask = Spelling | FirstSymbol | Noise | Echo


def draw_initial(
    task: AnyTask, model: Model, seed: int, steps: Sequence[int], dtype: str
) -> dict[str, np.ndarray] | None:
    """The states that the training batches of these steps begin with: name -> floating (steps, *shape), names and
    shapes as `Model.initial_states` has them. None where they are zero."""
    if not task.initial_deviation:
        return None
    return {
        name: (
            task.initial_deviation
            * _out_of_blocks(steps, lambda block, name=name, shape=shape: _draw_states(seed, name, block, shape))
        ).astype(dtype)
        for name, shape in model.initial_states(task.batch_size).items()
    }


def evaluation_initial(task: AnyTask, model: Model, count: int, dtype: str) -> dict[str, np.ndarray] | None:
    """The states that an evaluation batch of so many sequences begins with; None where they are zero."""
    if not task.initial_deviation:
        return None
    return {
        name: (task.initial_deviation * generator_for(0, "evaluation", name).normal(size=shape)).astype(dtype)
        for name, shape in model.initial_states(count).items()
    }


@lru_cache(maxsize=4)
def _draw_states(seed: int, name: str, block: int, shape: tuple[int, ...]) -> np.ndarray:
    """A block's states of that name, standard normal, float64 (STEPS_DRAWN_TOGETHER, *shape)."""
    return generator_for(seed, "initial", name, block).normal(size=(STEPS_DRAWN_TOGETHER, *shape))


def map_arrays(function: Callable[..., Any], *batches: Batch) -> Batch:
    """The function of each array that the batches have, and of its counterparts; None where they have none."""
    first, *others = batches
    arrays: Any = (
        None if column[0] is None else function(*column)
        for column in zip(*(batch[:4] for batch in batches), strict=True)
    )
    initial = first.initial
    if initial is not None:
        initial = {
            name: function(state, *(other.initial[name] for other in others if other.initial is not None))
            for name, state in initial.items()
        }
    return Batch(*arrays, initial=initial)


def stack_batches(batches: Sequence[Batch]) -> Batch:
    """Batches of the same shapes as one, every array with a leading axis."""
    return map_arrays(lambda *arrays: np.stack(arrays), *batches)


def repeat(batch: Batch, times: int) -> Batch:
    """A batch of the same sequences so many times over."""
    arrays: Any = (None if array is None else np.concatenate([array] * times) for array in batch[:4])
    # The sequences are a state's last axis but one.
    states = (batch.initial or {}).items()
    initial = {name: np.concatenate([state] * times, axis=-2) for name, state in states} or None
    return Batch(*arrays, initial=initial)


def valid_steps(lengths: np.ndarray, time: int) -> np.ndarray:
    """True where a step belongs to its sequence, False where it is padding, (batch, time)."""
    return np.arange(time) < lengths[:, None]


def check(model: Model, batch: Batch) -> None:
    """Raise InvalidBatch for inputs, lengths or states that the model cannot take; padding may hold anything."""
    inputs, lengths = batch.inputs, batch.lengths
    if lengths is not None and inputs.ndim > 1:
        count, time = inputs.shape[:2]
        if lengths.shape != (count,) or not np.issubdtype(lengths.dtype, np.integer):
            raise InvalidBatch(f"lengths: expected integer ({count},), got {lengths.dtype} {lengths.shape}")
        if np.any((lengths < 0) | (lengths > time)) or not np.any(lengths):
            raise InvalidBatch(f"lengths: expected 0 to {time}, and not 0 everywhere, got {lengths.tolist()}")
        inputs = inputs.copy()
        inputs[~valid_steps(lengths, time)] = 0
    model.inputs.check(inputs)
    if batch.initial is None:
        return
    expected = model.initial_states(len(inputs))
    if batch.initial.keys() != expected.keys():
        raise InvalidBatch(f"initial: expected {sorted(expected)} or None, got {sorted(batch.initial)}")
    for name, shape in expected.items():
        state = batch.initial[name]
        if state.shape != shape or not np.issubdtype(state.dtype, np.floating):
            raise InvalidBatch(f"initial: {name}: expected floating {shape}, got {state.dtype} {state.shape}")


Shape = tuple[int, ...]


def check_shapes(
    model: Model,
    inputs: Shape,
    lengths: Shape | None,
    decoder_inputs: Shape | None,
    initial: Mapping[str, Shape] | None,
    *,
    is_integer: bool,
) -> None:
    """Raise InvalidBatch for arrays of shapes that the model cannot take; for who must not look at values.

    is_integer: whether the inputs are; they are floating otherwise.
    """
    if isinstance(model.inputs, Embedding):
        expected, fits = "integer (batch, time)", is_integer and len(inputs) == 2
    else:
        size = model.inputs.size
        expected, fits = f"floating (batch, time, {size})", not is_integer and len(inputs) == 3 and inputs[-1] == size
    if not fits:
        raise InvalidBatch(f"inputs: expected {expected}, got {'integer' if is_integer else 'floating'} {inputs}")
    count, time = inputs[:2]
    if model.max_length is not None and time > model.max_length:
        raise InvalidBatch(f"inputs: expected at most {model.max_length} steps, got {time}")
    if lengths is not None and lengths != (count,):
        raise InvalidBatch(f"lengths: expected ({count},), got {lengths}")
    if model.decodes and (decoder_inputs is None or len(decoder_inputs) != 2 or decoder_inputs[0] != count):
        raise InvalidBatch(f"decoder_inputs: expected ({count}, target time), got {decoder_inputs}")
    if not model.decodes and decoder_inputs is not None:
        raise InvalidBatch(f"decoder_inputs: expected None for a model that does not decode, got {decoder_inputs}")
    if initial is not None and dict(initial) != (states := model.initial_states(count)):
        raise InvalidBatch(f"initial: expected {states or None}, got {dict(initial)}")


def shift_right(targets: np.ndarray, start: int) -> np.ndarray:
    """What a decoder sees under teacher forcing: `start`, then all targets but the last. Shape (..., time)."""
    previous = np.concatenate([np.full_like(targets[..., :1], start), targets[..., :-1]], axis=-1)
    return np.where(previous == IGNORED, start, previous)


def random_batch(
    model: Model,
    lengths: list[int],
    seed: int,
    dtype: str,
    *,
    target_length: int | None = None,
    initial: bool = False,
) -> Batch:
    """A batch of random inputs and targets that the model can take, one sequence for each length, padded to the
    longest. Padding holds zeros (or index 0), and its targets are IGNORED.

    Where there is room, the first and the last index of the vocabulary are among the valid inputs, the first and the
    last class among the targets, and one target that is no padding's is IGNORED.

    target_length: steps of the targets, where the model decodes; as many as the inputs' if None. initial: random
    states before the first step, where the model has any. Raises ValueError for a target_length that nothing reads.
    """
    if target_length is not None and not model.decodes:
        raise ValueError(f"target_length: expected None for a model that does not decode, got {target_length}")
    generator = generator_for(seed, "random batch")
    count, time = len(lengths), max(lengths)
    valid = valid_steps(np.array(lengths), time)
    if isinstance(model.inputs, Embedding):
        last = model.inputs.num_embeddings - 1
        inputs = generator.integers(0, last + 1, (count, time), np.int64) * valid
        _scatter(inputs, valid, (0, last), generator)
    else:
        inputs = (generator.normal(size=(count, time, model.inputs.size)) * valid[..., None]).astype(dtype)
    # Targets of another length than their source are as long as they can be, but for a source of length 0.
    asked = valid if target_length is None else np.repeat(valid.any(axis=1, keepdims=True), target_length, axis=1)
    targets = generator.integers(0, model.classes, asked.shape, np.int64)
    if model.readout == "last step":
        targets, asked = targets[:, 0], np.ones(count, bool)
    _scatter(targets, asked, (0, model.classes - 1, IGNORED), generator)
    decoder_inputs = shift_right(targets, model.classes) if model.decodes else None
    targets = np.where(asked, targets, IGNORED)
    states = {
        name: (0.5 * generator.normal(size=shape)).astype(dtype)
        for name, shape in (model.initial_states(count) if initial else {}).items()
    }
    ragged = len(set(lengths)) > 1
    return Batch(inputs, targets, np.array(lengths, np.int64) if ragged else None, decoder_inputs, states or None)


def _scatter(values: np.ndarray, where: np.ndarray, marks: tuple[int, ...], generator: "np.random.Generator") -> None:
    """Write each mark to another random place among those, as far as there are enough."""
    places = generator.permutation(np.argwhere(where))
    for place, mark in zip(places, marks, strict=False):
        values[tuple(place)] = mark


def predictions(logits: np.ndarray) -> np.ndarray:
    """The chosen classes, int64, shape of the logits without their last axis. Ties go to the lowest index."""
    return np.argmax(logits, axis=-1)


def solved(logits: np.ndarray, batch: Batch) -> bool:
    """Whether every step that is asked for is predicted right."""
    asked = batch.targets != IGNORED
    return bool(np.all(predictions(logits)[asked] == batch.targets[asked]))
