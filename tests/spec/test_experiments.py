"""Experiment files: those that ship load, and every kind of wrong one gets one line that says what is wrong."""

import copy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spec.errors import SpecError
from spec.experiment import DRAWN, SHIPPED, Experiment, convert, drawn, load, override, parse, shipped
from spec.training import CannotLearn, LearnsSometimes, NotStated, Walk

HELLO = """\
description = "A Transformer for tests, so that a change to those that ship breaks none of them"
seeds = 20

[model]
name = "TransformerEncoder"
classes = 4
hidden_size = 8
heads = 2
num_layers = 2
feed_forward_size = 16
activation = "relu"
positions = "sinusoidal"
norm_first = false
dropout = 0.0
attention_dropout = 0.0

[model.inputs]
name = "Features"
size = 4

[task]
name = "Spelling"
characters = "ehlo"
source = "hello"
target = "ohlol"
encoding = "one-hot"

[training]
epochs = 150

[training.loss]
name = "CrossEntropy"
reduction = "mean"

[training.optimizer]
name = "Adam"
learning_rate = 0.01

[outcome]
name = "Learns"
solved_rate_at_least = 0.99
"""


def test_the_courses_rows_ship_with_their_honest_rates() -> None:
    rates = {"course-rnn-cell": 0.67, "course-rnn": 0.45, "course-embedding-rnn": 0.998}
    assert {name: load(name).outcome for name in rates} == {n: LearnsSometimes(rate) for n, rate in rates.items()}
    assert isinstance(load("course-rnn-cell-walk").outcome, Walk)
    assert load("course-rnn-cell").training.loss.reduction == "sum"
    assert load("course-rnn").training.loss.reduction == "mean"


@pytest.mark.parametrize("name", drawn())
def test_what_was_drawn_loads_by_name_and_by_path(name: str) -> None:
    assert load(name) == load(str(DRAWN / f"{name}.toml"))
    assert name not in shipped()


@pytest.mark.parametrize("name", shipped())
def test_shipped_experiments_load_by_name_and_by_path(name: str) -> None:
    experiment = load(name)
    assert experiment.name == name
    assert load(str(SHIPPED / f"{name}.toml")) == experiment
    if isinstance(experiment.outcome, CannotLearn):
        assert experiment.outcome.loss_at_least == pytest.approx(0.2772588722, abs=1e-7)


def test_hashes_differ_between_experiments_and_with_any_value() -> None:
    hashes = [load(name).hash for name in shipped()]
    assert len(set(hashes)) == len(hashes)
    gru = load("hello-gru")
    assert len(gru.hash) == 12
    assert override(gru, training__epochs=61).hash != gru.hash
    assert override(gru, training__epochs=60).hash == gru.hash


