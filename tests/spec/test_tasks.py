"""Batches as a pure function of (task, seed, step), and how predictions are judged."""

import itertools

import msgspec
import numpy as np
import pytest

from spec.errors import InvalidBatch
from spec.experiment import load, override, shipped
from spec.models import Embedding, Features
from spec.models.encoder_decoder import EncoderDecoder
from spec.models.gru import GRU
from spec.parameters import generator_for
from spec.tasks import (
    IGNORED,
    STEPS_DRAWN_TOGETHER,
    AnyTask,
    Batch,
    Echo,
    FirstSymbol,
    Noise,
    Spelling,
    asked,
    check,
    drawing,
    predictions,
    random_batch,
    repeat,
    shift_right,
    solved,
    stack_batches,
    valid_steps,
)

HELLO = Spelling(characters="ehlo", source="hello", target="ohlol", encoding="one-hot")
FIRST = FirstSymbol(vocabulary=10, length=3, classes=5, batch_size=32)
NOISE = Noise(features=4, length=3, classes=2)
ECHO = Echo(vocabulary=4, length=6, shortest=2, delay=2, encoding="index", batch_size=5)
RAGGED = load("ragged-lstm")


def bytes_of(batch: Batch) -> list[tuple[str, tuple[int, ...], bytes] | None]:
    return [None if array is None else (str(array.dtype), array.shape, array.tobytes()) for array in batch]


@pytest.mark.parametrize("task", [HELLO, FIRST, NOISE, ECHO], ids=lambda task: type(task).__name__)
def test_batches_are_pure(task: AnyTask) -> None:
    assert bytes_of(task.batch(3, 7, "float32")) == bytes_of(task.batch(3, 7, "float32"))
    assert bytes_of(task.evaluation_batch("float64")) == bytes_of(task.evaluation_batch("float64"))


@pytest.mark.parametrize("task", [FIRST, NOISE, ECHO], ids=lambda task: type(task).__name__)
def test_another_seed_or_step_gives_another_batch(task: AnyTask) -> None:
    batches = [task.batch(seed, step, "float64").inputs.tobytes() for seed in range(4) for step in range(4)]
    assert len(set(batches)) == 16


def test_hello_becomes_ohlol() -> None:
    batch = HELLO.batch(0, 0, "float32")
    assert batch.inputs.dtype == np.float32
    assert batch.inputs.argmax(-1).tolist() == [[1, 0, 2, 2, 3]]
    assert batch.inputs.sum(-1).tolist() == [[1.0] * 5]
    assert batch.targets.tolist() == [[3, 1, 2, 3, 2]]
    assert batch.lengths is None
    assert batch.decoder_inputs is not None
    assert batch.decoder_inputs.tolist() == [[4, 3, 1, 2, 3]]


def test_hello_as_indices() -> None:
    task = Spelling(characters="ehlo", source="hello", target="ohlol", encoding="index", batch_size=3)
    batch = task.batch(0, 0, "float32")
    assert batch.inputs.dtype == np.int64
    assert batch.inputs.tolist() == [[1, 0, 2, 2, 3]] * 3
    assert task.evaluation_batch("float32").inputs.shape == (1, 5)


def test_spelling_describes_what_it_says() -> None:
    batch = HELLO.evaluation_batch("float32")
    assert HELLO.describe(batch.targets, batch) == "Predicted string: ohlol"


def test_first_symbol_is_judged_on_every_sequence() -> None:
    batch = FIRST.evaluation_batch("float32")
    assert [tuple(row) for row in batch.inputs.tolist()] == list(itertools.product(range(10), repeat=3))
    assert batch.targets.tolist() == [row[0] % 5 for row in batch.inputs.tolist()]
    assert FIRST.describe(np.where(np.arange(1000) < 250, batch.targets, -1), batch) == "Accuracy: 0.250"


