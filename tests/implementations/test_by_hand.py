"""Model classes made by hand, as one does who imports them: they start by the spec's laws and take plain arrays."""

import copy
import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spec.errors import InvalidBatch
from spec.experiment import load, shipped
from spec.models import MODELS, Model
from spec.parameters import Constant, Normal, Parameter, Parameters, Uniform, check
from spec.tasks import random_batch

SIDES = ["torch_impl", "flax_impl"]
SEEDS = 200
CHANCE = 1e-9
"""With which a tensor that follows its law is taken for one that does not."""

KINDS: dict[str, Model] = {type(load(name).model).__name__: load(name).model for name in reversed(shipped())}
"""A model of each class."""

VARIANTS = KINDS | {
    name: load(name).model
    for name in ("hello-embedding-padding", "hello-bidirectional-lstm", "hello-stacked-rnn", "hello-transformer")
}


def make(side: str, spec: Model, seed: int = 0) -> Any:
    """The class that `build` would take, called as anybody calls it."""
    model_class = getattr(
        importlib.import_module(f"{side}.{type(spec).__module__.rpartition('.')[2]}"), type(spec).__name__
    )
    if side == "torch_impl":
        import torch

        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            return model_class(spec)
    import jax
    from flax import nnx

    return model_class(spec, rngs=nnx.Rngs(jax.random.key(seed)))