def test_hash_is_the_same_in_every_process() -> None:
    program = "from spec.experiment import load; print(load('hello-gru').hash)"
    command = [sys.executable, "-c", program]
    environments = [{"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)} for seed in ("1", "2")]
    said = {subprocess.run(command, env=e, capture_output=True, text=True, check=True).stdout for e in environments}
    assert said == {load("hello-gru").hash + "\n"}


CHOSEN = {
    "model.name", "model.cell", "model.readout", "model.nonlinearity", "model.activation", "model.positions",
    "model.mixed_precision", "model.inputs.name", "task.name", "task.encoding", "task.readout", "task.targets",
    "training.loss.name", "training.loss.reduction", "training.optimizer.name", "training.optimizer.decayed",
    "training.schedule.name", "outcome.name",
}  # fmt: skip
"""Every key at which a name is chosen out of some; `model.positions` differs from model to model."""


def words(schema: Any) -> set[str]:
    """Every name that may stand anywhere in an experiment, by its JSON Schema."""
    if isinstance(schema, list):
        return {word for item in schema for word in words(item)}
    if not isinstance(schema, dict):
        return set()
    found = {word for word in schema.get("enum", []) if isinstance(word, str)}
    return found.union(*(words(value) for value in schema.values()))


def texts(table: dict[str, Any], before: str = "") -> Iterator[str]:
    """The keys of a resolved experiment that have a text, as dotted paths."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from texts(value, f"{before}{key}.")
        elif isinstance(value, str):
            yield before + key


def refusal(raw: dict[str, Any], key: str, value: str) -> SpecError | None:
    """What is said of an experiment with that value there; None where it is about another key, or nothing."""
    changed = copy.deepcopy(raw)
    table = changed
    for part in key.split(".")[:-1]:
        table = table[part]
    table[key.split(".")[-1]] = value
    try:
        convert(changed, "mine.toml")
    except SpecError as error:
        return error if error.key == key else None
    return None


@pytest.mark.by_default(
    "ragged-transformer",
    "hello-lstm-adamw-warm-up",
    "hello-embedding-*",
    "reverse",
    "text-lstm",
    "weather-gru",
    "oscillation-gru",
    "hello-gru*",
)
@pytest.mark.parametrize("name", shipped())
def test_a_wrong_choice_is_told_all_that_would_be_accepted_there_and_no_other(name: str) -> None:
    raw = msgspec.to_builtins(load(name))
    known = words(msgspec.json.schema(Experiment))
    assert {"sinusoidal", "one-hot", "AdamW", "WarmUp", "LSTM", "EncoderDecoder", "NotStated"} <= known
    for key in CHOSEN & set(texts(raw)):
        error = refusal(raw, key, "no such choice")
        assert error is not None
        assert error.expected.startswith("one of "), (key, error)
        accepted = {word for word in known if refusal(raw, key, word) is None}
        assert set(error.expected.removeprefix("one of ").split(", ")) == accepted, (key, error)


def test_every_key_with_a_choice_is_tried_above() -> None:
    found = set()
    for name in shipped():
        raw = msgspec.to_builtins(load(name))
        for key in texts(raw):
            error = refusal(raw, key, "no such choice")
            found |= {key} if error is not None and error.expected.startswith("one of ") else set()
    assert found == CHOSEN


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        ("hello-transformer", "model.positions", "one of none, sinusoidal, learned"),
        ("hello-self-attention", "model.positions", "one of none, one-hot"),
        ("last-step-classifier", "model.readout", "one of last step, mean, max"),
        ("hello-encoder-decoder", "model.cell", "one of LSTM, GRU"),
    ],
)
def test_the_choices_are_those_of_the_table_that_is_named(name: str, key: str, expected: str) -> None:
    error = refusal(msgspec.to_builtins(load(name)), key, "taught")
    assert error is not None
    assert (error.expected, error.got) == (expected, "'taught'")


def test_an_outcome_may_be_left_out() -> None:
    text = HELLO[: HELLO.index("[outcome]")].replace("seeds = 20\n", "")
    experiment = parse(text, "mine")
    assert isinstance(experiment.outcome, NotStated)
    assert experiment.hash != parse(HELLO, "mine").hash
    assert convert(msgspec.to_builtins(experiment), "experiment.json") == experiment


def test_the_file_that_is_made_wrong_below_is_right() -> None:
    assert parse(HELLO, "mine").model.parameter_count == 1276


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("heads = 2", "heads = 2\nhaeds = 2", "model.haeds: expected a key that exists ('heads'?), got an unknown key"),
        ("seeds = 20", "seeds = 20\nfoo = 1", "foo: expected a key that exists (name, description, seeds, model, "),
        ("seeds = 20", 'seeds = "20"', "seeds: expected int, got '20'"),
        ("seeds = 20", "seeds = true", "seeds: expected int, got True"),
        ("epochs = 150\n", "", "training.epochs: expected a value, got nothing"),
        ("seeds = 20", 'seeds = 20\nname = "x"', "name: expected no such key (the file's name is the experiment's)"),
        ("hidden_size = 8", "hidden_size = 0", "model.hidden_size: expected int >= 1, got 0"),
        ("heads = 2", "heads = 3", "model.heads: expected a divisor of hidden_size = 8, got 3"),
        ("hidden_size = 8", "hidden_size = 9", "model.heads: expected a divisor of hidden_size = 9, got 2"),
        ("dropout = 0.0", "dropout = 1.0", "model.dropout: expected float < 1.0, got 1.0"),
        ("rate = 0.01", "rate = -0.01", "training.optimizer.learning_rate: expected float > 0.0, got -0.01"),
        ("rate = 0.01", "rate = nan", "training.optimizer.learning_rate: expected float > 0.0, got nan"),
        ("rate = 0.01", "rate = inf", "training.optimizer.learning_rate: expected float <= 1.797"),
        ('"TransformerEncoder"', '"Transformer"', "model.name: expected one of EncoderDecoder, GRU, LSTM, "),
        ('"Adam"', '"Adamax"', "training.optimizer.name: expected one of Adam, AdamW, RMSprop, SGD, got 'Adamax'"),
        ('"mean"', '"median"', "training.loss.reduction: expected one of mean, sum, got 'median'"),
        (
            'target = "ohlol"',
            'target = "ohlolo"',
            "task.target: expected as many characters as the source has (5), got 6 in 'ohlolo'",
        ),
        ('target = "ohlol"', 'target = "ohlox"', "task.target: expected characters out of 'ehlo', got 'x'"),
        ("classes = 4", "classes = 5", "model.classes: expected 4, as the task has, got 5"),
        ("size = 4", "size = 3", "model.inputs.size: expected 4, as the task has, got 3"),
        ("epochs = 150", "epochs = 0", "training.epochs: expected at least 1, got 0"),
        ("epochs = 150", "epochs = -1", "training.epochs: expected int >= 0, got -1"),
        ("at_least = 0.99", "at_least = 1.5", "outcome.solved_rate_at_least: expected float <= 1.0, got 1.5"),
        ("[task]", "[task", "file: expected valid TOML, got "),
    ],
)
def test_a_wrong_file_gets_one_line(old: str, new: str, message: str) -> None:
    assert old in HELLO
    with pytest.raises(SpecError) as caught:
        parse(HELLO.replace(old, new, 1), "mine", "mine.toml")
    assert str(caught.value).startswith(f"mine.toml: {message}")
    assert ", got " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("hello-embedding-rnn", "num_embeddings = 4", "num_embeddings = 5", "model.inputs.num_embeddings: expected 4"),
        ("hello-embedding-padding", "padding_idx = 0", "padding_idx = 4", "model.inputs.padding_idx: expected less"),
        ("hello-embedding-rnn", '"index"', '"one-hot"', "model.inputs.name: expected Features"),
        (
            "hello-self-attention",
            "max_length = 5",
            "max_length = 4",
            "model.max_length: expected at least the task's 5",
        ),
        ("hello-self-attention", "max_length = 5", "", "model.max_length: expected a length"),
        ("hello-gru", "hidden_size = 8", "hidden_size = 8\ndropout = 0.5", "model.dropout: expected 0 with one layer"),
        ("course-rnn", "hidden_size = 4", "hidden_size = 8", "model.classes: expected 8 (the outputs are the logits"),
        ("last-step-classifier", 'readout = "last step"', "", "model.readout: expected 'last step' for this task"),
        (
            "ragged-lstm",
            "bidirectional = true",
            'readout = "last step"',
            "model.readout: expected 'every step' for this",
        ),
        ("ragged-lstm", "delay = 1", "delay = 5", "task.delay: expected less than length = 5, got 5"),
        (
            "ragged-transformer",
            "delay = 1",
            "delay = 1\ninitial_deviation = 0.5",
            "task.initial_deviation: expected 0 for a TransformerEncoder, which begins with no state, got 0.5",
        ),
        ("last-step-classifier", "length = 3", "length = 5", "task.length: expected at most 10000 sequences"),
        ("hello-gru", 'name = "Learns"\nsolved_rate_at_least = 0.99', 'name = "Walk"', "training.epochs: expected 0 "),
        ("course-rnn-cell-walk", "classes = 2\n\n[training]", "classes = 3\n\n[training]", "model.classes: expected 3"),
    ],
)
def test_parts_that_do_not_fit_together(name: str, old: str, new: str, message: str) -> None:
    text = (SHIPPED / f"{name}.toml").read_text()
    assert old in text
    with pytest.raises(SpecError) as caught:
        parse(text.replace(old, new, 1), name)
    assert str(caught.value).startswith(f"<text>: {message}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hello-gur", "hello-gur: experiment: expected a shipped name or the path of a .toml file (close: hello-gru"),
        (
            "qqqqqq",
            "qqqqqq: experiment: expected a shipped name or the path of a .toml file (see --list), got 'qqqqqq'",
        ),
        ("no/such.toml", "no/such.toml: file: expected a readable TOML file, got no such file or directory"),
    ],
)
def test_an_experiment_that_is_not_there(name: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(name)
    assert str(caught.value).startswith(message)


def test_a_directory_and_bytes_are_no_experiments(tmp_path: Path) -> None:
    (tmp_path / "a.toml").mkdir()
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    for name, expected, got in (("a", "file", "a directory"), ("b", "readable TOML file", ".*can't decode byte")):
        with pytest.raises(SpecError, match=f"{name}.toml: file: expected a {expected}, got {got}"):
            load(str(tmp_path / f"{name}.toml"))


def test_override_checks_like_a_file() -> None:
    gru = load("hello-gru")
    changed = override(gru, training__epochs=3, training__optimizer__learning_rate=1, task__batch_size=2)
    assert isinstance(changed, Experiment)
    assert (changed.training.epochs, changed.training.optimizer.learning_rate, changed.task.batch_size) == (3, 1.0, 2)
    assert gru.training.epochs == 60
    with pytest.raises(SpecError, match=r"hello-gru: task\.batch_size: expected int >= 1, got 0"):
        override(gru, task__batch_size=0)
