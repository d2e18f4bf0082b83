"""The Elman recurrence: a single cell looped by hand, and stacked layers."""

from typing import ClassVar, Literal

from spec.models.base import Model, Size
from spec.models.recurrent import Recurrent
from spec.parameters import Parameter, recurrent


class RNNCell(Model, frozen=True, kw_only=True, tag_field="name"):
    """One Elman cell, carried over time in a loop the reader can see.

        h_0 = 0                                                   or what the batch says
        h_(t-1) <- (1 - r_t) h_(t-1)                              where it has resets r
        h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh)        or relu
        logits_t = W h_t + b                                      with a head; h_t itself without

    x_t: (batch, features). h_t: (batch, hidden_size). Two biases, not one: their sum acts alike in the
    forward pass, yet under Adam each takes a full step, so one bias would train differently. Without `bias`, neither
    b_ih nor b_hh is there.
    Source: `torch.nn.RNNCell`.
    """

    hidden_size: Size
    nonlinearity: Literal["tanh", "relu"] = "tanh"
    head: bool = True
    bias: bool = True

    def __post_init__(self) -> None:
        if not self.head and self.hidden_size != self.classes:
            raise ValueError(
                f"classes: expected hidden_size = {self.hidden_size} (the hidden state is the logits where "
                f"head = false), got {self.classes}"
            )

    @property
    def causal(self) -> bool:
        return True

    @property
    def takes_resets(self) -> bool:
        return True

    def parameters(self) -> tuple[Parameter, ...]:
        cell = recurrent("cell", 1, self.inputs.size, self.hidden_size, bias=self.bias)
        # A cell's tensors carry no layer in their names.
        named = tuple(Parameter(p.name.removesuffix("_l0"), p.shape, p.law) for p in cell)
        return self.inputs.parameters() + named + (self._head(self.hidden_size) if self.head else ())

    def intermediates(self) -> tuple[str, ...]:
        return self._embedded() + ("cell.h", *self.returned_states(), "logits")

    def initial_states(self, batch: int) -> dict[str, tuple[int, ...]]:
        return {"cell.h_0": (batch, self.hidden_size)}


class RNN(Recurrent, frozen=True, kw_only=True, tag_field="name"):
    """Stacked Elman layers; for each layer and direction, with x_t the layer's input:

        h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh)        or relu

    Source: `torch.nn.RNN`.
    """

    nonlinearity: Literal["tanh", "relu"] = "tanh"

    gates: ClassVar[int] = 1
    states: ClassVar[tuple[str, ...]] = ("h",)
