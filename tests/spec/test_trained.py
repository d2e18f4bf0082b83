"""--evaluate and --generate, validations, and figures for TensorBoard: with an implementation of NumPy's."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from spec import parameters
from spec.command.events import Measured
from spec.command.trained import measure
from spec.errors import InvalidBatch
from spec.experiment import Experiment, load, override
from spec.framework import Generation, Settings

Run = Callable[..., Any]
"""See the fixture `run` in conftest.py."""

TEXT = load("text-lstm")


@pytest.fixture
def predicting(fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The fake implementation, with logits that depend on parameters and inputs."""

    def predict(experiment: Experiment, held: Any, batch: Any, settings: Settings) -> np.ndarray:
        del settings
        bias = next(iter(held.values())).mean()
        shape = (*batch.targets.shape, experiment.model.classes)
        said = (np.arange(np.prod(shape)) % 7).reshape(shape) * (1.0 + bias)
        return said + 0.5 * (np.arange(experiment.model.classes) == np.maximum(batch.targets, 0)[..., None]) * 6

    monkeypatch.setattr(fake, "predict", predict, raising=False)
    return fake


def metrics(directory: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(directory, "metrics.jsonl").read_text().splitlines()]


def test_a_run_directory_is_evaluated_and_left_as_it_is(run: Run, predicting: ModuleType) -> None:
    del predicting
    run("ragged-lstm", "--epochs", 2, "--seed", 4, "--precision", "float64", "--out", "a")
    before = {path: path.read_bytes() for path in Path("a").rglob("*") if path.is_file()}
    outcome = run("--evaluate", "--out", "a", "--json")
    assert {path: path.read_bytes() for path in Path("a").rglob("*") if path.is_file()} == before
    (event,) = outcome.events
    assert (event["event"], event["experiment"], event["source"]) == (
        "evaluated",
        "ragged-lstm",
        "a/parameters.safetensors",
    )
    assert outcome.code == (0 if event["solved"] else 1)
    assert run("--evaluate", "--out", "a").out.splitlines()[0] == "a/parameters.safetensors"


@pytest.mark.parametrize("solved", [True, False])
def test_the_exit_code_says_whether_it_came_out(
    run: Run, fake: ModuleType, monkeypatch: pytest.MonkeyPatch, solved: bool
) -> None:
    def predict(experiment: Experiment, held: Any, batch: Any, settings: Settings) -> np.ndarray:
        del held, settings
        classes = experiment.model.classes
        return 9.0 * np.eye(classes)[(np.maximum(batch.targets, 0) + (0 if solved else 1)) % classes]

    monkeypatch.setattr(fake, "predict", predict, raising=False)
    run("hello-gru", "--epochs", 2, "--out", "a")
    outcome = run("--evaluate", "--out", "a")
    assert outcome.code == (0 if solved else 1)
    assert ("100 % of" if solved else "0 % of") in outcome.out


def test_exported_weights_are_worth_what_the_run_is(run: Run, predicting: ModuleType) -> None:
    del predicting
    run("ragged-lstm", "--epochs", 2, "--out", "a", "--export-weights", "w")
    one = run("--evaluate", "--out", "a", "--json").events[0]
    other = run("ragged-lstm", "--evaluate", "--init-weights", "w", "--json").events[0]
    assert one["measured"] == other["measured"]


def test_a_checkpoint_may_be_evaluated_as_weights(run: Run, predicting: ModuleType) -> None:
    del predicting
    run("ragged-lstm", "--epochs", 2, "--out", "a")
    best = run("ragged-lstm", "--evaluate", "--init-weights", "a/best.safetensors", "--json")
    assert best.events[0]["event"] == "evaluated"
    assert run("ragged-lstm", "--epochs", 1, "--init-weights", "a/best.safetensors", "--out", "b").code == 0


def test_a_run_that_is_not_over_is_evaluated_where_it_stands(run: Run, predicting: ModuleType) -> None:
    predicting.behaviour.interrupted_at_step = 12
    run("ragged-lstm", "--epochs", 2, "--out", "a")
    outcome = run("--evaluate", "--out", "a")
    assert outcome.out.splitlines()[0] == "a/checkpoint.safetensors"


