"""Recordings of earlier runs: used where nothing has changed, and nowhere else."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crosscheck import sources
from crosscheck.command import main
from spec import cache

FAKE = Path(__file__).parent / "fake_framework.py"

Check = Callable[..., Any]
Edit = Callable[..., str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory of the test's own."""
    for name in cache.NOTHING_KEPT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def old(tmp_path: Path) -> Callable[[str], str]:
    """A module of that source, which has been there for a while."""

    def write(source: str, name: str = "ported.py") -> str:
        path = tmp_path / "port" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        earlier = time.time() - 60
        os.utime(path, (earlier, earlier))
        return str(path)

    return write


def reused(outcome: Any) -> list[int]:
    """How many recordings were an earlier run's, by side."""
    return [side["reused"] for side in outcome.report["sides"]]


def test_a_second_run_records_nothing_and_compares_everything(check: Check, old: Callable[..., str], home: Path):
    port = old(FAKE.read_text())
    first, second = check(port), check(port)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert (reused(first), reused(second)) == ([0, 0], [1, 1])
    assert [side["seconds"] for side in second.report["sides"]] == [0, 0]
    assert second.report["comparisons"] == first.report["comparisons"] > 0
    assert second.report["experiments"][0]["comparisons"] == first.report["experiments"][0]["comparisons"]
    assert "1 of 1 recordings are an earlier run's" in second.output
    assert "1 of 1 recordings are an earlier run's" not in first.output
    assert "recorded by an earlier run" in second.errors
    assert len(list(home.glob("ohlol/recordings/*.safetensors"))) == 2


def test_a_fault_planted_since_is_seen(check: Check, old: Callable[..., str]):
    source = FAKE.read_text()
    assert check(old(source)).exit_code == 0
    wrong = source.replace("    loss = sum(", "    found['head.bias'] = found['head.bias'] * 2\n    loss = sum(")
    assert wrong != source
    outcome = check(old(wrong))
    assert (outcome.exit_code, reused(outcome)) == (1, [1, 0])
    # Back to what it was: both of its recordings are kept.
    outcome = check(old(source))
    assert (outcome.exit_code, reused(outcome)) == (0, [1, 1])
    outcome = check(old(wrong))
    assert (outcome.exit_code, reused(outcome)) == (1, [1, 1])


READS = """import json
import os
from pathlib import Path
def _double():
    try:
        return float(open(Path(__file__).parents[1] / "elsewhere").read())
    except FileNotFoundError:
        return 1.0
SCALE = """


@pytest.mark.parametrize(
    ("scale", "change"),
    [
        ("json.loads(Path(__file__).with_name('scale.json').read_text())", "file"),
        ("float(os.environ.get('SCALE', '1'))", "variable"),
        ("2.0 if Path(__file__).with_name('double').exists() else 1.0", "new file"),
        ("_double()", "new file elsewhere"),
        ("getattr(__import__('scale_of'), 'SCALE')", "module"),
    ],
)
def test_whatever_it_reads_counts(
    check: Check, old: Callable[..., str], monkeypatch: pytest.MonkeyPatch, scale: str, change: str
):
    source = FAKE.read_text().replace("import numpy as np\n", "import numpy as np\n" + READS + scale + "\n", 1)
    source = source.replace("array.astype(settings.precision) for", "(array * SCALE).astype(settings.precision) for")
    old("1.0", "scale.json")
    old("SCALE = 1.0", "scale_of.py")
    port = old(source)
    assert check(port, "--rungs", "round-trip").exit_code == 0
    assert reused(check(port, "--rungs", "round-trip")) == [1, 1]
    match change:
        case "file":
            old("2.0", "scale.json")
        case "variable":
            monkeypatch.setenv("SCALE", "2.0")
        case "module":
            old("SCALE = 2.0", "scale_of.py")
        case "new file":
            old("", "double")
        case _:
            old("2.0", "../elsewhere")
    outcome = check(port, "--rungs", "round-trip")
    assert (outcome.exit_code, outcome.report["sides"][1]["reused"]) == (1, 0)


def test_another_job_is_recorded(check: Check, old: Callable[..., str]):
    port = old(FAKE.read_text())
    assert reused(check(port, "--rungs", "forward")) == [0, 0]
    assert reused(check(port, "--rungs", "forward", "--seed", "1")) == [0, 0]
    assert reused(check(port, "--rungs", "forward,gradients")) == [0, 0]
    assert reused(check(port, "--rungs", "forward")) == [1, 1]


def test_fresh_records_anew(check: Check, old: Callable[..., str], home: Path):
    port = old(FAKE.read_text())
    check(port, "--rungs", "forward")
    before = sorted(path.stat().st_mtime_ns for path in home.glob("ohlol/recordings/*"))
    assert reused(check(port, "--rungs", "forward", "--fresh")) == [0, 0]
    assert sorted(path.stat().st_mtime_ns for path in home.glob("ohlol/recordings/*")) > before
    assert reused(check(port, "--rungs", "forward")) == [1, 1]


