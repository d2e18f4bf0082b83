"""From settings to torch's dtype and device."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from spec.errors import DeviceMissing
from spec.experiment import Experiment
from spec.framework import Settings
from spec.sizes import STEP
from torch_impl import SIZES, mixed_precision

(LARGE,) = SIZES[STEP]
"""Multiplications of a forward pass from which threads pay: below, they mostly wait for each other. With two, hello-gru
takes 14 times as long as with one, hello-transformer 3 times; an RNN of 256 units is the first that gains, by 15 %."""


def dtype_of(settings: Settings) -> torch.dtype:
    """float32 or float64."""
    return {"float32": torch.float32, "float64": torch.float64}[settings.precision]


def device_of(settings: Settings) -> torch.device:
    """The device that was asked for. Raises DeviceMissing when it is not there."""
    if settings.device == "tpu":
        raise DeviceMissing("device: expected one that torch has without plug-ins (cpu, cuda), got tpu")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise DeviceMissing("device: expected a CUDA device that torch can see, got none")
    return torch.device(settings.device)


def is_small(experiment: Experiment) -> bool:
    """Whether one forward pass over a batch multiplies less than LARGE times."""
    return experiment.multiplications_per_step < LARGE


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def deterministic() -> Iterator[None]:
    """Let torch take only algorithms that give the same bits every time, where it has one; elsewhere it warns."""
    # What cuBLAS asks for, before its first call in the process.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def computing(settings: Settings, experiment: Experiment | None = None) -> Iterator[None]:
    """Compute on the asked device in the asked precision; puts torch's global switches back as they were.

    experiment: what is computed, where that is more than drawing or copying; a small one gets one thread, and products
    are those of its model.
    """
    device_of(settings)
    shortcut = settings.matmul_precision == "default"
    before = torch.get_float32_matmul_precision()
    # cuDNN's recurrent kernels round their products to TF32 unless told otherwise; cuBLAS does not.
    threads = one_thread() if experiment is not None and is_small(experiment) else nullcontext()
    cudnn = torch.backends.cudnn
    cudnn_before = cudnn.enabled, cudnn.allow_tf32, cudnn.deterministic
    steady = settings.deterministic and settings.device == "cuda"
    with threads, deterministic() if steady else nullcontext():
        try:
            cudnn.enabled, cudnn.allow_tf32, cudnn.deterministic = True, shortcut, steady
            torch.set_float32_matmul_precision("high" if shortcut else "highest")
            with nullcontext() if experiment is None else mixed_precision.products(experiment.model):
                yield
        finally:
            torch.set_float32_matmul_precision(before)
            cudnn.enabled, cudnn.allow_tf32, cudnn.deterministic = cudnn_before
