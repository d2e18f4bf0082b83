"""torch.compile, where it is asked for."""

import os
import shutil
import sys

import torch
from torch import nn

from spec.errors import Unsupported
from spec.framework import Settings
from torch_impl.model import Model

OWN_MASKS = "fallback_random"
"""Inductor's option to draw random numbers as uncompiled code does; its own would make other dropout masks."""


def check(settings: Settings) -> None:
    """Raise Unsupported where compilation is asked for and the compiler that it needs is missing."""
    wanted = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if settings.compiled and shutil.which(wanted) is None:
        raise Unsupported(
            f"--compile: expected a C++ compiler for torch.compile ({wanted}; CXX names another), got none"
        )


def compile_model(model: Model, settings: Settings) -> None:
    """Have the model's calls compiled, in place, if the settings say so: parameters keep their names.

    A model that drops units is left as it is under a torch that cannot compile it to the same masks, and so is one of
    mixed precision, whose products are seen as they are computed.
    """
    if not settings.compiled or model.spec.mixed_precision:
        return
    if OWN_MASKS in options():
        model.compile(options={OWN_MASKS: True})
    elif not drops(model):
        model.compile()


def options() -> list[str]:
    """What torch.compile can be told, by name; nothing where torch does not say."""
    try:
        return list(torch._inductor.list_options())
    except AttributeError:
        return []


def drops(model: nn.Module) -> bool:
    """Whether anything of the model is dropped in training."""
    rates = (getattr(module, name, 0.0) for module in model.modules() for name in ("p", "dropout"))
    return any(isinstance(rate, float) and rate > 0 for rate in rates)