def test_a_loss_that_is_not_finite_is_exit_4(run: Run, fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        fake, "predict", lambda e, p, b, s: np.full((*b.targets.shape, e.model.classes), np.nan), raising=False
    )
    run("hello-gru", "--epochs", 2, "--out", "a")
    outcome = run("--evaluate", "--out", "a")
    assert (outcome.code, outcome.err.count("\n")) == (4, 1)
    assert "a/parameters.safetensors: expected parameters with a finite loss, got nan" in outcome.err


def test_all_that_is_held_back_counts_once(predicting: ModuleType) -> None:
    """Against the mean over the batches' targets, taken at once."""
    held = parameters.draw(TEXT.model.parameters(), 0, "float64")
    side = predicting.open(TEXT, Settings("float64"))
    found = measure(side, TEXT, held, "float64")
    batches = list(TEXT.task.validation_batches("float64"))
    assert len(batches) > 1
    logits = np.concatenate([side.predict(held, batch) for batch in batches])
    targets = np.concatenate([batch.targets for batch in batches])
    assert found.measured == Measured(
        loss=pytest.approx(TEXT.training.loss.value(logits, targets), rel=1e-12),
        accuracy=pytest.approx(float((logits.argmax(-1) == targets).mean())),
        targets=targets.size,
        bits_per_byte=pytest.approx(TEXT.training.loss.value(logits, targets) / np.log(2), rel=1e-12),
    )
    kept = sum(batch.inputs.size for batch in batches)
    assert kept > 0.09 * TEXT.task.documents.size  # type: ignore[union-attr]


def test_where_classes_weigh_a_batch_weighs_as_much_as_its_targets_do(predicting: ModuleType) -> None:
    weights = [1.0 + number % 3 for number in range(256)]
    heavy = override(TEXT, training__loss={"name": "CrossEntropy", "reduction": "mean", "class_weights": weights})
    held = parameters.draw(heavy.model.parameters(), 0, "float64")
    side = predicting.open(heavy, Settings("float64"))
    batches = list(heavy.task.validation_batches("float64"))
    logits = np.concatenate([side.predict(held, batch) for batch in batches])
    targets = np.concatenate([batch.targets for batch in batches])
    found = measure(side, heavy, held, "float64").measured.loss
    assert found == pytest.approx(heavy.training.loss.value(logits, targets), rel=1e-12)


