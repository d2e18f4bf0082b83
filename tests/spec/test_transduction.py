"""Tasks whose targets have lengths of their own: what a decoder is told, what it has to say, and what is right."""

from typing import Any

import numpy as np
import pytest

from spec.ensemble import learned_members
from spec.errors import SpecError
from spec.experiment import Experiment, convert
from spec.tasks import IGNORED, Reverse, Words
from spec.training import ExactMatch

REVERSE = Reverse(vocabulary=4, length=5, shortest=1, encoding="index", batch_size=8)
WORDS = Words(characters="abcd", sources="abc d", targets="dcba a", encoding="index", batch_size=6)
END, START = 4, 5


def experiment(task: dict[str, Any], model: str = "EncoderDecoder", **outcome: Any) -> Experiment:
    raw: dict[str, Any] = {
        "name": "made",
        "description": "made",
        "model": {
            "name": model,
            "cell": "GRU",
            "classes": 5,
            "hidden_size": 4,
            "inputs": {"name": "Features", "size": 4},
        },
        "task": task,
        "training": {
            "epochs": 1,
            "loss": {"name": "CrossEntropy", "reduction": "mean"},
            "optimizer": {"name": "Adam", "learning_rate": 0.01},
        },
        "outcome": outcome or {"name": "NotStated"},
    }
    raw["model"]["inputs"] = {"name": "Features", "size": 4}
    if model != "EncoderDecoder":
        del raw["model"]["cell"]
    return convert(raw, "made")


TOLD = {"name": "Reverse", "vocabulary": 4, "length": 5, "shortest": 1, "encoding": "one-hot", "batch_size": 8}


def test_reversed_and_ended() -> None:
    batch = REVERSE.batch(0, 7, "float32")
    assert batch.lengths is not None
    assert batch.decoder_inputs is not None
    assert batch.lengths[0] == 5
    assert batch.targets.shape == (8, 6)
    for source, target, told, length in zip(
        batch.inputs.tolist(), batch.targets.tolist(), batch.decoder_inputs.tolist(), batch.lengths, strict=True
    ):
        said = [*source[:length][::-1], END]
        assert target == said + [IGNORED] * (5 - length)
        assert told[: length + 1] == [START, *said[:-1]]
        assert set(told[length + 2 :]) <= {START}


def test_words_of_other_lengths() -> None:
    batch = WORDS.evaluation_batch("float32")
    assert batch.inputs.tolist() == [[0, 1, 2], [3, 0, 0]]
    assert batch.targets.tolist() == [[3, 2, 1, 0, END], [0, END, IGNORED, IGNORED, IGNORED]]
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [3, 1]
    assert batch.decoder_inputs is not None
    assert batch.decoder_inputs.tolist() == [[START, 3, 2, 1, 0], [START, 0, END, START, START]]
    drawn = WORDS.batches(1, range(50), "float32")
    assert {tuple(row) for row in drawn.inputs.reshape(-1, 3).tolist()} == {(0, 1, 2), (3, 0, 0)}


def test_words_say_what_was_said() -> None:
    batch = WORDS.evaluation_batch("float32")
    said = np.array([[3, 2, 1, 0, END], [0, 1, END, 2, 2]])
    assert WORDS.describe(said, batch) == "Exact match: 0.5000, predicted words: dcba ab"


def test_exact_match_is_of_whole_sequences() -> None:
    made = experiment(TOLD, name="ExactMatch", solved_rate_at_least=0.9, of_sequences=0.99)
    assert isinstance(made.outcome, ExactMatch)
    batch = made.evaluation_batch("float64")
    right = (np.where(batch.targets == IGNORED, 0, batch.targets)[..., None] == np.arange(5)).astype(np.float64)
    wrong = {count: right.copy() for count in (2, 3)}
    for count, logits in wrong.items():
        # The last sequences' first symbol.
        logits[-count:, 0] = np.roll(logits[-count:, 0], 1, axis=-1)
    # 254 of 256 are 99.2 %, 253 are 98.8 %.
    assert learned_members(made, np.stack([right, wrong[2], wrong[3]]), batch).tolist() == [True, True, False]


def test_only_a_model_that_decodes() -> None:
    with pytest.raises(SpecError, match=r"model\.name: expected one that decodes for Reverse, .*, got GRU"):
        experiment(TOLD, "GRU")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"targets": "a"}, r"targets: expected as many words as there are sources \(2\), got 1"),
        ({"sources": "ab  c"}, r"sources: expected words with one space between two of them, got 'ab  c'"),
        ({"sources": "abx d"}, r"sources: expected characters out of 'abcd', got 'x'"),
        ({"characters": "abca"}, r"characters: expected each one once, and no space, got 'abca'"),
    ],
)
def test_words_that_cannot_be(change: dict[str, str], match: str) -> None:
    task = {"name": "Words", "characters": "abcd", "sources": "abc d", "targets": "dcba a"}
    with pytest.raises(SpecError, match=match):
        experiment({**task, "encoding": "one-hot", "batch_size": 2, **change})
