"""torch.compile, where it is asked for."""

import os
import shutil
import sys

import torch
from torch import nn

from spec.errors import Unsupported
from spec.framework import Settings
from spec.models import Model as Spec
from torch_impl.model import Model
from torch_impl.recurrent import STRETCHES, run_stretches

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
    """Have the model's calls compiled, in place, if the settings say so: parameters keep their names. What is not is
    said by `unheeded`."""
    if not settings.compiled or unheeded(model.spec, settings):
        return
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            # How many stretches there are, and how long, is another matter in each batch: each would be compiled anew.
            setattr(module, STRETCHES, torch.compiler.disable(run_stretches))
    model.compile(**({"options": {OWN_MASKS: True}} if OWN_MASKS in options() else {}))


def unheeded(spec: Spec, settings: Settings) -> str:
    """Why a model is left as it is although it is to be compiled, in a line; empty where it is not.

    One that drops units is under a torch that cannot compile it to the same masks, and so is one of mixed precision,
    whose products are seen as they are computed.
    """
    if not settings.compiled:
        return ""
    if spec.mixed_precision:
        return (
            "--compile: expected no mixed_precision, whose products torch does not compile; the model is left as it is"
        )
    if spec.has_dropout and OWN_MASKS not in options():
        return f"--compile: torch {torch.__version__} compiles dropout to other masks; the model is left as it is"
    return ""


def options() -> list[str]:
    """What torch.compile can be told, by name; nothing where torch does not say."""
    try:
        return list(torch._inductor.list_options())
    except AttributeError:
        return []