def test_validations_are_recorded_and_counted_by_patience(
    run: Run, fake: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches each; the second validation is the best."""
    certain = iter([1.0, 1.0, 2.0, 2.0, 1.5, 1.5, 1.0, 1.0, 3.0, 3.0])

    def predict(experiment: Experiment, held: Any, batch: Any, settings: Settings) -> np.ndarray:
        del held, settings
        return next(certain) * np.eye(experiment.model.classes)[batch.targets]

    monkeypatch.setattr(fake, "predict", predict, raising=False)
    outcome = run("text-lstm", "--epochs", 12, "--validate-epochs", 2, "--patience", 2, "--out", "a")
    assert outcome.code == 0
    epochs = [event for event in metrics("a") if event["event"] == "epoch"]
    assert [event["epoch"] for event in epochs if "validation" in event] == [2, 4, 6, 8]
    assert len(epochs) == 8
    assert metrics("a")[-1]["stopped_after"] == 8
    assert parameters.load(Path("a/best.safetensors"))[1]["steps"] == "16"
    assert ", validation 5.15" in " ".join(outcome.out.split())


@pytest.mark.parametrize(("away", "code"), [(0.004, 0), (0.02, 1), (-0.02, 1)])
def test_where_the_lowest_loss_is_known_it_is_told_by_that(
    run: Run, fake: ModuleType, monkeypatch: pytest.MonkeyPatch, away: float, code: int
) -> None:
    wanted = load("weather-gru").task.lowest_loss * (1 + away)

    def predict(experiment: Experiment, held: Any, batch: Any, settings: Settings) -> np.ndarray:
        # With the margin m for the right one of two classes a loss is log(1 + exp(-m)).
        del held, settings
        margin = -np.log(np.expm1(wanted))
        return margin * np.eye(experiment.model.classes)[np.maximum(batch.targets, 0)]

    monkeypatch.setattr(fake, "predict", predict, raising=False)
    run("weather-gru", "--epochs", 1, "--out", "a")
    outcome = run("--evaluate", "--out", "a")
    assert outcome.code == code
    word, how = "Missed" if code else "Reached", f"{100 * abs(away):.3g} % {'below' if away < 0 else 'above'}"
    lowest = load("weather-gru").task.lowest_loss
    assert outcome.out.splitlines()[-1] == f"{word}: {how} the lowest loss that there is, {lowest:.7g}"
    event = run("--evaluate", "--out", "a", "--json").events[0]
    assert (event["measured"]["lowest_loss"], event["solved"], event["reached"]) == (lowest, not code, not code)


@pytest.mark.parametrize("wrong", [2, 3])
def test_where_whole_sequences_count_it_is_told_by_their_share(
    run: Run, fake: ModuleType, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    """Of 256 sequences 2 may be wrong; each wrong one has more than one error."""

    def predict(experiment: Experiment, held: Any, batch: Any, settings: Settings) -> np.ndarray:
        del held, settings
        said = np.maximum(batch.targets, 0)
        said[:wrong] = (said[:wrong] + 1) % experiment.model.classes
        return np.eye(experiment.model.classes)[said]

    monkeypatch.setattr(fake, "predict", predict, raising=False)
    run("reverse-long", "--epochs", 1, "--out", "a")
    outcome = run("--evaluate", "--out", "a")
    word, share = ("Reached", 100 * 254 / 256) if wrong == 2 else ("Missed", 100 * 253 / 256)
    assert outcome.code == (0 if wrong == 2 else 1)
    assert outcome.out.splitlines()[-1] == (
        f"{word}: {share:.4g} % of 256 sequences are right from the first symbol to the last"
    )
    event = run("--evaluate", "--out", "a", "--json").events[0]
    assert (event["measured"]["exact_match"], event["measured"]["sequences"]) == ((256 - wrong) / 256, 256)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--evaluate",),
            "--evaluate: expected --out with a run directory, or --init-weights with trained weights, got neither",
        ),
        (("--evaluate", "--out", "a", "--init-weights", "w"), "got both"),
        (("--evaluate", "--out", "a", "--resume"), "--resume: expected none with --evaluate, which trains nothing"),
        (("--generate", "x", "--out", "a", "--seeds", "3"), "--seeds: expected none with --generate"),
        (("--evaluate", "--out", "none"), "none/experiment.json: cannot be read: No such file or directory"),
        (("course-rnn-walk", "--evaluate", "--init-weights", "w"), "expected an experiment that trains"),
        (("--generate", "x", "--out", "a"), "--generate: expected an experiment whose task is Text, got hello-gru"),
        (("hello-gru", "--length", "3"), "--length: expected none without --generate"),
        (("hello-gru", "--temperature", "3"), "--temperature: expected none without --generate"),
        (("ragged-lstm", "--validate-epochs", "2"), "--validate-epochs: expected an experiment whose task keeps data"),
        (("hello-gru", "--seeds", "3", "--patience", "2"), "--patience: expected none with --seeds"),
        (("hello-gru", "--seeds", "3", "--tensorboard"), "--tensorboard: expected none with --seeds"),
    ],
)
def test_wrong_combinations_are_one_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    run("hello-gru", "--epochs", 1, "--out", "a")
    outcome = run(*arguments)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert message in outcome.err


@pytest.mark.parametrize(
    "wrong",
    [
        ("--temperature", "-1"),
        ("--temperature", "nan"),
        ("--length", "0"),
        ("--keep", "0"),
        ("--checkpoint-minutes", "0"),
    ],
)
def test_wrong_values_are_refused(wrong: tuple[str, ...], run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("hello-gru", *wrong)
    assert f"argument {wrong[0]}: expected" in capsys.readouterr().err


def test_tensorboard_is_one_line_where_it_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.delitem(sys.modules, "spec.command.tensorboard", raising=False)
    outcome = run("hello-gru", "--tensorboard", "--out", "a")
    assert (outcome.code, outcome.err.count("\n")) == (3, 1)
    assert "--tensorboard: " in outcome.err
    assert "ohlol[tensorboard]" in outcome.err
    assert not Path("a").exists()


def test_figures_for_tensorboard(run: Run, fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for its writer: what is written, by which steps, and from where on after a resumption."""
    written: list[Any] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int, flush_secs: int):
            del flush_secs
            written.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def close(self) -> None:
            written.append("closed")

    stand_in = ModuleType("tensorboardX")
    stand_in.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorboardX", stand_in)
    monkeypatch.delitem(sys.modules, "spec.command.tensorboard", raising=False)
    fake.behaviour.interrupted_at_step = 15
    assert run("ragged-lstm", "--epochs", 2, "--tensorboard", "--out", "a").code == 130
    fake.behaviour.interrupted_at_step = None
    assert run("--resume", "--tensorboard", "--out", "a").code == 0
    first, second = ([event for event in metrics("a") if event["event"] == "epoch"][n] for n in (0, 1))
    assert written == [
        ("a/tensorboard", 1),
        ("loss/training", first["loss"], 10),
        ("loss/evaluation", first["evaluation_loss"], 10),
        "closed",
        ("a/tensorboard", 11),
        ("loss/training", second["loss"], 20),
        ("loss/evaluation", second["evaluation_loss"], 20),
        "closed",
    ]
    monkeypatch.delitem(sys.modules, "spec.command.tensorboard", raising=False)


