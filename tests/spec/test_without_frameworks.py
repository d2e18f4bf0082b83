"""That nothing here finds a framework, which is what makes every test of spec one of its independence."""

import importlib
import subprocess
import sys
from types import ModuleType

import pytest
from blocked import JAX, TORCH, not_installed

FINDS = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"


def finds(name: str, env: dict[str, str] | None = None) -> bool:
    """Whether a process that is started here could import it."""
    return (
        subprocess.run([sys.executable, "-c", FINDS, name], env=env, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.parametrize("framework", JAX + TORCH)
def test_no_framework_is_there(framework: str) -> None:
    for name in (framework, f"{framework}.some.module"):
        with pytest.raises(ModuleNotFoundError, match=f"No module named '{framework}"):
            importlib.import_module(name)
    assert not finds(framework)
    assert not finds(framework, {})
    assert not finds(framework, {"PYTHONPATH": "."})


@pytest.mark.parametrize("framework", JAX + TORCH)
def test_it_is_the_block_that_hides_them(framework: str) -> None:
    assert finds(framework, {"BLOCKED": ""})


def test_what_was_loaded_before_is_hidden_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("planted", "planted.part", "torch_impl", "torch_impl.rnn"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    there, implementation = sys.modules["planted.part"], sys.modules["torch_impl"]
    assert importlib.import_module("planted.part") is there
    with not_installed("planted"):
        for name in ("planted", "planted.part"):
            with pytest.raises(ModuleNotFoundError):
                importlib.import_module(name)
        assert importlib.import_module("torch_impl") is not implementation
        assert "torch_impl.rnn" not in sys.modules
    assert importlib.import_module("planted.part") is there
    assert sys.modules["torch_impl"] is implementation