def test_first_symbol_trains_on_uniform_draws() -> None:
    inputs = np.concatenate([FIRST.batch(0, step, "float32").inputs for step in range(200)])
    assert inputs.shape == (6400, 3)
    assert inputs.dtype == np.int64
    counts = np.bincount(inputs.ravel(), minlength=10)
    assert len(counts) == 10
    assert np.abs(counts / inputs.size - 0.1).max() < 0.015


def test_first_symbol_draws_a_block_of_steps_once_and_lets_nobody_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # A seed of its own: whatever other tests have drawn is not drawn again.
    seed, drawn = 1234, []
    monkeypatch.setattr(drawing, "generator_for", lambda *labels: drawn.append(labels) or generator_for(*labels))
    for step in range(STEPS_DRAWN_TOGETHER):
        batch = FIRST.batch(seed, step, "float32")
        expected = bytes_of(batch)
        batch.inputs[:] = -1
        batch.targets[:] = -1
        assert bytes_of(FIRST.batch(seed, step, "float32")) == expected
    assert drawn == [(seed, "batch", 0)]
    FIRST.batches(seed, range(5), "float32").inputs[:] = -1
    assert bytes_of(FIRST.batch(seed, STEPS_DRAWN_TOGETHER - 1, "float32")) == expected
    FIRST.batch(seed, STEPS_DRAWN_TOGETHER, "float32")
    assert drawn == [(seed, "batch", 0), (seed, "batch", 1)]


def test_first_symbol_of_any_length_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"length: expected at most 10000 sequences in all, got 10\^1000000000"):
        FirstSymbol(vocabulary=10, length=10**9, classes=5, batch_size=1)


@pytest.mark.parametrize("delay", [0, 1, 3])
@pytest.mark.parametrize("encoding", ["index", "one-hot"])
@pytest.mark.parametrize("readout", ["every step", "last step"])
def test_echo_asks_for_the_symbol_before(delay: int, encoding: str, readout: str) -> None:
    changes = {"delay": delay, "encoding": encoding, "readout": readout, "shortest": 0}
    task = msgspec.structs.replace(ECHO, **changes)
    for batch in (task.batch(3, 7, "float32"), task.evaluation_batch("float32")):
        symbols = batch.inputs if encoding == "index" else batch.inputs.argmax(-1)
        assert batch.inputs.dtype == (np.int64 if encoding == "index" else np.float32)
        assert batch.inputs.shape == (len(symbols), 6, *(() if encoding == "index" else (4,)))
        assert encoding == "index" or np.all(batch.inputs.sum(-1) == 1)
        assert batch.lengths is not None
        assert batch.lengths[0] == 6
        assert batch.initial is None
        expected = np.full(symbols.shape, IGNORED)
        for row, length in enumerate(batch.lengths):
            for step in range(delay, length):
                expected[row, step] = symbols[row, step - delay]
        if readout == "last step":
            assert batch.targets.tolist() == [
                row[length - 1] for row, length in zip(expected, batch.lengths, strict=True)
            ]
            assert batch.decoder_inputs is None
        else:
            assert batch.targets.tolist() == expected.tolist()
            assert batch.decoder_inputs is not None
            assert batch.decoder_inputs.tolist() == shift_right(expected, 4).tolist()
        # Padding holds symbols too, so that who reads it reads something.
        assert symbols[~valid_steps(batch.lengths, 6)].any()


