"""What JAX is like in this process. See spec.environment."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax

from spec.environment import SMALLEST_NORMAL, DeviceFound, Environment, product_error, telling


def look() -> Environment:
    """See spec.environment. Looks at every device that JAX sees. XLA lets no subnormal number live on a CPU."""
    # Those of the CPU are not among the default ones where there is an accelerator.
    devices = {device.platform: device for device in jax.devices("cpu")[:1]}
    devices |= {f"{device.platform}:{device.id}": device for device in jax.devices() if device.platform != "cpu"}
    return Environment(
        versions={module.__name__: module.__version__ for module in (jax, flax, optax)},
        devices=[found(name, device) for name, device in devices.items()],
        floating=str(jnp.asarray(1.0).dtype),
        keeps_subnormals=False,
    )


def found(name: str, device: Any) -> DeviceFound:
    """How that device computes."""
    matrix = jax.device_put(telling(), device)
    smallest = jax.device_put(np.full(8, SMALLEST_NORMAL, np.float32), device)
    return DeviceFound(
        name=name,
        kind=device.device_kind,
        product_error=product_error(np.asarray(matrix @ matrix)),
        # Looked at as bits: what reads them may flush, too.
        keeps_subnormals=bool(np.asarray(smallest * np.float32(0.5)).view(np.int32).any()),
    )
