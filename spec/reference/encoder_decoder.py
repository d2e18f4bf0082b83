"""An encoder, and a decoder that attends to it. See spec.models.encoder_decoder."""

import numpy as np

from spec.models.encoder_decoder import EncoderDecoder as Spec
from spec.reference import gru, lstm, recurrent
from spec.reference.arithmetic import Array, one_hot, softmax
from spec.reference.model import Evaluation
from spec.reference.recurrent import State
from spec.tasks import predictions


def EncoderDecoder(at: Evaluation, spec: Spec) -> Array:  # noqa: N802
    """Under teacher forcing. See spec.models.EncoderDecoder."""
    encoded, state = _encode(at, spec)
    assert at.batch.decoder_inputs is not None
    decoded, _ = _decode(at, spec, one_hot(at.batch.decoder_inputs, spec.classes + 1)[None], state)
    return _read_out(at, decoded[0], encoded)


def predict(at: Evaluation, spec: Spec) -> Array:
    """Logits under greedy decoding, with as many steps as the batch's decoder inputs have."""
    encoded, state = _encode(at, spec)
    assert at.batch.decoder_inputs is not None
    symbols = np.full(len(at.batch.inputs), spec.classes)
    trace = []
    for _ in range(at.batch.decoder_inputs.shape[1]):
        decoded, state = _decode(at, spec, one_hot(symbols[:, None], spec.classes + 1)[None], state)
        logits = _read_out(at, decoded[0], encoded)
        symbols = predictions(np.real(logits[0, :, 0]))
        trace.append(logits[:, :, 0])
    return np.stack(trace, axis=2)


def _encode(at: Evaluation, spec: Spec) -> tuple[Array, State]:
    step = lstm.step if spec.cell == "LSTM" else gru.step
    initial = at.initial("encoder", 0)
    trace, final = recurrent.run(at, step, ("encoder.", "_l0"), at.inputs(), at.valid, spec.states, initial)
    for name, values in zip(spec.states, final, strict=True):
        at.record(f"encoder.{name}_n", values[:, None])
    return trace[0], final


def _decode(at: Evaluation, spec: Spec, symbols: Array, state: State) -> tuple[State, State]:
    step = lstm.step if spec.cell == "LSTM" else gru.step
    every = np.ones(symbols.shape[1:3], bool)
    return recurrent.run(at, step, ("decoder.", "_l0"), symbols, every, spec.states, initial=state)


def _read_out(at: Evaluation, decoded: Array, encoded: Array) -> Array:
    weights = at.record("attention.weights", softmax(at.product(decoded, encoded.swapaxes(-1, -2)), at.valid[:, None]))
    context = at.record("attention.context", at.product(weights, encoded))
    return at.record("logits", at.linear("head", np.concatenate([context, decoded], axis=-1)))
