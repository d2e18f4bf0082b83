"""Faults in what trainings are given beside inputs and targets: lengths, states to begin with, targets to ignore.

Forward and gradients are handed all of that, and are right here. What is wrong is what a training makes of it.
"""

from crosscheck.faults.fault import Edit, Fault

LSTM, TRANSFORMER = "ragged-lstm", "ragged-transformer"

STEP = "                    batch = to_tensors(arrays, settings)\n"
EVALUATED = "experiment.evaluation_batch(settings.precision)"
BATCH = "experiment.batch(seed, step, settings.precision)\n" + STEP
BATCHES = "experiment.batches(seed, steps, settings.precision)"
MEMBERS = "            batch = to_tensors(at_step, settings)\n"
STACKED = "stack_batches([experiment.batches(int(seed), steps, settings.precision) for seed in seeds])"
FIRST_STATES = "{{name: state[:1].repeat(len(state), 0) for name, state in {}.initial.items()}}"

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="training-loses-lengths",
        what="A training reads padding as if it were steps like any other.",
        implementation="torch_impl",
        edits=(Edit("training.py:train", STEP, STEP.replace("arrays,", "arrays._replace(lengths=None),")),),
        experiment=TRANSFORMER,
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="training-loses-lengths",
        what="A training reads padding as if it were steps like any other.",
        implementation="flax_impl",
        edits=(Edit("training.py:_inputs", BATCHES, BATCHES + "._replace(lengths=None)"),),
        experiment=LSTM,
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="training-begins-with-zeros",
        what="A training begins each batch with states of zero, whatever the batch says.",
        implementation="torch_impl",
        edits=(Edit("training.py:train", STEP, STEP.replace("arrays,", "arrays._replace(initial=None),")),),
        experiment=LSTM,
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="training-begins-with-zeros",
        what="A training begins each batch with states of zero, whatever the batch says.",
        implementation="flax_impl",
        edits=(Edit("training.py:_inputs", BATCHES, BATCHES + "._replace(initial=None)"),),
        experiment=LSTM,
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="one-initial-state-for-all-batches",
        what="Every batch begins with the first one's states.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                BATCH,
                BATCH.replace("arrays,", "arrays._replace(initial=experiment.batch(seed, 0, 'float64').initial),"),
            ),
        ),
        experiment=LSTM,
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="one-initial-state-for-all-batches",
        what="Every batch begins with the first one's states.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:_inputs",
                BATCHES,
                BATCHES + "._replace(initial=experiment.batches(seed, [0] * len(steps), settings.precision).initial)",
            ),
        ),
        experiment=LSTM,
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="training-counts-ignored-targets",
        what="A training takes a target that is to be ignored for the first class.",
        implementation="torch_impl",
        edits=(Edit("training.py:backward", "share.targets, whole", "share.targets.clamp(min=0), whole"),),
        experiment=LSTM,
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="training-counts-ignored-targets",
        what="A training takes a target that is to be ignored for the first class.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:make_step.step.loss_of",
                "logits, batch.targets, whole)",
                "logits, jax.numpy.maximum(batch.targets, 0), whole)",
            ),
        ),
        experiment=TRANSFORMER,
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="training-is-judged-without-lengths",
        what="The evaluation after each epoch reads padding.",
        implementation="torch_impl",
        edits=(Edit("training.py:train", EVALUATED, EVALUATED + "._replace(lengths=None)"),),
        experiment=LSTM,
        check="trajectory",
        tensor="logits",
    ),
    Fault(
        name="training-is-judged-without-lengths",
        what="The evaluation after each epoch reads padding.",
        implementation="flax_impl",
        edits=(Edit("training.py:train", EVALUATED, EVALUATED + "._replace(lengths=None)"),),
        experiment=TRANSFORMER,
        check="trajectory",
        tensor="logits",
    ),
    Fault(
        name="training-is-judged-from-zeros",
        what="The evaluation after each epoch begins with states of zero.",
        implementation="torch_impl",
        edits=(Edit("training.py:train", EVALUATED, EVALUATED + "._replace(initial=None)"),),
        experiment=LSTM,
        check="trajectory",
        tensor="logits",
    ),
    Fault(
        name="training-is-judged-from-zeros",
        what="The evaluation after each epoch begins with states of zero.",
        implementation="flax_impl",
        edits=(Edit("training.py:train", EVALUATED, EVALUATED + "._replace(initial=None)"),),
        experiment=LSTM,
        check="trajectory",
        tensor="logits",
    ),
    Fault(
        name="lengths-begin-again-in-each-call",
        what="A training that goes on from a state has the lengths of the first steps again.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                BATCH,
                BATCH.replace(
                    "arrays,",
                    "arrays._replace(lengths=experiment.batch(seed, step - state.step, 'float64').lengths),",
                ),
            ),
        ),
        experiment=LSTM,
        check="trajectory",
        tensor="resumed/loss",
    ),
    Fault(
        name="lengths-begin-again-in-each-call",
        what="A training that goes on from a state has the lengths of the first steps again.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:_inputs",
                BATCHES,
                BATCHES + "._replace(lengths=experiment.batches(seed, range(len(steps)), settings.precision).lengths)",
            ),
        ),
        experiment=TRANSFORMER,
        check="trajectory",
        tensor="resumed/loss",
    ),
    Fault(
        name="unrecorded-training-loses-lengths",
        what="A training that records nothing, as the command's, reads padding.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                STEP,
                STEP.replace("arrays,", "arrays if record else arrays._replace(lengths=None),"),
            ),
        ),
        experiment=LSTM,
        check="shipped-path",
        tensor="start/plain/loss",
    ),
    Fault(
        name="unrecorded-training-loses-lengths",
        what="A training that records nothing, as the command's, reads padding.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:train",
                "stack_inputs(experiment, steps, seed, settings, masks, part)\n",
                "stack_inputs(experiment, steps, seed, settings, masks, part)\n"
                "        if not record:\n"
                "            inputs = inputs._replace(batch=inputs.batch._replace(lengths=None))\n",
            ),
        ),
        experiment=LSTM,
        check="shipped-path",
        tensor="start/plain/loss",
    ),
    Fault(
        name="perturbed-starts-lose-lengths",
        what="Several starts that are trained together are trained on padding.",
        implementation="torch_impl",
        edits=(
            Edit(
                "ensemble.py:train_starts",
                "                batch = to_tensors(arrays, settings)\n",
                "                batch = to_tensors(arrays._replace(lengths=None), settings)\n",
            ),
        ),
        experiment=LSTM,
        check="trajectory",
        tensor="starts/loss",
    ),
    Fault(
        name="members-lose-lengths",
        what="Members of an ensemble are trained on padding.",
        implementation="torch_impl",
        edits=(
            Edit("ensemble.py:_train_chunk", MEMBERS, MEMBERS.replace("at_step,", "at_step._replace(lengths=None),")),
        ),
        experiment=LSTM,
        check="members",
        tensor="losses of member *",
    ),
    Fault(
        name="members-lose-lengths",
        what="Members of an ensemble are trained on padding.",
        implementation="flax_impl",
        edits=(Edit("members.py:make_arguments", STACKED, STACKED + "._replace(lengths=None)"),),
        experiment=LSTM,
        check="members",
        tensor="losses of member *",
    ),
    Fault(
        name="members-share-their-lengths",
        what="All members have the lengths of the first one.",
        implementation="torch_impl",
        edits=(
            Edit(
                "ensemble.py:_train_chunk",
                MEMBERS,
                MEMBERS.replace("at_step,", "at_step._replace(lengths=at_step.lengths[:1].repeat(len(seeds), 0)),"),
            ),
        ),
        experiment=LSTM,
        check="members",
        tensor="losses of member *",
    ),
    Fault(
        name="members-share-their-initial-states",
        what="All members begin with the states of the first one.",
        implementation="torch_impl",
        edits=(
            Edit(
                "ensemble.py:_train_chunk",
                MEMBERS,
                MEMBERS.replace("at_step,", f"at_step._replace(initial={FIRST_STATES.format('at_step')}),"),
            ),
        ),
        experiment=LSTM,
        check="members",
        tensor="losses of member *",
    ),
    Fault(
        name="members-share-their-initial-states",
        what="All members begin with the states of the first one.",
        implementation="flax_impl",
        edits=(
            Edit(
                "members.py:make_arguments",
                f"        drawn = to_arrays({STACKED})\n",
                f"        own = {STACKED}\n"
                f"        drawn = to_arrays(own._replace(initial={FIRST_STATES.format('own')}))\n",
            ),
        ),
        experiment=LSTM,
        check="members",
        tensor="losses of member *",
    ),
    Fault(
        name="members-are-judged-without-lengths",
        what="Members of an ensemble are judged on padding too.",
        implementation="torch_impl",
        edits=(
            Edit(
                "ensemble.py:_train_chunk",
                "to_tensors(evaluation, settings)",
                "to_tensors(evaluation._replace(lengths=None), settings)",
            ),
        ),
        experiment=LSTM,
        check="members",
        tensor="logits of member *",
    ),
    Fault(
        name="members-are-judged-without-lengths",
        what="Members of an ensemble are judged on padding too.",
        implementation="flax_impl",
        edits=(Edit("members.py:make_arguments", EVALUATED, EVALUATED + "._replace(lengths=None)"),),
        experiment=LSTM,
        check="members",
        tensor="logits of member *",
    ),
    Fault(
        name="time-to-solve-asks-for-ignored-targets",
        what="A member counts as solved where it is right at ignored targets as well: never.",
        implementation="flax_impl",
        edits=(
            Edit(
                "members.py:_is_solved",
                "(jnp.argmax(logits, -1) == targets) | (targets == IGNORED)",
                "jnp.argmax(logits, -1) == targets",
            ),
        ),
        experiment=LSTM,
        check="members",
        tensor="first_solved of member *",
    ),
)
