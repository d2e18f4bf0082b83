"""Keras 3's layers and models on PyTorch: each as a `torch.nn.Module` that has the variables as its parameters.

Keras is where the model came from: nothing here imports it.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from spec.errors import UsageError
from spec.pair import Leaf, PairOptions
from spec.pair_parts import ModelPart, OwnedArray, owned_arrays, parts_of

BACKEND = "torch"
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
        # Direct layers are children of torch's module, those of lists are Keras's alone.
        for name, value in (*layer.named_children(), *vars(layer).items()):
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


def as_module(made: Any, options: PairOptions) -> tuple["KerasModule", PairOptions]:
    """A Keras model as a module, and what a pair gives for one as what it gives for the other."""
    make, call = options.make, options.call
    if make is not None:
        options = options._replace(make=lambda seed: KerasModule(make(seed)))
    if call is not None:

        def called(module: KerasModule, *inputs: Any, **named: Any) -> Any:
            return module.run(call, module.made, *inputs, **named)

        called.__signature__ = inspect.signature(call)  # pyright: ignore[reportFunctionMemberAccess]
        options = options._replace(call=called)
    return KerasModule(made), options


class KerasModule(nn.Module):
    """A Keras model that computes with this module's parameters and buffers, and leaves its own variables alone."""

    def __init__(self, made: Any) -> None:
        super().__init__()
        self._held = _Held(made)
        for number, (_, (variable, _)) in enumerate(self._held.variables.items()):
            value = variable.value.detach().clone()
            if self._held.trainable(variable):
                self.register_parameter(str(number), nn.Parameter(value))
            else:
                self.register_buffer(str(number), value)
        self.paths = list(self._held.variables)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """By the paths of Keras's layers."""
        for name, array in super().named_parameters(*args, **kwargs):
            yield self.paths[int(name)], array

    def named_buffers(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Tensor]]:
        """By the paths of Keras's layers."""
        for name, array in super().named_buffers(*args, **kwargs):
            yield self.paths[int(name)], array

    def layers(self) -> dict[int, str]:
        """The path of each of Keras's layers, by identity."""
        return {id(one.part): one.path for one in layers_of(self.made)} | {id(self): ""}

    @property
    def made(self) -> Any:
        """Keras's own model."""
        return self._held.made

    def leaves(self) -> tuple[Leaf, ...]:
        """Its variables of floating numbers."""
        arrays = dict(self.named_parameters()) | dict(self.named_buffers())
        return tuple(
            Leaf(
                path,
                tuple(arrays[path].shape),
                str(arrays[path].dtype).removeprefix("torch."),
                isinstance(arrays[path], nn.Parameter),
                (),
                type(owner).__name__,
                ROLES.get(variable.name, ""),
            )
            for path, (variable, owner) in self._held.variables.items()
            if arrays[path].is_floating_point()
        )

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The model's output, in the mode that this module is in."""
        return self.run(self.made, *inputs, training=self.training, **named)

    def run(self, call: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
        """What a function gives that calls the model; what that assigns to variables is put into the buffers."""
        own = dict(self.named_parameters()) | dict(self.named_buffers())
        variables = {path: variable for path, (variable, _) in self._held.variables.items()}
        given = {path: _seed(array) if _is_seed(array) else array for path, array in own.items()}
        keras = sys.modules["keras"]
        with keras.StatelessScope(state_mapping=[(variables[path], given[path]) for path in variables]) as scope:
            output = call(*inputs, **named)
        with torch.no_grad():
            for path, buffer in self.named_buffers():
                after = scope.get_current_value(variables[path])
                if not _is_seed(buffer) and after is not given[path]:
                    buffer.copy_(after.detach())
        return output


class _Held:
    """A Keras model, which copies of the module share: all that differs is in their parameters and buffers."""

    def __init__(self, made: Any) -> None:
        self.made = made
        self.variables = variables_of(made)
        self._trainable = {id(one) for one in made.trainable_variables}

    def trainable(self, variable: Any) -> bool:
        return id(variable) in self._trainable

    def __deepcopy__(self, _: Any) -> "_Held":
        return self


def _is_seed(array: Tensor) -> bool:
    """Whether a variable is no number of the model's, but where its random numbers begin."""
    return not array.is_floating_point()


def _seed(array: Tensor) -> Tensor:
    """One that the global generator draws."""
    return torch.randint(0, 2**31 - 1, tuple(array.shape), dtype=torch.int64).to(array.dtype)
