"""`python -m crosscheck doctor`: each thing that spoils a comparison is planted, and its line seen."""

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from crosscheck.cli.command import main
from crosscheck.cli.doctor import command, frameworks, places, settings, versions
from crosscheck.cli.doctor.line import DoctorLine
from crosscheck.cli.doctor.versions import TriedVersions
from crosscheck.cli.doctor.worker import FrameworkMissed, FrameworkSeen
from spec.environment import DeviceFound, Environment
from spec.machine import THREADS

ROOT = Path(__file__).parents[2]
FAKE = str(Path(__file__).parent / "fake_framework.py")


def set_to(variable: str, value: str) -> DoctorLine:
    found = {line.name: line for line in settings.lines({variable: value})}
    return found.get(variable, found["variables"])


@pytest.mark.parametrize(
    ("variable", "bad", "good", "said"),
    [
        ("JAX_ENABLE_X64", "True", "0", "begin in float64"),
        ("JAX_DEFAULT_DTYPE_BITS", "64", "32", "begin in float64"),
        ("JAX_DEFAULT_MATMUL_PRECISION", "tensorfloat32", "highest", "rounded to fewer bits"),
        ("JAX_NUMPY_DTYPE_PROMOTION", "strict", "standard", "mixes types"),
        ("JAX_DISABLE_JIT", "1", "false", "nothing is compiled"),
        ("JAX_DEBUG_NANS", "yes", "no", "only padding"),
        ("JAX_DEBUG_INFS", "1", "0", "masked"),
        (
            "XLA_FLAGS",
            "--xla_dump_to=/x --xla_cpu_enable_fast_math=true",
            "--xla_dump_to=/x",
            "fast_math=true: XLA may",
        ),
        ("XLA_FLAGS", "--xla_cpu_enable_fast_math", "--xla_cpu_enable_fast_math=false", "XLA may reorder"),
        ("XLA_FLAGS", "--xla_force_host_platform_device_count=8", "", "cut into several devices"),
        ("NVIDIA_TF32_OVERRIDE", "1", "0", "TF32"),
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1", "0", "TF32"),
        ("ONEDNN_DEFAULT_FPMATH_MODE", "BF16", "STRICT", "bfloat16"),
        ("DNNL_DEFAULT_FPMATH_MODE", "ANY", "strict", "bfloat16"),
        ("CUBLAS_WORKSPACE_CONFIG", ":0:0", ":4096:8", "other bits"),
        ("PYTHONOPTIMIZE", "2", "0", "assertions"),
        ("PYTHONWARNINGS", "error::UserWarning", "ignore", "ends its side"),
        *((name, "100000", "1", "more threads than") for name in THREADS),
        *((name, "many", "", "expected a number") for name in THREADS[:1]),
    ],
)
def test_a_variable_that_spoils_something(variable: str, bad: str, good: str, said: str) -> None:
    line = set_to(variable, bad)
    assert (line.status, line.name) == ("warn", variable)
    assert f"{variable}={bad}: " in line.said
    assert said in line.said
    assert variable in line.fix
    assert set_to(variable, good).name == "variables"


def test_every_variable_is_planted() -> None:
    (mark,) = test_a_variable_that_spoils_something.pytestmark
    assert {row[0] for row in mark.args[1]} | {"JAX_PLATFORMS", "JAX_PLATFORM_NAME"} == {
        rule.variable for rule in settings.RULES
    }


@pytest.mark.parametrize("variable", ["JAX_PLATFORMS", "JAX_PLATFORM_NAME"])
def test_a_cpu_that_jax_may_not_see_fails(variable: str) -> None:
    assert set_to(variable, "cuda").status == "fail"
    assert set_to(variable, "cuda,cpu").status == "ok"


def test_several_threads_are_a_warning_where_there_are_as_many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "cores", lambda: 8)
    assert "fastest on one thread" in set_to("OMP_NUM_THREADS", "4").said


def test_what_commands_a_terminal_in_a_variable_does_not() -> None:
    line = set_to("JAX_DEFAULT_MATMUL_PRECISION", "\x1b[2J\n::error::forged")
    assert line.status == "warn"
    assert "\x1b" not in line.said
    assert "\n" not in line.said


def test_an_encoding_that_lacks_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    line = settings.encoding()
    assert line.status == "warn"
    assert "output ascii" in line.said.lower()
    assert "PYTHONUTF8=1" in line.fix
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf8"))
    monkeypatch.setattr("locale.getpreferredencoding", lambda setlocale: "UTF-8")
    assert settings.encoding().status == "ok"


