"""Writing on from a prompt, as the equations have it: the whole sequence is read again for each symbol."""

import numpy as np

from spec import generation
from spec.experiment import Experiment
from spec.framework import Generation, Settings
from spec.parameters import Parameters
from spec.reference.contract import check_settings, forward
from spec.tasks import Batch


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
    check_settings(settings)
    model = experiment.model
    generation.check(model, prompt, count, temperature)
    drawn = generation.uniforms(seed, count, len(prompt))
    symbols, trace = prompt.astype(np.int64), []
    for uniform in drawn:
        batch = Batch(generation.as_inputs(model, symbols, settings.precision), np.zeros_like(symbols))
        trace.append(forward(experiment, parameters, batch, settings)["logits"][:, -1])
        symbols = np.column_stack([symbols, generation.choose(trace[-1], temperature, uniform)])
    return Generation(symbols[:, prompt.shape[1] :], np.stack(trace, axis=1))
