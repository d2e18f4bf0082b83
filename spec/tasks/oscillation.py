"""What does a swinging thing show next? A damped oscillator that is pushed at random, and the best that can be said."""

import math
from functools import lru_cache
from typing import Annotated, ClassVar, Literal, NamedTuple

import msgspec
import numpy as np

from spec.limits import LARGEST_LENGTH
from spec.models.base import Length, Positive, Size
from spec.parameters import generator_for
from spec.tasks.base import Batch, Task, asked, map_arrays
from spec.tasks.drawing import STEPS_DRAWN_TOGETHER, draw_lengths, out_of_blocks
from spec.typical import typical

EVALUATED = 512
"""Sequences on which an `Oscillation` is judged."""


class Oscillation(Task, frozen=True, kw_only=True, tag_field="name"):
    """Say from the readings of an oscillator so far what the next one is, in sequences of several lengths.

        z_1 ~ N(0, I),   z_t = damping R z_(t-1) + sqrt(1 - damping^2) N(0, I)     position and speed, which nobody sees
        y_t = position of z_t + noise N(0, 1)                                      what is read off
        inputs_t = (y_t,),   target_t = (y_(t+1),)

    R turns by 2 pi / period, so that a swing takes `period` steps; a damping of 1 is a swing that never ends. What is
    pushed at random is as large at every step as what damping takes: positions and speeds have a variance of 1.

    The best guess is the mean of y_(t+1) given y_1 .. y_t, which the Kalman filter gives exactly: see `expected`. No
    model's mean squared error is lower but by luck, and `lowest_loss` is that guess's on the sequences that models are
    judged on, EVALUATED of all lengths and a fixed draw.

    The first sequence of a batch has all `length` steps, the others anything from `shortest` on; padding holds readings
    too. With `readout` "last step" nothing is asked but after a sequence's last step.
    Source: Kalman (1960), "A new approach to linear filtering and prediction problems".
    """

    length: Annotated[Length, typical(*range(2, 8), 1)]
    shortest: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_LENGTH), typical(1, 2)]
    period: Annotated[Positive, typical(8.0, 5.0)]
    damping: Annotated[float, msgspec.Meta(gt=0, le=1), typical(0.95, 1.0, 0.5)]
    noise: Annotated[Positive, typical(0.3, 1.0)]
    batch_size: Size
    readout: Literal["every step", "last step"] = "every step"  # pyright: ignore[reportIncompatibleMethodOverride]

    drawn_together: ClassVar[int] = STEPS_DRAWN_TOGETHER
    ragged: ClassVar[bool] = True
    has_lowest_loss: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.shortest > self.length:
            raise ValueError(f"shortest: expected at most length = {self.length}, got {self.shortest}")

    @property
    def numeric(self) -> bool:
        return True

    @property
    def classes(self) -> int:
        return 1

    @property
    def input_size(self) -> int:
        return 1

    @property
    def indices(self) -> bool:
        return False

    @property
    def evaluated(self) -> int:
        return EVALUATED

    @property
    def lowest_loss(self) -> float:
        return _lowest_loss(self)

    @property
    def swing(self) -> "Swing":
        """What is drawn, apart from how long and how often."""
        return Swing(self.period, self.damping, self.noise)

    def batch(self, seed: int, step: int, dtype: str) -> Batch:
        return map_arrays(lambda array: array[0], self.batches(seed, range(step, step + 1), dtype))

    def batches(self, seed: int, steps: range, dtype: str) -> Batch:
        shape = (STEPS_DRAWN_TOGETHER, self.batch_size)
        lengths = out_of_blocks(steps, lambda block: draw_lengths(seed, block, self.shortest, self.length, shape))
        readings = out_of_blocks(steps, lambda block: _draw_block(seed, block, self.swing, (*shape, self.length)))
        return self._batch(readings, lengths, dtype)

    def evaluation_batch(self, dtype: str) -> Batch:
        lengths = self.length - np.arange(EVALUATED) % (self.length - self.shortest + 1)
        return self._batch(self._evaluation_readings(), lengths, dtype)

    def _evaluation_readings(self) -> np.ndarray:
        return draw(generator_for(0, "evaluation"), self.swing, (EVALUATED, self.length))

    def _batch(self, readings: np.ndarray, lengths: np.ndarray, dtype: str) -> Batch:
        """Of readings (..., batch, time + 1) and lengths (..., batch)."""
        readings = readings[..., None].astype(dtype)
        inputs, following = readings[..., :-1, :], readings[..., 1:, :]
        last = lengths[..., None, None] - 1
        if self.readout == "last step":
            return Batch(inputs, np.take_along_axis(following, last, axis=-2)[..., 0, :], lengths)
        return Batch(inputs, np.where(np.arange(self.length)[:, None] <= last, following, np.nan), lengths)

    def describe(self, predictions: np.ndarray, batch: Batch) -> str:
        return f"{super().describe(predictions, batch)}, lowest loss {self.lowest_loss:.6f}"


