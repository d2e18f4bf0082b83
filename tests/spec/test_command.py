"""The command line, with an implementation that needs no framework: what it prints, writes and exits with."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from spec import parameters, requirements
from spec.command import entry as command
from spec.exit_codes import TRAIN, epilog
from spec.experiment import SHIPPED, load, long, shipped
from spec.framework import Settings
from spec.parameters import draw

Run = Callable[..., Any]
"""See the fixture `run` in conftest.py."""

START = """\
hello-rnn (spec {hash}) by fake_impl
fake 1.0, device cpu (paper)
precision float32, seed 0, 148 parameters, 60 epochs
seed 0 draws otherwise in each framework; --init-weights starts two alike
run directory runs/hello-rnn/fake_impl-1
"""


def written(directory: str | Path) -> set[str]:
    return {path.name for path in Path(directory).iterdir()}


def test_without_arguments_the_default_is_trained_and_all_is_written(run: Run) -> None:
    outcome = run()
    assert outcome.code == 0
    assert outcome.err == ""
    assert command.DEFAULT_EXPERIMENT == "hello-rnn"
    assert outcome.out.startswith(START.format(hash=load("hello-rnn").hash))
    epochs, end = outcome.out.splitlines()[5:-1], outcome.out.splitlines()[-1]
    assert [line.split(", ")[1] for line in epochs] == [f"epoch {n}/60" for n in range(4, 61, 4)]
    assert epochs[-1] == "Predicted string: ohlol, epoch 60/60, loss 0.0167"
    assert end.startswith("Reached: everything is predicted right")
    assert written("runs/hello-rnn/fake_impl-1") == {
        "experiment.json",
        "metrics.jsonl",
        "best.safetensors",
        "checkpoint.safetensors",
        "checkpoints",
        "parameters.safetensors",
        "loss.png",
    }


def test_every_run_gets_a_directory_of_its_own(run: Run) -> None:
    assert [run("--epochs", 1).code for _ in range(2)] == [0, 0]
    assert written("runs/hello-rnn") == {"fake_impl-1", "fake_impl-2"}


def test_a_missed_target_is_exit_1(run: Run, fake: ModuleType) -> None:
    fake.behaviour.solves_at_step = None
    outcome = run()
    assert outcome.code == 1
    assert "Predicted string: eloeo, epoch 60/60" in outcome.out
    assert outcome.out.splitlines()[-1].startswith("Missed: not everything is predicted right")


def test_a_target_reached_and_lost_again_is_missed(run: Run, fake: ModuleType) -> None:
    fake.behaviour.solves_at_step = 61
    assert run().code == 1
    fake.behaviour.solves_at_step = 60
    assert run().code == 0


def test_a_negative_control_reaches_its_target_by_failing(run: Run, fake: ModuleType) -> None:
    fake.behaviour.solves_at_step = None
    outcome = run("hello-transformer-no-positions")
    assert outcome.code == 0
    assert "Reached: it failed, as it must" in outcome.out


def test_a_negative_control_that_learns_is_exit_1(run: Run) -> None:
    outcome = run("hello-transformer-no-positions")
    assert outcome.code == 1
    assert "it predicted everything right, which cannot be" in outcome.out


@pytest.mark.parametrize(("epochs", "lines"), [(1, 1), (14, 14), (15, 15), (16, 8), (60, 15), (61, 13), (200, 15)])
def test_about_fifteen_lines_whatever_the_epochs(run: Run, epochs: int, lines: int) -> None:
    shown = [line for line in run("--epochs", epochs).out.splitlines() if "epoch " in line and "loss" in line]
    assert len(shown) == lines
    assert f"epoch {epochs}/{epochs}" in shown[-1]


def test_log_every_shows_every_nth_and_the_last(run: Run) -> None:
    out = run("--epochs", 10, "--log-every", 4).out
    assert [line.split(", ")[1] for line in out.splitlines() if "loss" in line] == [
        "epoch 4/10",
        "epoch 8/10",
        "epoch 10/10",
    ]


def test_chunks_are_of_one_length_so_that_jax_compiles_once(run: Run, fake: ModuleType) -> None:
    run("--log-every", 7)
    assert [epochs for function, epochs in fake.calls if function == "train"] == [6] * 10


def test_overrides_change_the_experiment_and_its_hash(run: Run) -> None:
    arguments = ("--epochs", 3, "--learning-rate", 0.25, "--batch-size", 2, "--seed", 9, "--precision", "float64")
    events = run("hello-gru", *arguments, "--json").events
    assert (events[0]["epochs"], events[0]["seed"], events[0]["precision"]) == (3, 9, "float64")
    resolved = json.loads(Path("runs/hello-gru/fake_impl-1/experiment.json").read_text())
    assert resolved["training"]["optimizer"]["learning_rate"] == 0.25
    assert resolved["task"]["batch_size"] == 2
    assert events[0]["hash"] != load("hello-gru").hash
    final, metadata = parameters.load(Path("runs/hello-gru/fake_impl-1/parameters.safetensors"))
    assert {array.dtype for array in final.values()} == {np.dtype("float64")}
    assert (metadata["seed"], metadata["epochs"], metadata["steps"]) == ("9", "3", "3")


def test_json_is_all_there_is_on_stdout(run: Run) -> None:
    outcome = run("last-step-classifier", "--json")
    events = outcome.events
    assert [event["event"] for event in events] == ["start", *["epoch"] * 15, "end"]
    assert events[0]["directory"] == "runs/last-step-classifier/fake_impl-1"
    assert events[0]["versions"] == {"fake": "1.0", "device": "cpu (paper)"}
    assert [event["epoch"] for event in events[1:-1]] == list(range(1, 16))
    assert events[1].keys() == {"event", "epoch", "loss", "evaluation_loss", "solved", "predicted"}
    assert events[1]["loss"] == pytest.approx(np.mean([1 / n for n in range(1, 21)]))
    assert events[-1] == {"event": "end", "reached": True, "exit_code": 0}
    assert outcome.err == ""
    metrics = Path("runs/last-step-classifier/fake_impl-1/metrics.jsonl").read_text()
    assert metrics == outcome.out
    assert [event["epoch"] for event in run("--json", "--log-every", 25).events[1:-1]] == [25, 50, 60]


def test_list_names_every_experiment(run: Run, fake: ModuleType) -> None:
    *lines, rows = run("--list").out.splitlines()
    assert rows.endswith("docs/experiments.md")
    listed = [*shipped(), *long()]
    assert {"reverse-long", "text-lstm-long"} <= set(long())
    assert [line.split()[0] for line in lines] == listed
    for name, line in zip(listed, lines, strict=True):
        assert load(name).description in line
    assert lines[shipped().index("course-rnn")].endswith("(RNN, 15 epochs, about 45 % learn)")
    assert lines[shipped().index("hello-transformer-no-positions")].endswith("cannot learn)")
    assert lines[shipped().index("course-rnn-walk")].endswith("(RNN, a walk)")
    events = run("--list", "--json").events
    assert [(event["name"], event["hash"]) for event in events] == [(n, load(n).hash) for n in listed]
    assert fake.calls == []


def test_dry_run_shows_and_computes_nothing(run: Run, fake: ModuleType) -> None:
    outcome = run("hello-gru", "--dry-run", "--epochs", 7)
    assert outcome.code == 0
    assert '"epochs": 7' in outcome.out
    assert '"epsilon": 1e-8' in outcome.out  # A default that the file does not spell out.
    row = next(line for line in outcome.out.splitlines() if line.startswith("rnn.weight_ih_l0"))
    assert row.split() == ["rnn.weight_ih_l0", "(24,", "4)", "96", "uniform", "over", "[-0.353553,", "0.353553)"]
    assert outcome.out.splitlines()[-1] == "372 parameters in all"
    assert fake.calls == []
    assert list(Path().iterdir()) == []


def test_dry_run_in_json(run: Run) -> None:
    (event,) = run("hello-transformer", "--dry-run", "--json").events
    assert (event["event"], event["hash"]) == ("dry-run", load("hello-transformer").hash)
    assert event["experiment"]["name"] == "hello-transformer"
    assert event["parameters"] == sum(np.prod(row["shape"]) for row in event["table"]) == 1276
    assert event["table"][-1]["law"] == {"type": "uniform", "bound": pytest.approx(8**-0.5), "raised": None}


@pytest.mark.parametrize("arguments", [("course-rnn-cell-walk",), ("course-rnn-cell", "--trace")])
def test_a_walk_shows_every_step_and_trains_nothing(run: Run, fake: ModuleType, arguments: tuple[str, ...]) -> None:
    outcome = run(*arguments, "--seed", 3)
    assert outcome.code == 0
    assert "h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh)" in outcome.out
    steps = {"course-rnn-cell-walk": 3, "course-rnn-cell": 5}[arguments[0]]
    assert sum(line.startswith("step ") for line in outcome.out.splitlines()) == steps
    assert outcome.out.endswith("Nothing was trained.\n")
    assert "seed 3, " in outcome.out
    assert ", nothing is trained\n" in outcome.out
    assert "epochs" not in outcome.out
    assert [name for name, _ in fake.calls] == ["describe", "initialize", "forward"]
    assert list(Path().iterdir()) == []


def test_a_walk_in_json_holds_the_forward_pass(run: Run, fake: ModuleType) -> None:
    events = run("course-rnn-cell-walk", "--json", "--precision", "float64").events
    assert [event["event"] for event in events] == ["start", "step", "step", "step", "end"]
    assert run("hello-gru", "--trace", "--json").events[0]["epochs"] == 0
    experiment = load("course-rnn-cell-walk")
    settings = Settings(precision="float64")
    batch = experiment.evaluation_batch("float64")
    h = fake.forward(experiment, fake.initialize(experiment, 0, settings), batch, settings)["cell.h"]
    assert [event["tensors"]["cell.h[t]"] for event in events[1:-1]] == [h[:, t].tolist() for t in range(3)]
    assert events[2]["tensors"]["cell.h[t-1]"] == h[:, 0].tolist()
    assert events[1]["tensors"]["x[t]"] == batch.inputs[:, 0].tolist()


def test_weights_go_out_and_come_in(run: Run, fake: ModuleType) -> None:
    assert run("hello-gru", "--seed", 4, "--export-weights", "w.safetensors").code == 0
    exported, metadata = parameters.load(Path("w.safetensors"))
    final, _ = parameters.load(Path("runs/hello-gru/fake_impl-1/parameters.safetensors"))
    assert {n: a.tobytes() for n, a in exported.items()} == {n: a.tobytes() for n, a in final.items()}
    assert {key: metadata[key] for key in ("experiment", "hash", "implementation", "seed")} == {
        "experiment": "hello-gru",
        "hash": load("hello-gru").hash,
        "implementation": "fake_impl",
        "seed": "4",
    }
    fake.calls.clear()
    assert run("hello-gru", "--init-weights", "w.safetensors", "--precision", "float64", "--epochs", 1).code == 0
    assert "initialize" not in [name for name, _ in fake.calls]
    # One step of the fake moves each parameter by 0.01 times a draw that is a function of the seed.
    moved, _ = parameters.load(Path("runs/hello-gru/fake_impl-2/parameters.safetensors"))
    assert moved["head.bias"].dtype == np.float64
    assert 0 < np.abs(moved["head.bias"] - exported["head.bias"]).max() < 0.1


def test_what_was_done_to_given_weights_is_told_to_programs_too(run: Run) -> None:
    run("hello-gru", "--seed", 4, "--epochs", 1, "--export-weights", "w.safetensors")
    held, _ = parameters.load(Path("w.safetensors"))
    np.savez("wrapped.npz", **{f"module.{name}": value for name, value in held.items()})
    first, second, *_ = run("hello-gru", "--init-weights", "wrapped.npz", "--epochs", 1, "--json").events
    assert first["event"] == "weights"
    assert any("module." in sentence for sentence in first["said"])
    assert second["event"] == "start"
    said = run("hello-gru", "--init-weights", "wrapped.npz", "--epochs", 1).out
    assert all(f"weights: {sentence}" in " ".join(said.split()) for sentence in first["said"])
    # Nothing was done to these.
    assert run("hello-gru", "--init-weights", "w.safetensors", "--epochs", 1, "--json").events[0]["event"] == "start"


def test_a_walk_exports_the_weights_it_shows(run: Run) -> None:
    first = run("course-rnn-cell-walk", "--seed", 8, "--export-weights", "w.safetensors", "--json").events
    again = run("course-rnn-cell-walk", "--init-weights", "w.safetensors", "--json").events
    other = run("course-rnn-cell-walk", "--json").events
    assert first[1:] == again[1:]
    assert first[1] != other[1]


def test_a_resolved_experiment_can_be_trained_again(run: Run) -> None:
    run("hello-gru", "--epochs", 5)
    again = run("runs/hello-gru/fake_impl-1/experiment.json", "--json").events
    assert (again[0]["experiment"], again[0]["epochs"]) == ("hello-gru", 5)
    assert again[0]["directory"] == "runs/hello-gru/fake_impl-2"


def test_a_file_of_ones_own_is_trained_under_its_name(run: Run) -> None:
    Path("mine.toml").write_text((SHIPPED / "hello-gru.toml").read_text())
    assert run("mine.toml", "--epochs", 1, "--out", "here/and/there").code == 0
    assert "mine (spec " in run("mine.toml", "--epochs", 1).out
    assert written("runs") == {"mine"}
    assert "loss.png" in written("here/and/there")


WRONG = [
    (("hello-gur",), "hello-gur: experiment: expected a shipped name or the path of a .toml file"),
    (("no.toml",), "no.toml: file: expected a readable TOML file, got no such file or directory"),
    (("broken.toml",), "broken.toml: file: expected valid TOML, got "),
    (("no.json",), "no.json: cannot be read: No such file or directory"),
    (("--epochs", "0"), "hello-rnn: training.epochs: expected at least 1, got 0"),
    (("--epochs", "-1"), "hello-rnn: training.epochs: expected int >= 0, got -1"),
    (("course-rnn-walk", "--epochs", "1"), "course-rnn-walk: training.epochs: expected 0 with outcome Walk, got 1"),
    (("--learning-rate", "0"), "hello-rnn: training.optimizer.learning_rate: expected float > 0.0, got 0.0"),
    (("--learning-rate", "nan"), "hello-rnn: training.optimizer.learning_rate: expected float > 0.0, got nan"),
    (("--batch-size", "0"), "hello-rnn: task.batch_size: expected int >= 1, got 0"),
    (("--resume",), "--resume: expected --out with the directory to resume, and no --init-weights"),
    (("--resume", "--out", "full", "--init-weights", "x"), "--resume: expected --out with the directory"),
    (("--resume", "--out", "full"), "full/experiment.json: cannot be read: No such file"),
    (("--out", "full"), "--out full: expected a new or empty directory, got a directory that is not empty"),
    (("--out", "broken.toml"), "--out broken.toml: expected a new or empty directory, got a file"),
    (("--out", "x", "--trace"), "--out: expected none where nothing is trained"),
    (("--out", "x", "course-rnn-walk"), "--out: expected none where nothing is trained"),
    (("--init-weights", "no"), "no: expected weights, got nothing: no such file"),
    (("--init-weights", "gru"), "gru: rnn.weight_ih_l0: expected shape (8, 4), got (24, 4); rnn.weight_hh_l0: "),
    (("--export-weights", "no/w"), "--export-weights no/w: cannot be written: No such file or directory"),
    (("--export-weights", "full"), "--export-weights full: expected a file, got a directory"),
    (("--export-weights", "gru/w"), "--export-weights gru/w: cannot be written: Not a directory"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(arguments) for arguments, _ in WRONG])
@pytest.mark.parametrize("as_json", [False, True])
def test_what_a_user_gets_wrong_is_one_line_and_exit_2(
    run: Run, fake: ModuleType, arguments: tuple[str, ...], message: str, as_json: bool
) -> None:
    Path("broken.toml").write_text("[model\n")
    Path("full").mkdir()
    Path("full/file").touch()
    parameters.save(Path("gru"), draw(load("hello-gru").model.parameters(), 0, "float32"))
    before = sorted(Path().rglob("*"))
    outcome = run(*arguments, *(["--json"] if as_json else []))
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert message in outcome.err
    assert outcome.err.startswith("error: ")
    if as_json:
        (end,) = outcome.events
        assert (end["event"], end["reached"], end["exit_code"]) == ("end", False, 2)
        assert f"error: {end['error']}\n" == outcome.err
    else:
        assert outcome.out == ""
    assert fake.calls == []  # Found before anything was computed, and nothing was left behind.
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seed", "-1"), "argument --seed: expected 0 to 4294967295, got -1"),
        (("--seed", "4294967296"), "argument --seed: expected 0 to 4294967295"),
        (("--seed", "one"), "argument --seed: invalid seed value: 'one'"),
        (("--log-every", "0"), "argument --log-every: expected at least 1, got 0"),
        (("--device", "npu"), "argument --device: invalid choice: 'npu'"),
        (("--precision", "float16"), "argument --precision: invalid choice: 'float16'"),
        (("--learning-rate", "fast"), "argument --learning-rate: invalid float value"),
        # Empty words, as unset variables make them: not the working directory.
        (("--out", ""), "argument --out: expected a path, got ''"),
        (("--init-weights", ""), "argument --init-weights: expected a path, got ''"),
        (("--export-weights", ""), "argument --export-weights: expected a path, got ''"),
        (("--list", "--dry-run"), "not allowed with argument --list"),
        (("--epoch", "3"), "unrecognized arguments: --epoch"),
        (("one", "two"), "unrecognized arguments: two"),
    ],
)
def test_wrong_flags_are_exit_2(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main("fake_impl", list(arguments))
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_help_names_every_flag_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main("torch_impl", ["--help"])
    assert caught.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "usage: python -m torch_impl.train" in said
    for flag in (
        *("--seed", "--epochs", "--learning-rate", "--batch-size", "--device {cpu,cuda,tpu}"),
        *("--precision {float32,float64}", "--out", "--resume", "--init-weights", "--export-weights", "--log-every"),
        *("--json", "--list", "--dry-run", "--trace"),
    ):
        assert flag in said
    assert " ".join(epilog(TRAIN).split()) in said


def test_a_missing_device_is_exit_3_and_leaves_nothing(run: Run) -> None:
    outcome = run("--device", "cuda")
    assert outcome.code == 3
    assert outcome.err == "error: device: expected cpu, got cuda\n"
    assert list(Path().iterdir()) == []


def test_what_an_implementation_leaves_out_is_exit_3(run: Run) -> None:
    outcome = run("hello-embedding-sparse")
    assert (outcome.code, outcome.err) == (3, "error: sparse: not here\n")


def test_what_an_implementation_declares_to_leave_out_is_said_before_there_is_a_directory(
    run: Run, fake: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "LEAVES_OUT", {"sparse embedding gradients": "not on paper"}, raising=False)
    for arguments in ((), ("--seeds", 3)):
        outcome = run("hello-embedding-sparse", *arguments)
        assert (outcome.code, outcome.err) == (
            3,
            "error: fake_impl leaves out sparse embedding gradients: not on paper\n",
        )
        assert list(Path().iterdir()) == []


@pytest.mark.parametrize("code", [0, 1, None])
def test_a_framework_that_ends_the_program_is_no_success(
    run: Run, fake: ModuleType, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    def leave(*_: object) -> None:
        sys.exit(code)

    Path("leaving_impl.py").write_text(f"import sys\nsys.exit({code})\n")
    monkeypatch.syspath_prepend(str(Path().resolve()))
    monkeypatch.setattr(fake, "initialize", leave)
    for implementation in ("leaving_impl", "fake_impl"):
        outcome = run("hello-gru", implementation=implementation)
        assert (outcome.code, outcome.err.count("\n")) == (3, 1)
        assert "SystemExit" in outcome.err


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("eager_impl", "import no_such_framework.nn"),
        ("lazy_impl", "def __getattr__(name):\n    import no_such_framework"),
    ],
)
def test_a_missing_framework_is_exit_3(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> None:
    Path(f"{name}.py").write_text(code + "\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.setitem(requirements.EXTRAS, name, "needy")
    outcome = run(implementation=name)
    assert outcome.code == 3
    assert outcome.err == f"error: {name}: No module named 'no_such_framework'; {requirements.hint('needy')}\n"


def test_an_import_that_is_our_own_fault_is_not_called_a_missing_framework(
    run: Run, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("faulty_impl.py").write_text("from spec.tasks import no_such_thing\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    outcome = run(implementation="faulty_impl")
    assert outcome.code == 3
    assert outcome.err.startswith("error: ImportError: cannot import name 'no_such_thing'")
    assert outcome.err.count("\n") == 1
    (file,) = kept.iterdir()
    assert f"its traceback is kept in {file}" in outcome.err
    assert "pip install" not in outcome.err


def test_a_crash_is_one_line_and_a_file_and_not_mistaken_for_a_missed_target(
    run: Run, fake: ModuleType, kept: Path
) -> None:
    fake.behaviour.crash = RuntimeError("a fault of ours")
    outcome = run("--json")
    assert outcome.code == 3
    (file,) = kept.iterdir()
    assert outcome.err == (
        f"error: RuntimeError: a fault of ours (an error that was not foreseen; its traceback is kept in {file})\n"
    )
    assert file.read_text().startswith("Traceback (most recent call last):\n")
    assert file.read_text().endswith("RuntimeError: a fault of ours\n")
    assert outcome.events[-1]["exit_code"] == 3
    assert "a fault of ours" in outcome.events[-1]["error"]
