"""Help, lists and mistakes are answered before anything heavy is imported, shown in clean processes."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REPORTED = "modules: "
LISTING = f"""
import runpy, sys
module, *arguments = sys.argv[1:]
sys.argv = [module, *arguments]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
finally:
    print({REPORTED!r} + ",".join(sys.modules), file=sys.stderr)
"""

ANYWHERE = ("torch", "jax", "flax", "optax", "scipy", "matplotlib", "rich", "numpy.random", "jaxtyping")
"""What no such command needs: frameworks, statistics, pictures, tables, and the generators of random numbers."""
CROSSCHECK = (
    *ANYWHERE,
    "crosscheck.cli.run",
    "crosscheck.recording.worker_pool",
    "crosscheck.recording.worker",
    "crosscheck.report",
)
BAD_VALUE = "seeds = 0\n"


def loaded(module: str, *arguments: str, cwd: Path = ROOT) -> tuple[int, set[str]]:
    """The exit code of `python -m module arguments`, and every module that it imported."""
    command = [sys.executable, "-c", LISTING, module, *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    line = done.stderr.splitlines()[-1]
    assert line.startswith(REPORTED), done.stderr
    return done.returncode, set(line.removeprefix(REPORTED).split(","))


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with a value that cannot be."""
    path = tmp_path_factory.mktemp("experiments") / "wrong.toml"
    text = (ROOT / "spec" / "experiments" / "hello-gru.toml").read_text()
    changed = "".join(BAD_VALUE if line.startswith("seeds =") else line for line in text.splitlines(keepends=True))
    assert changed != text
    path.write_text(changed)
    return str(path)


@pytest.mark.parametrize("module", ["torch_impl.train", "flax_impl.train"])
@pytest.mark.parametrize(("argument", "code"), [("--help", 0), ("--list", 0), ("nope", 2), ("", 2)])
def test_train_answers_at_once(module: str, argument: str, code: int, wrong: str) -> None:
    found, modules = loaded(module, argument or wrong)
    assert found == code
    assert modules.isdisjoint(ANYWHERE)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), (["--list"], 0), (["nope"], 2), ([""], 2), (["record", "--help"], 0), (["compare", "--help"], 0)],
)
def test_crosscheck_answers_at_once(arguments: list[str], code: int, wrong: str) -> None:
    found, modules = loaded("crosscheck", *(argument or wrong for argument in arguments))
    assert found == code
    assert modules.isdisjoint((*CROSSCHECK, "crosscheck.faults"))


@pytest.mark.parametrize("argument", ["--help", "--list", "no-such-fault"])
def test_faults_answers_at_once(argument: str) -> None:
    _, modules = loaded("crosscheck", "faults", argument)
    assert modules.isdisjoint((*CROSSCHECK, "crosscheck.faults.campaign", "crosscheck.faults.report"))


@pytest.mark.by_default("torch*", "jax*", "*crosscheck.cli.run*")
@pytest.mark.parametrize("name", CROSSCHECK)
def test_an_import_is_seen(name: str, tmp_path: Path) -> None:
    (tmp_path / "importer.py").write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nimport {name}\n")
    code, modules = loaded("importer", cwd=tmp_path)
    assert code == 0
    assert name in modules


@pytest.mark.needs("torch")
def test_a_training_imports_no_compiler(tmp_path: Path) -> None:
    code, modules = loaded("torch_impl.train", "hello-rnn", "--out", str(tmp_path / "out"))
    assert code == 0
    assert "torch.optim" in modules
    assert "torch._dynamo" not in modules
