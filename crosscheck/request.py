"""What a worker asks of an implementation: the same start, the same batches, on either side and in any process."""

import msgspec
import numpy as np

from spec import parameters
from spec.experiment import Experiment
from spec.framework import Device, Precision, Settings
from spec.models import Embedding
from spec.parameters import Parameters
from spec.tasks import Batch, random_batch

SPREAD = 0.1
"""Half-width of the noise on parameters whose law is a constant: a zero bias would hide that it is missing."""

CASES: dict[Precision, tuple[str, ...]] = {"float64": ("own", "ragged"), "float32": ("ragged",)}
"""The batches of forward and gradients. Few, since each shape in each precision costs JAX a compilation of about a
second; in float32, lock-step's first step looks at the experiment's own batch."""


class Request(msgspec.Struct, frozen=True):
    """How one rung is to be recorded. envelope: whether this side also measures what rounding does to it."""

    precision: Precision
    device: Device
    seed: int
    envelope: bool = False

    @property
    def settings(self) -> Settings:
        """The settings to hand to the implementation."""
        return Settings(precision=self.precision, device=self.device)

    def start(self, experiment: Experiment) -> Parameters:
        """The parameters that both sides are given."""
        return parameters.draw(experiment.model.parameters(), self.seed, self.precision, SPREAD)

    def batch(self, experiment: Experiment, case: str) -> Batch:
        """The experiment's own first batch, or a ragged one of random content, with garbage in its padding or clean."""
        if case == "own":
            return experiment.task.batch(self.seed, 0, self.precision)
        longest = min(7, getattr(experiment.model, "max_length", None) or 7)
        lengths = [longest, min(3, longest), 1]
        batch = random_batch(experiment.model, lengths, self.seed, self.precision)
        return batch if case == "ragged, clean" else batch._replace(inputs=self._littered(experiment, batch))

    def _littered(self, experiment: Experiment, batch: Batch) -> np.ndarray:
        """The inputs with NaN and huge numbers, or other indices, where there is padding."""
        inputs = batch.inputs.copy()
        if batch.lengths is None:
            return inputs
        padding = np.arange(inputs.shape[1]) >= batch.lengths[:, None]
        count = int(padding.sum())
        if isinstance(experiment.model.inputs, Embedding):
            generator = parameters.generator_for(self.seed, "padding")
            inputs[padding] = generator.integers(0, experiment.model.inputs.num_embeddings, count)
        else:
            inputs[padding] = np.where(np.arange(count) % 2, np.nan, 1e30)[:, None]
        return inputs
