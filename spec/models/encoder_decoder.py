"""An encoder, and a decoder that attends to it."""

from typing import Literal

from spec.models.base import Model, Size
from spec.parameters import Parameter, recurrent


class EncoderDecoder(Model, frozen=True, kw_only=True, tag_field="name"):
    """Sequence to sequence with dot-product attention over the encoder's outputs.

        e_1 .. e_S, final = encoder(x)                           GRU or LSTM, see spec.models.GRU, LSTM
        d_0 = final                                              the state after the last valid step
        d_t = decoder(onehot(y_(t-1)), d_(t-1))                  y_0 is the start symbol, number `classes`
        weights_t = softmax over s of d_t . e_s                  s runs over the source's valid steps
        context_t = sum over s of weights_t(s) e_s
        logits_t = W [context_t; d_t] + b

    Teacher forcing: y_(t-1) is the target's symbol. Greedy decoding: it is the arg max of logits_(t-1), the lowest
    index where several are largest. Both run for as many steps as the batch's decoder inputs have, also for a source
    of length 0, whose contexts are zero.
    Source: Luong, Pham, Manning (2015), eq. 8 ("dot"), without input feeding.
    """

    cell: Literal["LSTM", "GRU"]
    hidden_size: Size

    @property
    def attention_heads(self) -> int:
        return 1

    @property
    def gates(self) -> int:
        """Blocks of rows in the encoder's and the decoder's weights."""
        return {"LSTM": 4, "GRU": 3}[self.cell]

    @property
    def decodes(self) -> bool:
        return True

    @property
    def states(self) -> tuple[str, ...]:
        """What a cell carries from step to step."""
        return {"LSTM": ("h", "c"), "GRU": ("h",)}[self.cell]

    def parameters(self) -> tuple[Parameter, ...]:
        return (
            self.inputs.parameters()
            + recurrent("encoder", self.gates, self.inputs.size, self.hidden_size)
            + recurrent("decoder", self.gates, self.classes + 1, self.hidden_size)
            + self._head(2 * self.hidden_size)
        )

    def intermediates(self) -> tuple[str, ...]:
        encoder, decoder = (tuple(f"{part}.{state}_l0" for state in self.states) for part in ("encoder", "decoder"))
        recurrence = encoder + self.returned_states() + decoder
        return self._embedded() + recurrence + ("attention.weights", "attention.context", "logits")

    def initial_states(self, batch: int) -> dict[str, tuple[int, ...]]:
        return {f"encoder.{state}_0": (1, batch, self.hidden_size) for state in self.states}
