"""Faults of causal Transformers: what a step may look at, learned positions, a norm behind the last layer, and what is
kept of the steps before."""

from crosscheck.faults.fault import Edit, Fault

CAUSAL = "hello-transformer-causal"

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="causal-mask-off-by-one",
        what="A step looks at the one after it too.",
        implementation="torch_impl",
        edits=(Edit("transformer.py:later_steps", "triu(1)", "triu(2)"),),
        experiment=CAUSAL,
        check="forward",
        tensor="encoder.layers.0.self_attn",
    ),
    Fault(
        name="causal-mask-missing",
        what="A step looks at all that come after it.",
        implementation="flax_impl",
        edits=(Edit("attention.py:attend", "first = 0 if causal else None", "first = None"),),
        experiment=CAUSAL,
        check="forward",
        tensor="encoder.layers.0.self_attn",
    ),
    Fault(
        name="learned-positions-from-1",
        what="The first step has the position of the second.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.forward",
                "self.positions.weight[: hidden.shape[1]]",
                "self.positions.weight.roll(-1, 0)[: hidden.shape[1]]",
            ),
        ),
        experiment=CAUSAL,
        check="forward",
        tensor="positions",
    ),
    Fault(
        name="final-norm-missing",
        what="The head reads the last layer's output as it is.",
        implementation="flax_impl",
        edits=(Edit("transformer.py:Encoder.__call__", 'hidden = trace["norm"] =', 'trace["norm"] ='),),
        experiment=CAUSAL,
        check="forward",
        tensor="logits",
    ),
    Fault(
        name="gelu-by-erf",
        what="The tanh approximation of GELU is computed by erf.",
        implementation="flax_impl",
        edits=(
            Edit(
                "transformer.py",
                '"gelu-tanh": partial(jax.nn.gelu, approximate=True)',
                '"gelu-tanh": partial(jax.nn.gelu, approximate=False)',
            ),
        ),
        experiment=CAUSAL,
        check="forward",
        tensor="encoder.layers.0.linear2",
    ),
    Fault(
        name="written-at-the-first-position",
        what="Writing, every step has the position of the first.",
        implementation="flax_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.step",
                "self.positions.embedding[...][state.read]",
                "self.positions.embedding[...][0]",
            ),
        ),
        experiment=CAUSAL,
        check="generation",
        tensor="logits*",
    ),
    Fault(
        name="cache-without-the-step-itself",
        what="Writing, a step looks at those before it and not at itself.",
        implementation="flax_impl",
        edits=(
            Edit(
                "transformer.py:PackedSelfAttention.step",
                "jnp.arange(keys.shape[2]) <= read",
                "jnp.arange(keys.shape[2]) < jnp.maximum(read, 1)",
            ),
        ),
        experiment=CAUSAL,
        check="generation",
        tensor="logits*",
    ),
    Fault(
        name="cache-written-a-step-early",
        what="Writing, a step's key takes the place of the one before.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:step_layer.attention",
                "keys[:, :, read], values[:, :, read] = key, value",
                "keys[:, :, max(read - 1, 0)], values[:, :, read] = key, value",
            ),
        ),
        experiment=CAUSAL,
        check="generation",
        tensor="logits*",
    ),
)
