"""What every model shares: its parameters by name, its input layer, padding, and its named intermediates."""

from collections.abc import Callable, Mapping

import numpy as np

from spec.models import Embedding, Model
from spec.parameters import Parameters
from spec.reference.arithmetic import Array, linear
from spec.reference.mixed_precision import product as rounded_product
from spec.tasks import Batch, valid_steps

INPUTS = "batch.inputs"
"""The name under which perturbed inputs stand among the perturbed parameters."""


class Evaluation:
    """One evaluation of a model: what it is given, and what it has found so far.

    parameters: canonical name -> (perturbations, *shape), with the inputs under INPUTS where they are varied too.
    valid: (batch, time), True where a step is no padding. resets: (batch, time), True where something new begins; None
    where nothing does. masks: dropout masks by site; empty in eval mode.
    intermediates: name -> (perturbations, batch, time, ...).
    forced: teacher forcing, name -> (batch, time, ...): what stands in for an intermediate wherever a later one is
    computed from it. Each stage then shows what the equations make of the stages before it as they were given.
    product: of two matrices, as the equations multiply; the model's own where none is given.
    """

    def __init__(
        self,
        spec: Model,
        parameters: Parameters,
        batch: Batch,
        masks: Mapping[str, Array] | None = None,
        forced: Mapping[str, Array] | None = None,
        product: Callable[[Array, Array], Array] | None = None,
    ):
        self.spec = spec
        self.parameters = parameters
        self.batch = batch
        self.masks = masks or {}
        self.forced = forced or {}
        self.product = product or product_of(spec)
        self.intermediates: dict[str, Array] = {}
        size, time = batch.inputs.shape[:2]
        self.valid = np.ones((size, time), bool)
        if batch.lengths is not None:
            self.valid = valid_steps(batch.lengths, time)
        # Padding hands a state on, whatever stands there.
        self.resets = None if batch.resets is None else batch.resets & self.valid

    def __getitem__(self, name: str) -> Array:
        return self.parameters[name]

    def inputs(self) -> Array:
        """The features of each step, (perturbations or 1, batch, time, features), zero at padding."""
        if not isinstance(self.spec.inputs, Embedding):
            return self.zero_padding(self.parameters.get(INPUTS, self.batch.inputs[None]))
        rows = self["embedding.weight"][:, np.where(self.valid, self.batch.inputs, 0)]
        return self.record("embedding", self.zero_padding(rows))

    def initial(self, module: str, index: int | tuple[()] = ()) -> tuple[Array, ...] | None:
        """The module's states before the first step, each (1, batch, hidden); None where they are zero.

        index: which layer and direction, counted as in `Model.initial_states`.
        """
        if self.batch.initial is None:
            return None
        names = [name for name in self.spec.initial_states(1) if name.startswith(f"{module}.")]
        return tuple(self.batch.initial[name][index][None] for name in names)

    def linear(self, name: str, inputs: Array) -> Array:
        """The layer of that name; without a bias where the table has none, and by the embedding's rows where tied."""
        tied = name == "head" and getattr(self.spec, "tied", False)
        weight = self["embedding.weight" if tied else f"{name}.weight"]
        return self.affine(inputs, weight, self.parameters.get(f"{name}.bias"))

    def affine(self, inputs: Array, weight: Array, bias: Array | None = None) -> Array:
        """W x + b: inputs (perturbations, batch, [time,] features), weight (perturbations, outputs, features)."""
        return linear(inputs, weight, bias, self.product)

    def dropout(self, site: str, values: Array) -> Array:
        """The values times the site's mask, where there is one."""
        return values * self.masks[site] if site in self.masks else values

    def zero_padding(self, values: Array) -> Array:
        """Zero where a step is padding, whatever stood there."""
        return np.where(self.valid.reshape(1, *self.valid.shape, *[1] * (values.ndim - 3)), values, 0)

    def record(self, name: str, values: Array) -> Array:
        """Keep a named intermediate, and hand back what later stages are computed from: the same, unless forced."""
        self.intermediates[name] = values
        return self.forced[name][None] if name in self.forced else values


def product_of(spec: Model) -> Callable[[Array, Array], Array]:
    """The product of two matrices in that model's equations."""
    return rounded_product if spec.mixed_precision else np.matmul
