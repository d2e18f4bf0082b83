"""From settings to torch's dtype and device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from spec.errors import DeviceMissing
from spec.framework import Settings


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


@contextmanager
def computing(settings: Settings) -> Iterator[None]:
    """Compute on the asked device in the asked precision; puts torch's global switches back as they were."""
    device_of(settings)
    shortcut = settings.matmul_precision == "default"
    before = torch.get_float32_matmul_precision()
    # cuDNN's recurrent kernels round their products to TF32 unless told otherwise; cuBLAS does not.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=shortcut):
        torch.set_float32_matmul_precision("high" if shortcut else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