def test_echo_has_sequences_of_every_length() -> None:
    lengths = np.stack([ECHO.batch(0, step, "float32").lengths for step in range(300)])  # type: ignore[misc]
    assert np.all(lengths[:, 0] == 6)
    counts = np.bincount(lengths[:, 1:].ravel(), minlength=7)
    assert counts.tolist()[:2] == [0, 0]
    assert np.abs(counts[2:] / 1200 - 0.2).max() < 0.05
    assert set(ECHO.evaluation_batch("float32").lengths) == {2, 3, 4, 5, 6}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shortest": 7}, "shortest: expected at most length = 6, got 7"),
        ({"delay": 6}, "delay: expected less than length = 6, got 6"),
    ],
)
def test_echo_asks_for_something(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        msgspec.structs.replace(ECHO, **changes)


def test_initial_states_are_drawn_for_each_batch() -> None:
    shapes = {"rnn.h_0": (2, 16, 8), "rnn.c_0": (2, 16, 8)}
    batches = {(seed, step): RAGGED.batch(seed, step, "float32") for seed in (0, 1) for step in (0, 1, 99, 100)}
    drawn = [batch.initial for batch in batches.values() if batch.initial is not None]
    assert len(drawn) == 8
    for states in drawn:
        assert {name: (state.shape, state.dtype.name) for name, state in states.items()} == {
            name: (shape, "float32") for name, shape in shapes.items()
        }
    assert len({state.tobytes() for states in drawn for state in states.values()}) == 16
    values = np.concatenate([state.ravel() for states in drawn for state in states.values()])
    assert values.mean() == pytest.approx(0, abs=0.05)
    assert values.std() == pytest.approx(0.5, abs=0.05)
    again = RAGGED.batch(1, 99, "float32").initial
    assert again is not None
    assert again["rnn.h_0"].tobytes() == batches[1, 99].initial["rnn.h_0"].tobytes()  # type: ignore[index]
    judged = [RAGGED.evaluation_batch("float64").initial for _ in range(2)]
    assert judged[0] is not None
    assert judged[1] is not None
    assert judged[0]["rnn.c_0"].tobytes() == judged[1]["rnn.c_0"].tobytes()
    assert judged[0]["rnn.c_0"].shape == (2, 32, 8)


def test_initial_states_of_many_steps_are_those_of_each() -> None:
    steps = range(205, 90, -5)
    together = RAGGED.batches(3, steps, "float64")
    stacked = stack_batches([RAGGED.batch(3, step, "float64") for step in steps])
    assert together.initial is not None
    assert stacked.initial is not None
    assert together.initial.keys() == stacked.initial.keys()
    for name, state in together.initial.items():
        np.testing.assert_array_equal(state, stacked.initial[name], strict=True)
    np.testing.assert_array_equal(together.lengths, stacked.lengths, strict=True)
    assert load("hello-gru").batches(0, range(2), "float64").initial is None


def test_a_batch_that_is_repeated_has_every_sequence_as_often() -> None:
    batch = RAGGED.batch(0, 0, "float64")
    twice = repeat(batch, 2)
    check(RAGGED.model, twice)
    for half in (slice(0, 16), slice(16, 32)):
        assert bytes_of(Batch(*(array[half] for array in twice[:4]))) == bytes_of(batch._replace(initial=None))  # type: ignore[misc]
        for name, state in (batch.initial or {}).items():
            np.testing.assert_array_equal(twice.initial[name][:, half], state)  # type: ignore[index]
    assert repeat(HELLO.batch(0, 0, "float32"), 3).initial is None


def test_noise_is_standard_normal() -> None:
    task = Noise(features=4, length=3, classes=2, batch_size=2000)
    batch = task.batch(0, 0, "float32")
    assert batch.inputs.dtype == np.float32
    assert batch.inputs.mean() == pytest.approx(0, abs=0.03)
    assert batch.inputs.std() == pytest.approx(1, abs=0.03)
    assert set(np.unique(batch.targets)) == {0, 1}


def test_shift_right_puts_the_start_first_and_hides_padding() -> None:
    targets = np.array([[3, 1, 2], [0, IGNORED, IGNORED]])
    assert shift_right(targets, 9).tolist() == [[9, 3, 1], [9, 0, 9]]


def test_random_batch_pads_and_ignores_the_padding() -> None:
    model = GRU(inputs=Features(4), classes=3, hidden_size=2)
    batch = random_batch(model, [2, 4], 0, "float32")
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [2, 4]
    assert batch.inputs.shape == (2, 4, 4)
    assert not batch.inputs[0, 2:].any()
    assert batch.inputs[0, :2].all()
    padding = np.array([[False, False, True, True], [False] * 4])
    assert np.all(batch.targets[padding] == IGNORED)
    assert {IGNORED, 0, 2} <= set(batch.targets[~padding])
    assert batch.decoder_inputs is None
    assert batch.initial is None
    assert random_batch(model, [3, 3], 0, "float32").lengths is None
    check(model, batch)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("lengths", "ignored"), [([1], 0), ([2], 0), ([1, 0], 0), ([3], 1), ([4, 0, 2], 1)])
