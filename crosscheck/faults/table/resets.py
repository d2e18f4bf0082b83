"""Faults in resets within sequences, where something new begins in their midst."""

from crosscheck.faults.fault import Edit, Fault

EPISODES = "ragged-lstm-episodes"
STEP = "                    batch = to_tensors(arrays, settings)\n"
TORCH = "state = tuple(torch.where(begins[:, time, None], 0, s) for s in state)"
FLAX = "state = tuple(jnp.where(begins[:, None], 0, s) for s in state)"

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="resets-ignored",
        what="The state goes on through a sequence, whatever begins in it.",
        implementation="torch_impl",
        edits=(Edit("recurrent.py:unroll_cell", "begins is not None", "False"),),
        experiment=EPISODES,
        check="forward",
        tensor="rnn.*",
    ),
    Fault(
        name="resets-ignored",
        what="The state goes on through a sequence, whatever begins in it.",
        implementation="flax_impl",
        edits=(Edit("recurrent.py:unroll_cell.step", "begins is not None", "False"),),
        experiment=EPISODES,
        check="forward",
        tensor="rnn.*",
    ),
    Fault(
        name="resets-ignored-where-nobody-looks",
        what="The layers as they are trained, without their steps being recorded, go on through a sequence.",
        implementation="torch_impl",
        edits=(Edit("recurrent.py:run", "resets is not None:", "False:"),),
        experiment=EPISODES,
        check="forward",
        tensor="*_n*",
    ),
    Fault(
        name="resets-a-step-late",
        what="The state is zero after the step at which something new begins, and not before it.",
        implementation="torch_impl",
        edits=(
            Edit(
                "recurrent.py:handed_on",
                "    begins = resets if valid is None else resets & valid\n",
                "    resets = functional.pad(resets[:, :-1], (1, 0))\n"
                "    begins = resets if valid is None else resets & valid\n",
            ),
        ),
        experiment=EPISODES,
        check="forward",
        tensor="rnn.*",
    ),
    Fault(
        name="resets-a-step-late",
        what="The state is zero after the step at which something new begins, and not before it.",
        implementation="flax_impl",
        edits=(
            Edit(
                "recurrent.py:handed_on",
                "    begins = resets if valid is None else resets & valid\n",
                "    resets = jnp.pad(resets[:, :-1], ((0, 0), (1, 0)))\n"
                "    begins = resets if valid is None else resets & valid\n",
            ),
        ),
        experiment=EPISODES,
        check="forward",
        tensor="rnn.*",
    ),
    Fault(
        name="only-h-is-reset",
        what="An LSTM's cell state goes on where its hidden state is set back.",
        implementation="torch_impl",
        edits=(
            Edit(
                "recurrent.py:unroll_cell", TORCH, TORCH.replace("for s in state)", "for s in state[:1]) + state[1:]")
            ),
        ),
        experiment=EPISODES,
        check="forward",
        tensor="rnn.*",
    ),
    Fault(
        name="only-h-is-reset",
        what="An LSTM's cell state goes on where its hidden state is set back.",
        implementation="flax_impl",
        edits=(
            Edit(
                "recurrent.py:unroll_cell.step",
                FLAX,
                FLAX.replace("for s in state)", "for s in state[:1]) + state[1:]"),
            ),
        ),
        experiment=EPISODES,
        check="forward",
        tensor="rnn.*",
    ),
    Fault(
        name="backward-resets-at-the-other-end",
        what="The backward direction is set back before the step at which something new begins, and not behind it.",
        implementation="torch_impl",
        edits=(Edit("recurrent.py:handed_on", "if reverse else", "if False else"),),
        experiment=EPISODES,
        check="forward",
        tensor="rnn.*_reverse*",
    ),
    Fault(
        name="backward-resets-at-the-other-end",
        what="The backward direction is set back before the step at which something new begins, and not behind it.",
        implementation="flax_impl",
        edits=(Edit("recurrent.py:handed_on", "if reverse else", "if False else"),),
        experiment=EPISODES,
        check="forward",
        tensor="rnn.*_reverse*",
    ),
    Fault(
        name="first-stretches-begin-with-zeros",
        what="The state that a batch brings is lost where its sequences are cut.",
        implementation="torch_impl",
        edits=(Edit("recurrent.py:run_stretches", "first & ~resets[rows, 0], last)", "first & False, last)"),),
        experiment=EPISODES,
        check="forward",
        tensor="logits",
    ),
    Fault(
        name="resets-at-padding",
        what="Resets at padding set back the state with which the backward direction begins.",
        implementation="flax_impl",
        edits=(Edit("recurrent.py:handed_on", "resets if valid is None else resets & valid", "resets"),),
        experiment=EPISODES,
        check="forward",
        tensor="rnn.*_reverse*",
    ),
    Fault(
        name="training-loses-resets",
        what="A training is told nothing of what begins within its sequences.",
        implementation="torch_impl",
        edits=(Edit("training.py:train", STEP, STEP.replace("arrays,", "arrays._replace(resets=None),")),),
        experiment=EPISODES,
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="training-loses-resets",
        what="A training is told nothing of what begins within its sequences.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:_inputs",
                "experiment.batches(seed, steps, settings.precision)",
                "experiment.batches(seed, steps, settings.precision)._replace(resets=None)",
            ),
        ),
        experiment=EPISODES,
        check="trajectory",
        tensor="loss",
    ),
)
