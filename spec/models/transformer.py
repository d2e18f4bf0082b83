"""The Transformer's encoder."""

from typing import Annotated, Literal

from spec.dropout import DropoutSite
from spec.models.base import Depth, Length, Model, Positive, Rate, Size
from spec.parameters import Normal, Parameter, layer_norm, linear, self_attention
from spec.typical import typical


class TransformerEncoder(Model, frozen=True, kw_only=True, tag_field="name"):
    """A linear embedding, positions, `num_layers` encoder layers, and a linear head.

        x_t = W_in input_t + b_in                                hidden_size wide
        x_t <- x_t + p_t                                         where positions = "sinusoidal"
        p_t[2 i] = sin(t / position_base^(2 i / hidden_size)),  p_t[2 i + 1] = cos(the same),  t from 0
        x_t <- x_t + row t of positions.weight                   where positions = "learned"; max_length rows
        then, a layer:
        x <- norm1(x + dropout1(attention(x)))                   norm_first = false; with norm_first = true
        x <- norm2(x + dropout2(feed_forward(x)))                x <- x + dropout(block(norm(x))), twice
        x <- norm(x)                                             after the last layer, where final_norm
        logits_t = W_head x_t + b_head

        attention(x)_t = W_o [head 1; ...; head `heads`] + b_o   each head hidden_size / heads wide
        head: weights_t = softmax over s of q_t . k_s / sqrt(hidden_size / heads), dropped out at attention_dropout;
              s runs over the valid steps, of which only those up to t where causal;
              sum over s of weights_t(s) v_s;  q, k, v are the rows [0, H), [H, 2 H), [2 H, 3 H) of in_proj
        feed_forward(x) = W_2 dropout(activation(W_1 x + b_1)) + b_2
        norm(x) = (x - mean) / sqrt(variance + layer_norm_epsilon) * weight + bias; variance over n, not n - 1
        activation(x): "relu" max(x, 0);  "gelu" x (1 + erf(x / sqrt 2)) / 2;  "gelu-tanh", its approximation,
              x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2

    With causal a step knows nothing of later ones: a language model, that writes on from a prompt. b_k, the middle
    third of in_proj_bias, has an exact gradient of zero: it adds the same number to every score of a row, which softmax
    ignores.
    Initial laws: positions.weight standard normal, as any embedding; in_proj uniform within Xavier's bound of the
    packed (3 H, H) matrix, its bias and out_proj's zero.
    Layers are drawn independently, not as copies of one another.
    Source: `torch.nn.TransformerEncoder`, `TransformerEncoderLayer` and `MultiheadAttention`, Vaswani et al. (2017); of
    the GELUs, Hendrycks and Gimpel (2016), and `torch.nn.GELU`.
    """

    hidden_size: Size
    heads: Size
    num_layers: Annotated[Depth, typical(1, 2, 3, rare=(4, 11))]
    feed_forward_size: Size
    activation: Literal["relu", "gelu", "gelu-tanh"]
    positions: Literal["none", "sinusoidal", "learned"]
    norm_first: bool
    dropout: Rate
    attention_dropout: Rate
    layer_norm_epsilon: Annotated[Positive, typical(1e-3, 1e-6, 0.1)] = 1e-5
    position_base: Annotated[Positive, typical(100.0, 10.0, 2.5)] = 10000.0
    max_length: Length | None = None  # pyright: ignore[reportIncompatibleMethodOverride]
    causal: bool = False  # pyright: ignore[reportIncompatibleMethodOverride]
    final_norm: bool = False

    def __post_init__(self) -> None:
        if self.hidden_size == 1:
            raise ValueError(
                "hidden_size: expected at least 2 (a norm of one feature is its bias, whatever comes in), got 1"
            )
        if self.hidden_size % self.heads:
            raise ValueError(f"heads: expected a divisor of hidden_size = {self.hidden_size}, got {self.heads}")
        if self.positions == "sinusoidal" and self.hidden_size % 2:
            raise ValueError(f"hidden_size: expected an even number (sine and cosine in pairs), got {self.hidden_size}")
        if (self.positions == "learned") != (self.max_length is not None):
            expected = "a length" if self.positions == "learned" else "none"
            raise ValueError(
                f'max_length: expected {expected} with positions = "{self.positions}", got {self.max_length}'
            )

    @property
    def attention_heads(self) -> int:
        return self.heads

    def parameters(self) -> tuple[Parameter, ...]:
        table = [*self.inputs.parameters(), *linear("input", self.inputs.size, self.hidden_size)]
        if self.max_length is not None:
            table.append(Parameter("positions.weight", (self.max_length, self.hidden_size), Normal(1.0)))
        for layer in range(self.num_layers):
            table += self._layer(f"encoder.layers.{layer}")
        if self.final_norm:
            table += layer_norm("encoder.norm", self.hidden_size)
        return (*table, *self._head(self.hidden_size))

    def _layer(self, name: str) -> tuple[Parameter, ...]:
        width = self.hidden_size
        return (
            *self_attention(f"{name}.self_attn", width, zero_gradient=self.mixed_precision is None),
            *linear(f"{name}.linear1", width, self.feed_forward_size),
            *linear(f"{name}.linear2", self.feed_forward_size, width),
            *layer_norm(f"{name}.norm1", width),
            *layer_norm(f"{name}.norm2", width),
        )

    def intermediates(self) -> tuple[str, ...]:
        attention, feed_forward = ("self_attn", "norm1"), ("linear2", "norm2")
        if self.norm_first:
            attention, feed_forward = attention[::-1], feed_forward[::-1]
        layers = tuple(
            f"encoder.layers.{layer}.{stage}"
            for layer in range(self.num_layers)
            for stage in (*attention, *feed_forward, "output")
        )
        norm = ("encoder.norm",) if self.final_norm else ()
        return self._embedded() + ("input", "positions", *layers, *norm, "logits")

    def dropout_sites(self, batch: int, time: int) -> dict[str, DropoutSite]:
        sites = {}
        for layer in range(self.num_layers):
            name = f"encoder.layers.{layer}"
            if self.attention_dropout:
                shape = (batch, self.heads, time, time)
                sites[f"{name}.self_attn.dropout"] = DropoutSite(shape, self.attention_dropout)
            if self.dropout:
                block = DropoutSite((batch, time, self.hidden_size), self.dropout)
                sites[f"{name}.dropout1"] = block
                sites[f"{name}.dropout"] = DropoutSite((batch, time, self.feed_forward_size), self.dropout)
                sites[f"{name}.dropout2"] = block
        return sites