@pytest.fixture
def writing(fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The fake implementation, which writes the prompt again and again; and what it was asked for."""
    asked: list[Any] = []

    def generate(
        experiment: Experiment, held: Any, prompt: np.ndarray, count: int, settings: Settings, **options: Any
    ) -> Generation:
        del held, settings
        asked.append((bytes(prompt[0].astype(np.uint8)), count, options))
        if count > 1000:
            raise InvalidBatch("count: expected 1 to 1000 symbols, got more")
        return Generation(np.resize(prompt, (1, count)), np.zeros((1, count, experiment.model.classes)))

    monkeypatch.setattr(fake, "generate", generate, raising=False)
    return asked


@pytest.fixture
def weights() -> Path:
    parameters.save(Path("w"), parameters.draw(TEXT.model.parameters(), 0, "float32"))
    return Path("w")


def test_a_text_is_written_on(run: Run, writing: list[Any], weights: Path) -> None:
    outcome = run("text-lstm", "--generate", "Grüße\n", "--init-weights", weights, "--length", 9, "--seed", 5)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == "Grüße\nGrüße\nG\n"
    assert writing == [("Grüße\n".encode(), 9, {"temperature": 1.0, "seed": 5})]


def test_the_same_as_an_event(run: Run, writing: list[Any], weights: Path) -> None:
    (event,) = run("text-lstm", "--generate", "é", "--init-weights", weights, "--length", 3, "--json").events
    assert event.pop("per_second") > 0
    assert event == {
        "event": "generated",
        "experiment": "text-lstm",
        "hash": TEXT.hash,
        "implementation": "fake_impl",
        "source": "w",
        "prompt": "é",
        "text": "é�",  # A character that is cut off.
        "bytes": [0xC3, 0xA9, 0xC3],
        "temperature": 1.0,
        "seed": 0,
    }
    assert len(writing) == 1


def test_a_text_cannot_command_a_terminal(run: Run, writing: list[Any], weights: Path) -> None:
    del writing
    outcome = run("text-lstm", "--generate", "\x1b[2J::error::", "--init-weights", weights, "--length", 30)
    assert "\x1b" not in outcome.out
    assert not any(line.startswith("::error::") for line in outcome.out.splitlines())


@pytest.mark.parametrize(
    ("text", "length", "message"),
    [
        ("", 3, "--generate: expected a text of a character or more to begin with, got ''"),
        ("x", 2000, "--generate: count: expected 1 to 1000 symbols, got more"),
    ],
)
def test_what_cannot_be_written_is_one_line(
    run: Run, writing: list[Any], weights: Path, text: str, length: int, message: str
) -> None:
    del writing
    outcome = run("text-lstm", "--generate", text, "--init-weights", weights, "--length", length)
    assert (outcome.code, outcome.out, outcome.err) == (2, "", f"error: {message}\n")


def test_an_implementation_that_does_not_write_says_so(run: Run, weights: Path) -> None:
    outcome = run("text-lstm", "--generate", "x", "--init-weights", weights)
    assert (outcome.code, outcome.err) == (3, "error: it has no function `generate`\n")
