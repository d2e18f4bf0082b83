"""Recordings of earlier runs: used where nothing has changed, and nowhere else."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from crosscheck.cli import run
from crosscheck.cli.command import main
from crosscheck.recording.reuse import variables
from spec import cache, parameters

pytestmark = pytest.mark.own_processes

FAKE = Path(__file__).parent / "fake_framework.py"

RunCrosscheck = Callable[..., Any]
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


def test_a_second_run_records_nothing_and_compares_everything(
    run_crosscheck: RunCrosscheck, old: Callable[..., str], home: Path
):
    port = old(FAKE.read_text())
    first, second = run_crosscheck(port), run_crosscheck(port)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert (reused(first), reused(second)) == ([0, 0], [1, 1])
    assert [side["seconds"] for side in second.report["sides"]] == [0, 0]
    assert second.report["comparisons"] == first.report["comparisons"] > 0
    assert second.report["experiments"][0]["comparisons"] == first.report["experiments"][0]["comparisons"]
    assert "1 of 1 recordings are an earlier run's" in second.output
    assert "1 of 1 recordings are an earlier run's" not in first.output
    assert "recorded by an earlier run" in second.errors
    assert len(list(home.glob("ohlol/recordings/*.safetensors"))) == 2


@pytest.mark.by_default("cleaned1")
@pytest.mark.parametrize("cleaned", [(0,), (1,), (0, 1)])
def test_what_is_deleted_while_a_run_counts_on_it_is_recorded_anew(
    run_crosscheck: RunCrosscheck, old: Callable[..., str], monkeypatch: pytest.MonkeyPatch, cleaned: tuple[int, ...]
):
    port = old(FAKE.read_text())
    first = run_crosscheck(port)
    share = run._share

    def clean_meanwhile(*arguments: Any) -> Any:
        waiting, known = share(*arguments)
        assert [result.side for result in known] == [0, 1]
        for side in cleaned:
            assert known[side].kept
            known[side].kept.path.unlink()
        return waiting, known

    monkeypatch.setattr(run, "_share", clean_meanwhile)
    second = run_crosscheck(port)
    assert second.exit_code == 0
    assert reused(second) == [0 if side in cleaned else 1 for side in (0, 1)]
    assert second.report["comparisons"] == first.report["comparisons"]


@pytest.mark.long
def test_a_fault_planted_since_is_seen(run_crosscheck: RunCrosscheck, old: Callable[..., str]):
    source = FAKE.read_text()
    assert run_crosscheck(old(source)).exit_code == 0
    wrong = source.replace("    loss = sum(", "    found['head.bias'] = found['head.bias'] * 2\n    loss = sum(")
    assert wrong != source
    outcome = run_crosscheck(old(wrong))
    assert (outcome.exit_code, reused(outcome)) == (1, [1, 0])
    # Back to what it was: both of its recordings are kept.
    outcome = run_crosscheck(old(source))
    assert (outcome.exit_code, reused(outcome)) == (0, [1, 1])
    outcome = run_crosscheck(old(wrong))
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


@pytest.mark.by_default("*-file", "*-variable")
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
    run_crosscheck: RunCrosscheck, old: Callable[..., str], monkeypatch: pytest.MonkeyPatch, scale: str, change: str
):
    source = FAKE.read_text().replace("import numpy as np\n", "import numpy as np\n" + READS + scale + "\n", 1)
    source = source.replace("array.astype(settings.precision) for", "(array * SCALE).astype(settings.precision) for")
    old("1.0", "scale.json")
    old("SCALE = 1.0", "scale_of.py")
    port = old(source)
    assert run_crosscheck(port, "--checks", "round-trip").exit_code == 0
    assert reused(run_crosscheck(port, "--checks", "round-trip")) == [1, 1]
    match change:
        case "file":
            old("2.0", "scale.json")
        case "variable":
            monkeypatch.setenv("SCALE", "2.0")
        case "module":
            # Of another size: Python tells sources apart by their size and their second, and two runs may share one.
            old("SCALE = 2.00", "scale_of.py")
        case "new file":
            old("", "double")
        case _:
            old("2.0", "../elsewhere")
    outcome = run_crosscheck(port, "--checks", "round-trip")
    assert (outcome.exit_code, outcome.report["sides"][1]["reused"]) == (1, 0)


def test_another_job_is_recorded(run_crosscheck: RunCrosscheck, old: Callable[..., str]):
    port = old(FAKE.read_text())
    assert reused(run_crosscheck(port, "--checks", "forward")) == [0, 0]
    assert reused(run_crosscheck(port, "--checks", "forward", "--seed", "1")) == [0, 0]
    assert reused(run_crosscheck(port, "--checks", "forward,gradients")) == [0, 0]
    assert reused(run_crosscheck(port, "--checks", "forward")) == [1, 1]


def test_fresh_records_anew(run_crosscheck: RunCrosscheck, old: Callable[..., str], home: Path):
    port = old(FAKE.read_text())
    run_crosscheck(port, "--checks", "forward")
    before = sorted(path.stat().st_mtime_ns for path in home.glob("ohlol/recordings/*"))
    assert reused(run_crosscheck(port, "--checks", "forward", "--fresh")) == [0, 0]
    assert sorted(path.stat().st_mtime_ns for path in home.glob("ohlol/recordings/*")) > before
    assert reused(run_crosscheck(port, "--checks", "forward")) == [1, 1]


def test_nothing_is_kept_for_who_wants_it_so(
    run_crosscheck: RunCrosscheck, old: Callable[..., str], home: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in cache.NOTHING_KEPT.items():
        monkeypatch.setenv(name, value)
    port = old(FAKE.read_text())
    assert [reused(run_crosscheck(port, "--checks", "forward")) for _ in range(2)] == [[0, 0], [0, 0]]
    assert not home.exists()


def test_a_damaged_file_is_recorded_anew(run_crosscheck: RunCrosscheck, old: Callable[..., str], home: Path):
    port = old(FAKE.read_text())
    run_crosscheck(port, "--checks", "forward")
    for path in home.glob("ohlol/recordings/*"):
        path.write_bytes(path.read_bytes()[:-100])
    outcome = run_crosscheck(port, "--checks", "forward")
    assert (outcome.exit_code, reused(outcome)) == (0, [0, 0])
    assert reused(run_crosscheck(port, "--checks", "forward")) == [1, 1]


def test_any_changed_bit_has_it_recorded_anew(run_crosscheck: RunCrosscheck, old: Callable[..., str], home: Path):
    port = old(FAKE.read_text())
    run_crosscheck(port, "--checks", "round-trip")
    for place in (4, 40, -40):
        for path in home.glob("ohlol/recordings/*"):
            content = bytearray(path.read_bytes())
            content[place] ^= 2
            path.write_bytes(content)
        outcome = run_crosscheck(port, "--checks", "round-trip")
        assert (outcome.exit_code, reused(outcome)) == (0, [0, 0])
    assert reused(run_crosscheck(port, "--checks", "round-trip")) == [1, 1]


def test_a_recording_under_another_ones_name_is_not_used(
    run_crosscheck: RunCrosscheck, old: Callable[..., str], home: Path
):
    port = old(FAKE.read_text())
    run_crosscheck(port, "--checks", "round-trip")
    ones = set(home.glob("ohlol/recordings/*"))
    run_crosscheck(port, "--checks", "forward")
    others = set(home.glob("ohlol/recordings/*")) - ones
    for one, other in zip(sorted(ones), sorted(others), strict=True):
        other.write_bytes(one.read_bytes())
    assert reused(run_crosscheck(port, "--checks", "forward")) == [0, 0]


def test_what_failed_is_asked_again(run_crosscheck: RunCrosscheck, old: Callable[..., str]):
    source = FAKE.read_text()
    broken = source.replace(
        "    inputs = batch.inputs.astype", "    raise ValueError('planted')\n    inputs = batch.inputs.astype"
    )
    assert broken != source
    port = old(broken)
    assert [reused(run_crosscheck(port, "--checks", "forward"))[1] for _ in range(2)] == [0, 0]


def test_a_file_that_is_edited_while_it_runs_vouches_for_nothing(run_crosscheck: RunCrosscheck, fake: Edit):
    """Nobody can say which of the two was read."""
    port = fake(("import numpy as np\n", "import pathlib\nimport numpy as np\npathlib.Path(__file__).touch()\n"))
    assert [reused(run_crosscheck(port, "--checks", "forward"))[1] for _ in range(2)] == [0, 0]


def test_weights_that_it_reads_by_a_library_of_its_own(
    run_crosscheck: RunCrosscheck, old: Callable[..., str], tmp_path: Path
):
    """What the library opens nobody sees; so its recordings are not kept, and the change is seen."""
    weights = tmp_path / "weights.safetensors"
    save_file({"scale": np.ones(1)}, weights)
    read = f"from safetensors.numpy import load_file\nSCALE = float(load_file({str(weights)!r})['scale'][0])\n"
    source = FAKE.read_text().replace("import numpy as np\n", f"import numpy as np\n{read}", 1)
    source = source.replace("array.astype(settings.precision) for", "(array * SCALE).astype(settings.precision) for")
    port = old(source)
    outcome = run_crosscheck(port, "--checks", "round-trip")
    assert outcome.exit_code == 0
    assert f"its recordings are not kept for later runs: {port} imports safetensors" in outcome.errors
    save_file({"scale": np.full(1, 2.0)}, weights)
    outcome = run_crosscheck(port, "--checks", "round-trip")
    assert (outcome.exit_code, reused(outcome)) == (1, [1, 0])


def test_weights_that_it_reads_by_the_specs_own_function(
    run_crosscheck: RunCrosscheck, old: Callable[..., str], tmp_path: Path
):
    weights = tmp_path / "weights.safetensors"
    parameters.save(weights, {"scale": np.ones(1)})
    read = f"from pathlib import Path\nfrom spec import parameters as files\nW = files.load(Path({str(weights)!r}))\n"
    source = FAKE.read_text().replace(
        "import numpy as np\n", f"import numpy as np\n{read}SCALE = W[0]['scale'][0]\n", 1
    )
    source = source.replace("array.astype(settings.precision) for", "(array * SCALE).astype(settings.precision) for")
    os.utime(weights, (1, 1))
    port = old(source)
    assert run_crosscheck(port, "--checks", "round-trip").exit_code == 0
    assert reused(run_crosscheck(port, "--checks", "round-trip")) == [1, 1]
    parameters.save(weights, {"scale": np.full(1, 2.0)})
    outcome = run_crosscheck(port, "--checks", "round-trip")
    assert (outcome.exit_code, reused(outcome)) == (1, [1, 0])


@pytest.mark.long
def test_another_place_is_no_other_environment(tmp_path: Path, home: Path):
    """A checkout elsewhere, with times of its own, finds the recordings; another working directory does as well."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    for name, now in (("one", time.time() - 1000), ("two", time.time() - 60)):
        root = tmp_path / name
        for package in ("spec", "crosscheck"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(Path(__file__).parents[2] / package, root / package, ignore=ignored)
        shutil.copy(FAKE, root / "first_side.py")
        shutil.copy(FAKE, root / "second_side.py")
        for path in root.rglob("*"):
            os.utime(path, (now, now))
        (tmp_path / f"at-{name}").mkdir()
        # What nobody imports stands in nobody's way.
        (tmp_path / f"at-{name}" / f"unrelated_{name}.py").write_text("")
    words = ["hello-rnn", "--checks", "round-trip", "--implementations"]
    told = []
    for root, where in (("one", "one"), ("two", "two"), ("two", "at-two"), ("one", "at-one")):
        sides = [str(tmp_path / root / f"{side}_side.py") for side in ("first", "second")]
        done = subprocess.run(
            [sys.executable, "-m", "crosscheck", *words, *sides, "--out", str(tmp_path / "report")],
            cwd=tmp_path / where,
            env={**environment, "PYTHONPATH": str(tmp_path / root)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told.append(done.stderr.count("recorded by an earlier run"))
    assert told == [0, 2, 2, 2]
    # And a change is seen there.
    other = tmp_path / "two" / "second_side.py"
    other.write_text(other.read_text() + "\n")
    os.utime(other, (1, 1))
    done = subprocess.run(
        [sys.executable, "-m", "crosscheck", *words, str(other.with_name("first_side.py")), str(other)],
        cwd=tmp_path / "two",
        env={**environment, "PYTHONPATH": str(tmp_path / "two")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.count("recorded by an earlier run") == 1


def test_nothing_is_kept_without_a_home(
    run_crosscheck: RunCrosscheck, old: Callable[..., str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("XDG_CACHE_HOME")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    port = old(FAKE.read_text())
    assert [reused(run_crosscheck(port, "--checks", "round-trip")) for _ in range(2)] == [[0, 0], [0, 0]]


@pytest.mark.parametrize("obstacle", ["file", "fifo"])
def test_a_cache_that_cannot_be_used_costs_time_alone(
    run_crosscheck: RunCrosscheck, old: Callable[..., str], home: Path, obstacle: str
):
    (home / "ohlol").mkdir(parents=True)
    (home / "ohlol" / "recordings").write_text("") if obstacle == "file" else os.mkfifo(home / "ohlol" / "recordings")
    port = old(FAKE.read_text())
    outcome = run_crosscheck(port, "--checks", "round-trip")
    assert (outcome.exit_code, reused(outcome)) == (0, [0, 0])


def test_the_cache_is_shown_and_cleaned(
    run_crosscheck: RunCrosscheck, old: Callable[..., str], home: Path, capsys: pytest.CaptureFixture[str]
):
    port = old(FAKE.read_text())
    run_crosscheck(port, "--checks", "round-trip")
    (home / "ohlol" / "compiled-0123").mkdir()
    (home / "ohlol" / "compiled-0123" / "program").write_bytes(bytes(2_000_000))
    (home / "ohlol" / "mine").write_text("of nobody's business")
    assert main(["cache"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{home / 'ohlol' / 'compiled-0123'}: 1 files, 2.0 MB"
    assert lines[-2].startswith(f"{home / 'ohlol' / 'recordings'}: 2 files, ")
    assert lines[1].startswith(f"{home / 'ohlol' / 'durations'}: 1 files, ")
    assert lines[-1].startswith(f"{home / 'ohlol'}: 4 files, ")
    assert main(["cache", "--clean"]) == 0
    assert "4 files" in capsys.readouterr().out
    assert [path.name for path in (home / "ohlol").iterdir()] == ["mine"]
    assert reused(run_crosscheck(port, "--checks", "round-trip")) == [0, 0]


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("XLA_FLAGS", True),
        ("JAX_ENABLE_X64", True),
        ("OMP_NUM_THREADS", True),
        ("PYTHONHASHSEED", True),
        ("TORCH_CUDNN_V8_API_DISABLED", True),
        ("LC_ALL", False),
        ("PWD", False),
        ("JAX_COMPILATION_CACHE_DIR", False),
        ("GITHUB_RUN_ID", False),
    ],
)
def test_variables_that_count(name: str, counts: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(name, raising=False)
    before = variables()
    monkeypatch.setenv(name, "another")
    assert (variables() != before) == counts


@pytest.mark.needs("torch", "flax")
def test_it_works_from_the_command_line(tmp_path: Path):
    """The shipped implementations: what they record is theirs to vouch for."""
    words = ["hello-rnn", "--checks", "forward,loss", "--precision", "float64", "--out", str(tmp_path / "report")]
    assert main(words) == 0
    assert main(words) == 0
    report = (tmp_path / "report" / "report.md").read_text()
    assert "torch_impl: 1 of 1 recordings are an earlier run's" in report
    assert "flax_impl: 1 of 1 recordings are an earlier run's" in report
