"""What torch is like in this process. See spec.environment."""

import platform
from typing import Any

import numpy as np
import torch

from spec.environment import SMALLEST_NORMAL, DeviceFound, Environment, product_error, telling
from torch_impl.arrays import to_tensor


def look() -> Environment:
    """See spec.environment. Looks at every device that torch sees without plug-ins."""
    numbers = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    devices = {name: torch.device(name) for name in ("cpu", *(f"cuda:{number}" for number in numbers))}
    return Environment(
        versions={"torch": str(torch.__version__)},
        devices=[found(name, device) for name, device in devices.items()],
        floating=str(torch.get_default_dtype()).removeprefix("torch."),
        keeps_subnormals=True,
    )


def found(name: str, device: Any) -> DeviceFound:
    """How that device computes."""
    matrix = to_tensor(telling(), device=device)
    smallest = to_tensor(np.full(8, SMALLEST_NORMAL, np.float32), device=device)
    return DeviceFound(
        name=name,
        kind=torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        product_error=product_error((matrix @ matrix).cpu().numpy()),
        # Looked at as bits: what reads them may flush, too.
        keeps_subnormals=bool((smallest * 0.5).cpu().numpy().view(np.int32).any()),
    )
