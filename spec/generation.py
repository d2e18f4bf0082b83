"""Writing on from a prompt, symbol by symbol: each choice of the model is what it reads next.

With s_1 .. s_P the prompt, and t = P, P + 1, ...:

    logits_t = the model's logits at step t, of the sequence s_1 .. s_t from zero states on
    s_(t+1) = arg max of logits_t, the lowest index where several are largest            temperature = 0
    s_(t+1) = the lowest k with sum over j <= k of p_j > u_(t+1)                         temperature > 0
    p = softmax(logits_t / temperature);  u_(t+1) uniform over [0, 1)

The last class is chosen where rounding leaves the sum of all p below u. The u are drawn here, so that implementations
choose the same. Nothing is dropped. An implementation carries the model's state from step to step, and computes each
step once; these equations are what it is held to.
"""

import sys

import numpy as np

from spec.errors import InvalidBatch
from spec.limits import LARGEST_LENGTH
from spec.models import Embedding, Model
from spec.parameters import generator_for
from spec.tasks import predictions

LOWEST_TEMPERATURE = 1e-30
"""Above zero: below it float32 has no number that can be divided by. Long before, the choice is the arg max."""


def check(model: Model, prompt: np.ndarray, count: int, temperature: float) -> None:
    """Raise InvalidBatch unless the model writes on from such a prompt, by so many symbols."""
    if reason := model.writes_nothing:
        raise InvalidBatch(f"generate: expected a model that reads what it writes, got one that {reason}")
    if prompt.ndim != 2 or prompt.shape[1] < 1 or not np.issubdtype(prompt.dtype, np.integer):
        raise InvalidBatch(
            f"prompt: expected integer (batch, time) of a step or more, got {prompt.dtype} {prompt.shape}"
        )
    wrong = prompt[(prompt < 0) | (prompt >= model.inputs.symbols)]
    if wrong.size:
        raise InvalidBatch(f"prompt: expected indices in [0, {model.inputs.symbols}), got {int(wrong[0])}")
    longest = min(LARGEST_LENGTH, model.max_length or LARGEST_LENGTH)
    # The last symbol that is chosen is not read any more.
    most = longest - prompt.shape[1] + 1
    if most < 1:
        raise InvalidBatch(f"prompt: expected at most {longest} steps, got {prompt.shape[1]}")
    if not 1 <= count <= most:
        raise InvalidBatch(f"count: expected 1 to {most} symbols after a prompt of {prompt.shape[1]}, got {count}")
    if not (temperature == 0 or LOWEST_TEMPERATURE <= temperature <= sys.float_info.max):
        raise InvalidBatch(f"temperature: expected 0, or {LOWEST_TEMPERATURE} or more, got {temperature}")


def as_inputs(model: Model, symbols: np.ndarray, dtype: str) -> np.ndarray:
    """Symbols (batch, time) as the inputs of a batch: themselves, or one-hot in that dtype."""
    if isinstance(model.inputs, Embedding):
        return symbols
    return (symbols[..., None] == np.arange(model.inputs.size)).astype(dtype)


def uniforms(seed: int, count: int, batch: int) -> np.ndarray:
    """The u of each choice, (count, batch), float64. Those of fewer choices are the first ones of more."""
    return generator_for(seed, "generation").random((count, batch))


def choose(logits: np.ndarray, temperature: float, uniform: np.ndarray) -> np.ndarray:
    """The symbols that follow, int64 (batch,), of logits (batch, classes) and uniforms (batch,)."""
    if temperature == 0:
        return predictions(logits)
    shifted = np.exp((logits - logits.max(axis=-1, keepdims=True)) / temperature)
    passed = np.cumsum(shifted / shifted.sum(axis=-1, keepdims=True), axis=-1) <= uniform[:, None]
    return np.minimum(passed.sum(axis=-1), logits.shape[-1] - 1)
