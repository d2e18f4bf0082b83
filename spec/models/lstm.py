"""Long short-term memory."""

from typing import ClassVar

from spec.models.recurrent import Recurrent


class LSTM(Recurrent, frozen=True, kw_only=True, tag_field="name"):
    """Stacked LSTM layers; for each layer and direction, with x_t the layer's input:

        i_t = sigmoid(W_ii x_t + b_ii + W_hi h_(t-1) + b_hi)
        f_t = sigmoid(W_if x_t + b_if + W_hf h_(t-1) + b_hf)
        g_t = tanh   (W_ig x_t + b_ig + W_hg h_(t-1) + b_hg)
        o_t = sigmoid(W_io x_t + b_io + W_ho h_(t-1) + b_ho)
        c_t = f_t c_(t-1) + i_t g_t
        h_t = o_t tanh(c_t)

    The gates' rows are stacked in the order i, f, g, o: weight_ih is (4 hidden_size, features). Nothing is added to
    the forget gate. Source: `torch.nn.LSTM`.
    """

    gates: ClassVar[int] = 4
    states: ClassVar[tuple[str, ...]] = ("h", "c")
