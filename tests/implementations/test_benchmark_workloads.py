"""Every contender of a workload computes the same numbers, so that what is compared is the same work.

Tolerance: as in test_formulations, 4 times the square root of about time * (features + hidden + 10) roundings.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest

import flax_impl.benchmark
import flax_impl.stock
import torch_impl.benchmark
from spec.benchmark import WORKLOADS, AnyWorkload, Layer, ManyTrainings, Product, TrainingStep, WholeTraining
from spec.errors import Unsupported
from spec.framework import Settings
from spec.models import Embedding
from spec.models.transformer import TransformerEncoder
from spec.training import SGD

SIDES: tuple[Any, ...] = (torch_impl.benchmark, flax_impl.benchmark)

Results = dict[str, list[dict[str, np.ndarray]]]

TIME, BATCH, FEATURES, HIDDEN, CLASSES = 6, 3, 4, 8, 5


def layer(cell: Any, gradients: bool = True) -> Layer:
    sizes = {"time": TIME, "batch": BATCH, "features": FEATURES, "hidden": HIDDEN}
    return Layer(name="layer", cell=cell, gradients=gradients, recomputed=True, precision="float64", **sizes)


def text(name: str) -> TrainingStep:
    """The default workload of that name, small. SGD, under which a gradient shows in full in the parameters."""
    workload: Any = next(workload for workload in WORKLOADS if workload.name == name)
    model = msgspec.structs.replace(
        workload.model,
        inputs=Embedding(num_embeddings=CLASSES, embedding_dim=FEATURES),
        classes=CLASSES,
        hidden_size=HIDDEN,
        **({"feed_forward_size": HIDDEN} if isinstance(workload.model, TransformerEncoder) else {}),
    )
    return msgspec.structs.replace(workload, model=model, time=TIME, batch=BATCH, optimizer=SGD(learning_rate=0.5))


def computed(workload: AnyWorkload, repetitions: int = 1) -> Results:
    """What each contender makes of the workload, repetition by repetition."""
    settings = Settings(precision=workload.precision)
    found = {}
    for side in SIDES:
        for contender in side.contenders(workload):
            prepared = side.prepare(contender, workload, settings)
            found[contender] = [prepared.result() for _ in range(repetitions)]
    return found


def differences(workload: AnyWorkload, found: Results) -> list[str]:
    """Where a contender departs from the first one."""
    tolerance = 4 * np.sqrt(TIME * (FEATURES + HIDDEN + 10)) * np.finfo(workload.precision).eps
    names = list(found)
    departed = []
    for name in names[1:]:
        for number, (own, first) in enumerate(zip(found[name], found[names[0]], strict=True)):
            for key in own:
                expected = first[key]
                scale = max(1.0, float(np.abs(expected).max()))
                if own[key].shape != expected.shape or np.abs(own[key] - expected).max() > tolerance * scale:
                    departed.append(f"{name} {number} {key}")
    return departed


@pytest.mark.by_default("LSTM")
@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_layers(cell: str):
    workload = layer(cell)
    found = computed(workload)
    assert list(found) == ["torch_impl", "flax_impl", "flax_impl, recomputed", "flax.nnx"]
    needed = {"outputs", "inputs", "rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0"}
    assert all(needed <= results[0].keys() for results in found.values())
    assert differences(workload, found) == []


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_forward_alone(cell: str):
    found = computed(layer(cell, gradients=False))
    assert all(results[0].keys() == {"outputs"} for results in found.values())
    assert differences(layer(cell, gradients=False), found) == []


def swap(cell: str, name: str, parameters: Any, settings: Settings) -> Any:
    """Gates in another order, as a port may have them."""
    return make(cell, name, {key: np.roll(value, HIDDEN, axis=0) for key, value in parameters.items()}, settings)


def one_bias(cell: str, name: str, parameters: Any, settings: Settings) -> Any:
    """A bias that is left out."""
    return make(cell, name, parameters | {f"{name}.bias_hh_l0": 0 * parameters[f"{name}.bias_hh_l0"]}, settings)


make = flax_impl.stock.stock_cell


@pytest.mark.parametrize("planted", [swap, one_bias])
def test_a_contender_that_does_other_work_is_seen(planted: Callable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flax_impl.benchmark, "stock_cell", planted)
    workload = layer("LSTM")
    assert "flax.nnx 0 outputs" in differences(workload, computed(workload))


@pytest.mark.by_default("text-gru")
@pytest.mark.parametrize("name", ["text-lstm", "text-gru", "text-transformer"])
def test_training_steps(name: str):
    workload = text(name)
    found = computed(workload)
    assert list(found) == ["torch_impl", "flax_impl", "flax.nnx"]
    assert all({"loss", "embedding.weight", "head.weight"} <= results[0].keys() for results in found.values())
    assert differences(workload, found) == []
    before = workload.parameters()["embedding.weight"]
    assert np.abs(found["torch_impl"][0]["embedding.weight"] - before).max() > 1e-3, "nothing was trained"


@pytest.mark.long
def test_steps_go_on_from_the_last_one():
    # Stock recurrent cells have one bias where torch has two, and so train differently from the second step on.
    workload = text("text-transformer")
    found = computed(workload, repetitions=2)
    assert found["torch_impl"][1]["loss"] != found["torch_impl"][0]["loss"]
    assert differences(workload, found) == []


def test_a_step_that_does_not_train_is_seen(monkeypatch: pytest.MonkeyPatch):
    workload = text("text-gru")
    wrong = msgspec.structs.replace(workload, optimizer=SGD(learning_rate=0.25))
    found = computed(workload) | {"flax.nnx": computed(wrong)["flax.nnx"]}
    assert differences(workload, found) == ["flax.nnx 0 embedding.weight", "flax.nnx 0 head.weight"]


def test_products():
    workload = Product(name="product", size=HIDDEN, precision="float64")
    found = computed(workload)
    assert list(found) == ["torch_impl", "flax_impl"]
    assert differences(workload, found) == []


@pytest.mark.long
def test_whole_trainings():
    workload = WholeTraining(name="hello-gru", experiment="hello-gru")
    found = {name: results[0] for name, results in computed(workload).items()}
    assert list(found) == ["torch_impl", "flax_impl", "flax_impl, --compile", "flax_impl, --compile, compiled part"]
    assert all(result["losses"].shape == (60,) for result in found.values())
    thorough, part = found["flax_impl, --compile"], found["flax_impl, --compile, compiled part"]
    np.testing.assert_array_equal(thorough["losses"], part["losses"])
    # The same start: the first losses are one forward pass, whatever becomes of the rounding later on.
    assert abs(found["torch_impl"]["losses"][0] - found["flax_impl"]["losses"][0]) < 1e-6


@pytest.mark.long
def test_many_trainings():
    workload = ManyTrainings(name="ensemble", experiment="hello-rnn", members=5)
    found = {name: results[0] for name, results in computed(workload).items()}
    assert list(found) == ["torch_impl", "torch_impl, one by one", "flax_impl", "flax_impl, --compile"]
    assert found["torch_impl"]["losses"].shape == found["flax_impl"]["losses"].shape == (5, 60)
    # A few of the members, alone: the same seeds, hence the same first loss.
    alone = found["torch_impl, one by one"]["losses"]
    assert alone.shape == (torch_impl.benchmark.LOOPED, 60)
    np.testing.assert_allclose(alone[:, 0], found["torch_impl"]["losses"][: len(alone), 0], rtol=1e-6)
    prepared = torch_impl.benchmark.prepare("torch_impl, one by one", workload, Settings())
    assert prepared.share == len(alone) / 5


@pytest.mark.parametrize("side", SIDES, ids=["torch_impl", "flax_impl"])
def test_an_unknown_contender(side: ModuleType):
    with pytest.raises(Unsupported, match="no contender 'keras' for layer"):
        side.prepare("keras", layer("GRU"), Settings())


def test_memory_is_planned_by_the_compiler():
    prepared = flax_impl.benchmark.prepare("flax_impl", layer("GRU"), Settings(precision="float64"))
    assert prepared.planned() is None, "nothing is compiled yet"
    prepared.run(1)
    planned = prepared.planned()
    assert planned is not None
    # Outputs, and gradients of the inputs and of every parameter, in float64.
    parameters = 3 * HIDDEN * (FEATURES + HIDDEN + 2)
    assert planned.results >= 8 * (BATCH * TIME * (HIDDEN + FEATURES) + parameters)