def test_random_batch_has_the_ends_of_every_range(lengths: list[int], ignored: int, seed: int) -> None:
    model = GRU(inputs=Embedding(9, 10), classes=7, hidden_size=2)
    batch = random_batch(model, lengths, seed, "float64")
    valid = valid_steps(np.array(lengths), max(lengths))
    targets, indices = set(batch.targets[valid]), set(batch.inputs[valid])
    assert np.sum(batch.targets[valid] == IGNORED) == ignored
    assert {0, 6} <= targets or valid.sum() < 2
    assert {0, 8} <= indices or valid.sum() < 2
    assert 0 in targets & indices
    assert np.all(batch.targets[~valid] == IGNORED)
    check(model, batch)
    last = random_batch(msgspec.structs.replace(model, readout="last step"), [2, 0, 1, 2], seed, "float64").targets
    assert last.shape == (4,)
    assert {0, 6, IGNORED} <= set(last)


def test_random_batch_of_a_decoder() -> None:
    model = EncoderDecoder(inputs=Features(4), classes=5, cell="LSTM", hidden_size=2)
    batch = random_batch(model, [4, 0, 2], 0, "float32", target_length=6, initial=True)
    assert batch.inputs.shape == (3, 4, 4)
    assert batch.targets.shape == (3, 6)
    assert np.all(batch.targets[1] == IGNORED)
    assert np.sum(batch.targets[[0, 2]] == IGNORED) == 1
    assert batch.decoder_inputs is not None
    assert batch.decoder_inputs[0].tolist() == shift_right(batch.targets, 5)[0].tolist()
    assert batch.initial is not None
    assert {n: (s.shape, s.dtype.name) for n, s in batch.initial.items()} == {
        "encoder.h_0": ((1, 3, 2), "float32"),
        "encoder.c_0": ((1, 3, 2), "float32"),
    }
    check(model, batch)
    gru = GRU(inputs=Features(4), classes=5, hidden_size=2)
    with pytest.raises(ValueError, match="target_length: expected None for a model that does not decode, got 6"):
        random_batch(gru, [4, 2], 0, "float32", target_length=6)


def test_check_names_states_that_do_not_fit() -> None:
    model = GRU(inputs=Features(4), classes=3, hidden_size=2, bidirectional=True)
    batch = random_batch(model, [3, 1, 2], 0, "float64", initial=True)
    state = batch.initial["rnn.h_0"]  # type: ignore[index]
    assert state.std() == pytest.approx(0.5, abs=0.3)
    check(model, batch)
    for initial, message in (
        ({}, r"initial: expected \['rnn.h_0'\] or None, got \[\]"),
        ({"rnn.h_0": state, "rnn.c_0": state}, r"got \['rnn.c_0', 'rnn.h_0'\]"),
        ({"rnn.h_0": state.swapaxes(0, 1)}, r"rnn.h_0: expected floating \(2, 3, 2\), got float64 \(3, 2, 2\)"),
        ({"rnn.h_0": state.astype(int)}, r"rnn.h_0: expected floating \(2, 3, 2\), got int64"),
    ):
        with pytest.raises(InvalidBatch, match=message):
            check(model, batch._replace(initial=initial))


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([0, 0], r"lengths: expected 0 to 3, and not 0 everywhere, got \[0, 0\]"),
        ([4, 1], r"lengths: expected 0 to 3, and not 0 everywhere, got \[4, 1\]"),
        ([-1, 1], r"lengths: expected 0 to 3, and not 0 everywhere, got \[-1, 1\]"),
        ([3], r"lengths: expected integer \(2,\), got int64 \(1,\)"),
        ([3.0, 1.0], r"lengths: expected integer \(2,\), got float64 \(2,\)"),
        ([3, 2], r"inputs: expected indices in \[0, 4\), got 99"),
    ],
)
def test_check_names_what_the_model_cannot_take(lengths: list, message: str) -> None:
    model = GRU(inputs=Embedding(4, 10), classes=3, hidden_size=2)
    batch = Batch(np.array([[0, 1, 2], [3, 99, 99]]), np.zeros((2, 3), np.int64), np.array([3, 1]))
    check(model, batch)
    check(model, batch._replace(lengths=np.array([0, 1])))
    with pytest.raises(InvalidBatch, match=message):
        check(model, batch._replace(lengths=np.array(lengths)))


