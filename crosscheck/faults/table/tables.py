"""Faults in what is made of sequences of several lengths: tables in buckets, weather, and sequences backwards."""

from crosscheck.faults.fault import Edit, Fault

STEP = "                    batch = to_tensors(arrays, settings)\n"
BATCHES = "experiment.batches(seed, steps, settings.precision)"
BUCKETED, WEATHER, REVERSE = "bucketed", "weather-gru", "reverse"

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="empty-sequences-have-a-step",
        what="Sequences of length 0, which fill a batch of a bucket up, are read as if they had a step with a target.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                STEP,
                "                    arrays.targets[arrays.lengths == 0, 0] = 0\n"
                "                    arrays.lengths[arrays.lengths == 0] = 1\n" + STEP,
            ),
        ),
        experiment=BUCKETED,
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="a-bucket-s-padding-is-read",
        what="A batch's lengths are lost where steps are trained on one by one: padding of its bucket is read.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:_inputs",
                BATCHES,
                f"{BATCHES}._replace(lengths=None)",
            ),
        ),
        experiment=BUCKETED,
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="weather-of-tomorrow",
        what="Each day's features are the next day's, in which its target stands.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:_inputs",
                BATCHES,
                f"{BATCHES}._replace(\n        inputs=np.roll({BATCHES}.inputs, -1, axis=2)\n    )",
            ),
        ),
        experiment=WEATHER,
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="backwards-without-an-end",
        what="A decoder is never asked to say the end.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:backward",
                "replica(share), share.targets, ",
                "replica(share), share.targets.masked_fill(share.targets == model.spec.classes - 1, -100), ",
            ),
        ),
        experiment=REVERSE,
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="decoder-stops-with-its-source",
        what="Greedy decoding goes on for as many steps as the source has; the steps after that have its last logits.",
        implementation="flax_impl",
        edits=(
            Edit(
                "encoder_decoder.py:EncoderDecoder.predict",
                "        return logits.swapaxes(0, 1)",
                "        kept = jnp.minimum(jnp.arange(len(logits)), encoded.shape[1] - 1)\n"
                "        return logits[kept].swapaxes(0, 1)",
            ),
        ),
        experiment=REVERSE,
        check="trajectory",
        tensor="logits",
    ),
)
