"""Stacked recurrent networks: stock `torch.nn.RNN`, `LSTM`, `GRU`. See spec.models.recurrent."""

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence, unpack_sequence

from spec.models.recurrent import Recurrent as Spec
from spec.parameters import directions
from torch_impl.model import Model, TensorBatch, valid_steps, zero_padding

State = tuple[Tensor, ...]
"""(h,), or (h, c) for an LSTM: each (batch, hidden) for a cell, (layers * directions, batch, hidden) for layers, in
the order layer 0 forward, layer 0 backward, layer 1 forward, ..."""

PACKS = "packs"
"""An attribute of layers: False where sequences of several lengths go step by step, since vmap has no rule for packed
ones, whose layout depends on the lengths."""


STRETCHES = "stretches"
"""An attribute of layers: what takes the place of `run_stretches`, where they are compiled."""


class Recurrent(Model):
    """Layers of recurrence, then a readout."""

    layers: ClassVar[Callable[..., nn.RNNBase]]

    def __init__(self, spec: Spec, **options: Any):
        super().__init__(spec)
        self.rnn = self.layers(
            spec.inputs.size,
            spec.hidden_size,
            num_layers=spec.num_layers,
            bias=spec.bias,
            bidirectional=spec.bidirectional,
            dropout=spec.dropout,
            batch_first=True,
            **options,
        )
        self.head = None
        if spec.head:
            self.head = (TiedHead if spec.tied else nn.Linear)(spec.output_size, spec.classes)
        self.readout = spec.readout
        self.directions = len(directions(spec.bidirectional))
        self.masks: Mapping[str, Tensor] | None = None

    def forward(self, batch: TensorBatch) -> Float[Tensor, "batch *time classes"]:
        valid = valid_steps(batch)
        inputs = self.embed(batch, valid)
        outputs, final = self.recur(inputs, batch, valid)
        record_final(self, "rnn", final)
        if self.readout == "every step":
            logits = zero_padding(self.classify(outputs), valid)
        elif self.readout == "last step":
            logits = self.classify(torch.cat(tuple(final[0][-self.directions :]), -1))
        else:
            logits = self.classify(pool(outputs, valid, self.readout))
        self.record("logits", logits)
        return logits

    def classify(self, outputs: Float[Tensor, "*batch outputs"]) -> Float[Tensor, "*batch classes"]:
        """The logits of the last layer's outputs."""
        if self.head is None:
            return outputs
        if isinstance(self.head, TiedHead):
            assert self.embedding is not None
            return self.head(outputs, self.embedding.weight)
        return self.head(outputs)

    def begin(self, batch: int, steps: int) -> State:
        del steps
        like = next(self.rnn.parameters())
        zeros = like.new_zeros(self.rnn.num_layers, batch, self.rnn.hidden_size)
        return (zeros, zeros) if isinstance(self.rnn, nn.LSTM) else (zeros,)

    def step(self, symbols: Int[Tensor, " batch"], state: State) -> tuple[Float[Tensor, "batch classes"], State]:
        outputs, state = run(self.rnn, self.read(symbols)[:, None], initial=state)
        return self.classify(outputs[:, 0]), state

    def recur(
        self,
        inputs: Float[Tensor, "batch time features"],
        batch: TensorBatch,
        valid: Bool[Tensor, "batch time"] | None,
    ) -> tuple[Float[Tensor, "batch time outputs"], State]:
        """The layers' outputs and final state."""
        initial = initial_state(batch, "rnn")
        if self.masks is None and self.intermediates is None:
            return run(self.rnn, inputs, batch.lengths, initial, batch.resets)
        outputs, final, trace = unroll(self.rnn, inputs, valid, initial, self.masks, batch.resets)
        for name, value in trace.items():
            self.record(f"rnn.{name}", value)
        if self.masks is not None:
            return outputs, final
        return run(self.rnn, inputs, batch.lengths, initial, batch.resets)


