"""Each package works where the other framework is not installed, shown in clean processes with its import blocked."""

import subprocess
import sys
from pathlib import Path

import pytest

BLOCKED = Path(__file__).with_name("blocked.py")
ROOT = BLOCKED.parents[2]
JAX = "jax,jaxlib,flax,optax,orbax"
TORCH = "torch"


def run(blocked: str, *module_and_arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BLOCKED), blocked, "-m", *module_and_arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize(
    ("implementation", "without"), [("torch_impl", JAX), ("flax_impl", TORCH)], ids=["torch_impl", "flax_impl"]
)
def test_training_works_without_the_other_framework(implementation: str, without: str, tmp_path: Path) -> None:
    done = run(without, f"{implementation}.train", "hello-rnn", "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert "Predicted string: ohlol, epoch 60/60" in done.stdout
    assert (tmp_path / "run" / "parameters.safetensors").stat().st_size > 0


@pytest.mark.parametrize(
    ("implementation", "without"), [("torch_impl", TORCH), ("flax_impl", JAX)], ids=["torch_impl", "flax_impl"]
)
def test_a_missing_framework_is_named(implementation: str, without: str, tmp_path: Path) -> None:
    done = run(without, f"{implementation}.train", "hello-rnn", "--out", str(tmp_path / "run"))
    assert done.returncode == 3
    assert f"ohlol[{implementation.removesuffix('_impl')}]" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_spec_and_its_tests_need_no_framework() -> None:
    # The options of pyproject.toml name the implementations, which these tests do without.
    done = run(f"{JAX},{TORCH}", "pytest", "tests/spec", "-q", "-o", "addopts=--import-mode=importlib", "-n", "0")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " passed" in done.stdout


def test_crosscheck_itself_needs_no_framework() -> None:
    done = run(f"{JAX},{TORCH}", "crosscheck", "--help")
    assert done.returncode == 0, done.stderr
    assert "--implementations" in done.stdout


@pytest.mark.parametrize("name", ["torch", "jax", "flax.nnx", "optax"])
def test_the_block_blocks(name: str, tmp_path: Path) -> None:
    (tmp_path / "importer.py").write_text(f"import {name}\n")
    blocked = run(f"{JAX},{TORCH}", "importer", cwd=tmp_path)
    assert blocked.returncode == 1
    assert f"blocked: {name.partition('.')[0]}" in blocked.stderr
    assert run("nothing", "importer", cwd=tmp_path).returncode == 0
