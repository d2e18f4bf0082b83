"""Faults in code that is taken from some size on, which small batches and trainings never reach."""

from crosscheck.faults.fault import Edit, Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="blocks-of-queries-see-padding",
        what="Attention in blocks of queries, from 10^6 weights on, has no mask.",
        implementation="flax_impl",
        edits=(
            Edit(
                "attention.py:_in_blocks",
                "_written_out(matmul, block, key, value, scale, valid,",
                "_written_out(matmul, block, key, value, scale, None,",
            ),
        ),
        experiment="hello-transformer",
        check="forward",
        tensor="encoder.layers.0.self_attn",
    ),
    Fault(
        name="last-block-of-queries-is-the-first",
        what="Of blocks of queries, the last is the first once more.",
        implementation="flax_impl",
        edits=(
            Edit(
                "attention.py:_in_blocks",
                "(queries, jnp.arange(blocks) * size)",
                "(queries.at[-1].set(queries[0]), jnp.arange(blocks) * size)",
            ),
        ),
        experiment="hello-transformer",
        check="forward",
        tensor="encoder.layers.0.self_attn",
    ),
    Fault(
        name="fused-attention-sees-padding",
        what="The fused kernel, from 10^5 weights on, has no mask.",
        implementation="torch_impl",
        edits=(
            Edit(
                "attention.py:_fused",
                "query, key, value, mask, scale=1 / scale",
                "query, key, value, None, scale=1 / scale",
            ),
        ),
        experiment="hello-lstm-attention",
        check="gradients",
        tensor="loss",
    ),
    Fault(
        name="fused-attention-of-keys",
        what="The fused kernel is given the keys as values.",
        implementation="torch_impl",
        edits=(Edit("attention.py:_fused", "query, key, value, mask, scale", "query, key, key, mask, scale"),),
        experiment="hello-lstm-attention",
        check="gradients",
        tensor="loss",
    ),
    Fault(
        name="fused-recurrence-starts-from-zero",
        what="The formulation of long recurrences starts from zero whatever state a batch brings.",
        implementation="flax_impl",
        edits=(
            Edit(
                "fast/fused.py:fused",
                "reverse, parameters, initial, over_time)",
                "reverse, parameters, jax.tree.map(jnp.zeros_like, initial), over_time)",
            ),
        ),
        experiment="hello-lstm-attention",
        check="forward",
        tensor="rnn.h_l0",
    ),
    Fault(
        name="large-steps-lose-their-lengths",
        what="A training whose steps multiply 5 10^6 times and more takes padding for steps.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "                    batch = to_tensors(arrays, settings)\n",
                "                    batch = to_tensors(arrays, settings)\n"
                "                    if experiment.multiplications_per_step >= 5 * 10**6:\n"
                "                        batch = batch._replace(lengths=None)\n",
            ),
        ),
        experiment="ragged-lstm",
        check="shipped-path",
        tensor="a large training/loss",
    ),
    Fault(
        name="large-trainings-repeat-their-first-batch",
        what="A training too large to be recorded unasked takes its first batch at every step.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:train",
                "        carry, (outputs, logits) = train_epochs(",
                "        if not compilation.records(experiment, epochs):\n"
                "            first = jax.tree.map(lambda x: np.broadcast_to(x[:1, :1], x.shape), inputs.batch)\n"
                "            inputs = inputs._replace(batch=first)\n"
                "        carry, (outputs, logits) = train_epochs(",
            ),
        ),
        experiment="ragged-lstm",
        check="shipped-path",
        tensor="a large training/loss",
    ),
)