class TiedHead(nn.Module):
    """A linear layer by the rows of the embedding, and a bias of its own."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        bound = 1 / math.sqrt(in_features)
        self.bias = nn.Parameter(nn.init.uniform_(torch.empty(out_features), -bound, bound))

    def forward(
        self, outputs: Float[Tensor, "*batch outputs"], rows: Float[Tensor, "classes outputs"]
    ) -> Float[Tensor, "*batch classes"]:
        return functional.linear(outputs, rows, self.bias)


def pool(
    outputs: Float[Tensor, "batch time outputs"], valid: Bool[Tensor, "batch time"] | None, readout: str
) -> Float[Tensor, "batch outputs"]:
    """The mean or the largest of all valid steps, of outputs that are zero at padding. Zero where there is none."""
    if valid is None:
        return outputs.mean(1) if readout == "mean" else outputs.amax(1)
    count = valid.sum(1, keepdim=True)
    if readout == "mean":
        return outputs.sum(1) / count.clamp(min=1)
    # Not `max`, which gives all of the gradient to one of the steps that tie.
    lowest = torch.finfo(outputs.dtype).min
    return torch.where(count > 0, outputs.masked_fill(~valid[..., None], lowest).amax(1), 0)


def initial_state(batch: TensorBatch, module: str) -> State | None:
    """The state in which that module starts; None for zeros."""
    if batch.initial is None:
        return None
    names = (f"{module}.h_0", f"{module}.c_0")
    return tuple(batch.initial[name] for name in names if name in batch.initial)


def record_final(model: Model, module: str, final: State) -> None:
    """Keep the state in which that module ended."""
    for state, values in zip(("h", "c"), final, strict=False):
        model.record(f"{module}.{state}_n", values)
    if model.ended is not None:
        model.ended = {f"{module}.{state}_0": values for state, values in zip(("h", "c"), final, strict=False)}


def run(
    layers: nn.RNNBase,
    inputs: Float[Tensor, "batch time features"],
    lengths: Int[Tensor, " batch"] | None = None,
    initial: State | None = None,
    resets: Bool[Tensor, "batch time"] | None = None,
) -> tuple[Float[Tensor, "batch time outputs"], State]:
    """Outputs, zero at padding, and the state after each sequence's last valid step; see State for its layout."""
    valid = valid_steps(TensorBatch(inputs, inputs, lengths))
    if (lengths is not None or resets is not None) and not getattr(layers, PACKS, True):
        outputs, final, _ = unroll(layers, inputs, valid, initial, None, resets)
        return outputs, final
    if resets is not None:
        every: Any = torch.ones_like(resets) if valid is None else valid
        return getattr(layers, STRETCHES, run_stretches)(layers, inputs, every, resets, initial)
    if lengths is None:
        outputs, final = layers(inputs, _as_argument(initial))
    else:
        # Packing needs the lengths on the CPU, and refuses 0: such a row takes one step, which is then discarded.
        packed = pack_padded_sequence(inputs, lengths.cpu().clamp(min=1), batch_first=True, enforce_sorted=False)
        outputs, final = layers(packed, _as_argument(initial))
        outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])
    final = final if isinstance(final, tuple) else (final,)
    if lengths is None:
        return outputs, final
    some = (lengths > 0)[:, None]
    start = initial or (0,) * len(final)
    outputs = torch.where(some[..., None], outputs, 0)
    return outputs, tuple(torch.where(some, last, first) for last, first in zip(final, start, strict=True))


def run_stretches(
    layers: nn.RNNBase,
    inputs: Float[Tensor, "batch time features"],
    valid: Bool[Tensor, "batch time"],
    resets: Bool[Tensor, "batch time"],
    initial: State | None = None,
) -> tuple[Float[Tensor, "batch time outputs"], State]:
    """The same with every stretch between resets as a sequence of its own: stock layers cannot be set back within one.

    Nothing reaches from one stretch to another, in no layer and in neither direction, so all are packed side by side.
    """
    of_row, _ = valid.nonzero(as_tuple=True)
    if not len(of_row):
        # There is no stretch to pack. A step that is discarded leaves every parameter a gradient, of zeros.
        return run(layers, inputs, valid.sum(1), initial)
    begins = resets.clone()
    begins[:, 0] = True
    (starts,) = begins[valid].nonzero(as_tuple=True)
    sizes = torch.diff(starts, append=starts.new_tensor([len(of_row)]))
    stretches = pack_sequence(list(inputs[valid].split(sizes.tolist())), enforce_sorted=False)
    rows, edge = of_row[starts], torch.ones(1, dtype=torch.bool, device=inputs.device)
    first = torch.cat([edge, rows[1:] != rows[:-1]])
    last = torch.cat([rows[1:] != rows[:-1], edge])
    # (layers * directions, 1), for stretches behind it.
    forwards = (
        (torch.arange(layers.num_layers * (1 + layers.bidirectional), device=inputs.device)[:, None])
        % (1 + layers.bidirectional)
        == 0
    )
    if initial is None:
        size = (len(forwards), len(inputs), layers.hidden_size)
        initial = (inputs.new_zeros(size),) * (2 if isinstance(layers, nn.LSTM) else 1)
    goes_on = torch.where(forwards, first & ~resets[rows, 0], last)[..., None]
    start = tuple(torch.where(goes_on, state[:, rows], 0) for state in initial)
    outputs, final = layers(stretches, _as_argument(start))
    final = final if isinstance(final, tuple) else (final,)
    flat = torch.cat(unpack_sequence(outputs))
    padded = flat.new_zeros(*valid.shape, flat.shape[-1]).masked_scatter(valid[..., None], flat)
    ended = (torch.where(forwards[..., None], state[:, last], state[:, first]) for state in final)
    return padded, tuple(before.index_copy(1, rows[first], after) for before, after in zip(initial, ended, strict=True))


