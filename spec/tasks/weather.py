"""Will it rain tomorrow? A hidden Markov chain, and the best that can be said of it."""

from functools import lru_cache
from typing import Annotated, ClassVar, Literal, NamedTuple

import msgspec
import numpy as np

from spec.limits import LARGEST_LENGTH
from spec.models.base import Length, Positive, Size
from spec.parameters import generator_for
from spec.tasks.base import IGNORED, Batch, Task, map_arrays
from spec.tasks.drawing import STEPS_DRAWN_TOGETHER, draw_lengths, out_of_blocks
from spec.typical import typical

EVALUATED = 512
"""Sequences on which a `Weather` is judged."""

TRANSITIONS = np.array([[0.9, 0.08, 0.02], [0.1, 0.8, 0.1], [0.02, 0.08, 0.9]])
"""The chance of each regime on the next day, (today, tomorrow): fair, changing and foul weather, each of which stays
for some days, and fair turns into foul hardly ever at once."""

FIRST = np.array([0.4, 0.35, 0.25])
"""The chance of each regime on the first day."""

RAIN = np.array([0.05, 0.4, 0.9])
"""The chance of rain on a day of each regime."""

MEANS = np.array([[1.0, -1.0], [0.0, 0.5], [-1.0, 1.0]])
"""What the instruments show on average on a day of each regime, (regimes, instruments): air pressure and cloud cover,
in units of their spread over the year."""


class Days(NamedTuple):
    """Sequences of days, and of the day after each. readings: float64 (..., days, instruments). rain: int64
    (..., days + 1), whether it rained."""

    readings: np.ndarray
    rain: np.ndarray


class Weather(Task, frozen=True, kw_only=True, tag_field="name"):
    """Say from the weather of the days so far whether it rains on the next, in sequences of several lengths.

        z_1 ~ FIRST,   z_t ~ TRANSITIONS[z_(t-1)]                the regime of day t, which nobody sees
        x_t = MEANS[z_t] + noise * N(0, 1)                       what two instruments show
        r_t ~ Bernoulli(RAIN[z_t])                               whether it rains
        inputs_t = (x_t, r_t),   target_t = r_(t+1)

    The best guess is P(r_(t+1) = 1 | inputs_1 .. inputs_t), which the forward algorithm gives exactly: see
    `chance_of_rain`. No model's loss is lower but by luck, and `lowest_loss` is that guess's on the sequences that
    models are judged on, EVALUATED of all lengths and a fixed draw.

    The first sequence of a batch has all `length` days, the others anything from `shortest` on; padding holds weather
    too. With `readout` "last step" nothing is asked but after a sequence's last day.
    Source: Rabiner (1989), "A tutorial on hidden Markov models", equations 19 to 21.
    """

    length: Annotated[Length, typical(*range(2, 8), 1)]
    shortest: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_LENGTH), typical(1, 2)]
    noise: Annotated[Positive, typical(1.0, 0.5, 2.0)]
    batch_size: Size
    readout: Literal["every step", "last step"] = "every step"  # pyright: ignore[reportIncompatibleMethodOverride]

    drawn_together: ClassVar[int] = STEPS_DRAWN_TOGETHER
    ragged: ClassVar[bool] = True
    has_lowest_loss: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.shortest > self.length:
            raise ValueError(f"shortest: expected at most length = {self.length}, got {self.shortest}")

    @property
    def classes(self) -> int:
        return 2

    @property
    def input_size(self) -> int:
        return MEANS.shape[1] + 1

    @property
    def indices(self) -> bool:
        return False

    @property
    def evaluated(self) -> int:
        return EVALUATED

    @property
    def lowest_loss(self) -> float:
        return _lowest_loss(self)

    def batch(self, seed: int, step: int, dtype: str) -> Batch:
        return map_arrays(lambda array: array[0], self.batches(seed, range(step, step + 1), dtype))

    def batches(self, seed: int, steps: range, dtype: str) -> Batch:
        shape = (STEPS_DRAWN_TOGETHER, self.batch_size)
        lengths = out_of_blocks(steps, lambda block: draw_lengths(seed, block, self.shortest, self.length, shape))
        readings = out_of_blocks(steps, lambda block: _draw_days(seed, block, self.noise, (*shape, self.length))[0])
        rain = out_of_blocks(steps, lambda block: _draw_days(seed, block, self.noise, (*shape, self.length))[1])
        return self._batch(Days(readings, rain), lengths, dtype)

    def evaluation_batch(self, dtype: str) -> Batch:
        lengths = self.length - np.arange(EVALUATED) % (self.length - self.shortest + 1)
        return self._batch(self._evaluation_days(), lengths, dtype)

    def _evaluation_days(self) -> Days:
        return draw(generator_for(0, "evaluation"), self.noise, (EVALUATED, self.length))

    def _batch(self, days: Days, lengths: np.ndarray, dtype: str) -> Batch:
        """Of days (..., batch, time, ...) and lengths (..., batch)."""
        inputs = np.concatenate([days.readings, days.rain[..., :-1, None]], axis=-1).astype(dtype)
        steps, last = np.arange(self.length), lengths[..., None] - 1
        if self.readout == "last step":
            return Batch(inputs, np.take_along_axis(days.rain[..., 1:], last, axis=-1)[..., 0], lengths)
        return Batch(inputs, np.where(steps <= last, days.rain[..., 1:], IGNORED), lengths)

    def describe(self, predictions: np.ndarray, batch: Batch) -> str:
        return f"{super().describe(predictions, batch)}, lowest loss {self.lowest_loss:.6f}"


