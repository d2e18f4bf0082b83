"""Each package works where the other framework is not installed, shown in clean processes with its import blocked."""

import subprocess
import sys
from pathlib import Path

import pytest
from blocked import JAX, TORCH, environment

ROOT = Path(__file__).parents[2]


def run(blocked: tuple[str, ...], *module_and_arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *module_and_arguments]
    given = environment(blocked)
    return subprocess.run(command, cwd=cwd, env=given, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.by_default("flax_impl")
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


def test_spec_and_its_tests_are_imported_without_a_framework() -> None:
    """The tests themselves always run so, see tests/spec/conftest.py; here is what happens before any of them."""
    # The options of pyproject.toml name the implementations, which these tests do without.
    options = ("--collect-only", "-q", "-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider")
    done = run(JAX + TORCH, "pytest", "tests/spec", *options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " tests collected" in done.stdout


def test_crosscheck_itself_needs_no_framework() -> None:
    done = run(JAX + TORCH, "crosscheck", "--help")
    assert done.returncode == 0, done.stderr
    assert "--implementations" in done.stdout


@pytest.mark.parametrize("name", JAX + TORCH)
def test_the_block_blocks(name: str, tmp_path: Path) -> None:
    (tmp_path / "importer.py").write_text(f"import {name}\n")
    blocked = run((name,), "importer", cwd=tmp_path)
    assert blocked.returncode == 1
    assert f"No module named '{name}'" in blocked.stderr
    (tmp_path / "finder.py").write_text(
        f"import importlib.util, sys\nsys.exit(not importlib.util.find_spec({name!r}))\n"
    )
    assert run(("nothing",), "finder", cwd=tmp_path).returncode == 0
