"""What a user gets wrong at crosscheck's commands: one clear line, the right exit code, nothing changed on the disk."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from bad_input import check_message, limited, limited_memory, snapshot

from crosscheck.cli.command import main
from crosscheck.recording import recording

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
EXPERIMENT = (HERE / "conftest.py").read_text().partition('EXPERIMENT = """')[2].partition('"""')[0]

Change = Callable[[Path], None]


class Row(NamedTuple):
    """arguments: of `python -m crosscheck`, parted by spaces. message: a part of it. change: made to the directory."""

    arguments: str
    message: str
    change: Change | None = None
    code: int = 2


def file(name: str, content: str | bytes = "") -> Change:
    return lambda place: write(place / name, content)


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def fifo(name: str) -> Change:
    def make(place: Path) -> None:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).unlink(missing_ok=True)
        os.mkfifo(place / name)

    return make


def link(name: str, target: str) -> Change:
    return lambda place: (place / name).symlink_to(target)


def directory(name: str) -> Change:
    return lambda place: (place / name).mkdir(parents=True)


def edited(old: str, new: str) -> Change:
    """The experiment `wrong.toml`, which has that in place of a text of the right one."""
    assert old in EXPERIMENT
    return file("wrong.toml", EXPERIMENT.replace(old, new, 1))


def manifest(old: bytes, new: bytes) -> Change:
    def change(place: Path) -> None:
        path = place / "one" / recording.MANIFEST
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new, 1))

    return change


def resealed(**fields: object) -> Change:
    """A manifest that bears the right checksum."""

    def change(place: Path) -> None:
        import msgspec

        found = recording.read_manifest(place / "one")
        recording.write_manifest(place / "one", msgspec.structs.replace(found, **fields))

    return change


NO_SUCH = "expected a shipped name or the path of a .toml file"

OPTIONS = [
    Row("--nope", "unrecognized arguments: --nope"),
    Row("good.toml --checks", "argument --checks: expected one argument"),
    Row("good.toml --checks forwards", "--checks: expected some of structure,initialization,"),
    Row("good.toml --checks ,", "--checks: expected some of structure,initialization,"),
    Row("good.toml --checks forward,,loss", "--checks: expected some of structure,initialization,"),
    Row("good.toml --checks outcome --precision float64", "--checks: expected checks that run in float64, got outcome"),
    Row("good.toml --precision float16", "argument --precision: invalid choice: 'float16'"),
    Row("good.toml --device gpu", "argument --device: invalid choice: 'gpu'"),
    Row(
        "good.toml --choice order=loop", "--choice: expected torch_impl.NAME=VALUE or flax_impl.NAME=VALUE, got 'order"
    ),
    Row("good.toml --choice flax_impl.recurrence", "--choice: expected torch_impl.NAME=VALUE or flax_impl.NAME=VALUE"),
    Row("good.toml --choice jax_impl.recurrence=scan", "--choice: expected torch_impl.NAME=VALUE or flax_impl.NAME"),
    Row(
        f"good.toml{' --choice flax_impl.recurrence=scan' * 2}", "--choice: expected flax_impl.recurrence once, got it"
    ),
    Row("good.toml --case owm", "--case: expected one of"),
    Row("good.toml --case recipe --checks forward", "--case: expected one of 'own', 'ragged'"),
    Row("good.toml --seed -1", "argument --seed: expected"),
    Row("good.toml --seed=-1", "argument --seed: expected 0 to 4294967295, got -1"),
    Row("good.toml --seed 4294967296", "argument --seed: expected 0 to 4294967295, got 4294967296"),
    Row("good.toml --seed x", "argument --seed: "),
    Row("good.toml --seed 1.5", "argument --seed: "),
    Row(f"good.toml --seed {'9' * 5000}", "argument --seed: "),
    Row("good.toml --seeds 3", "argument --seeds: expected 4 (two in each half) to 1000000, got 3"),
    Row("good.toml --seeds 0", "argument --seeds: expected 4 (two in each half)"),
    Row("good.toml --seeds 1000001", "argument --seeds: expected 4 (two in each half) to 1000000, got 1000001"),
    Row(f"good.toml --seeds {'9' * 5000}", "argument --seeds: expected a whole number"),
    Row("good.toml --seeds 1e3", "argument --seeds: expected a whole number, got '1e3'"),
    Row("good.toml --timeout 0", "argument --timeout: expected more than 0 and at most 1000000 seconds, got '0'"),
    Row("good.toml --timeout=-1", "argument --timeout: expected more than 0"),
    Row("good.toml --timeout nan", "argument --timeout: expected more than 0"),
    Row("good.toml --timeout inf", "argument --timeout: expected more than 0"),
    Row("good.toml --timeout soon", "argument --timeout: expected more than 0"),
    Row("good.toml --timeout 1e300", "argument --timeout: expected more than 0"),
    Row("good.toml --implementations torch_impl", "argument --implementations: expected 2 arguments"),
    Row("record", "the following arguments are required: implementation, EXPERIMENT, --out"),
    Row("record fake good.toml", "the following arguments are required: --out"),
    Row("record fake good.toml --out new --checks nope", "--checks: expected some of"),
    Row("record fake good.toml --out new --timeout x", "argument --timeout: expected more than 0"),
    Row("record fake nope --out new", NO_SUCH),
    Row("record fake good.toml --out one", "--out: expected a new or an empty directory, got one"),
    Row("record fake good.toml --out full", "--out: expected a new or an empty directory, got full"),
    Row("record fake good.toml --json --out new", "unrecognized arguments: --json"),
    Row("compare", "the following arguments are required: DIRECTORY"),
    Row("compare one", "the following arguments are required: DIRECTORY"),
    Row("compare one two three", "unrecognized arguments: three"),
    Row("compare one two --checks nope", "--checks: expected some of"),
    Row("compare one two --precision nope", "argument --precision: invalid choice: 'nope'"),
    Row("compare one two --case nope", "--case: expected one of"),
    Row("compare one two --experiments nope", "--experiments: expected some of good, got nope"),
    Row("compare one two --experiments", "argument --experiments: expected at least one argument"),
    Row("faults nope", "faults: expected names of planted faults (see --list), got 'nope'"),
    Row("faults --checks outcome", "--checks: expected some of"),
    Row("faults --checks nope", "--checks: expected some of"),
    Row("faults --clean -1", "argument --clean: expected"),
    Row("faults --clean=-1", "argument --clean: expected at least 0, got -1"),
    Row("faults --clean x", "argument --clean: "),
    Row("faults --only-clean --quick", "--only-clean: expected no names of faults"),
    Row("faults --only-clean gru-*", "--only-clean: expected no names of faults"),
    Row("faults --only-clean --clean 0", "faults: expected something to do, got no fault and no clean run"),
    Row("faults --implementation jax", "argument --implementation: invalid choice: 'jax'"),
    Row("faults --timeout 0", "argument --timeout: expected more than 0"),
    Row("faults --seed=-1", "argument --seed: expected 0 to"),
    Row("bench --workloads nope", "--workloads: expected patterns of"),
    Row("bench --rounds 0", "argument --rounds: expected at least 1, got 0"),
    Row("bench --rounds x", "argument --rounds: "),
    Row("bench --threads 0", "argument --threads: expected at least 1, got 0"),
    Row("bench --threads 99999", "--threads: expected at most"),
    Row("bench --device x", "argument --device: invalid choice: 'x'"),
    Row("bench --timeout nan", "argument --timeout: expected more than 0"),
    Row("bench nope", "unrecognized arguments: nope"),
    Row("cache nope", "unrecognized arguments: nope"),
    Row("cache --clean=yes", "argument --clean: ignored explicit argument 'yes'"),
]

EXPERIMENTS = [
    Row("hello-gruu", f"hello-gruu: experiment: {NO_SUCH} (close: hello-gru"),
    Row("no-such-experiment", NO_SUCH),
    Row("", NO_SUCH),
    Row(
        "good.toml good.toml other/good.toml",
        "expected each experiment's name once",
        file("other/good.toml", EXPERIMENT),
    ),
    Row("missing.toml", "missing.toml: file: expected a readable TOML file, got no such file or directory"),
    Row("no/such/path", "no/such/path: file: expected a readable TOML file"),
    Row("wrong.toml", "wrong.toml: file: expected a file, got a directory", directory("wrong.toml")),
    Row("wrong.toml", "wrong.toml: file: expected a file, got a FIFO", fifo("wrong.toml")),
    Row("wrong.toml", "wrong.toml: file: expected a file, got a device", link("wrong.toml", "/dev/zero")),
    Row("wrong.toml", "wrong.toml: file: expected a readable TOML file", link("wrong.toml", "wrong.toml")),
    Row("wrong.toml", "wrong.toml: file: expected a readable TOML file", link("wrong.toml", "nowhere")),
    Row(f"{'x' * 300}.toml", "file: expected a readable TOML file, got file name too long"),
    Row("wrong.toml", "wrong.toml: file: expected a readable TOML file", file("wrong.toml", b"\xff\xfe")),
    Row("wrong.toml", "wrong.toml: ", file("wrong.toml")),
    Row("wrong.toml", "wrong.toml: file: expected valid TOML", file("wrong.toml", "= 1")),
    Row("wrong.toml", "wrong.toml: file: expected valid TOML", file("wrong.toml", "a = " + "1" * 5000)),
    Row("wrong.toml", "wrong.toml: file: expected valid TOML", file("wrong.toml", "a = " + "[" * 100_000)),
    Row("wrong.toml", "wrong.toml: file: expected keys of at most", file("wrong.toml", "a" + ".a" * 100 + " = 1")),
    Row("wrong.toml", "wrong.toml: file: expected at most", file("wrong.toml", "#" * 2_000_000)),
    Row("wrong.toml", "wrong.toml: name: expected no such key", file("wrong.toml", "name = 'x'\n" + EXPERIMENT)),
    Row("-wrong.toml", "unrecognized arguments: -wrong.toml", file("-wrong.toml", EXPERIMENT)),
    Row("./-wrong.toml", "name: expected letters, digits", file("-wrong.toml", EXPERIMENT)),
    Row("con.toml", "name: expected a name that no system has for a device", file("con.toml", EXPERIMENT)),
    Row("wrong.toml", "model.hidden_size: expected", edited("hidden_size = 4", "hidden_size = 0")),
    Row("wrong.toml", "model.hidden_size: expected", edited("hidden_size = 4", "hidden_size = 10000000000000")),
    Row("wrong.toml", "model.hidden_size: expected", edited("hidden_size = 4", 'hidden_size = "4"')),
    Row("wrong.toml", "model.hidden_size: expected", edited("hidden_size = 4", "hidden_size = 4.5")),
    Row("wrong.toml", "model.hiden_size: expected", edited("hidden_size = 4", "hiden_size = 4")),
    Row("wrong.toml", "model.name: expected one of", edited('"SelfAttention"', '"SelfAtention"')),
    Row("wrong.toml", "seeds: expected", edited("seeds = 3", "seeds = 0")),
    Row("wrong.toml", "seeds: expected", edited("seeds = 3", "seeds = 10000000000")),
    Row("wrong.toml", "training.epochs: expected", edited("epochs = 3", "epochs = -1")),
    Row("wrong.toml", "training.epochs: expected", edited("epochs = 3", "epochs = 100000000000")),
    Row("wrong.toml", "learning_rate: expected", edited("learning_rate = 0.01", "learning_rate = nan")),
    Row("wrong.toml", "learning_rate: expected", edited("learning_rate = 0.01", "learning_rate = -1")),
    Row("wrong.toml", "training.optimizer.name: expected one of", edited('"Adam"', '"Lion"')),
    Row("wrong.toml", "model.inputs.size: expected 4", edited("size = 4\n[task]", "size = 5\n[task]")),
    Row("wrong.toml", "model.max_length: expected", edited("max_length = 5", "max_length = 2")),
    Row("wrong.toml", "solved_rate_at_least: expected", edited("0.99", "1.5")),
    Row("good.toml wrong.toml", "model.hidden_size: expected", edited("hidden_size = 4", "hidden_size = -4")),
]

RECORDINGS = [
    Row("compare missing two", "missing: expected a directory of recordings (with manifest.json), got"),
    Row("compare one missing", "missing: expected a directory of recordings"),
    Row("compare file two", "file: expected a directory of recordings"),
    Row("compare full two", "full: expected a directory of recordings"),
    Row("compare /dev/null two", "/dev/null: expected a directory of recordings"),
    Row("compare pipe two", "pipe: expected a directory of recordings", fifo("pipe")),
    Row("compare one two", "expected a file, got a FIFO", fifo("one/manifest.json")),
    Row("compare one two", "one: expected a directory of recordings", file("one/manifest.json")),
    Row("compare one two", "one: expected a directory of recordings", file("one/manifest.json", "{}")),
    Row("compare one two", "one: expected a directory of recordings", file("one/manifest.json", "[" * 100_000)),
    Row("compare one two", "one: expected a directory of recordings", file("one/manifest.json", b"\xff")),
    Row("compare one two", "expected at most", file("one/manifest.json", b" " * 10_000_001)),
    Row("compare one two", "got another checksum: it was changed", manifest(b'"forward"', b'"outcome"')),
    Row("compare one two", "got another checksum: it was changed", manifest(b'"good"', b'"baad"')),
    Row("compare one two", "one: expected a directory of recordings", manifest(b'"thorough"', b'"thorougg"')),
    Row("compare one two", "one/manifest.json: expected at least one experiment, got none", resealed(experiments={})),
    Row("compare one two", f"expected format {recording.FORMAT}, got 1", resealed(format=1)),
    Row("compare one two", "name: expected letters, digits", resealed(experiments={"../../good": "0"})),
    Row("compare one two", "name: expected letters, digits", resealed(experiments={"/etc/passwd": "0"})),
    Row("compare one two", "name: expected letters, digits", resealed(experiments={"a\nb": "0"})),
]

OUT = [
    *(
        row
        for command in ("good.toml", "compare one two", "faults gru-*", "bench --quick", "record fake good.toml")
        for row in (
            Row(f"{command} --out file", "--out: expected a directory to write to, got file: file is a file"),
            Row(
                f"{command} --out file/below", "--out: expected a directory to write to, got file/below: file is a file"
            ),
            Row(f"{command} --out /dev/null", "--out: expected a directory to write to, got /dev/null"),
            Row(
                f"{command} --out pipe",
                "--out: expected a directory to write to, got pipe: pipe is a FIFO",
                fifo("pipe"),
            ),
            Row(f"{command} --out {'x' * 300}", "--out"),
            # An empty word, as an unset variable makes it: not the working directory.
            Row(f"{command} --out ", "argument --out: expected a path, got ''"),
            Row(f"{command} --out not/there/{'x' * 300}/below", "--out"),
            Row(f"{command} --out lost", "lost is a file or a broken link", link("lost", "nowhere/at/all")),
        )
    ),
    Row("compare  two", "argument DIRECTORY: expected a path, got ''"),
    Row("good.toml --out full", "full/report.json: expected a file, got a FIFO", fifo("full/report.json")),
    Row("good.toml --out full", "full/report.md: expected a file, got a directory", directory("full/report.md")),
    Row(
        "compare one two --out full",
        "full/report.md: expected a file, got a device",
        link("full/report.md", "/dev/null"),
    ),
    Row("faults gru-* --out full", "full/faults.md: expected a file, got a FIFO", fifo("full/faults.md")),
    Row("bench --quick --out full", "full/bench.png: expected a file, got a FIFO", fifo("full/bench.png")),
    Row("good.toml --out /proc/here", "--out"),
    Row("cache --clea", "unrecognized arguments: --clea"),
    Row("good.toml --prec float32", "unrecognized arguments: --prec"),
]

SIDES = "good.toml --checks forward --implementations"

IMPLEMENTATIONS = [
    Row(f"{SIDES} no_such_module ./fake.py", "expected an importable module, got 'no_such_module'"),
    Row(f"{SIDES} ./fake.py no/such.py", "got 'no/such.py': no such path"),
    Row(f"{SIDES} ./fake.py ./port.py", "./port.py: expected a file, got a FIFO".removeprefix("./"), fifo("port.py")),
    Row(f"{SIDES} ./fake.py ./port.py", "expected the functions of spec.framework.Framework", file("port.py")),
    Row(f"{SIDES} ./fake.py ./fake.py --choice fake.order=loop", "expected fake.order=forwards|backwards, got 'loop'"),
    Row(f"{SIDES} ./fake.py ./fake.py --choice fake.size=1", "--choice: expected some of order of fake, got 'size'"),
    Row(
        f"{SIDES} ./fake.py ./port.py --choice port.size=1",
        "port: CHOICES: expected a mapping from names to one or more, got {'size': ()}",
        file("port.py", "CHOICES = {'size': ()}\ndef describe(_): ...\ndef open(*_): ..."),
    ),
    Row(f"{SIDES} ./fake.py ./port.py", "import: SyntaxError", file("port.py", "def"), 3),
    Row(f"{SIDES} ./fake.py ./port.py", "import: OSError: no CUDA", file("port.py", "raise OSError('no CUDA')"), 3),
    Row(f"{SIDES} ./fake.py ./port.py", "import: SystemExit: 0", file("port.py", "raise SystemExit(0)"), 3),
    Row(f"{SIDES} ./fake.py ./port.py", "import: AttributeError", file("port.py", "import numpy\nnumpy.nope"), 3),
    Row(f"{SIDES} ./fake.py ./port.py", "expected no_such_fw to be installed", file("port.py", "import no_such_fw"), 3),
    Row(
        f"{SIDES} ./fake.py ./port.py",
        "import: AttributeError: module 'numpy' has no attribute 'nope'",
        # Imported when it is first asked for a function, as the shipped ones are.
        file(
            "port.py", "def __getattr__(name):\n    def load():\n        import numpy\n        numpy.nope\n    load()"
        ),
        3,
    ),
    Row(
        f"{SIDES} ./fake.py ./port.py",
        "expected the functions of spec.framework.Framework",
        file("port.py", "def __getattr__(name):\n    raise AttributeError(name)"),
    ),
    Row("record no_such_module good.toml --out new", "expected an importable module, got 'no_such_module'"),
    Row(
        "record ./port.py good.toml --out new",
        "import: ValueError: planted",
        file("port.py", "raise ValueError('planted')"),
        3,
    ),
]

FRESH = [OPTIONS[1], EXPERIMENTS[7], EXPERIMENTS[16], RECORDINGS[6], RECORDINGS[12], OUT[3], IMPLEMENTATIONS[6], OUT[2]]
"""Tried in processes of their own as well, under a limit on memory from the start."""

ROWS = [*OPTIONS, *EXPERIMENTS, *RECORDINGS, *OUT, *IMPLEMENTATIONS]


def shown(row: Row) -> str:
    """A row's name in the list of tests."""
    return "".join(c if c.isalnum() or c in "-_. " else "?" for c in f"{row.arguments[:50]} {row.message[:60]}")


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the rows start from: an experiment, two recordings of it, an implementation, and some files."""
    place = tmp_path_factory.mktemp("playground")
    shutil.copy(HERE / "fake_framework.py", place / "fake.py")
    write(place / "good.toml", EXPERIMENT)
    write(place / "file", "a file")
    write(place / "full/file", "another")
    write(place / "crosscheck-report/report.md", "an earlier report")
    for name in ("one", "two"):
        words = [str(place / "fake.py"), str(place / "good.toml"), "--checks", "forward", "--out", str(place / name)]
        assert main(["record", *words]) == 0
    return place


def test_there_are_enough_rows():
    assert len(ROWS) >= 170
    assert len({(shown(row), str(row.change)) for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=shown)
def test_bad_input(
    row: Row, playground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    shutil.copytree(playground, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    # Workers, too, are to find the crosscheck that is tested.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    if "PYTHONPYCACHEPREFIX" not in os.environ:
        monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    if row.change is not None:
        row.change(tmp_path)
    before = snapshot(tmp_path)
    capfd.readouterr()
    try:
        with limited_memory():
            code = main(row.arguments.split(" ") if row.arguments else [""])
    except SystemExit as error:
        code = error.code
    _check(row, code, capfd.readouterr().err, before, tmp_path)


@pytest.mark.parametrize("row", FRESH, ids=shown)
def test_in_a_fresh_process(row: Row, playground: Path, tmp_path: Path):
    shutil.copytree(playground, tmp_path, dirs_exist_ok=True)
    if row.change is not None:
        row.change(tmp_path)
    before = snapshot(tmp_path)
    done = subprocess.run(
        limited([sys.executable, "-m", "crosscheck", *row.arguments.split(" ")]),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    _check(row, done.returncode, done.stderr, before, tmp_path)


@pytest.mark.by_default("RLIMIT_FSIZE*")
@pytest.mark.parametrize(
    ("kind", "size", "code", "message"),
    [
        ("RLIMIT_NOFILE", 64, 0, ""),
        ("RLIMIT_NOFILE", 16, 3, "expected more open files: `ulimit -n` says how many a process may have; got OSError"),
        ("RLIMIT_FSIZE", 0, 2, "TMPDIR: expected a directory that can be written to, got none"),
        ("RLIMIT_FSIZE", 2**13, 3, ""),
    ],
)
def test_a_system_that_refuses_more(kind: str, size: int, code: int, message: str, playground: Path, tmp_path: Path):
    shutil.copytree(playground, tmp_path, dirs_exist_ok=True)
    place = tmp_path / "temporary"
    place.mkdir()
    done = subprocess.run(
        limited(
            [sys.executable, "-m", "crosscheck", "--fresh", *SIDES.split(" "), "./fake.py", "./fake.py"], kind, size
        ),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(place)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if message:
        (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert message in error
    else:
        assert ("COULD NOT RUN" if code else "THE SAME") in done.stdout
    assert list(place.iterdir()) == []


def _check(row: Row, code: object, errors: str, before: dict[str, tuple[str, ...]], place: Path) -> None:
    assert code == row.code
    # What the other side has recorded meanwhile is told too.
    told = "".join(line for line in errors.splitlines(True) if not re.search(r": recorded in [\d.]+ s$", line))
    check_message(told, row.message)
    after = snapshot(place)
    if row.code == 2:
        assert {name: found for name, found in after.items() if "__pycache__" not in name} == before
    else:
        # Only that an older report is not to be taken for this run's.
        moved = {"crosscheck-report/report.md.previous", "crosscheck-report/report.md"}
        assert {n: f for n, f in after.items() if "__pycache__" not in n and n not in moved} == {
            n: f for n, f in before.items() if n not in moved
        }
