"""Stock `flax.nnx` models with canonical values: what flax_impl is measured against.

torch_impl has no counterpart, since its layers are stock ones.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

from flax_impl.transformer import sinusoids
from spec.benchmark import TrainingStep
from spec.errors import Unsupported
from spec.framework import Settings
from spec.models.gru import GRU
from spec.models.lstm import LSTM
from spec.models.rnn import RNN
from spec.models.transformer import TransformerEncoder
from spec.parameters import Parameters
from spec.training import SGD, Adam, AnyOptimizer


class StockRecurrent(nnx.Module):
    """An embedding, a stock recurrent layer and a head; time first."""

    def __init__(self, workload: TrainingStep, settings: Settings):
        spec, parameters = workload.model, workload.parameters()
        assert isinstance(spec, RNN | LSTM | GRU)
        self.embedding = nnx.Embed(spec.classes, spec.inputs.size, param_dtype=settings.precision, rngs=nnx.Rngs(0))
        self.embedding.embedding[...] = jnp.asarray(parameters["embedding.weight"])
        self.rnn = nnx.RNN(stock_cell(type(spec).__name__, "rnn", parameters, settings), time_major=True)
        self.head = stock_linear("head", parameters, settings)

    def __call__(self, inputs: Array) -> Array:
        hidden: Any = self.rnn(self.embedding(inputs))
        return self.head(hidden)

    @staticmethod
    def order(values: np.ndarray) -> np.ndarray:
        """Axes as the model wants them, of (batch, time)."""
        return values.T.copy()


class StockTransformer(nnx.Module):
    """An embedding, `nnx.MultiHeadAttention` and feed-forward blocks, and a head."""

    def __init__(self, workload: TrainingStep, settings: Settings):
        spec, parameters = workload.model, workload.parameters()
        assert isinstance(spec, TransformerEncoder)
        self.base = spec.position_base
        self.embedding = nnx.Embed(spec.classes, spec.inputs.size, param_dtype=settings.precision, rngs=nnx.Rngs(0))
        self.embedding.embedding[...] = jnp.asarray(parameters["embedding.weight"])
        self.input = stock_linear("input", parameters, settings)
        self.layers = nnx.List([StockBlock(i, spec, parameters, settings) for i in range(spec.num_layers)])
        self.head = stock_linear("head", parameters, settings)

    def __call__(self, inputs: Array) -> Array:
        hidden = self.input(self.embedding(inputs))
        hidden = hidden + sinusoids(*hidden.shape[1:], self.base, hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(hidden)

    @staticmethod
    def order(values: np.ndarray) -> np.ndarray:
        """Axes as the model wants them, of (batch, time)."""
        return values


class StockBlock(nnx.Module):
    """A layer of the encoder, norms first, out of stock modules."""

    def __init__(self, index: int, spec: TransformerEncoder, parameters: Parameters, settings: Settings):
        assert spec.norm_first
        assert spec.activation == "gelu"
        name, width = f"encoder.layers.{index}", spec.hidden_size
        self.attention = nnx.MultiHeadAttention(
            spec.heads, width, decode=False, deterministic=True, param_dtype=settings.precision, rngs=nnx.Rngs(0)
        )
        weights = np.split(parameters[f"{name}.self_attn.in_proj_weight"], 3)
        biases = np.split(parameters[f"{name}.self_attn.in_proj_bias"], 3)
        parts: Any = (self.attention.query, self.attention.key, self.attention.value)
        for part, weight, bias in zip(parts, weights, biases, strict=True):
            part.kernel[...] = jnp.asarray(weight.T.reshape(part.kernel.shape))
            part.bias[...] = jnp.asarray(bias.reshape(part.bias.shape))
        out: Any = self.attention.out
        out.kernel[...] = jnp.asarray(parameters[f"{name}.self_attn.out_proj.weight"].T.reshape(out.kernel.shape))
        out.bias[...] = jnp.asarray(parameters[f"{name}.self_attn.out_proj.bias"])
        self.linear1 = stock_linear(f"{name}.linear1", parameters, settings)
        self.linear2 = stock_linear(f"{name}.linear2", parameters, settings)
        self.norm1, self.norm2 = (
            nnx.LayerNorm(width, epsilon=spec.layer_norm_epsilon, param_dtype=settings.precision, rngs=nnx.Rngs(0))
            for _ in range(2)
        )

    def __call__(self, hidden: Array) -> Array:
        hidden = hidden + self.attention(self.norm1(hidden))
        inner = jax.nn.gelu(self.linear1(self.norm2(hidden)), approximate=False)
        return hidden + self.linear2(inner)


def stock_linear(name: str, parameters: Parameters, settings: Settings) -> nnx.Linear:
    """`nnx.Linear` with canonical values."""
    weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
    module = nnx.Linear(*weight.shape[::-1], param_dtype=settings.precision, rngs=nnx.Rngs(0))
    module.kernel[...] = jnp.asarray(weight.T)
    assert module.bias is not None
    module.bias[...] = jnp.asarray(bias)
    return module


def stock_cell(cell: str, name: str, parameters: Parameters, settings: Settings) -> Any:
    """The stock cell that Flax's documentation recommends, with canonical values.

    It has one bias where torch has two, so it holds their sum; a GRU's b_hn has to be zero.
    """
    weight_i, weight_h, bias_i, bias_h = (
        parameters[f"{name}.{part}_l0"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    kind: Any = {"RNN": nnx.SimpleCell, "LSTM": nnx.OptimizedLSTMCell, "GRU": nnx.GRUCell}[cell]
    dtypes = {"dtype": settings.precision, "param_dtype": settings.precision}
    module = kind(weight_i.shape[1], weight_h.shape[1], rngs=nnx.Rngs(0), **dtypes)
    module.dense_i.kernel[...] = jnp.asarray(weight_i.T)
    module.dense_h.kernel[...] = jnp.asarray(weight_h.T)
    holder = module.dense_h if cell == "LSTM" else module.dense_i
    holder.bias[...] = jnp.asarray(bias_i + bias_h)
    return module


def stock_optimizer(spec: AnyOptimizer) -> optax.GradientTransformation:
    """The optimizer as optax has it. Raises Unsupported for one that no workload uses."""
    match spec:
        case Adam():
            return optax.adam(spec.learning_rate, spec.beta1, spec.beta2, spec.epsilon)
        case SGD(momentum=0.0):
            return optax.sgd(spec.learning_rate)
    raise Unsupported(f"stock optimizer: expected Adam, or SGD without momentum, got {spec}")