def test_ties_go_to_the_lowest_index() -> None:
    assert predictions(np.array([[[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]]])).tolist() == [[1, 0]]


def test_solved_asks_for_every_step_but_the_ignored() -> None:
    batch = Batch(np.zeros((1, 3, 4)), np.array([[3, 1, IGNORED]]))
    logits = np.eye(4)[[[3, 1, 0]]]
    assert solved(logits, batch)
    assert not solved(np.eye(4)[[[3, 2, 0]]], batch)


@pytest.mark.parametrize("name", shipped())
def test_shipped_tasks_give_what_their_models_take(name: str) -> None:
    experiment = load(name)
    for batch in (experiment.batch(0, 0, "float32"), experiment.evaluation_batch("float32")):
        check(experiment.model, batch)
        assert batch.inputs.shape[1] == experiment.task.length
        assert batch.targets.dtype == (np.float32 if experiment.task.numeric else np.int64)
        known = batch.targets[asked(batch.targets)]
        assert experiment.task.numeric or 0 <= known.min() <= known.max() < experiment.model.classes
        assert (batch.lengths is not None) == experiment.task.ragged == (known.size < batch.targets.size)
        assert (batch.initial is not None) == (experiment.task.initial_deviation > 0)


@pytest.mark.parametrize(
    "name", ["hello-gru", "hello-encoder-decoder", "last-step-classifier", "course-rnn-walk", "ragged-lstm"]
)
def test_multiplications_are_counted_from_the_training_batch(name: str) -> None:
    experiment = override(load(name), task__batch_size=3)
    sequences, time = experiment.batch(0, 0, "float32").inputs.shape[:2]
    assert sequences == 3
    assert experiment.multiplications_per_step == sequences * time * experiment.model.parameter_count


@pytest.mark.parametrize("name", ["hello-rnn", "last-step-classifier", "course-rnn-walk", "ragged-lstm"])
def test_a_task_says_whether_its_batches_are_drawn(name: str) -> None:
    task = load(name).task
    batches = [task.batch(seed, step, "float64") for seed, step in ((0, 0), (1, 0), (0, 1))]
    for other in batches[1:]:
        same = all(np.array_equal(a, b) for a, b in zip(batches[0], other, strict=True) if a is not None)
        assert same != task.drawn


@pytest.mark.parametrize("task", [HELLO, FIRST, NOISE, ECHO], ids=["hello", "first symbol", "noise", "echo"])
def test_batches_of_many_steps_are_those_of_each(task: AnyTask) -> None:
    # Over the ends of what is drawn together, and backwards.
    steps = range(205, 90, -5)
    together = task.batches(3, steps, "float32")
    for index, step in enumerate(steps):
        alone = task.batch(3, step, "float32")
        for one, many in zip(alone, together, strict=True):
            assert (one is None) == (many is None)
            if one is not None:
                np.testing.assert_array_equal(one, many[index], strict=True)


def test_only_a_task_on_somebody_s_data_names_them() -> None:
    named = {name for name in shipped() if load(name).task.data_source}
    assert named == {name for name in shipped() if hasattr(load(name).task, "path")}
    assert "hello-gru" not in named
