"""The Elman recurrence. See spec.models.rnn."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from spec.models.rnn import RNN as RNNSpec
from spec.models.rnn import RNNCell as RNNCellSpec
from torch_impl.model import Model, TensorBatch, valid_steps, zero_padding
from torch_impl.recurrent import Recurrent, State, handed_on, initial_state, record_final


class RNNCell(Model):
    """One cell, looped by hand. See spec.models.RNNCell."""

    def __init__(self, spec: RNNCellSpec):
        super().__init__(spec)
        self.cell = nn.RNNCell(spec.inputs.size, spec.hidden_size, bias=spec.bias, nonlinearity=spec.nonlinearity)
        self.head = nn.Linear(spec.hidden_size, spec.classes) if spec.head else None

    def forward(self, batch: TensorBatch) -> Float[Tensor, "batch time classes"]:
        valid = valid_steps(batch)
        inputs = self.embed(batch, valid)
        (hidden,) = initial_state(batch, "cell") or (inputs.new_zeros(inputs.shape[0], self.cell.hidden_size),)
        begins = None if batch.resets is None else handed_on(batch.resets, valid)
        trace = []
        for time in range(inputs.shape[1]):
            if begins is not None:
                hidden = torch.where(begins[:, time, None], 0, hidden)
            new = self.cell(inputs[:, time], hidden)
            hidden = new if valid is None else torch.where(valid[:, time, None], new, hidden)
            trace.append(hidden)
        outputs = zero_padding(torch.stack(trace, 1), valid)
        self.record("cell.h", outputs)
        record_final(self, "cell", (hidden,))
        logits = outputs if self.head is None else zero_padding(self.head(outputs), valid)
        self.record("logits", logits)
        return logits

    def begin(self, batch: int, steps: int) -> State:
        del steps
        return (self.cell.weight_hh.new_zeros(batch, self.cell.hidden_size),)

    def step(self, symbols: Int[Tensor, " batch"], state: State) -> tuple[Float[Tensor, "batch classes"], State]:
        hidden = self.cell(self.read(symbols), *state)
        return hidden if self.head is None else self.head(hidden), (hidden,)


class RNN(Recurrent):
    """Stacked Elman layers. See spec.models.RNN."""

    layers = nn.RNN

    def __init__(self, spec: RNNSpec):
        super().__init__(spec, nonlinearity=spec.nonlinearity)
