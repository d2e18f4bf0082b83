"""The models. A file here is all the spec needs of a new one: every model in it is found by its class.

The name of the file and of the class are also where an implementation is expected to build it: `spec.models.gru.GRU` is
built by `IMPLEMENTATION.gru.GRU`.
"""

import importlib
import pkgutil
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from spec.dropout import DropoutSite, keep_masks
from spec.models.base import Embedding, Features, Model


def _found() -> dict[str, type[Model]]:
    models = {}
    for file in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{file.name}")
        for name, value in vars(module).items():
            is_model = isinstance(value, type) and issubclass(value, Model) and value.__module__ == module.__name__
            if is_model and value.__struct_config__.tag == name:
                models[name] = value
    return models


MODELS: dict[str, type[Model]] = _found()
"""Every model by the name an experiment gives it."""

if TYPE_CHECKING:
    AnyModel = Model
else:
    AnyModel: Any = reduce(or_, MODELS.values())

__all__ = ["MODELS", "AnyModel", "DropoutSite", "Embedding", "Features", "Model", "keep_masks"]
