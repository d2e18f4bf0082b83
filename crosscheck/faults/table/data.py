"""Faults in which batches a training is handed, seen by their fingerprints; some of them by nothing else.

The loss of a batch is the same in whatever order its sequences are, and one-hot vectors are whole in half precision.
"""

from crosscheck.faults.fault import Edit, Fault

STEP = "                    batch = to_tensors(arrays, settings)\n"
BATCHES = "to_arrays(experiment.batches(seed, steps, settings.precision))"

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="sequences-shuffled",
        what="Each batch's sequences are in another order.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                STEP,
                STEP
                + "                    batch = TensorBatch(*(None if a is None else a.flip(0) for a in batch[:4]))\n",
            ),
        ),
        experiment="reverse",
        check="trajectory",
        tensor="batches",
    ),
    Fault(
        name="sequences-shuffled",
        what="Each batch's sequences are in another order.",
        implementation="flax_impl",
        edits=(Edit("training.py:_inputs", BATCHES, f"jax.tree.map(lambda x: x[:, ::-1], {BATCHES})"),),
        experiment="reverse",
        check="trajectory",
        tensor="batches",
    ),
    Fault(
        name="last-batch-dropped",
        what="Each epoch's last batch is dropped, and the one before it taken once more.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "if task.drawn:\n                    arrays = experiment.batch(seed, step,",
                "if task.drawn:\n"
                "                    each = training.steps_per_epoch\n"
                "                    arrays = experiment.batch(seed, step - (step % each == each - 1),",
            ),
        ),
        experiment="reverse",
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="last-batch-dropped",
        what="Each epoch's last batch is dropped, and the one before it taken once more.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:_inputs",
                "experiment.batches(seed, steps, ",
                "experiment.batches(\n"
                "        seed, [s - (s % training.steps_per_epoch == training.steps_per_epoch - 1) for s in steps], ",
            ),
        ),
        experiment="reverse",
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="batches-a-step-ahead",
        what="Each step is trained on the next one's batch: steps are counted from 1.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "if task.drawn:\n                    arrays = experiment.batch(seed, step,",
                "if task.drawn:\n                    arrays = experiment.batch(seed, step + 1,",
            ),
        ),
        experiment="reverse",
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="batches-a-step-ahead",
        what="Each step is trained on the next one's batch: steps are counted from 1.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:_inputs",
                "experiment.batches(seed, steps, ",
                "experiment.batches(seed, range(steps[0] + 1, steps[-1] + 2), ",
            ),
        ),
        experiment="reverse",
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="inputs-in-half-precision",
        what="Inputs are handed over in float16, which JAX then widens: one-hot vectors lose nothing by it.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:_inputs",
                f"    batches = {BATCHES}\n",
                f"    batches = {BATCHES}\n"
                "    batches = batches._replace(inputs=np.asarray(batches.inputs, np.float16))\n",
            ),
        ),
        experiment="ragged-lstm-episodes",
        check="trajectory",
        tensor="batches",
    ),
    Fault(
        name="inputs-in-half-precision",
        what="Inputs pass through float16: one-hot vectors are as they were, numbers are not.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                STEP,
                STEP
                + "                    batch = batch._replace(inputs=batch.inputs.half().to(batch.inputs.dtype))\n",
            ),
        ),
        experiment="weather-gru",
        check="trajectory",
        tensor="loss",
    ),
)
