"""Writing on from a prompt, symbol by symbol. See spec.generation."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from spec import generation
from spec.experiment import Experiment
from spec.framework import Generation, Settings
from spec.parameters import Parameters
from torch_impl.arrays import to_tensor
from torch_impl.build import build
from torch_impl.dropout import mode
from torch_impl.mixed_precision import without_gradients
from torch_impl.settings import computing, dtype_of, one_thread


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
    generation.check(experiment.model, prompt, count, temperature)
    # A step is one sequence's mostly, and far too little to share among threads.
    with computing(settings, experiment), one_thread(), without_gradients():
        model = build(experiment.model, parameters, settings)
        like = next(model.parameters())
        given = to_tensor(prompt, torch.int64, like.device).unbind(1)
        uniforms = to_tensor(generation.uniforms(seed, count, len(prompt)), dtype_of(settings), like.device)
        state = model.begin(len(prompt), prompt.shape[1] + count - 1)
        symbols, trace = [], []
        with mode(model, None):
            for symbol in given[:-1]:
                _, state = model.step(symbol, state)
            symbol = given[-1]
            for uniform in uniforms:
                logits, state = model.step(symbol, state)
                symbol = choose(logits, temperature, uniform)
                symbols.append(symbol)
                trace.append(logits)
        return Generation(torch.stack(symbols, 1).cpu().numpy(), torch.stack(trace, 1).cpu().numpy())


def choose(
    logits: Float[Tensor, "batch classes"], temperature: float, uniform: Float[Tensor, " batch"]
) -> Int[Tensor, " batch"]:
    """The symbols that follow: the likeliest, or those that the uniform numbers pick out of all."""
    if temperature == 0:
        return logits.argmax(-1)
    shifted = (logits - logits.amax(-1, keepdim=True)) / temperature
    passed = shifted.softmax(-1).cumsum(-1) <= uniform[:, None]
    return passed.sum(-1).clamp(max=logits.shape[-1] - 1)
