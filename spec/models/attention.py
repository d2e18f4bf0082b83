"""Attention, from scores over a recurrent network's states to several heads."""

from typing import Literal

from spec.models.base import Length, Model, Size
from spec.parameters import Parameter, linear, recurrent


class LSTMAttention(Model, frozen=True, kw_only=True, tag_field="name"):
    """An LSTM whose every state looks at all of its states (Luong's "general" score).

        h_1 .. h_T = LSTM(x)                                     see spec.models.LSTM
        score(t, s) = h_t . (W h_s)
        weights_t = softmax over s of score(t, s)                s runs over the valid steps
        context_t = sum over s of weights_t(s) h_s
        logits_t = W_head [context_t; h_t] + b_head

    W: (hidden_size, hidden_size), without a bias, since softmax would ignore it.
    Source: Luong, Pham, Manning, "Effective Approaches to Attention-based Neural Machine Translation" (2015), eq. 8.
    """

    hidden_size: Size

    @property
    def attention_heads(self) -> int:
        return 1

    def parameters(self) -> tuple[Parameter, ...]:
        return (
            self.inputs.parameters()
            + recurrent("rnn", 4, self.inputs.size, self.hidden_size)
            + linear("attention", self.hidden_size, self.hidden_size, bias=False)
            + self._head(2 * self.hidden_size)
        )

    def intermediates(self) -> tuple[str, ...]:
        recurrence = ("rnn.h_l0", "rnn.c_l0", *self.returned_states())
        return self._embedded() + recurrence + ("attention.weights", "attention.context", "logits")

    def initial_states(self, batch: int) -> dict[str, tuple[int, ...]]:
        return {f"rnn.{state}_0": (1, batch, self.hidden_size) for state in ("h", "c")}


class SelfAttention(Model, frozen=True, kw_only=True, tag_field="name"):
    """Scaled dot-product attention of a sequence to itself.

        x_t <- [x_t; onehot(t)]                                  where positions = "one-hot"; max_length wide
        q_t = W_q x_t + b_q,  k_t = W_k x_t + b_k,  v_t = W_v x_t + b_v
        weights_t = softmax over s of q_t . k_s / sqrt(width)    s runs over the valid steps
        context_t = sum over s of weights_t(s) v_s
        logits_t = W_head context_t + b_head

    width is a head's width, here hidden_size. b_k adds q_t . b_k to every score of a row, and softmax ignores what
    it adds to a whole row: the exact gradient of b_k is zero; not so in mixed precision, where q_t, k_s + b_k and the
    gradients by the scores are rounded.
    Source: Vaswani et al., "Attention Is All You Need" (2017), eq. 1.
    """

    hidden_size: Size
    positions: Literal["none", "one-hot"]
    max_length: Length | None = None  # pyright: ignore[reportIncompatibleMethodOverride]

    def __post_init__(self) -> None:
        if (self.positions == "one-hot") != (self.max_length is not None):
            expected = "a length" if self.positions == "one-hot" else "none"
            raise ValueError(
                f'max_length: expected {expected} with positions = "{self.positions}", got {self.max_length}'
            )

    @property
    def attention_heads(self) -> int:
        return 1

    @property
    def input_size(self) -> int:
        """Features a step, position included."""
        return self.inputs.size + (self.max_length or 0)

    def parameters(self) -> tuple[Parameter, ...]:
        return self.inputs.parameters() + self._projections(self.hidden_size) + self._head(self.hidden_size)

    def intermediates(self) -> tuple[str, ...]:
        attention = ("query", "key", "value", "attention.weights", "attention.context")
        return self._embedded() + attention + ("logits",)

    def _projections(self, width: int) -> tuple[Parameter, ...]:
        return (
            linear("query", self.input_size, width)
            + linear("key", self.input_size, width, zero_gradient_bias=self.mixed_precision is None)
            + linear("value", self.input_size, width)
        )


class MultiHeadAttention(SelfAttention, frozen=True, kw_only=True, tag_field="name"):
    """Several self-attentions side by side, each `hidden_size` wide, mixed by a linear layer.

        q, k, v: W x_t + b, heads * hidden_size wide; head j owns the features [j hidden_size, (j + 1) hidden_size)
        context_t = [context of head 1; ...; context of head `heads`]        each as in SelfAttention
        output_t = W_o context_t + b_o                                        hidden_size wide
        logits_t = W_head output_t + b_head

    The scale is sqrt(hidden_size), the width of a head, not of all heads together.
    """

    heads: Size

    @property
    def attention_heads(self) -> int:
        return self.heads

    def parameters(self) -> tuple[Parameter, ...]:
        width = self.heads * self.hidden_size
        output = linear("output", width, self.hidden_size)
        return self.inputs.parameters() + self._projections(width) + output + self._head(self.hidden_size)

    def intermediates(self) -> tuple[str, ...]:
        return super().intermediates()[:-1] + ("output", "logits")
