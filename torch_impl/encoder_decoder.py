"""An encoder, and a decoder that attends to it. See spec.models.encoder_decoder."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from spec.models.encoder_decoder import EncoderDecoder as Spec
from torch_impl.attention import attend
from torch_impl.model import Model, TensorBatch, one_hot, valid_steps
from torch_impl.recurrent import State, initial_state, record_final, run, unroll


class EncoderDecoder(Model):
    """Sequence to sequence with dot-product attention. See spec.models.EncoderDecoder."""

    def __init__(self, spec: Spec):
        super().__init__(spec)
        layers = {"LSTM": nn.LSTM, "GRU": nn.GRU}[spec.cell]
        self.start = spec.classes
        self.encoder = layers(spec.inputs.size, spec.hidden_size, batch_first=True)
        self.decoder = layers(spec.classes + 1, spec.hidden_size, batch_first=True)
        self.head = nn.Linear(2 * spec.hidden_size, spec.classes)

    def forward(self, batch: TensorBatch) -> Float[Tensor, "batch target_time classes"]:
        """Logits under teacher forcing: each step is told the right symbol before it."""
        valid, encoded, state = self.encode(batch)
        symbols = one_hot(self.decoder_inputs(batch), self.start + 1, encoded)
        if self.intermediates is not None:
            for name, value in unroll(self.decoder, symbols, initial=state)[2].items():
                self.record(f"decoder.{name}", value)
        decoded, _ = run(self.decoder, symbols, initial=state)
        context, weights = attend(decoded, encoded, encoded, 1.0, valid, self.recording)
        if weights is not None:
            self.record("attention.weights", weights)
        self.record("attention.context", context)
        logits = self.head(torch.cat([context, decoded], -1))
        self.record("logits", logits)
        return logits

    def predict(self, batch: TensorBatch) -> Float[Tensor, "batch target_time classes"]:
        """Logits under greedy decoding: each step is told the symbol that was chosen before it."""
        valid, encoded, state = self.encode(batch)
        decoder_inputs = self.decoder_inputs(batch)
        symbol = torch.full_like(decoder_inputs[:, 0], self.start)
        trace = []
        for _ in range(decoder_inputs.shape[1]):
            decoded, state = run(self.decoder, one_hot(symbol, self.start + 1, encoded)[:, None], initial=state)
            context, _ = attend(decoded, encoded, encoded, 1.0, valid)
            logits = self.head(torch.cat([context, decoded], -1))[:, 0]
            symbol = logits.argmax(-1)
            trace.append(logits)
        return torch.stack(trace, 1)

    def encode(
        self, batch: TensorBatch
    ) -> tuple[Bool[Tensor, "batch time"] | None, Float[Tensor, "batch time hidden"], State]:
        """Which steps are valid, the encoder's outputs, and its final state."""
        valid = valid_steps(batch)
        inputs = self.embed(batch, valid)
        initial = initial_state(batch, "encoder")
        if self.intermediates is not None:
            for name, value in unroll(self.encoder, inputs, valid, initial)[2].items():
                self.record(f"encoder.{name}", value)
        outputs, state = run(self.encoder, inputs, batch.lengths, initial)
        record_final(self, "encoder", state)
        return valid, outputs, state

    def decoder_inputs(self, batch: TensorBatch) -> Int[Tensor, "batch target_time"]:
        """The symbols before each step. Raises ValueError for a batch that has none."""
        if batch.decoder_inputs is None:
            raise ValueError("decoder_inputs: expected (batch, target time), got None")
        return batch.decoder_inputs
