"""Real dropout bugs, planted in torch_impl and flax_impl one at a time: the dropout check must name each.

Patches of the modules in this process, since a process with JAX for each of them would take minutes.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import pytest
import torch

import flax_impl
import flax_impl.contract
import flax_impl.dropout
import flax_impl.recurrent
import flax_impl.training
import torch_impl
import torch_impl.contract
import torch_impl.dropout
import torch_impl.recurrent
import torch_impl.training
import torch_impl.transformer
from crosscheck.checks import dropout as check
from crosscheck.comparison import Place
from crosscheck.request import Request
from spec.experiment import Experiment, load, override

LSTM, TRANSFORMER = "hello-stacked-lstm-dropout", "hello-transformer-dropout"
LAYER = "encoder.layers.0"
Patch = pytest.MonkeyPatch


def failures(framework: Any, experiment: Experiment, case: str) -> list[str]:
    arrays = check.record(framework, experiment, case, Request("float32", "cpu", 0))
    place = Place(experiment.name, check.NAME, "float32", case, ("one", "two"))
    return [c.tensor for c in check.compare(experiment, place, arrays, {}) if c.sides[0] != "two" and not c.passed]


class Fault(NamedTuple):
    """plant: the patch. tensor: a failure, at the site of the first."""

    name: str
    framework: Any
    experiment: str
    case: str
    plant: Callable[[Patch], None]
    tensor: str
    changes: dict[str, Any] = {}  # noqa: RUF012


def torch_output_dropped(always: bool) -> Callable[[Patch], None]:
    """Dropout after the last layer; in eval mode too, as a function that is not told the mode."""
    recur = torch_impl.recurrent.Recurrent.recur

    def dropped(self: Any, *arguments: Any) -> Any:
        outputs, final = recur(self, *arguments)
        return torch.nn.functional.dropout(outputs, 0.2, self.training or always), final

    return lambda patch: patch.setattr(torch_impl.recurrent.Recurrent, "recur", dropped)


def torch_layers_edited(edit: Callable[[Any], None]) -> Callable[[Patch], None]:
    construct = torch_impl.transformer.TransformerEncoder.__init__

    def constructed(self: Any, spec: Any) -> None:
        construct(self, spec)
        for layer in self.encoder.layers:
            edit(layer)

    return lambda patch: patch.setattr(torch_impl.transformer.TransformerEncoder, "__init__", constructed)


def without_inner(layer: Any) -> None:
    layer.dropout.p = 0.0


def without_attention(layer: Any) -> None:
    layer.self_attn.dropout = 0.0


def one_for_both(layer: Any) -> None:
    """dropout2 uses dropout1's mask."""
    kept = {}
    layer.dropout1.register_forward_hook(lambda _, inputs, output: kept.update(mask=(output / inputs[0]).nan_to_num()))
    layer.dropout2.register_forward_hook(lambda _, inputs, __: inputs[0] * kept["mask"])


def torch_reseeded(patch: Patch) -> None:
    patch.setattr(torch_impl.training, "dropout_of", lambda experiment, batch, seed, step, masks: seed)


def torch_eval_left_on(patch: Patch) -> None:
    """What `evaluate` switches off stays off."""
    mode, seen = torch_impl.dropout.mode, []

    def remembered(model: Any, dropout: Any) -> Any:
        if dropout is None:
            seen.append(model)
        return mode(model, None if seen else dropout)

    patch.setattr(torch_impl.training, "mode", remembered)


def torch_trains_in_eval_mode(patch: Patch) -> None:
    mode = torch_impl.dropout.mode
    patch.setattr(torch_impl.training, "mode", lambda model, dropout: mode(model, None))


def torch_evaluates_in_dropout(patch: Patch) -> None:
    mode = torch_impl.dropout.mode
    patch.setattr(torch_impl.training, "mode", lambda model, dropout: mode(model, 0 if dropout is None else dropout))


def flax_mode(module: Any, change: Callable[[Any], Any]) -> Callable[[Patch], None]:
    """Another key than the given one."""
    set_mode = flax_impl.dropout.set_mode
    return lambda patch: patch.setattr(module, "set_mode", lambda model, dropout: set_mode(model, change(dropout)))


def flax_call(change: Callable[[Any, Any], Any]) -> Callable[[Patch], None]:
    """Something else where a site drops."""

    def call(self: Any, inputs: Any, **_: Any) -> Any:
        return inputs if self.deterministic else change(self, inputs)

    return lambda patch: patch.setattr(flax_impl.dropout.Dropout, "__call__", call)


def flax_mask(
    shape: Callable[[Any], tuple[int, ...]], rate: float = 1.0, scaled: bool = True
) -> Callable[[Any, Any], Any]:
    def change(site: Any, inputs: Any) -> Any:
        if not site.rate:
            return inputs
        keep = 1 - site.rate * rate
        mask = jax.random.bernoulli(site.rngs(), keep, shape(inputs.shape))
        return inputs * mask / (keep if scaled else 1)

    return change


