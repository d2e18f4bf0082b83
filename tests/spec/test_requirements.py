"""A Python that is too old and packages that are missing are one line, before anything else is imported."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from blocked import environment

from spec import requirements
from spec.errors import FrameworkMissing

ROOT = Path(__file__).parents[2]
COMMANDS = ["torch_impl.train", "flax_impl.train", "crosscheck", "spec.schema"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*words: str, without: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    given = environment(tuple(without))
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=given, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("module", COMMANDS)
@pytest.mark.parametrize("missing", ["numpy", "msgspec", "rich", "safetensors", "numpy,msgspec"])
def test_a_missing_package_is_one_line(module: str, missing: str) -> None:
    done = run("-m", module, "--help", without=missing.split(","))
    assert (done.returncode, done.stdout) == (FrameworkMissing.exit_code, "")
    names = ", ".join(sorted(missing.split(",")))
    assert done.stderr.startswith(f"error: expected {names} to be installed, got none; to install it: pip install ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("module", "extras"), [*requirements.EXTRAS.items(), ("spec", "")])
def test_without_any_package_it_says_what_to_install(module: str, extras: str) -> None:
    """-S: no folder of installed packages. Nobody knows `ohlol` there, so pip is given the folder."""
    done = run("-S", "-m", {"crosscheck": "crosscheck", "spec": "spec.schema"}.get(module, f"{module}.train"))
    assert (done.returncode, done.stdout) == (3, "")
    wanted = f"ohlol[{extras}]" if extras else "ohlol"
    assert done.stderr == (
        "error: expected msgspec, numpy, rich, safetensors to be installed, got none; "
        f'to install it: pip install "{wanted} @ {ROOT.as_uri()}"\n'
    )


def test_crosscheck_says_that_it_needs_scipy() -> None:
    done = run("-m", "crosscheck", "--help", without=["scipy"])
    assert done.returncode == 3
    assert done.stderr.startswith("error: expected scipy to be installed, got none; ")
    assert run("-m", "spec.schema", "--help", without=["scipy"]).returncode == 0


TOO_OLD = "import runpy, sys; sys.version_info = (3, 10, 13, 'final', 0); sys.argv = ['-m']; runpy.run_module({!r})"


@pytest.mark.parametrize("module", COMMANDS)
def test_an_old_python_is_one_line(module: str) -> None:
    done = run("-c", TOO_OLD.format(module))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: expected Python 3.11 or newer, got 3.10.13 (")
    assert "python3.11 -m pip install " in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_read_before_the_check_is_in_a_syntax_that_old_pythons_read() -> None:
    for file in ("spec/requirements.py", "spec/__init__.py", "crosscheck/__init__.py", "crosscheck/__main__.py"):
        ast.parse((ROOT / file).read_text(), feature_version=(3, 7))
    for package in ("torch_impl", "flax_impl"):
        ast.parse((ROOT / package / "__init__.py").read_text(), feature_version=(3, 7))
    tree = ast.parse((ROOT / "spec" / "requirements.py").read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules == {"__future__", "importlib", "pathlib"}


def test_a_program_that_imports_it_can_catch_that(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImportError, match="expected no_such_package to be installed, got none; to install it"):
        requirements.check("numpy", "no_such_package")
    monkeypatch.setattr(sys, "argv", ["-m"])
    with pytest.raises(SystemExit) as ended:
        requirements.check("no_such_package")
    assert ended.value.code == FrameworkMissing.exit_code
    requirements.check(*requirements.PACKAGES)


def test_the_lists_are_those_of_the_distribution() -> None:
    def names(listed: list[str]) -> set[str]:
        return {one.partition(">")[0] for one in listed}

    assert names(PROJECT["dependencies"]) == {*requirements.PACKAGES, "matplotlib"}
    assert names(PROJECT["optional-dependencies"]["crosscheck"]) == {"hypothesis", "jinja2", "scipy"}
    assert PROJECT["requires-python"] == f">={'.'.join(map(str, requirements.PYTHON))}"
    assert requirements.EXTRAS.keys() == {"crosscheck", "flax_impl", "torch_impl"}
    for extras in requirements.EXTRAS.values():
        assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys()


def test_lower_bounds_are_the_versions_that_were_tried() -> None:
    lines = (ROOT / "constraints" / "lowest-3.11.txt").read_text().splitlines()
    tried = dict(line.split("==") for line in lines if not line.startswith("#"))
    extras = PROJECT["optional-dependencies"]
    bounds = [*PROJECT["dependencies"], *extras["torch"], *extras["flax"], *extras["crosscheck"], *extras["test"]]
    for bound in bounds:
        name, _, lowest = bound.partition(">=")
        whole = tried[name].removesuffix(".0") if lowest.count(".") < 2 else tried[name]
        assert whole.removesuffix(".0") == lowest.removesuffix(".0"), f"{bound}: tried with {tried[name]}"


def test_an_installed_distribution_is_named_and_a_folder_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    monkeypatch.setattr(metadata, "distribution", lambda name: SimpleNamespace())
    assert requirements.hint("flax") == 'to install it: pip install "ohlol[flax]"'