FILES = [
    TriedVersions("3.11", False, {"jax": "0.10.2"}),
    TriedVersions("3.11", True, {"jax": "0.8.1"}),
    TriedVersions("3.12", False, {"jax": "0.12.0.1"}),
]


@pytest.mark.parametrize(
    ("version", "status", "said", "fix"),
    [
        ("0.10.2", "ok", "0.10.2, tried with Python 3.11", ""),
        ("0.10.2+cuda12", "ok", "0.10.2+cuda12, tried with Python 3.11", ""),
        ("0.8.1", "ok", "tried with Python 3.11", ""),
        ("0.12.0.1", "ok", "tried with Python 3.12", ""),
        ("0.8", "fail", "0.8, expected 0.8.1 or newer", "pip install 'jax==0.10.2', which was tried"),
        ("0.8.1rc1", "fail", "expected 0.8.1 or newer", "jax==0.10.2"),
        (
            "0.13.0",
            "warn",
            "which nobody has tried; 0.8.1, 0.10.2, 0.12.0.1 were",
            "go back: pip install 'jax==0.10.2'",
        ),
        (None, "warn", "not installed", "pip install \"ohlol[flax]\", or pip install 'jax==0.10.2'"),
    ],
)
def test_a_version_is_held_against_those_that_were_tried(version: str, status: str, said: str, fix: str) -> None:
    line = versions.package("jax", "flax", version, FILES, "3.11")
    assert line.status == status
    assert said in line.said
    assert fix in line.fix
    assert bool(line.fix) == (status != "ok")


def test_what_a_comparison_itself_needs_fails_where_it_is_missing() -> None:
    assert versions.package("scipy", "crosscheck", None, FILES, "3.11").status == "fail"
    assert versions.package("numpy", "", None, FILES, "3.11").status == "fail"


def test_pythons() -> None:
    assert versions.python(FILES, "3.12.1").status == "ok"
    assert "python3.11 -m venv" in versions.python(FILES, "3.14.0").fix


def test_jax_and_jaxlib_that_do_not_fit() -> None:
    (line,) = versions.together({"jax": "0.10.1", "jaxlib": "0.10.2"})
    assert line.status == "fail"
    assert "jaxlib==0.10.1" in line.fix
    assert not list(versions.together({"jax": "0.10.2", "jaxlib": "0.10.2"}))


def test_the_versions_are_the_project_s_own() -> None:
    packages = versions.needed()
    assert packages["torch"] == "torch"
    assert packages["numpy"] == ""
    assert {"jax", "jaxlib", "flax", "optax", "scipy", "msgspec"} <= packages.keys()
    assert "pytest" not in packages
    files = versions.tried()
    assert {file.python for file in files} >= {"3.11", "3.12", "3.13"}
    assert all(set(packages) - {"torch"} <= file.versions.keys() for file in files)


def test_a_wheel_s_metadata_name_the_same_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = versions.needed()
    listed = [
        f"{requirement}; extra == '{extra}'" if extra else requirement
        for requirement, extra in versions._requirements()
    ]
    monkeypatch.setattr(versions, "ROOT", tmp_path)
    monkeypatch.setattr("importlib.metadata.requires", lambda name: listed)
    assert versions.needed() == here


def device(**fields: Any) -> DeviceFound:
    return DeviceFound(**{"name": "cpu", "kind": "x86_64", "product_error": 1e-7, "keeps_subnormals": True} | fields)


def looked(*devices: DeviceFound, floating: str = "float32", keeps: bool = True, numpy: bool = True) -> FrameworkSeen:
    found = Environment(versions={}, devices=list(devices), floating=floating, keeps_subnormals=keeps)
    return FrameworkSeen(described={}, environment=found, keeps_subnormals=numpy)


@pytest.mark.parametrize(
    ("sight", "name", "said", "fix"),
    [
        (looked(device(name="cuda:0", product_error=5e-4)), "x, cuda:0", "off by 5.0e-04", "'highest'"),
        (looked(device(product_error=float("nan"))), "x, cpu", "off by nan", "'highest'"),
        (looked(device(), floating="float64"), "x, floats", "made float64", "default precision"),
        (looked(device(keeps_subnormals=False)), "x, subnormals", "the framework flushes", "LD_PRELOAD"),
        (looked(device(keeps_subnormals=True), keeps=False), "x, subnormals", "the framework keeps", "LD_PRELOAD"),
        (looked(device(), numpy=False), "x, subnormals", "NumPy beside it flushes", "LD_PRELOAD"),
    ],
)
def test_a_framework_that_computes_otherwise(sight: FrameworkSeen, name: str, said: str, fix: str) -> None:
    (line,) = [line for line in frameworks.lines({"x": sight}) if line.status != "ok"]
    assert (line.status, line.name) == ("warn", name)
    assert said in line.said
    assert fix in line.fix


