"""Pairs that people could bring: what is right is called so, and what is planted is found, at its place."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosscheck import pair
from crosscheck.cli import command
from spec import parameters
from tests import reports

FILES = Path(__file__).parent / "files"
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.needs("torch", "flax")


class Ran:
    """A run of the command on a copy of a pair file, with edits."""

    def __init__(self, folder: Path, name: str, edits: dict[str, str], capsys: Any, *options: str) -> None:
        text = (FILES / f"{name}.py").read_text()
        for before, after in edits.items():
            assert text.count(before) == 1, before
            text = text.replace(before, after)
        self.file = folder / f"{name}.py"
        self.file.write_text(text)
        capsys.readouterr()
        self.code = command.main(["pair", str(self.file), "--out", str(folder / "out"), *options])
        self.printed, self.complained = capsys.readouterr()
        self.report = reports.load(folder / "out")

    def status(self, check: str) -> str:
        return next(cell["status"] for cell in self.report["cells"] if cell["check"] == check)

    def names(self) -> list[str]:
        return [one["name"] for one in self.report["differences"]]


def test_a_pair_that_is_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ran = Ran(tmp_path, "perceptron", {}, capsys, "--emit", str(tmp_path / "convert.py"))
    assert ran.code == 0, ran.printed
    assert {cell["status"] for cell in ran.report["cells"] if cell["check"] != "train mode"} == {"same"}
    assert all(cell["comparisons"] for cell in ran.report["cells"] if cell["check"] not in ("structure", "train mode"))
    assert "THE SAME in 10 checks" in ran.printed
    assert (tmp_path / "perceptron.map.toml").exists()
    weights = {"up.weight": (16, 6), "up.bias": (16,), "norm.weight": (16,), "norm.bias": (16,)}
    weights |= {"down.weight": (3, 16), "down.bias": (3,)}
    random = np.random.default_rng(0)
    arrays = {name: random.standard_normal(shape).astype(np.float32) for name, shape in weights.items()}
    np.savez(tmp_path / "weights.npz", **arrays)
    done = subprocess.run(
        [sys.executable, "-S", str(tmp_path / "convert.py"), "weights.npz", "converted.npz"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(np.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "converted.npz") as held:
        assert np.array_equal(held["up.kernel"], arrays["up.weight"].T)
    # The map is read again, and a checkpoint's values are where the ladder stands.
    parameters.save(tmp_path / "weights.safetensors", arrays)
    again = Ran(tmp_path, "perceptron", {}, capsys, "--weights", str(tmp_path / "weights.safetensors"))
    assert again.code == 0, again.printed
    assert "(read)" in again.printed
    assert any("weights.safetensors" in note for note in again.report["notes"])


def test_an_epsilon_is_found_at_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ran = Ran(tmp_path, "perceptron", {"epsilon=1e-5": "epsilon=1e-6"}, capsys)
    assert ran.code == 1
    assert ran.names() == ["forward: norm"]
    (found,) = ran.report["differences"]
    line = next(i for i, text in enumerate(ran.file.read_text().splitlines(), 1) if "nnx.relu(self.norm" in text)
    first, second = found["sources"]
    assert (second["side"], second["file"], second["line"], second["name"]) == ("port", "perceptron.py", line, "norm")
    assert (first["side"], first["name"]) == ("original", "norm")
    assert 1e-7 < found["size"] < 1e-3
    assert [ran.status(check) for check in ("loss", "gradients", "trajectory")] == ["not asked"] * 3
    assert [ran.status(check) for check in ("optimizer", "initialization", "dropout")] == ["same"] * 3
    assert "DIFFERENT in forward" in ran.printed
    assert not (tmp_path / "perceptron.map.toml").exists()
    # How it grows: within the bound before the norm, which alone is wrong in itself, and beyond it from there on.
    growth = ran.report["causes"][0]["growth"]
    at = growth["names"].index("norm")
    assert at > 0
    assert growth["own"] == [place == at for place in range(len(growth["names"]))]
    beyond = [size > bound for size, bound in zip(growth["difference"], growth["bound"], strict=True)]
    assert beyond == [place >= at for place in range(len(beyond))]
    assert growth["difference"][at] == pytest.approx(found["size"], rel=1e-3)


@pytest.mark.pairs
def test_what_the_forward_pass_does_not_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A rate, a decay and an initial law, each found by the one check that can."""
    planted = {
        "nnx.Dropout(0.2": "nnx.Dropout(0.3",
        "optax.adamw(0.01, weight_decay=0.1)": "optax.adam(0.01)",
        "/ np.sqrt(inside)": "/ inside",
    }
    ran = Ran(tmp_path, "perceptron", planted, capsys)
    assert ran.code == 1
    assert [ran.status(check) for check in ("forward", "loss", "gradients")] == ["same"] * 3
    assert [ran.status(check) for check in ("optimizer", "initialization", "dropout")] == ["different"] * 3
    assert "dropout: drop" in ran.names()
    assert {"initialization: up.kernel", "initialization: down.bias"} <= set(ran.names())
    assert any(name.startswith("optimizer: up.kernel") for name in ran.names())
    assert not any(name.startswith("initialization: norm") for name in ran.names())
    drawn = next(one["text"] for one in ran.report["differences"] if one["name"] == "initialization: up.kernel")
    assert drawn.startswith("standard deviations 0.2")
    assert "over 48 seeds; by chance in 1 of 10^" in drawn


