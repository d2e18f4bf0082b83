"""What `python -m crosscheck doctor` asks frameworks: measured, and seen where it is planted."""

import importlib
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from spec.environment import LARGEST_PRODUCT_ERROR, product_error, telling

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["torch_impl", "flax_impl"])
def test_it_is_measured(name: str) -> None:
    found = importlib.import_module(f"{name}.environment").look()
    (cpu,) = [device for device in found.devices if device.name == "cpu"]
    assert cpu.product_error <= LARGEST_PRODUCT_ERROR
    assert cpu.keeps_subnormals == found.keeps_subnormals
    assert found.floating == "float32"
    assert all(version[0].isdecimal() for version in found.versions.values())


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_a_shortcut_of_products_is_seen(dtype: type) -> None:
    matrix = telling().astype(dtype).astype(np.float32)
    assert product_error(matrix @ matrix) > 100 * LARGEST_PRODUCT_ERROR
    assert product_error(telling() @ telling()) <= LARGEST_PRODUCT_ERROR


def test_torch_that_flushes_is_seen() -> None:
    from torch_impl import environment

    assert torch.set_flush_denormal(True)
    try:
        (cpu,) = environment.look().devices[:1]
    finally:
        torch.set_flush_denormal(False)
    assert not cpu.keeps_subnormals


def test_jax_with_x64_is_seen() -> None:
    program = "from flax_impl import environment; print(environment.look().floating)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PATH": "", "JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout == "float64\n"