def test_nothing_is_kept_for_who_wants_it_so(
    check: Check, old: Callable[..., str], home: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in cache.NOTHING_KEPT.items():
        monkeypatch.setenv(name, value)
    port = old(FAKE.read_text())
    assert [reused(check(port, "--rungs", "forward")) for _ in range(2)] == [[0, 0], [0, 0]]
    assert not home.exists()


def test_a_damaged_file_is_recorded_anew(check: Check, old: Callable[..., str], home: Path):
    port = old(FAKE.read_text())
    check(port, "--rungs", "forward")
    for path in home.glob("ohlol/recordings/*"):
        path.write_bytes(path.read_bytes()[:-100])
    outcome = check(port, "--rungs", "forward")
    assert (outcome.exit_code, reused(outcome)) == (0, [0, 0])
    assert reused(check(port, "--rungs", "forward")) == [1, 1]


def test_what_failed_is_asked_again(check: Check, old: Callable[..., str]):
    source = FAKE.read_text()
    broken = source.replace(
        "    inputs = batch.inputs.astype", "    raise ValueError('planted')\n    inputs = batch.inputs.astype"
    )
    assert broken != source
    port = old(broken)
    assert [reused(check(port, "--rungs", "forward"))[1] for _ in range(2)] == [0, 0]


def test_a_file_that_is_edited_while_it_runs_vouches_for_nothing(check: Check, fake: Edit):
    """Nobody can say which of the two was read."""
    port = fake(("import numpy as np\n", "import pathlib\nimport numpy as np\npathlib.Path(__file__).touch()\n"))
    assert [reused(check(port, "--rungs", "forward"))[1] for _ in range(2)] == [0, 0]


def test_a_searched_folder(tmp_path: Path):
    """A new module may stand in another one's way; a report or a run directory does not."""
    before = sources.signature(str(tmp_path))
    (tmp_path / "crosscheck-report").mkdir()
    (tmp_path / "crosscheck-report" / "report.md").write_text("")
    assert sources.signature(str(tmp_path)) == before
    (tmp_path / "numpy.py").write_text("")
    with_module = sources.signature(str(tmp_path))
    assert with_module != before
    (tmp_path / "crosscheck-report" / "__init__.py").write_text("")
    assert sources.signature(str(tmp_path)) not in (before, with_module)


def test_signatures(tmp_path: Path):
    path = tmp_path / "file"
    assert sources.signature(str(path)) == sources.ABSENT
    path.write_text("one")
    one = sources.signature(str(path))
    os.utime(path, (1, 1))
    assert sources.signature(str(path)) == one
    path.write_text("two")
    assert sources.signature(str(path)) not in (one, sources.ABSENT)
    assert " " in sources.signature(os.__file__)


WATCHED = """
import json, os, pathlib, sys
from crosscheck.sources import Sources
sources = Sources()
import colorsys
sys.path.insert(0, ".")
import ported
open("data").read()
pathlib.Path("also").read_bytes()
os.close(os.open("low", os.O_RDONLY))
open("made", "w").write("")
open("made").read()
pathlib.Path("missing").exists()
try: open("missing")
except FileNotFoundError: pass
os.listdir(os.environ["JAX_COMPILATION_CACHE_DIR"])
open(os.path.join(os.environ["JAX_COMPILATION_CACHE_DIR"], "program")).read()
print(json.dumps(sources.signatures()))
"""


def test_what_a_process_reads_is_seen(tmp_path: Path, old: Callable[..., str]):
    folder = Path(old("import helper")).parent
    for name in ("helper.py", "data", "also", "low"):
        old("", name)
    kept = tmp_path / "kept"
    old("", "../kept/program")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), cache.VARIABLE: str(kept)}
    output = subprocess.run(
        [sys.executable, "-c", WATCHED], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout
    found = {Path(path).name: signed for path, signed in json.loads(output).items() if Path(path).parent == folder}
    assert found.keys() == {"ported.py", "helper.py", "data", "also", "low", "missing"}
    assert found["missing"] == sources.ABSENT
    assert not any(path.startswith(str(kept)) for path in json.loads(output))
    assert {"colorsys.py", "port"} <= {Path(path).name for path in json.loads(output)}


@pytest.mark.needs("torch", "flax")
def test_it_works_from_the_command_line(tmp_path: Path):
    """The shipped implementations: what they record is theirs to vouch for."""
    words = ["hello-rnn", "--rungs", "forward,loss", "--precision", "float64", "--out", str(tmp_path / "report")]
    assert main(words) == 0
    assert main(words) == 0
    report = (tmp_path / "report" / "report.md").read_text()
    assert "torch_impl: 1 of 1 recordings are an earlier run's" in report
    assert "flax_impl: 1 of 1 recordings are an earlier run's" in report
