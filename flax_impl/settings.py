"""From settings to JAX's device and switches."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from flax_impl import CHOICES
from spec.choices import chosen
from spec.errors import DeviceMissing
from spec.framework import Settings

recurrence = jax.make_user_context(CHOICES["recurrence"][0])
"""How recurrences are scanned and differentiated: a name for flax_impl.fast.choice. As with JAX's own switches, what is
compiled under one value is not used under another.
"""


def device_of(settings: Settings) -> Any:
    """The device that was asked for. Raises DeviceMissing when it is not there."""
    try:
        return jax.local_devices(backend=settings.device)[0]
    except (RuntimeError, AssertionError) as error:  # JAX asserts that there is any, where JAX_PLATFORMS leaves none.
        asked = os.environ.get("JAX_PLATFORMS")
        why = f" (JAX_PLATFORMS={asked}: {str(error) or 'none of these is there'})" if asked else ""
        raise DeviceMissing(f"device: expected a {settings.device} device that JAX can see, got none{why}") from None


def formulation(settings: Settings) -> str:
    """How recurrences are scanned: a name for flax_impl.fast.choice."""
    name = chosen(CHOICES, settings, "recurrence")
    return "unrolled" if settings.compiled and name == "automatic" else name


@contextmanager
def computing(settings: Settings) -> Iterator[None]:
    """Compute on the asked device in the asked precision and formulation; JAX's global switches stay as they are."""
    wide = settings.precision == "float64"
    # JAX rounds products to TF32 on a GPU and to bfloat16 on a TPU unless told otherwise.
    with (
        jax.default_device(device_of(settings)),
        jax.enable_x64(wide),
        jax.default_matmul_precision(settings.matmul_precision),
        recurrence(formulation(settings)),
    ):
        yield
