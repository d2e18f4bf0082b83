"""Keras 3's layers and models on JAX: their variables by path.

Keras is where the model came from: nothing here imports it.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

from spec.errors import UsageError
from spec.pair_parts import ModelPart, OwnedArray, owned_arrays, parts_of

BACKEND = "jax"
ROLES = {
    "kernel": "kernel",
    "recurrent_kernel": "kernel",
    "embeddings": "embedding",
    "gamma": "scale",
    "scale": "scale",
    "beta": "bias",
    "bias": "bias",
    "moving_mean": "mean",
    "moving_variance": "variance",
}
"""What Keras calls a variable, and its role."""


def recognize(made: Any) -> bool:
    """Whether this is a layer or model of Keras, on this framework."""
    keras = sys.modules.get("keras")
    layer = getattr(keras, "Layer", None)
    return keras is not None and layer is not None and isinstance(made, layer) and keras.backend.backend() == BACKEND


def describe(made: Any) -> str:
    """What the factory returned, in words."""
    return f"Keras {type(made).__name__} on {BACKEND}"


def modes(call: Callable[..., Any] | None) -> frozenset[str]:
    """Of "train" and "rng", what a model has: its mode is an argument of a call, which the pair's own may not take."""
    asked = call is None or "train" in inspect.signature(call).parameters
    return frozenset({"train", "rng"}) if asked else frozenset()


def layers_of(made: Any) -> list[ModelPart]:
    """A model's layers by their paths."""
    keras = sys.modules["keras"]

    def held(layer: Any) -> Iterator[tuple[str, Any]]:
        for name, value in vars(layer).items():
            if not (name.startswith("_") and isinstance(layer, keras.Model)):
                yield name, value
        if isinstance(layer, keras.Model):
            yield "_layers", layer.layers

    return parts_of(made, held, lambda one: isinstance(one, keras.Layer))


def variables_of(made: Any) -> dict[str, OwnedArray]:
    """Keras's variables by path, seeds of random numbers among them. Raises UsageError where there are none yet."""
    if not made.built:
        raise UsageError(
            "expected a Keras model that is built (begin with keras.Input, or call it once on an array), got "
            f"{type(made).__name__} without variables"
        )
    return owned_arrays(layers_of(made), lambda layer: layer.variables)