def flax_output_dropped(patch: Patch) -> None:
    call = flax_impl.recurrent.Layers.__call__

    def dropped(self: Any, *arguments: Any) -> Any:
        outputs, final, trace = call(self, *arguments)
        return self.dropout_l0(outputs), final, trace

    patch.setattr(flax_impl.recurrent.Layers, "__call__", dropped)


def constant(dropout: Any) -> Any:
    return dropout if dropout is None else jax.random.key(0)


SITE = "rnn.dropout_l0"

FAULTS = [
    Fault("torch: after the last layer", torch_impl, LSTM, "seeds", torch_output_dropped(False), f"{SITE}, values"),
    Fault("torch: active in eval mode", torch_impl, LSTM, "seeds", torch_output_dropped(True), "logits in eval mode"),
    Fault(
        "torch: none inside the feed-forward block",
        torch_impl,
        TRANSFORMER,
        "seeds",
        torch_layers_edited(without_inner),
        f"{LAYER}.dropout, values",
    ),
    Fault(
        "torch: none on attention weights",
        torch_impl,
        TRANSFORMER,
        "seeds",
        torch_layers_edited(without_attention),
        f"{LAYER}.self_attn.dropout, values",
        {"model__attention_dropout": 0.2, "model__num_layers": 1},
    ),
    Fault(
        "torch: one mask for two sites",
        torch_impl,
        TRANSFORMER,
        "seeds",
        torch_layers_edited(one_for_both),
        f"{LAYER}.dropout2, between sites",
        {"model__num_layers": 1},
    ),
    Fault("torch: seeded anew each step", torch_impl, LSTM, "training", torch_reseeded, "losses, one mask a step"),
    Fault("torch: eval mode stays on", torch_impl, LSTM, "training", torch_eval_left_on, "losses in train mode"),
    Fault(
        "torch: trains in eval mode", torch_impl, LSTM, "training", torch_trains_in_eval_mode, "losses in train mode"
    ),
    Fault(
        "torch: evaluates in train mode",
        torch_impl,
        LSTM,
        "training",
        torch_evaluates_in_dropout,
        "logits of evaluations",
    ),
    Fault("flax: after the last layer", flax_impl, LSTM, "seeds", flax_output_dropped, f"{SITE}, values"),
    Fault(
        "flax: one key for all seeds",
        flax_impl,
        LSTM,
        "seeds",
        flax_mode(flax_impl.contract, constant),
        f"{SITE}, between seeds",
    ),
    Fault(
        "flax: active in eval mode",
        flax_impl,
        LSTM,
        "seeds",
        flax_mode(flax_impl.contract, lambda dropout: jax.random.key(0) if dropout is None else dropout),
        "logits in eval mode",
    ),
    Fault(
        "flax: shared over time",
        flax_impl,
        LSTM,
        "seeds",
        flax_call(flax_mask(lambda shape: (shape[0], 1, *shape[2:]))),
        f"{SITE}, over time",
    ),
    Fault(
        "flax: shared over heads",
        flax_impl,
        TRANSFORMER,
        "seeds",
        flax_call(flax_mask(lambda shape: (shape[0], 1, *shape[2:]))),
        f"{LAYER}.self_attn.dropout, over head",
        {"model__attention_dropout": 0.2, "model__dropout": 0.0, "model__num_layers": 1},
    ),
    Fault("flax: rate 10 % off", flax_impl, LSTM, "seeds", flax_call(flax_mask(tuple, 1.1)), f"{SITE}, values"),
    Fault("flax: not rescaled", flax_impl, LSTM, "seeds", flax_call(flax_mask(tuple, 1.0, False)), f"{SITE}, values"),
    Fault(
        "flax: one key for all steps",
        flax_impl,
        LSTM,
        "training",
        flax_mode(flax_impl.training, constant),
        "losses, one mask a step",
    ),
]


@pytest.fixture
def no_compiled_functions() -> Iterator[None]:
    """Functions compiled before a fault was planted do not have it, and those compiled after it must not outlive it."""

    def clear() -> None:
        for module in (flax_impl.contract, flax_impl.training):
            for function in vars(module).values():
                if hasattr(function, "cache_clear"):
                    function.cache_clear()

    clear()
    yield
    clear()


@pytest.mark.by_default(
    "torch: active in eval mode",
    "flax: one key for all steps",
    "flax: rate 10 % off",
    "flax: not rescaled",
    "torch: one mask for two sites",
    "flax: shared over time",
    "torch: after the last layer",
)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_named(fault: Fault, monkeypatch: Patch, no_compiled_functions: None):
    fault.plant(monkeypatch)
    experiment = override(load(fault.experiment), **fault.changes)
    found = failures(fault.framework, experiment, fault.case)
    assert fault.tensor in found
    # Shared or repeated masks have a rate of their own as well, by chance; nothing else comes first.
    assert found[0].partition(",")[0] == fault.tensor.partition(",")[0]
