"""An encoder, and a decoder that attends to it. See spec.models.encoder_decoder."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from flax_impl.attention import attend
from flax_impl.gru import GRUCell
from flax_impl.linear import Linear
from flax_impl.lstm import LSTMCell
from flax_impl.mixed_precision import products
from flax_impl.model import ArrayBatch, Model, one_hot, valid_steps
from flax_impl.recurrent import Layers, State, initial_state, record_final
from spec.models.encoder_decoder import EncoderDecoder as Spec


class EncoderDecoder(Model):
    """Sequence to sequence with dot-product attention. See spec.models.EncoderDecoder."""

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs):
        super().__init__(spec, rngs=rngs)
        cell = {"LSTM": LSTMCell, "GRU": GRUCell}[spec.cell]
        self.start = spec.classes
        dot_general, self.matmul = products(spec)
        options: Any = {"dot_general": dot_general, "rngs": rngs}
        self.encoder = Layers(cell, spec.inputs.size, spec.hidden_size, **options)
        self.decoder = Layers(cell, spec.classes + 1, spec.hidden_size, **options)
        self.head = Linear(2 * spec.hidden_size, spec.classes, **options)

    def forward(self, batch: ArrayBatch) -> Float[Array, "batch target_time classes"]:
        """Logits under teacher forcing: each step is told the right symbol before it."""
        valid, encoded, state = self.encode(batch)
        symbols = one_hot(self.decoder_inputs(batch), self.start + 1, encoded)
        decoded, _, trace = self.decoder(symbols, initial=state)
        for name, value in trace.items():
            self.record(f"decoder.{name}", value)
        context, weights = attend(decoded, encoded, encoded, 1.0, valid, matmul=self.matmul)
        self.record("attention.weights", weights)
        self.record("attention.context", context)
        logits = self.head(jnp.concatenate([context, decoded], -1))
        self.record("logits", logits)
        return logits

    def predict(self, batch: ArrayBatch) -> Float[Array, "batch target_time classes"]:
        """Logits under greedy decoding: each step is told the symbol that was chosen before it."""
        valid, encoded, state = self.encode(batch)
        decoder_inputs = self.decoder_inputs(batch)

        def step(carry: tuple[State, Array], _: Any) -> tuple[tuple[State, Array], Array]:
            state, symbol = carry
            decoded, state, _ = self.decoder(one_hot(symbol, self.start + 1, encoded)[:, None], initial=state)
            context, _ = attend(decoded, encoded, encoded, 1.0, valid, matmul=self.matmul)
            logits = self.head(jnp.concatenate([context, decoded], -1))[:, 0]
            return (state, logits.argmax(-1).astype(symbol.dtype)), logits

        start = jnp.full_like(decoder_inputs[:, 0], self.start)
        _, logits = jax.lax.scan(step, (state, start), length=decoder_inputs.shape[1])
        return logits.swapaxes(0, 1)

    def encode(
        self, batch: ArrayBatch
    ) -> tuple[Bool[Array, "batch time"] | None, Float[Array, "batch time hidden"], State]:
        """Which steps are valid, the encoder's outputs, and its final state."""
        valid = valid_steps(batch)
        outputs, state, trace = self.encoder(self.embed(batch, valid), valid, initial_state(batch, "encoder"))
        for name, value in trace.items():
            self.record(f"encoder.{name}", value)
        record_final(self, "encoder", state)
        return valid, outputs, state

    def decoder_inputs(self, batch: ArrayBatch) -> Int[Array, "batch target_time"]:
        """The symbols before each step. Raises ValueError for a batch that has none."""
        if batch.decoder_inputs is None:
            raise ValueError("decoder_inputs: expected (batch, target time), got None")
        return batch.decoder_inputs
