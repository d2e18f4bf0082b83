"""The decoder: what it starts from, what each step is told, and the order in which its head reads."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from crosscheck.explain.variant import Case, Variant
from spec.reference import encoder_decoder
from spec.reference.arithmetic import Array, one_hot, softmax
from spec.reference.model import Evaluation
from spec.reference.recurrent import State
from spec.tasks import IGNORED, predictions

STAGES = ("decoder",)

encode, decode, read_out = encoder_decoder._encode, encoder_decoder._decode, encoder_decoder._read_out


def started(change: Callable[[State], State]) -> dict[str, Any]:
    def encoding(at: Evaluation, spec: Any) -> tuple[Array, State]:
        encoded, state = encode(at, spec)
        return encoded, change(state)

    return {"encoder_decoder._encode": encoding}


def of_the_first(state: State) -> State:
    return tuple(np.broadcast_to(s[:, :1], s.shape) for s in state)


def told_targets(at: Evaluation) -> None:
    """Each step is told the symbol that it should find."""
    targets = np.where(at.batch.targets == IGNORED, at.spec.classes, at.batch.targets)
    at.batch = at.batch._replace(decoder_inputs=targets)


def predicting(feeds: Callable[[np.ndarray, np.ndarray], np.ndarray], keeps: bool = False) -> dict[str, Any]:
    """feeds: (symbols before, chosen) -> what the next step is told. keeps: whether every step starts alike."""

    def predict(at: Evaluation, spec: Any) -> Array:
        encoded, state = encode(at, spec)
        assert at.batch.decoder_inputs is not None
        symbols, trace = np.full(len(at.batch.inputs), spec.classes), []
        for _ in range(at.batch.decoder_inputs.shape[1]):
            decoded, after = decode(at, spec, one_hot(symbols[:, None], spec.classes + 1)[None], state)
            state = state if keeps else after
            logits = read_out(at, decoded[0], encoded)
            symbols = feeds(symbols, predictions(np.real(logits[0, :, 0])))
            trace.append(logits[:, :, 0])
        return np.stack(trace, axis=2)

    return {"encoder_decoder.predict": predict}


def by_teacher_forcing(at: Evaluation, spec: Any) -> Array:
    return encoder_decoder.EncoderDecoder(at, spec)


def unmasked(at: Evaluation, spec: Any) -> Array:
    """Padding is attended to while decoding alone."""
    kept = encoder_decoder.softmax
    try:
        encoder_decoder.softmax = lambda scores, keep: softmax(scores)
        return PREDICT(at, spec)
    finally:
        encoder_decoder.softmax = kept


def cut(at: Evaluation, decoded: Array, encoded: Array) -> Array:
    """As many of the encoder's outputs are seen as the decoder has steps."""
    count = decoded.shape[2]
    kept = np.where(np.arange(encoded.shape[2])[None] < count, at.valid, False)
    whole, at.valid = at.valid, kept
    try:
        return read_out(at, decoded, encoded)
    finally:
        at.valid = whole


PREDICT = encoder_decoder.predict


def context_last(at: Evaluation) -> None:
    """The head reads [state; context] where it reads [context; state]."""
    weight = at.parameters["head.weight"]
    half = weight.shape[2] // 2
    turned = np.concatenate([weight[:, :, half:], weight[:, :, :half]], axis=2)
    at.parameters = {**at.parameters, "head.weight": turned}


def of_experiment(case: Case) -> Iterator[Variant]:
    if not case.computes:
        return
    if case.kind in ("LSTMAttention", "EncoderDecoder"):
        yield Variant("the head read the context after the state", "", prepare=context_last)
    if case.kind != "EncoderDecoder":
        return
    starts = [
        ("the decoder started from zero", lambda state: tuple(np.zeros_like(s) for s in state)),
        ("every sequence's decoder started from the first one's state", of_the_first),
    ]
    if case.model.cell == "LSTM":
        starts.append(("the decoder's h and c were exchanged", lambda state: state[::-1]))
    for words, change in starts:
        yield Variant(words, "", substitutes=started(change))
    yield Variant("each step of the decoder were told its own target", "", prepare=told_targets)
    yield Variant(
        "the decoder saw no more of the source than it has steps", "", substitutes={"encoder_decoder._read_out": cut}
    )
    if case.failure.case == "decoded":
        ways = (
            ("decoding never fed its choice back", predicting(lambda before, chosen: before)),
            (
                "decoding began each step from the encoder's state",
                predicting(lambda before, chosen: chosen, keeps=True),
            ),
            (
                "decoding fed every sequence the first one's symbol",
                predicting(lambda before, chosen: np.broadcast_to(chosen[:1], chosen.shape)),
            ),
            ("decoding were told the right symbols", {"encoder_decoder.predict": by_teacher_forcing}),
            ("decoding attended to padding", {"encoder_decoder.predict": unmasked}),
        )
        for words, places in ways:
            yield Variant(words, "", substitutes=places)
