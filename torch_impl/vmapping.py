"""What lets stock modules run under `torch.func.vmap`: the operations and kernels that have a rule for it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from spec.experiment import Experiment
from spec.framework import Settings
from spec.models import Embedding
from spec.models.recurrent import Recurrent
from torch_impl.settings import one_thread


def vmaps(experiment: Experiment, settings: Settings) -> bool:
    """Whether the members can be trained together.

    Attention weights are dropped inside a function of torch that draws its own mask, which members cannot share. On
    a GPU, cuDNN's recurrent layers have no rule for `vmap`, and dropout's masks come from fused kernels. Nor may
    anything be missing that torch does not document: then the members are trained one by one.
    """
    shared = settings.device == "cpu" and not getattr(experiment.model, "attention_dropout", 0.0)
    cut = experiment.task.ragged or experiment.task.resets
    shared = shared and not (cut and _minds_padding(experiment))
    # Members meet batches of several widths in orders of their own.
    shared = shared and len(experiment.task.widths) == 1
    # Each part of a batch has masks by a seed of its own, and members have theirs drawn for whole batches.
    shared = shared and not (experiment.model.has_dropout and experiment.training.accumulate > 1)
    return shared and bool(RECURRENCES) and hasattr(getattr(torch.backends, "mkldnn", None), "enabled")


def _minds_padding(experiment: Experiment) -> bool:
    """Whether sequences of several lengths are computed in a layout that depends on the lengths: between recurrent
    layers torch drops units of packed sequences, and how often an index occurs is counted without padding."""
    model = experiment.model
    between_layers = isinstance(model, Recurrent) and bool(model.dropout)
    return between_layers or (isinstance(model.inputs, Embedding) and model.inputs.scale_grad_by_freq)


@contextmanager
def decomposed() -> Iterator[None]:
    """Keep torch from kernels that have no rule for vmap, where plain operations do the same, and from threads.

    Operations on so many small matrices are too short to share: on two busy cores, 1,000 trainings of hello-rnn took
    1.2 s of CPU time with one thread and 16 with two, which mostly wait for each other.
    """
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False
    try:
        with one_thread(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mkldnn.enabled = before


class TakenApart(TorchFunctionMode):
    """Recurrent layers and cells become the operations that they consist of: as a whole they have no rule for vmap."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        recurrence = RECURRENCES.get(func)
        return (recurrence.decompose if recurrence else func)(*args, **(kwargs or {}))


def recurrences() -> dict[Callable, Any]:
    """What stock recurrent modules call, without lengths, and the operation that it is; nothing if one is missing."""
    found = {}
    for name in ("rnn_tanh", "rnn_relu", "lstm", "gru"):
        for suffix, overload in (("", "input"), ("_cell", "default")):
            try:
                operation = getattr(getattr(torch.ops.aten, name + suffix), overload)
                found[getattr(torch, name + suffix)] = operation
            except AttributeError:
                return {}
            if not hasattr(operation, "decompose"):
                return {}
    return found


RECURRENCES = recurrences()
