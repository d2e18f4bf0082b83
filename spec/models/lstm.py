"""Long short-term memory."""

from typing import Annotated, ClassVar

from spec.models.base import Finite
from spec.models.recurrent import Recurrent
from spec.typical import typical


class LSTM(Recurrent, frozen=True, kw_only=True, tag_field="name"):
    """Stacked LSTM layers; for each layer and direction, with x_t the layer's input:

        i_t = sigmoid(W_ii x_t + b_ii + W_hi h_(t-1) + b_hi)
        f_t = sigmoid(W_if x_t + b_if + W_hf h_(t-1) + b_hf)
        g_t = tanh   (W_ig x_t + b_ig + W_hg h_(t-1) + b_hg)
        o_t = sigmoid(W_io x_t + b_io + W_ho h_(t-1) + b_ho)
        c_t = f_t c_(t-1) + i_t g_t
        h_t = o_t tanh(c_t)

    The gates' rows are stacked in the order i, f, g, o: weight_ih is (4 hidden_size, features). b_if starts
    `forget_bias` higher than it is drawn; nothing is added to the forget gate afterwards.
    Source: `torch.nn.LSTM`; of the forget bias, Jozefowicz, Zaremba, Sutskever, "An Empirical Exploration of Recurrent
    Network Architectures" (2015).
    """

    forget_bias: Annotated[Finite, typical(1.0, 2.0, -0.5)] = 0.0

    gates: ClassVar[int] = 4
    states: ClassVar[tuple[str, ...]] = ("h", "c")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.forget_bias and not self.bias:
            raise ValueError(f"forget_bias: expected 0 without biases, got {self.forget_bias}")
