"""From a model of the spec to a module, by name: spec.models.gru.GRU is built by torch_impl.gru.GRU."""

import importlib
import pickle
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from spec.errors import Unsupported
from spec.framework import Settings
from spec.models import Embedding
from spec.models import Model as Spec
from spec.parameters import Parameters
from torch_impl.model import Model
from torch_impl.parameters import load
from torch_impl.settings import device_of, dtype_of


def build(spec: Spec, parameters: Parameters, settings: Settings) -> Model:
    """The module of that model, holding these parameters.

    Raises Unsupported, naming the file to write, where torch_impl has no such model.
    """
    file, name = type(spec).__module__.rpartition(".")[2], type(spec).__name__
    try:
        model_class = getattr(importlib.import_module(f"torch_impl.{file}"), name)
    except (ModuleNotFoundError, AttributeError):
        raise Unsupported(f"torch_impl has no {name}: expected a class of that name in torch_impl/{file}.py") from None
    pickled = _pickled(model_class, model_class.__init__, spec)
    model: Model = pickle.loads(pickled) if pickled else _without_values(model_class, spec)
    # A class is found by its name, which another copy of this package may have by now.
    if type(model) is not model_class:
        model = _without_values(model_class, spec)
    load(model, parameters, dtype_of(settings), device_of(settings))
    return model


def check_gradients(spec: Spec) -> None:
    """Raise Unsupported where the model asks for gradients that torch does not have."""
    if isinstance(spec.inputs, Embedding) and spec.inputs.sparse and spec.inputs.scale_grad_by_freq:
        raise Unsupported(
            "embedding.scale_grad_by_freq: expected false beside sparse (torch scales no sparse gradients), got true"
        )


def _without_values(model_class: type[Model], spec: Spec) -> Model:
    """The module as its constructor leaves it. Its parameters have shapes alone, so no random numbers are drawn only to
    be overwritten."""
    with torch.device("meta"), _Unfilled():
        return model_class(spec)


class _Unfilled(TorchFunctionMode):
    """Leaves out what has no effect on the meta device: there torch imports its compiler, a second of CPU time, to draw
    the rows of an embedding."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        return kwargs["tensor"] if func is nn.init.normal_ and "tensor" in kwargs else func(*args, **kwargs)


@cache
def _pickled(model_class: type[Model], constructor: Callable, spec: Spec) -> bytes:
    """The same, to be copied: that takes an eighth of the time of making another. Empty where Python cannot copy it.

    constructor: the class's own, which whoever patches it replaces.
    """
    del constructor  # It says that another one's copy is none of this.
    try:
        return pickle.dumps(_without_values(model_class, spec))
    except (pickle.PicklingError, AttributeError, TypeError):
        return b""