def values(side: str, spec: Model, change: Callable[[Any], None] = lambda model: None) -> Parameters:
    """What SEEDS models start from, canonical name -> (seeds, *shape)."""
    if side == "torch_impl":
        from torch_impl.parameters import export

        models = [make(side, spec, seed) for seed in range(SEEDS)]
        for model in models:
            change(model)
        exported = [export(model) for model in models]
        return {name: np.stack([each[name] for each in exported]) for name in exported[0]}
    import jax
    from flax import nnx

    from flax_impl.parameters import layout, to_canonical

    # Random numbers are the same however well they are compiled, and that takes four times as long.
    drawn = jax.jit(
        jax.vmap(lambda seed: nnx.state(make(side, spec, seed), nnx.Param)),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    states = drawn(np.arange(SEEDS))
    return to_canonical(layout(make(side, spec)), states)


def departure(parameter: Parameter, drawn: np.ndarray) -> str | None:
    """In what values (seeds, *shape) are not of that law; by the Dvoretzky-Kiefer-Wolfowitz inequality."""
    law = parameter.law
    if isinstance(law, Constant):
        return None if (drawn == law.value).all() else f"not all {law.value}"
    if isinstance(law, Normal) and law.zero_row is not None:
        if drawn[:, law.zero_row].any():
            return "the row of padding is not zero"
        drawn = np.delete(drawn, law.zero_row, axis=1)
    ordered = np.sort(drawn.reshape(-1).astype(np.float64))
    if isinstance(law, Uniform):
        share = np.clip((ordered / law.bound + 1) / 2, 0, 1)
    else:
        share = np.array([(1 + math.erf(value / law.standard_deviation / math.sqrt(2))) / 2 for value in ordered])
    steps = np.arange(ordered.size + 1) / ordered.size
    distance = max(np.abs(share - steps[1:]).max(), np.abs(share - steps[:-1]).max())
    allowed = math.sqrt(math.log(2 / CHANCE) / (2 * ordered.size))
    return None if distance < allowed else f"off its law by {distance:.3f}, where chance gives {allowed:.3f}"


def departures(spec: Model, drawn: Parameters) -> list[str]:
    """Tensors that are not of their law, and pairs that start as copies of each other."""
    check(spec.parameters(), {name: array[0] for name, array in drawn.items()})
    found = [f"{p.name}: {why}" for p in spec.parameters() if (why := departure(p, drawn[p.name])) is not None]
    random = [p for p in spec.parameters() if not isinstance(p.law, Constant)]
    return found + [
        f"{one.name}: a copy of {other.name}"
        for index, one in enumerate(random)
        for other in random[:index]
        if one.shape == other.shape and (drawn[one.name] == drawn[other.name]).any()
    ]


def test_there_is_one_of_every_kind() -> None:
    assert KINDS.keys() == MODELS.keys()


@pytest.mark.by_default("LSTM-*", "hello-transformer-flax_impl", "hello-embedding-padding-*")
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", VARIANTS)
def test_every_tensor_starts_by_its_law(name: str, side: str) -> None:
    spec = VARIANTS[name]
    assert departures(spec, values(side, spec)) == []


@pytest.mark.by_default("SelfAttention")
@pytest.mark.needs("flax")
@pytest.mark.parametrize("name", ["GRU", "TransformerEncoder", "SelfAttention"])
def test_the_defaults_of_flax_are_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from flax import nnx

    import flax_impl.linear

    defaults = iter([nnx.initializers.lecun_normal(), nnx.initializers.zeros_init()] * 1000)
    monkeypatch.setattr(flax_impl.linear, "initializer", lambda law: next(defaults))
    found = departures(KINDS[name], values("flax_impl", KINDS[name]))
    assert {"head.weight", "head.bias"} <= {line.partition(":")[0] for line in found}


@pytest.mark.needs("torch")
def test_layers_that_are_copies_are_seen() -> None:
    def copied(model: Any) -> None:
        model.encoder.layers[1] = copy.deepcopy(model.encoder.layers[0])

    spec = load("hello-transformer").model
    copies = departures(spec, values("torch_impl", spec, copied))
    assert "encoder.layers.1.linear1.weight: a copy of encoder.layers.0.linear1.weight" in copies


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_a_bound_that_is_off_by_a_tenth_is_seen(factor: float) -> None:
    parameter = Parameter("weight", (10, 10), Uniform(0.5))
    drawn = np.random.default_rng(0).uniform(-0.5, 0.5, (SEEDS, 10, 10))
    assert departure(parameter, drawn) is None
    assert departure(parameter, factor * drawn)


def native(side: str, array: Any) -> Any:
    """An array as that side's users have it."""
    if array is None:
        return None
    if side == "flax_impl":
        import jax

        return jax.tree.map(jax.numpy.asarray, array)
    from torch_impl.arrays import to_tensor

    return {name: to_tensor(a) for name, a in array.items()} if isinstance(array, dict) else to_tensor(array)


@pytest.mark.by_default("LSTM-*", "hello-transformer-flax_impl", "hello-embedding-padding-*")
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", VARIANTS)
def test_plain_arrays_give_what_a_record_gives(name: str, side: str) -> None:
    spec = VARIANTS[name]
    model = make(side, spec)
    model.eval()
    record = importlib.import_module(f"{side}.model")
    make_record = record.TensorBatch if side == "torch_impl" else record.ArrayBatch
    batch = random_batch(spec, [4, 0, 2], 0, "float32", initial=True)
    inputs, targets, lengths, decoder_inputs, initial, resets = (native(side, array) for array in batch)
    expected = np.array(model(make_record(inputs, targets, lengths, decoder_inputs, initial, resets)).tolist())
    found = model(inputs, lengths, decoder_inputs=decoder_inputs, initial=initial, resets=resets)
    np.testing.assert_array_equal(found.tolist(), expected)
    assert expected.any()
    whole = np.array(model(inputs, decoder_inputs=decoder_inputs).tolist())
    assert whole.shape == expected.shape
    assert (whole != expected).any()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "one sequence": ({"inputs": (3, 4)}, r"inputs: expected floating \(batch, time, 4\), got floating \(3, 4\)"),
    "features": ({"inputs": (2, 3, 5)}, r"inputs: expected floating \(batch, time, 4\), got floating \(2, 3, 5\)"),
    "lengths": ({"lengths": (3,)}, r"lengths: expected \(2,\), got \(3,\)"),
    "state's name": ({"initial": {"h": (1, 2, 6)}}, r"initial: expected \{'rnn.h_0': \(1, 2, 6\)\}, got \{'h'"),
    "state's shape": ({"initial": {"rnn.h_0": (2, 6)}}, r"initial: expected .*, got \{'rnn.h_0': \(2, 6\)\}"),
    "not a decoder": ({"decoder_inputs": (2, 3)}, r"decoder_inputs: expected None for a model that does not decode"),
}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", WRONG)
def test_shapes_that_do_not_fit_are_said(case: str, side: str) -> None:
    spec = MODELS["GRU"](inputs=load("hello-gru").model.inputs, classes=5, hidden_size=6)  # type: ignore[call-arg]
    shapes, message = WRONG[case]
    width = spec.inputs.size
    given: dict[str, Any] = {"inputs": (2, 3, width)} | shapes
    arrays = {
        name: {n: np.zeros(s, np.float32) for n, s in shape.items()}
        if isinstance(shape, dict)
        else np.zeros(shape, np.int64 if name in ("lengths", "decoder_inputs") else np.float32)
        for name, shape in given.items()
    }
    arrays = {name: native(side, array) for name, array in arrays.items()}
    with pytest.raises(InvalidBatch, match=message.replace("4", str(width)) if "inputs" in shapes else message):
        make(side, spec)(arrays.pop("inputs"), **arrays)


@pytest.mark.parametrize("side", SIDES)
def test_indices_are_whole_numbers_and_a_decoder_wants_its_inputs(side: str) -> None:
    embedding, decoder = load("hello-embedding-padding").model, KINDS["EncoderDecoder"]
    with pytest.raises(InvalidBatch, match=r"inputs: expected integer \(batch, time\), got floating \(2, 3\)"):
        make(side, embedding)(native(side, np.zeros((2, 3), np.float32)))
    with pytest.raises(InvalidBatch, match=r"decoder_inputs: expected \(2, target time\), got None"):
        make(side, decoder)(native(side, random_batch(decoder, [3, 3], 0, "float32").inputs))


@pytest.mark.needs("torch", "flax")
def test_the_example_of_the_docs_runs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
    example = text.partition("## The models in your own code")[2].partition("```python\n")[2].partition("```")[0]
    found: dict[str, Any] = {}
    exec(compile(example, "architecture.md", "exec"), found)
    assert tuple(found["logits"].shape) == (2, 5, 3)
