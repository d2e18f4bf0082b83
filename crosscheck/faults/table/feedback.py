"""Faults where a result is handed back: training that goes on from a state, and decoding that reads its own choices."""

from crosscheck.faults.fault import Edit, Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="resumed-at-step-zero",
        what="Training on from a state, Adam counts from 0 again.",
        implementation="torch_impl",
        edits=(Edit("optimizer.py:load_slots", "torch.full((), float(step))", "torch.zeros(())"),),
        experiment="hello-gru",
        check="trajectory",
        tensor="resumed/*",
        entries=("PB80",),
    ),
    Fault(
        name="resumed-at-step-zero",
        what="Training on from a state, the schedule starts again.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:_inputs",
                "constants = stack_constants(training, steps, settings)\n    return",
                "constants = stack_constants(training, range(len(steps)), settings)\n    return",
            ),
        ),
        experiment="hello-lstm-adamw-warm-up",
        check="trajectory",
        tensor="resumed/*",
        entries=("PB74",),
    ),
    Fault(
        name="slots-not-resumed",
        what="Training on from a state, the slots start at zero.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:first_carry",
                "layout, native, state.slots, state.step)",
                "layout, native, {n: s * 0 for n, s in state.slots.items()}, state.step)",
            ),
        ),
        experiment="hello-gru",
        check="trajectory",
        tensor="resumed/*",
    ),
    Fault(
        name="steps-miscounted",
        what="The returned state has done one step less.",
        implementation="flax_impl",
        edits=(Edit("training.py:train", "state.step + len(steps),", "state.step + len(steps) - 1,"),),
        experiment="hello-gru",
        check="trajectory",
        tensor="steps",
    ),
    Fault(
        name="decoding-looks-at-padding",
        what="Greedy decoding attends to padding too.",
        implementation="flax_impl",
        edits=(
            Edit(
                "encoder_decoder.py:EncoderDecoder.predict.step",
                "context, _ = attend(decoded, encoded, encoded, 1.0, valid,",
                "context, _ = attend(decoded, encoded, encoded, 1.0, None,",
            ),
        ),
        experiment="hello-encoder-decoder",
        check="forward",
        tensor="decoded*",
    ),
    Fault(
        name="decoding-feeds-back-one-sequence",
        what="Every sequence is told the symbol chosen for the first.",
        implementation="torch_impl",
        edits=(
            Edit(
                "encoder_decoder.py:EncoderDecoder.predict",
                "symbol = logits.argmax(-1)",
                "symbol = logits.argmax(-1)[:1].expand(len(logits))",
            ),
        ),
        experiment="hello-encoder-decoder",
        check="forward",
        tensor="decoded*",
    ),
)
