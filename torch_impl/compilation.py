"""torch.compile, where it is asked for."""

import os
import shutil
import sys

from spec.errors import Unsupported
from spec.framework import Settings
from torch_impl.model import Model


def check(settings: Settings) -> None:
    """Raise Unsupported where compilation is asked for and the compiler that it needs is missing."""
    wanted = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if settings.compiled and shutil.which(wanted) is None:
        raise Unsupported(
            f"--compile: expected a C++ compiler for torch.compile ({wanted}; CXX names another), got none"
        )


def compile_model(model: Model, settings: Settings) -> None:
    """Have the model's calls compiled, in place, if the settings say so: parameters keep their names."""
    if settings.compiled:
        # Its own random numbers would make other dropout masks than an uncompiled training has.
        model.compile(options={"fallback_random": True})
