"""Gated recurrent unit."""

from typing import ClassVar

from spec.models.recurrent import Recurrent


class GRU(Recurrent, frozen=True, kw_only=True, tag_field="name"):
    """Stacked GRU layers; for each layer and direction, with x_t the layer's input:

        r_t = sigmoid(W_ir x_t + b_ir + W_hr h_(t-1) + b_hr)
        z_t = sigmoid(W_iz x_t + b_iz + W_hz h_(t-1) + b_hz)
        n_t = tanh   (W_in x_t + b_in + r_t (W_hn h_(t-1) + b_hn))
        h_t = (1 - z_t) n_t + z_t h_(t-1)

    The reset gate acts after the matrix product, bias included. The gates' rows are stacked in the order r, z, n:
    weight_ih is (3 hidden_size, features). Source: `torch.nn.GRU`.
    """

    gates: ClassVar[int] = 3
    states: ClassVar[tuple[str, ...]] = ("h",)
