"""Which tests run where only one framework is installed: a rule that is read off the tests, and can be seen to hold."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize(
    ("source", "file", "test"),
    [
        ("def test(): pass", set(), set()),
        ("import torch\ndef test(): pass", {"torch"}, set()),
        ("from jax import numpy\ndef test(): numpy.ones(1)", {"flax"}, {"flax"}),
        ("import torch_impl.settings\ndef test(): pass", {"torch"}, set()),
        ("import torch_impl\ndef test(): pass", set(), set()),
        ("import torch_impl\ndef test(): torch_impl.train()", set(), {"torch"}),
        ("def test():\n    import optax", set(), {"flax"}),
        ("def test():\n    from torch_impl import ensemble", set(), {"torch"}),
        ("import flax_impl as f\ndef helper(): f.train()\ndef other(): helper()\ndef test(): other()", set(), {"flax"}),
        ("import flax_impl\n@pytest.fixture\ndef side(): return flax_impl\ndef test(side): pass", set(), {"flax"}),
        ("import torch_impl\nSIDES = [torch_impl]\n@mark(SIDES)\ndef test(): pass", set(), {"torch"}),
        ("import torch_impl, flax_impl\ndef test(): torch_impl.a(flax_impl.b())", set(), {"torch", "flax"}),
        (
            "import flax_impl\n@fixture(autouse=True)\ndef always(): flax_impl.train()\ndef test(): pass",
            {"flax"},
            set(),
        ),
    ],
)
def test_what_a_test_needs_is_read_off_its_source(
    conftest: ModuleType, source: str, file: set[str], test: set[str]
) -> None:
    found = conftest.needs(source)
    assert (found.file, found.tests["test"]) == (file, test)


def test_what_its_helpers_import_a_test_file_needs_too(conftest: ModuleType, tmp_path: Path) -> None:
    for name, text in (
        ("test_planted.py", "from one import helper\ndef test(): helper()\n"),
        ("one.py", "import two\n"),
        ("two.py", "import one\nimport torch\n"),
    ):
        (tmp_path / name).write_text(text)
    assert conftest.needed_by(tmp_path / "test_planted.py") == {"torch"}
    (tmp_path / "two.py").write_text("import one\n")
    assert conftest.needed_by(tmp_path / "test_planted.py") == set()


def test_parameters_name_a_side(conftest: ModuleType) -> None:
    assert conftest.named(("hello-gru", ["torch_impl"])) == {"torch"}
    assert conftest.named(conftest) == conftest.named("jaxtyping") == conftest.named(3) == set()


def collected(tmp_path: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    tests = tmp_path / "tests"
    tests.mkdir(exist_ok=True)
    (tests / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tests / "test_planted.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    needs(*sides): what a test needs\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:jaxtyping", *options, "tests"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


PLANTED = """
import pytest

def test_of_none(): pass

@pytest.mark.needs("torch")
def test_of_torch(): pass

@pytest.mark.parametrize("side", ["torch_impl", "flax_impl"])
def test_of_each(side): pass
"""


def test_a_run_of_a_side_says_what_it_left_out(tmp_path: Path) -> None:
    assert "4 passed" in collected(tmp_path, PLANTED).stdout
    flax = collected(tmp_path, PLANTED, "--side", "flax")
    assert "side: flax alone" in flax.stdout
    assert "2 passed, 2 deselected" in flax.stdout
    assert "3 passed, 1 deselected" in collected(tmp_path, PLANTED, "--side", "torch").stdout


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_nothing_to_run_is_a_failure(tmp_path: Path, options: tuple[str, ...]) -> None:
    text = "import pytest\npytestmark = pytest.mark.needs('torch')\ndef test_of_torch(): pass\n"
    assert collected(tmp_path, text, "--side", "torch", *options).returncode == 0
    done = collected(tmp_path, text, "--side", "flax", *options)
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout


@pytest.mark.parametrize("options", [(), ("--side", "flax")], ids=["both sides", "the framework's own side"])
def test_a_framework_that_is_missing_is_an_error(tmp_path: Path, options: tuple[str, ...]) -> None:
    blocked = "import sys\nsys.modules['jax'] = None\n"
    module = collected(tmp_path, blocked + "import jax\ndef test(): pass\n", *options)
    assert module.returncode == pytest.ExitCode.INTERRUPTED
    assert "1 error" in module.stdout
    inside = collected(tmp_path, blocked + "def test():\n    import jax\n", *options)
    assert inside.returncode == pytest.ExitCode.TESTS_FAILED


def test_no_test_skips_itself_where_a_package_is_missing() -> None:
    word = "import" + "orskip"
    assert [str(path) for path in FILES if word in path.read_text()] == []
