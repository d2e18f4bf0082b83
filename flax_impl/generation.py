"""Writing on from a prompt, symbol by symbol. See spec.generation."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from flax_impl import compilation
from flax_impl.build import build, load
from flax_impl.dropout import set_mode
from flax_impl.model import ArrayBatch, Model
from flax_impl.settings import computing
from flax_impl.training import renormalized
from spec import generation
from spec.experiment import Experiment
from spec.framework import Generation, Settings
from spec.models import Model as Spec
from spec.parameters import Parameters

BLOCK = 1024
"""Steps of a call at most, for which there is room; as many are taken as there are. A longer text takes several calls
of the same compiled function."""

CHOSEN = -1
"""In the place of a symbol that the model has yet to choose."""


def generate(
    experiment: Experiment,
    parameters: Parameters,
    prompt: np.ndarray,
    count: int,
    settings: Settings,
    temperature: float = 0.0,
    seed: int = 0,
) -> Generation:
    """See spec.framework.Side: generate."""
    spec = experiment.model
    generation.check(spec, prompt, count, temperature)
    with computing(settings):
        batch, length = prompt.shape
        steps = length + count - 1
        # What is read after each step: the prompt's next symbol; none where it is chosen.
        known = np.full((steps, batch), CHOSEN, np.int32)
        known[: length - 1] = prompt.T[1:]
        uniforms = np.zeros((steps, batch), settings.precision)
        uniforms[length - 1 :] = generation.uniforms(seed, count, batch)
        native = load(spec, parameters, settings)
        carry: Any = first_carry(spec, native, prompt[:, 0], steps)
        take_steps = compile_steps(spec, settings, temperature == 0)
        divisor = np.asarray(temperature or 1.0, settings.precision)
        parts = []
        for first in range(0, steps, BLOCK):
            here = [array[first : first + BLOCK] for array in (known, uniforms)]
            taken = len(here[0])
            carry, left = take_steps(native, carry, *map(_filled, here), divisor, taken)
            parts.append([np.asarray(array)[:taken] for array in left])
        every = (np.concatenate(part)[length - 1 :] for part in zip(*parts, strict=True))
        symbols, logits = (np.ascontiguousarray(array.swapaxes(0, 1)) for array in every)
        return Generation(symbols.astype(np.int64), logits)


def first_carry(spec: Spec, native: nnx.State, symbols: np.ndarray, steps: int) -> tuple[Any, np.ndarray]:
    """The state before the first step, which is zero in every model, and the symbols that it reads."""
    graph, _ = build(spec)

    def begin(parameters: nnx.State) -> Any:
        return nnx.merge(graph, parameters).begin(len(symbols), steps)

    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(begin, native))
    return state, symbols.astype(np.int32)


@cache
def compile_steps(spec: Spec, settings: Settings, greedy: bool) -> Callable:
    """The jitted function that takes steps: compiled once for each size of a batch and of the model's state.

    Takes the parameters, the carry, what is known of the symbols that are read next and the uniform numbers, both
    (BLOCK, batch), the temperature, and how many steps to take. Returns the carry, and the symbols and logits of every
    step.
    """
    graph, _ = build(spec)

    def take_steps(
        parameters: nnx.State,
        carry: tuple[Any, Array],
        known: Int[Array, "steps batch"],
        uniforms: Float[Array, "steps batch"],
        temperature: Float[Array, ""],
        count: Array,
    ) -> tuple[tuple[Any, Array], tuple[Array, Array]]:
        model: Model = nnx.merge(graph, with_every_row(graph, parameters))
        set_mode(model, None)

        def step(at: Array, loop: Any) -> Any:
            (state, read), (symbols, trace) = loop
            logits, state = model.step(read, state)
            chosen = choose(logits, None if greedy else temperature, uniforms[at])
            read = jnp.where(known[at] == CHOSEN, chosen, known[at])
            return (state, read), (symbols.at[at].set(read), trace.at[at].set(logits))

        room = jnp.zeros_like(known), jnp.zeros((*known.shape, spec.classes), uniforms.dtype)
        return jax.lax.fori_loop(0, count, step, (carry, room))

    return compilation.jit(take_steps, compilation.options(settings, quick=True))


def with_every_row(graph: nnx.GraphDef, parameters: nnx.State) -> nnx.State:
    """The parameters with every row of an embedding within its max_norm: each is, by the time that it is read."""
    model: Model = nnx.merge(graph, parameters)
    if model.embedding is None:
        return parameters
    every = jnp.arange(model.embedding.num_embeddings)[None]
    return renormalized(graph, parameters, ArrayBatch(every, every))


def choose(
    logits: Float[Array, "batch classes"], temperature: Array | None, uniform: Float[Array, " batch"]
) -> Int[Array, " batch"]:
    """The symbols that follow: the likeliest, or those that the uniform numbers pick out of all."""
    if temperature is None:
        return logits.argmax(-1).astype(np.int32)
    shifted = (logits - logits.max(-1, keepdims=True)) / temperature
    passed = jnp.cumsum(jax.nn.softmax(shifted), -1) <= uniform[:, None]
    return jnp.minimum(passed.sum(-1), logits.shape[-1] - 1).astype(np.int32)


def _filled(array: np.ndarray) -> np.ndarray:
    """The array with room for BLOCK steps, whose values nobody reads."""
    return np.concatenate([array, np.zeros((BLOCK - len(array), *array.shape[1:]), array.dtype)])