@pytest.mark.pairs
def test_what_is_expected_hides_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    known = 'expected = {"dropout: drop": "ours is 0.3 by choice", "forward: head": "gone"}\n\n\ndef original(seed)'
    ran = Ran(tmp_path, "perceptron", {"nnx.Dropout(0.2": "nnx.Dropout(0.3", "def original(seed)": known}, capsys)
    assert ran.code == 0, ran.printed
    assert ran.status("dropout") == "expected"
    assert "expected: dropout: drop: ours is 0.3 by choice" in ran.printed
    assert "expected, and not found: forward: head" in ran.printed
    planted = {"nnx.Dropout(0.2": "nnx.Dropout(0.3", "/ np.sqrt(inside)": "/ inside", "def original(seed)": known}
    ran = Ran(tmp_path, "perceptron", planted, capsys)
    assert ran.code == 1
    assert "DIFFERENT in initialization" in ran.printed


@pytest.mark.long
def test_one_bias_for_two_computes_alike_and_cannot_train_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ran = Ran(tmp_path, "recurrent", {}, capsys)
    assert ran.code == 1
    assert "COMPUTES ALIKE, CANNOT TRAIN ALIKE" in ran.printed
    assert ran.status("structure") == "cannot train alike"
    assert [ran.status(check) for check in ("forward", "gradients")] == ["same"] * 2


