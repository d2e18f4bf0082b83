"""From a model of the spec to a module, by name: spec.models.gru.GRU is built by flax_impl.gru.GRU."""

import importlib
from functools import cache

import numpy as np
from flax import nnx

from flax_impl.linear import without_values
from flax_impl.model import Model
from flax_impl.parameters import Layout, layout, to_native
from spec.errors import Unsupported
from spec.framework import Settings
from spec.models import Embedding
from spec.models import Model as Spec
from spec.parameters import Parameters, check


@cache
def build(spec: Spec) -> tuple[nnx.GraphDef, Layout]:
    """The module of that model without values: its structure, and where each parameter goes.

    Raises Unsupported, naming the file to write, where flax_impl has no such model.
    """
    file, name = type(spec).__module__.rpartition(".")[2], type(spec).__name__
    try:
        model_class = getattr(importlib.import_module(f"flax_impl.{file}"), name)
    except (ModuleNotFoundError, AttributeError):
        raise Unsupported(f"flax_impl has no {name}: expected a class of that name in flax_impl/{file}.py") from None
    # Without values, so that no random numbers are drawn only to be overwritten.
    with without_values():
        model: Model = nnx.eval_shape(lambda: model_class(spec, rngs=nnx.Rngs(0)))
    graph, _ = nnx.split(model, nnx.Param)
    return graph, layout(model)


def check_gradients(spec: Spec) -> None:
    """Raise Unsupported where the model asks for gradients that JAX does not have: those of LEAVES_OUT."""
    if isinstance(spec.inputs, Embedding) and spec.inputs.sparse:
        raise Unsupported("embedding.sparse: expected false (JAX has no sparse gradients of an embedding), got true")


def load(spec: Spec, parameters: Parameters, settings: Settings) -> nnx.State:
    """Canonical parameters as the model's state. Raises ParameterMismatch."""
    check(spec.parameters(), parameters)
    _, leaves = build(spec)
    return to_native(leaves, {name: np.asarray(value, settings.precision) for name, value in parameters.items()})