class Swing(NamedTuple):
    """The fields of an `Oscillation` that say how it moves and is read."""

    period: float
    damping: float
    noise: float

    @property
    def turn(self) -> np.ndarray:
        """damping R, (2, 2)."""
        angle = 2 * math.pi / self.period
        return self.damping * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


def draw(generator: "np.random.Generator", swing: Swing, shape: tuple[int, ...]) -> np.ndarray:
    """Readings of sequences of so many steps, (..., steps), and the one after the last: float64 (..., steps + 1)."""
    *sequences, steps = shape
    pushed = generator.normal(size=(*sequences, steps + 1, 2))
    state, positions = pushed[..., 0, :], np.empty((*sequences, steps + 1))
    positions[..., 0] = state[..., 0]
    for step in range(1, steps + 1):
        state = state @ swing.turn.T + math.sqrt(1 - swing.damping**2) * pushed[..., step, :]
        positions[..., step] = state[..., 0]
    return positions + swing.noise * generator.normal(size=positions.shape)


@lru_cache(maxsize=2)
def _draw_block(seed: int, block: int, swing: Swing, shape: tuple[int, ...]) -> np.ndarray:
    """A block's readings; kept, since a loop asks for one step after another."""
    return draw(generator_for(seed, "batch", block), swing, shape)


def expected(readings: np.ndarray, swing: Swing) -> np.ndarray:
    """The mean of y_(t+1) given y_1 .. y_t, of readings (..., steps), by the Kalman filter. m and P are the mean and
    the covariance of z_t given the readings before, at first 0 and I, and e = (1, 0) reads the position off:

        k = P e / (e P e + noise^2),   m = m + k (y_t - e m),   P = P - k e P
        m = damping R m,   P = damping^2 R P R^T + (1 - damping^2) I,   expected_t = e m
    """
    mean, covariance = np.zeros((*readings.shape[:-1], 2)), np.eye(2)
    found = np.empty(readings.shape)
    for step in range(readings.shape[-1]):
        gain = covariance[:, 0] / (covariance[0, 0] + swing.noise**2)
        mean = mean + gain * (readings[..., step] - mean[..., 0])[..., None]
        covariance = covariance - np.outer(gain, covariance[0])
        mean = mean @ swing.turn.T
        covariance = swing.turn @ covariance @ swing.turn.T + (1 - swing.damping**2) * np.eye(2)
        found[..., step] = mean[..., 0]
    return found


@lru_cache(maxsize=8)
def _lowest_loss(task: Oscillation) -> float:
    """The mean of (expected - target)^2, over all that is asked of the evaluation."""
    batch, guesses = task.evaluation_batch("float64"), expected(task._evaluation_readings()[..., :-1], task.swing)
    assert batch.lengths is not None
    if task.readout == "last step":
        guesses = np.take_along_axis(guesses, batch.lengths[:, None] - 1, axis=1)
    guesses = guesses.reshape(batch.targets.shape)
    known = asked(batch.targets)
    return float(((guesses - batch.targets)[known] ** 2).mean())
