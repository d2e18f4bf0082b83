"""What a factory returned, and what is known about the arrays in it."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from spec.pair import Leaf, Packed, RecurrentLayer
from torch_impl.pair import keras_models
from torch_impl.pair.keras_models import KerasModule
from torch_impl.pair.trees import as_real, is_number

NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
GATES = {"lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n"), "rnn": ("h",)}
"""Gates of stock recurrent modules, in the order of their rows."""


def recognize(made: Any) -> bool:
    """Whether this is a model of this framework."""
    return isinstance(made, nn.Module)


def describe(made: Any) -> str:
    """What the factory returned, in words."""
    if isinstance(made, KerasModule):
        return keras_models.describe(made.made)
    return f"torch.nn.Module {type(made).__name__}"


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has an argument of that name, or takes any."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some built in functions have none
        return False
    return name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def arrays_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters, then buffers of floating numbers; one that stands in several places once, under its first name."""
    found = dict(module.named_parameters())
    return found | {name: buffer for name, buffer in module.named_buffers() if is_number(buffer)}


def paths_of(module: nn.Module) -> dict[int, str]:
    """The path of every module inside, by identity."""
    if isinstance(module, KerasModule):
        return module.layers()
    return {id(one): path for path, one in module.named_modules()}


def leaves_of(module: nn.Module) -> tuple[Leaf, ...]:
    if isinstance(module, KerasModule):
        return module.leaves()
    by_identity: dict[int, list[str]] = {}
    for named in (module.named_parameters, module.named_buffers):
        for name, array in named(remove_duplicate=False):
            by_identity.setdefault(id(array), []).append(name)
    leaves = []
    for name, array in arrays_of(module).items():
        owner = module.get_submodule(name.rpartition(".")[0])
        others = tuple(other for other in by_identity[id(array)] if other != name)
        trainable = isinstance(array, nn.Parameter) and array.requires_grad
        dtype = str(array.dtype).removeprefix("torch.")
        leaves.append(
            Leaf(
                name,
                tuple(as_real(array).shape),
                dtype,
                trainable,
                others,
                type(owner).__name__,
                _role(owner, name, array),
            )
        )
    return tuple(leaves)


def _role(owner: nn.Module, path: str, array: Tensor) -> str:
    name = path.rpartition(".")[2]
    if name in ("running_mean", "running_var"):
        return "mean" if name == "running_mean" else "variance"
    if "bias" in name:
        return "bias"
    if isinstance(owner, NORMS):
        return "scale"
    if isinstance(owner, nn.Embedding | nn.EmbeddingBag):
        return "embedding"
    return "weight" if array.ndim > 1 and "weight" in name else ""


def packed_of(module: nn.Module) -> tuple[Packed, ...]:
    """The projections that `MultiheadAttention` keeps in one."""
    found = []
    for name, owner in module.named_modules():
        if isinstance(owner, nn.MultiheadAttention):
            inside = [leaf for leaf in ("in_proj_weight", "in_proj_bias") if getattr(owner, leaf, None) is not None]
            found += [Packed(_joined(name, leaf), ("query", "key", "value")) for leaf in inside]
    return tuple(found)


def recurrent_of(module: nn.Module) -> tuple[RecurrentLayer, ...]:
    """Layers and directions of stock recurrent modules and cells, in the order in which they compute."""
    found = []
    for name, owner in module.named_modules():
        if isinstance(owner, nn.RNNBase):
            kind = {"LSTM": "lstm", "GRU": "gru"}.get(owner.mode, "rnn")
            for layer in range(owner.num_layers):
                for suffix in ("", "_reverse") if owner.bidirectional else ("",):
                    found.append(_recurrent(owner, name, kind, f"_l{layer}{suffix}"))
        elif isinstance(owner, nn.RNNCellBase):
            kind = {nn.LSTMCell: "lstm", nn.GRUCell: "gru"}.get(type(owner), "rnn")
            found.append(_recurrent(owner, name, kind, ""))
    return tuple(found)


def _recurrent(owner: nn.Module, path: str, kind: str, suffix: str) -> RecurrentLayer:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    leaves: Mapping[str, str] = {
        name: _joined(path, name + suffix) for name in names if getattr(owner, name + suffix, None) is not None
    }
    return RecurrentLayer(kind, GATES[kind], int(owner.hidden_size), leaves)  # pyright: ignore[reportArgumentType]


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