def test_one_framework_that_is_missing_is_a_warning_and_both_fail() -> None:
    missing = FrameworkMissed(
        message="flax_impl: expected jax to be installed, got none; to install it: pip install x", installed=False
    )
    there = looked(device())
    (line,) = [line for line in frameworks.lines({"torch_impl": there, "flax_impl": missing}) if line.status != "ok"]
    assert (line.status, line.said) == ("warn", "expected jax to be installed, got none")
    assert line.fix.startswith(
        "pip install x, or compare torch_impl alone: --implementations torch_impl spec.reference"
    )
    assert {line.status for line in frameworks.lines({"torch_impl": missing, "flax_impl": missing})} == {"fail"}


def test_what_is_broken_fails_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A framework whose import fails, an implementation that never answers well, and one that is fine."""
    broken = tmp_path / "torch_impl"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise OSError('libcuda.so.1: cannot open shared object file')\n")
    assert main(["doctor", "--implementations", str(broken), FAKE, "--json"]) == 3
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    (line,) = [line for line in found["lines"] if line["status"] == "fail"]
    assert line["name"] == str(broken)
    assert line["said"] == "import: OSError: libcuda.so.1: cannot open shared object file"
    assert line["fix"]
    assert captured.err == ""
    assert found["counts"]["fail"] == 1
    assert any(line["name"] == f"{FAKE}, cpu" and line["status"] == "ok" for line in found["lines"])


def test_an_environment_that_is_none_is_one_line(tmp_path: Path) -> None:
    package = tmp_path / "odd_impl"
    package.mkdir()
    (package / "__init__.py").write_text(Path(FAKE).read_text())
    (package / "environment.py").write_text("def look():\n    return {object(): 1}\n")
    found = frameworks.look([str(package)])
    (line,) = frameworks.lines(found)
    assert line.status == "fail"
    assert "environment: TypeError" in line.said


@pytest.mark.needs("torch", "flax")
def test_a_framework_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "blocked"))
    monkeypatch.setenv("BLOCKED", "jax")
    found = frameworks.look(["torch_impl", "flax_impl"])
    lines = list(frameworks.lines(found))
    assert [line.status for line in lines if line.name.startswith("torch_impl")] == ["ok", "ok"]
    (line,) = [line for line in lines if line.name == "flax_impl"]
    assert (line.status, line.said) == ("warn", "expected jax to be installed, got none")
    assert "pip install" in line.fix


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (line,) = places.caches()
    assert line.status == "warn"
    assert "got a file" in line.said
    assert "XDG_CACHE_HOME" in line.fix
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new" / "one"))
    (line,) = places.caches()
    assert line.status == "ok"
    assert "0 files, 0.0 MB, writable" in line.said
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    monkeypatch.setenv("OHLOL_KEEP", "false")
    assert "nothing is kept" in next(places.caches()).said


def test_a_cache_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spec.cache.root", lambda: None)
    (line,) = places.caches()
    assert (line.status, line.fix) == ("warn", "set XDG_CACHE_HOME to a directory")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_directory_without_the_right_to_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert places.unwritable(tmp_path) == "cannot be written: Permission denied"


def test_a_temporary_directory_that_is_full_or_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(path: Path) -> Any:
        class Usage:
            free = 2**20

        return Usage()

    monkeypatch.setattr("shutil.disk_usage", full)
    assert places.temporary().status == "warn"
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "a-file"))
    (tmp_path / "a-file").touch()
    assert places.temporary().status == "fail"


def test_it_is_readable_at_80_columns() -> None:
    lines = [*settings.lines({rule.variable: "100000" for rule in settings.RULES}), *versions.lines()]
    lines += [versions.package("jax", "flax", version, FILES, "3.11") for version in ("0.1", "9.9", None)]
    lines += frameworks.lines({"flax_impl": looked(device(product_error=1.0), floating="float64", numpy=False)})
    written = io.StringIO()
    command.show(lines, Console(file=written, width=80, force_terminal=True, color_system=None))
    shown = written.getvalue()
    assert max(map(len, shown.splitlines())) <= 80
    flat = " ".join(shown.split())
    for line in lines:
        assert " ".join(line.said.split()) in flat
        assert line.fix in flat
