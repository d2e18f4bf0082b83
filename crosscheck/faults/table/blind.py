"""Faults that no rung asks for yet: each says in `what` which check would see it."""

from crosscheck.faults.fault import Edit, Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="resumed-at-step-zero",
        what="Training on from a state, Adam counts from 0 again; seen where a training in two stretches is compared.",
        implementation="torch_impl",
        edits=(Edit("optimizer.py", "torch.tensor(float(step))", "torch.tensor(0.0)"),),
        experiment="hello-gru",
        rung="lock-step",
        tensor="*",
        entries=("PB80",),
    ),
    Fault(
        name="resumed-at-step-zero",
        what="Training on from a state, the schedule starts again; seen where a training in two stretches is compared.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py",
                "constants = stack_constants(training, steps, settings)\n    flat",
                "constants = stack_constants(training, range(len(steps)), settings)\n    flat",
            ),
        ),
        experiment="hello-lstm-adamw-warm-up",
        rung="lock-step",
        tensor="*",
        entries=("PB74",),
    ),
    Fault(
        name="slots-not-resumed",
        what="Training on from a state, the slots start at zero; seen where a training in two stretches is compared.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py",
                "layout, parameters, state.slots, state.step)",
                "layout, parameters, {n: s * 0 for n, s in state.slots.items()}, state.step)",
            ),
        ),
        experiment="hello-gru",
        rung="lock-step",
        tensor="*",
    ),
    Fault(
        name="steps-miscounted",
        what="The returned state has done one step less; seen where the returned step is compared.",
        implementation="flax_impl",
        edits=(Edit("training.py", "state.step + len(steps),", "state.step + len(steps) - 1,"),),
        experiment="hello-gru",
        rung="lock-step",
        tensor="*",
    ),
    Fault(
        name="decoding-looks-at-padding",
        what="Greedy decoding attends to padding too; seen where a ragged batch is decoded.",
        implementation="flax_impl",
        edits=(
            Edit(
                "encoder_decoder.py",
                "context, _ = attend(decoded, encoded, encoded, 1.0, valid)",
                "context, _ = attend(decoded, encoded, encoded, 1.0)",
            ),
        ),
        experiment="hello-encoder-decoder",
        rung="lock-step",
        tensor="logits",
    ),
    Fault(
        name="decoding-feeds-back-one-sequence",
        what="Every sequence is told the symbol chosen for the first; seen where a batch of two is decoded.",
        implementation="torch_impl",
        edits=(
            Edit(
                "encoder_decoder.py", "symbol = logits.argmax(-1)", "symbol = logits.argmax(-1)[:1].expand(len(logits))"
            ),
        ),
        experiment="hello-encoder-decoder",
        rung="lock-step",
        tensor="logits",
    ),
)