def draw(generator: "np.random.Generator", noise: float, shape: tuple[int, ...]) -> Days:
    """Days of sequences, (..., days)."""
    *_, days = shape
    regimes = np.empty((*shape[:-1], days + 1), np.int64)
    chances = np.cumsum(FIRST), np.cumsum(TRANSITIONS, axis=1)
    uniform = generator.random(regimes.shape)
    regimes[..., 0] = (uniform[..., 0, None] > chances[0][:-1]).sum(axis=-1)
    for day in range(1, days + 1):
        regimes[..., day] = (uniform[..., day, None] > chances[1][regimes[..., day - 1], :-1]).sum(axis=-1)
    rain = (generator.random(regimes.shape) < RAIN[regimes]).astype(np.int64)
    readings = MEANS[regimes[..., :-1]]
    return Days(readings + noise * generator.normal(size=readings.shape), rain)


@lru_cache(maxsize=2)
def _draw_days(seed: int, block: int, noise: float, shape: tuple[int, ...]) -> Days:
    """A block's days; kept, since a loop asks for one step after another."""
    return draw(generator_for(seed, "batch", block), noise, shape)


def chance_of_rain(days: Days, noise: float) -> np.ndarray:
    """P(rain on day t + 1 | everything up to day t), float64 (..., days), by the forward algorithm:

        a_1(k) ~ FIRST[k] p(inputs_1 | k),   a_t(k) ~ p(inputs_t | k) sum over j of a_(t-1)(j) TRANSITIONS[j, k]
        chance_t = sum over j, k of a_t(j) TRANSITIONS[j, k] RAIN[k]

    each a_t scaled to the sum 1, with p(x, r | k) ~ exp(-|x - MEANS[k]|^2 / (2 noise^2)) RAIN[k]^r (1 - RAIN[k])^(1-r).
    """
    readings, rain = days.readings[..., None, :], days.rain[..., :-1, None]
    exponents = -((readings - MEANS) ** 2).sum(axis=-1) / (2 * noise**2)
    # Scaled by the largest, which a_t's own scale takes out again: far readings would have no chance at all.
    emitted = np.exp(exponents - exponents.max(axis=-1, keepdims=True)) * np.where(rain == 1, RAIN, 1 - RAIN)
    chances = np.empty(emitted.shape[:-1])
    before = np.broadcast_to(FIRST, emitted[..., 0, :].shape)
    for day in range(emitted.shape[-2]):
        present = before * emitted[..., day, :]
        before = present / present.sum(axis=-1, keepdims=True) @ TRANSITIONS
        chances[..., day] = before @ RAIN
    return chances


@lru_cache(maxsize=8)
def _lowest_loss(task: Weather) -> float:
    """The mean of -log(the chance that was given to what came), over all that is asked of the evaluation."""
    batch, chances = task.evaluation_batch("float64"), chance_of_rain(task._evaluation_days(), task.noise)
    assert batch.lengths is not None
    if task.readout == "last step":
        chances = np.take_along_axis(chances, batch.lengths[:, None] - 1, axis=1)[:, 0]
    asked = batch.targets != IGNORED
    return float(-np.log(np.where(batch.targets == 1, chances, 1 - chances)[asked]).mean())