@pytest.mark.pairs
def test_a_bias_without_place_is_not_representable(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ran = Ran(tmp_path, "recurrent", {"nn.LSTM(": "nn.GRU(", "nnx.LSTMCell": "nnx.GRUCell"}, capsys)
    assert ran.code == 1
    assert ran.status("structure") == "not representable"
    assert "bias_hh_l0 rows 14:21 has no place on the port" in ran.printed


@pytest.mark.pairs
def test_twins_are_ambiguous(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ran = Ran(tmp_path, "twins", {}, capsys)
    assert ran.code == 5
    assert "AMBIGUOUS" in ran.printed
    assert "a.bias <-> b.bias" in ran.printed


@pytest.mark.pairs
def test_statistics_of_train_mode(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Momentum the other way round moves no output of eval mode, and no gradient of it."""
    ran = Ran(tmp_path, "statistics", {}, capsys)
    assert ran.code == 0, ran.printed
    ran = Ran(tmp_path, "statistics", {"momentum=0.9, epsilon": "momentum=0.1, epsilon"}, capsys)
    assert ran.code == 1
    assert ran.names() == ["train mode: norm.mean", "train mode: norm.var"]


@pytest.mark.pairs
def test_padding_that_counts_on_both_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Inputs that are zero there do not show it, and the sides agree; other values in its place do."""
    ran = Ran(tmp_path, "masked", {}, capsys)
    assert ran.code == 0, ran.printed
    planted = {
        "torch.tanh(self.inner(x)) * valid": "torch.tanh(self.inner(x)) + 0 * valid",
        'jnp.tanh(x @ p["inner"] + p["b"]) * valid': 'jnp.tanh(x @ p["inner"] + p["b"])',
    }
    ran = Ran(tmp_path, "masked", planted, capsys)
    assert ran.code == 1
    assert ran.names() == ["forward: output of original", "forward: output of port"]
    assert {one["case"] for one in ran.report["differences"]} == {"padding"}


BAD = {
    "import nothing_of_that_name": (3, "bad.py, line 1: expected nothing_of_that_name to be installed, got none"),
    "def original(:": (2, "bad.py, line 1: expected Python, got"),
    "x = 1 / 0": (2, "bad.py, line 1: importing it raised ZeroDivisionError"),
    "def inputs(rng): return ()": (2, "bad.py: expected a function original() or original(seed), got none"),
    "def original(width): pass": (2, "bad.py: expected original() or original(seed), got original(width)"),
    "def original(): return 3": (2, "bad.py: original: expected a torch.nn.Module"),
    "def original(): raise RuntimeError('a\\n::error::b')": (2, "original: raised RuntimeError: a \\x3a:error::b"),
    "def original(): raise SystemExit(0)": (2, "bad.py, line 1: original: raised SystemExit"),
    "keras_backends = ('torch', 'numpy')": (2, "bad.py: keras_backends: expected two of 'torch' and 'jax'"),
    "keras_backends = tuple(['jax', 'jax'])": (2, "as literals, got \"tuple(['jax', 'jax'])\""),
    "optimizer = 3": (2, "bad.py: expected 'optimizers', got 'optimizer'"),
    "import os\ndef original(): os._exit(7)": (3, "original: its process ended with exit code 7"),
}


OWN_PROCESS = next(text for text in BAD if "_exit" in text)


@pytest.mark.parametrize(
    "text", [pytest.param(one, marks=[pytest.mark.own_processes] * (one == OWN_PROCESS)) for one in BAD]
)
def test_what_is_wrong_is_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code, said = BAD[text]
    rest = "" if "inputs" in text else "\ndef port(): return 4\ndef inputs(rng): return (rng.standard_normal(3),)\n"
    if "original" not in text and "inputs" not in text:
        rest += "def original(): return 3\n"
    (tmp_path / "bad.py").write_text(text + rest)
    assert command.main(["pair", str(tmp_path / "bad.py"), "--out", str(tmp_path / "out")]) == code
    printed, complained = capsys.readouterr()
    assert said in complained
    (line,) = [line for line in complained.splitlines() if line.startswith("error")]
    assert "Traceback" not in complained
    assert printed == ""
    assert not (tmp_path / "out").exists()
    assert line.isprintable()


@pytest.mark.parametrize(
    ("edits", "code", "said"),
    [
        ({"standard_normal((5, 6)),": "standard_normal((5, 7)),"}, 3, "raised when it was called"),
        *(
            pytest.param(*one, marks=pytest.mark.pairs)
            for one in (
                ({"return (rng.standard_normal((5, 6)),)": "return (torch.zeros(5, 6),)"}, 2, "got torch.Tensor"),
                (
                    {"return Port(nnx.Rngs(seed))": 'return "port"'},
                    2,
                    "perceptron.py: port: expected a torch.nn.Module",
                ),
                ({"nnx.Linear(inside, outside,": "nnx.Linear(inside, outside + 1,"}, 3, "raised when it was called"),
            )
        ),
    ],
)
def test_models_that_do_not_fit(
    edits: dict[str, str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    ran = Ran(tmp_path, "perceptron", edits, capsys)
    assert ran.code == code, ran.printed + ran.complained
    assert said in ran.complained
    assert "Traceback" not in ran.complained


def test_a_map_that_does_not_fit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "perceptron.map.toml").write_text('format = 1\n\n[leaves."other"]\nkind = "none"\n')
    ran = Ran(tmp_path, "perceptron", {}, capsys)
    assert ran.code == 2
    assert "expected leaves of the second side, got 'other'" in ran.complained


@pytest.mark.pairs
def test_hostile_texts_shape_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    hostile = '"x|`<b>\\n# heading\\x1b[2J::error::"'
    edits = {
        "self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)": f"self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)\n"
        f"        self.register_buffer({hostile}, torch.ones(3))",
        "def original": f"expected = {{{hostile}: {hostile}}}\n\n\ndef original",
    }
    ran = Ran(tmp_path, "twins", edits, capsys)
    assert ran.code in (1, 5)
    for text in (ran.printed, (tmp_path / "out" / "report.md").read_text()):
        assert "\x1b" not in text
        assert not any(line.startswith(("# heading", "::error")) for line in text.splitlines())


MINE = """
import jax.numpy as jnp
import numpy as np
from torch import nn

def original():
    return nn.Linear(4, 3)

def port():
    return (lambda p, x: x @ p["w"] + p["b"]), {"w": jnp.zeros((4, 3)), "b": jnp.zeros(3)}

def inputs(rng):
    return (rng.standard_normal((5, 4)),)
"""


@pytest.mark.long
@pytest.mark.own_processes
def test_in_ones_own_tests(tmp_path: Path):
    (tmp_path / "mine.py").write_text(MINE)
    found = importlib.util.spec_from_file_location("mine", tmp_path / "mine.py")
    assert found is not None
    assert found.loader is not None
    mine = importlib.util.module_from_spec(found)
    found.loader.exec_module(mine)
    told = pair.check(mine.original, mine.port, mine.inputs)
    assert "THE SAME" in told
    assert "live objects" not in told


@pytest.mark.pairs
def test_a_pair_file_in_ones_own_tests(tmp_path: Path):
    with pytest.raises(AssertionError, match="AMBIGUOUS"):
        pair.check(FILES / "twins.py", map_file=tmp_path / "twins.toml")


@pytest.mark.pairs
def test_a_port_as_one_first_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What docs/check_your_port.md walks through: all of it in one run, and then what hid behind it."""
    ran = Ran(tmp_path, "encoder", {}, capsys)
    assert ran.code == 1, ran.complained
    forward = [name for name in ran.names() if name.startswith("forward")]
    assert forward == ["forward: norm1", "forward: gelu", "forward: norm2"]
    growth = ran.report["causes"][0]["growth"]
    own = [name for name, wrong in zip(growth["names"], growth["own"], strict=True) if wrong]
    assert own == ["norm1", "gelu", "norm2"]
    assert ran.status("optimizer") == "different"
    assert "dropout: sites" in ran.names()
    mended = {
        "self.norm1, self.norm2 = nnx.LayerNorm(8, rngs=rngs), nnx.LayerNorm(8, rngs=rngs)": "self.norm1 = "
        "nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)\n        self.norm2 = nnx.LayerNorm(8, epsilon=1e-5, rngs=rngs)",
        "gelu(self.up(x))": "gelu(self.up(x), approximate=False)",
        "optax.adamw(1e-3)": "optax.adamw(1e-3, weight_decay=0.01)",
        "decode=False": "decode=False, dropout_rate=0.1, deterministic=False",
    }
    ran = Ran(tmp_path, "encoder", mended, capsys)
    assert ran.names() == ["dropout: self_attn, shared"]
    assert ran.status("trajectory") == "same"


def test_live_objects_are_checked_here_and_what_that_leaves_out_is_said():
    import jax.numpy as jnp
    import torch

    model = torch.nn.Linear(4, 3)
    other = {"w": jnp.zeros((4, 3)), "b": jnp.zeros(3)}

    def run(p: Any, x: Any) -> Any:
        return x @ p["w"] + p["b"]

    told = pair.check(model, (run, other), lambda rng: (rng.standard_normal((5, 4)),))
    assert "THE SAME" in told
    assert "live objects: both sides in this process" in told
    unproven = "no leaf's place in the map is proven"
    assert unproven not in told
    with pytest.raises(AssertionError, match="DIFFERENT in forward") as caught:
        pair.check(model, (lambda p, x: 2 * run(p, x), other), lambda rng: (rng.standard_normal((5, 4)),))
    assert max(map(len, str(caught.value).splitlines())) <= 80
    assert "\x1b" not in str(caught.value)
    assert unproven in " ".join(str(caught.value).split())


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_ctrl_c_leaves_nothing(tmp_path: Path):
    (tmp_path / "slow.py").write_text(
        "import time\ndef original(): time.sleep(60)\ndef port(): time.sleep(60)\ndef inputs(rng): return ()\n"
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    mark = f"PAIR_THAT_IS_STOPPED={os.getpid()}-{time.monotonic_ns()}"
    name, _, value = mark.partition("=")
    # A job in the background ignores SIGINT, and so would what it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "crosscheck", "pair", str(tmp_path / "slow.py"), "--out", str(tmp_path / "out")],
            cwd=ROOT,
            env={**os.environ, name: value, "TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    end = time.monotonic() + 60
    there = 0
    while there < 5 and time.monotonic() < end:
        time.sleep(0.1)
        there = len(_marked(mark))
    assert there >= 5  # The command, two keepers, two workers.
    process.send_signal(signal.SIGINT)
    printed, complained = process.communicate(timeout=60)
    assert process.returncode == 130, complained
    assert complained.strip().splitlines()[-1] == "interrupted"
    assert printed == ""
    assert _marked(mark) == []
    assert list(temporary.iterdir()) == []


def _marked(mark: str) -> list[str]:
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and mark.encode() in (process / "environ").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found