def unroll(
    layers: nn.RNNBase,
    inputs: Float[Tensor, "batch time features"],
    valid: Bool[Tensor, "batch time"] | None = None,
    initial: State | None = None,
    masks: Mapping[str, Tensor] | None = None,
    resets: Bool[Tensor, "batch time"] | None = None,
) -> tuple[Float[Tensor, "batch time outputs"], State, dict[str, Tensor]]:
    """The same as `run`, by stock cells step by step with the layers' own weights; also every state over time.

    Stock layers show neither their inner layers' outputs nor their cell states, and take no dropout masks.
    """
    trace = {}
    final = []
    suffixes = directions(layers.bidirectional)
    for layer in range(layers.num_layers):
        outputs = []
        for direction, suffix in enumerate(suffixes):
            parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if layers.bias else ("weight_ih", "weight_hh")
            names = {n: f"{n}_l{layer}{suffix}" for n in parts}
            weights = {cell_name: getattr(layers, layer_name) for cell_name, layer_name in names.items()}
            cell = _cell_like(layers, inputs.shape[-1], weights)
            start = tuple(s[layer * len(suffixes) + direction] for s in initial) if initial else None
            states = unroll_cell(cell, inputs, valid, bool(suffix), start, resets)
            for state, values in zip(("h", "c"), states, strict=False):
                trace[f"{state}_l{layer}{suffix}"] = zero_padding(values, valid)
            outputs.append(zero_padding(states[0], valid))
            final.append(tuple(values[:, 0 if suffix else -1] for values in states))
        inputs = torch.cat(outputs, -1)
        if masks and (mask := masks.get(f"rnn.dropout_l{layer}")) is not None:
            inputs = inputs * mask
    return inputs, tuple(torch.stack(s) for s in zip(*final, strict=True)), trace


def unroll_cell(
    cell: nn.RNNCellBase,
    inputs: Float[Tensor, "batch time features"],
    valid: Bool[Tensor, "batch time"] | None = None,
    reverse: bool = False,
    initial: State | None = None,
    resets: Bool[Tensor, "batch time"] | None = None,
) -> tuple[Float[Tensor, "batch time hidden"], ...]:
    """h, and c for an LSTM, over time, in the order of time; a padded step hands the state on as it is, and none is
    handed across a step at which something new begins."""
    begins = None if resets is None else handed_on(resets, valid, reverse)
    zeros = inputs.new_zeros(inputs.shape[0], cell.hidden_size)
    state = initial or ((zeros, zeros) if isinstance(cell, nn.LSTMCell) else (zeros,))
    trace = []
    steps = range(inputs.shape[1])
    for time in reversed(steps) if reverse else steps:
        if begins is not None:
            state = tuple(torch.where(begins[:, time, None], 0, s) for s in state)
        stepped = cell(inputs[:, time], _as_argument(state))
        new = stepped if isinstance(stepped, tuple) else (stepped,)
        if valid is not None:
            new = tuple(torch.where(valid[:, time, None], n, s) for n, s in zip(new, state, strict=True))
        state = new
        trace.append(state)
    return tuple(torch.stack(values[::-1] if reverse else values, 1) for values in zip(*trace, strict=True))


def handed_on(
    resets: Bool[Tensor, "batch time"], valid: Bool[Tensor, "batch time"] | None, reverse: bool = False
) -> Bool[Tensor, "batch time"]:
    """True where the state that a step is handed has to be zero: from the end, where the step behind it resets."""
    begins = resets if valid is None else resets & valid
    return functional.pad(begins[:, 1:], (0, 1)) if reverse else begins


def _as_argument(state: State | None) -> Tensor | State | None:
    """A state as stock modules take it: bare for one tensor, a pair for an LSTM."""
    return state[0] if state is not None and len(state) == 1 else state


def _cell_like(layers: nn.RNNBase, features: int, weights: Mapping[str, Tensor]) -> nn.RNNCellBase:
    """A stock cell of the layers' kind that computes with these weights."""
    options = {"nonlinearity": layers.nonlinearity} if isinstance(layers, nn.RNN) else {}
    cell = _blank(type(layers))(features, layers.hidden_size, bias=layers.bias, device="meta", **options)
    for name, weight in weights.items():
        # Under vmap it is no parameter, and what is registered as one takes nothing else.
        delattr(cell, name)
        setattr(cell, name, weight)
    return cell


@cache
def _blank(layers: type[nn.RNNBase]) -> Any:
    """The stock cell of that kind of layers, without values of its own: torch would draw some even on the meta device,
    which vmap does not allow."""
    stock = nn.RNNCell if issubclass(layers, nn.RNN) else nn.LSTMCell if issubclass(layers, nn.LSTM) else nn.GRUCell
    return type(stock.__name__, (stock,), {"reset_parameters": lambda _: None})
