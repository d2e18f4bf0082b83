"""Writing on from a prompt: the equations' symbols, whatever the lengths, for one compilation."""

from types import ModuleType

import jax
import msgspec
import numpy as np
import pytest

import flax_impl
import flax_impl.generation
import torch_impl
from spec import reference
from spec.errors import InvalidBatch
from spec.experiment import Experiment, load, override
from spec.framework import Generation, Settings
from spec.models import Embedding
from spec.points import SHARPER

pytestmark = pytest.mark.needs("torch", "flax")

WIDE = Settings(precision="float64")

SIDES = (torch_impl, flax_impl)

WRITING = ("hello-rnn-cell", "hello-stacked-rnn", "hello-gru", "hello-lstm", "hello-embedding-max-norm")


def written(side: ModuleType, experiment: Experiment, steps: int, count: int, temperature: float, seed: int = 5):
    parameters = {name: SHARPER * value for name, value in experiment.start(1, "float64").items()}
    prompt = np.arange(3 * steps).reshape(3, steps) * 7 % experiment.model.inputs.symbols
    found: Generation = side.open(experiment, WIDE).generate(
        parameters, prompt, count, temperature=temperature, seed=seed
    )
    return found


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.__name__)
@pytest.mark.parametrize("name", WRITING)
def test_symbols_are_those_of_the_equations(side: ModuleType, name: str) -> None:
    experiment = load(name)
    for steps, count, temperature in ((1, 6, 0.0), (4, 6, SHARPER)):
        expected = written(reference, experiment, steps, count, temperature)
        found = written(side, experiment, steps, count, temperature)
        # Sharp scores may have one favourite; of those that are drawn there are several.
        assert not temperature or len(np.unique(expected.symbols)) > 1
        np.testing.assert_array_equal(found.symbols, expected.symbols)
        np.testing.assert_allclose(found.logits, expected.logits, rtol=0, atol=1e-12)
        assert (found.symbols.dtype, found.logits.dtype) == (np.int64, np.float64)


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.__name__)
def test_more_symbols_begin_with_fewer_and_another_seed_gives_others(side: ModuleType) -> None:
    experiment = load("hello-gru")
    few, many, others = (
        written(side, experiment, 2, count, SHARPER, seed) for count, seed in ((5, 5), (20, 5), (20, 6))
    )
    np.testing.assert_array_equal(many.symbols[:, :5], few.symbols)
    assert (many.symbols != others.symbols).any()


def test_a_text_longer_than_a_call_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = load("hello-lstm")
    once = written(flax_impl, experiment, 6, 20, SHARPER)
    monkeypatch.setattr(flax_impl.generation, "BLOCK", 4)
    in_parts = written(flax_impl, experiment, 6, 20, SHARPER)
    np.testing.assert_array_equal(in_parts.symbols, once.symbols)
    np.testing.assert_array_equal(in_parts.logits, once.logits)


def test_all_lengths_are_compiled_once() -> None:
    experiment = override(load("hello-gru"), model__hidden_size=7)
    seen: list[str] = []

    def listen(event: str, _: float, **__: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(event)

    written(flax_impl, experiment, 1, 1, 0.0)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for steps, count in ((1, 7), (9, 1), (30, 1100)):
            written(flax_impl, experiment, steps, count, 0.0)
        assert seen == []
        # What it counts is seen.
        written(flax_impl, experiment, 1, 1, 1.0)
        assert len(seen) == 1
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("side", [*SIDES, reference], ids=lambda side: side.__name__)
@pytest.mark.parametrize(
    ("name", "prompt", "count", "temperature", "said"),
    [
        ("hello-bidirectional-gru", [[0]], 1, 0.0, "a model that reads what it writes, got one that looks at later"),
        ("last-step-classifier", [[0]], 1, 0.0, "reads out one alone"),
        ("hello-gru", [[4]], 1, 0.0, "prompt: expected indices in [0, 4), got 4"),
        ("hello-gru", [[-1]], 1, 0.0, "got -1"),
        ("hello-gru", [[]], 1, 0.0, "prompt: expected integer (batch, time) of a step or more, got float64 (1, 0)"),
        ("hello-gru", [0], 1, 0.0, "got int64 (1,)"),
        ("hello-gru", [[0.0]], 1, 0.0, "got float64"),
        ("hello-gru", [[0]], 0, 0.0, "count: expected 1 to 1000000 symbols after a prompt of 1, got 0"),
        ("hello-gru", [[0]], 10**6 + 1, 0.0, "got 1000001"),
        ("hello-gru", [[0]], 1, -1.0, "temperature: expected 0, or 1e-30 or more, got -1.0"),
        ("hello-gru", [[0]], 1, float("nan"), "got nan"),
        ("hello-gru", [[0]], 1, float("inf"), "got inf"),
    ],
)
def test_what_cannot_be_written_on_from(
    side: ModuleType, name: str, prompt: list, count: int, temperature: float, said: str
) -> None:
    experiment = load(name)
    parameters = experiment.start(0, "float64")
    with pytest.raises(InvalidBatch) as error:
        side.open(experiment, WIDE).generate(parameters, np.array(prompt), count, temperature=temperature)
    assert said in str(error.value)


def test_fewer_symbols_than_classes_cannot_be_read() -> None:
    model = msgspec.structs.replace(load("hello-embedding-rnn").model, inputs=Embedding(3, 4))
    assert model.writes_nothing == "reads 3 symbols and writes 4"
