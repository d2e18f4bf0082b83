"""Faults of numbers far out, of a state or masks that come another way than usual, of ties, and of single elements."""

from crosscheck.faults.fault import Edit, Fault
from spec.framework import Precision

BOTH: tuple[Precision, ...] = ("float64", "float32")

UNIFORM = "values.uniform_(-bound, bound, generator=generator)"

FAULTS: tuple[Fault, ...] = (
    *(
        Fault(
            name=f"naive-sigmoid-{precision}",
            what="sigmoid(x) = 1 / (1 + exp(-x)), whose gradient is inf / inf once the exponential overflows.",
            implementation="flax_impl",
            edits=(
                Edit(
                    "gru.py:GRUCell.__call__",
                    "jax.nn.sigmoid(input_z + hidden_z)",
                    "1 / (1 + jnp.exp(-(input_z + hidden_z)))",
                ),
            ),
            experiment="hello-gru",
            check="gradients",
            tensor="*(overflow)",
            precision=precision,
        )
        for precision in BOTH
    ),
    *(
        Fault(
            name=f"naive-tanh-{precision}",
            what="tanh(x) = (exp(x) - exp(-x)) / (exp(x) + exp(-x)), which is inf / inf far from zero.",
            implementation="flax_impl",
            edits=(
                Edit(
                    "rnn.py:ElmanCell.__init__",
                    '"tanh": jnp.tanh',
                    '"tanh": lambda x: (jnp.exp(x) - jnp.exp(-x)) / (jnp.exp(x) + jnp.exp(-x))',
                ),
            ),
            experiment="hello-rnn",
            check="forward",
            tensor="*(overflow)",
            precision=precision,
        )
        for precision in BOTH
    ),
    Fault(
        name="start-ignored-without-lengths",
        what="A batch without lengths starts from zero whatever state it brings.",
        implementation="torch_impl",
        edits=(
            Edit(
                "recurrent.py:initial_state",
                "    if batch.initial is None:",
                "    if batch.initial is None or batch.lengths is None:",
            ),
        ),
        experiment="hello-gru",
        check="forward",
        tensor="rnn.h_l0 (initial states)",
    ),
    Fault(
        name="predict-without-lengths",
        what="`predict` reads the padding, in a model whose `predict` is `forward`.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:evaluate",
                "    return predict(model, batch)\n",
                "    return predict(model, batch._replace(lengths=None))\n",
            ),
        ),
        experiment="hello-bidirectional-gru",
        check="shipped-path",
        tensor="*predicted*",
    ),
    Fault(
        name="masks-by-name-ignored-in-forward",
        what="`forward` drops nothing when it is handed masks.",
        implementation="torch_impl",
        edits=(
            Edit(
                "contract.py:forward",
                "with mode(model, dropout):\n            model(tensors)",
                "with mode(model, dropout if isinstance(dropout, int) else None):\n            model(tensors)",
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="forward",
        tensor="rnn.h_l1",
    ),
    Fault(
        name="masks-by-name-ignored-in-gradients",
        what="`gradients` drops nothing when it is handed masks.",
        implementation="torch_impl",
        edits=(
            Edit(
                "contract.py:gradients",
                "with mode(model, dropout):\n            loss",
                "with mode(model, dropout if isinstance(dropout, int) else None):\n            loss",
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="gradients",
        tensor="loss",
    ),
    Fault(
        name="ties-to-the-last-index",
        what="Of classes that are equally likely greedy decoding takes the last.",
        implementation="flax_impl",
        edits=(
            Edit(
                "encoder_decoder.py:EncoderDecoder.predict.step",
                "logits.argmax(-1).astype(symbol.dtype)",
                "(logits.shape[-1] - 1 - logits[..., ::-1].argmax(-1)).astype(symbol.dtype)",
            ),
        ),
        experiment="hello-encoder-decoder",
        check="forward",
        tensor="decoded (ties)",
    ),
    Fault(
        name="not-finite-made-zero",
        what="Elements of a gradient that are not finite are taken for zero, so that nobody sees a training overflow.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:replay",
                "to_tensor(given[name], parameter.dtype, parameter.device)",
                "to_tensor(given[name], parameter.dtype, parameter.device).nan_to_num(0.0, 0.0, 0.0)",
            ),
        ),
        experiment="hello-gru",
        check="optimizer",
        tensor="kinds/*",
    ),
    Fault(
        name="last-element-always-zero",
        what="The last element of every drawn tensor is zero.",
        implementation="torch_impl",
        edits=(Edit("parameters.py:draw", UNIFORM, f"{UNIFORM}.view(-1)[-1:].zero_()"),),
        experiment="hello-gru",
        check="initialization",
        tensor="rnn.weight_ih_l0, each element",
        precision="float32",
    ),
    Fault(
        name="drawn-in-bfloat16",
        what="Tensors are drawn in bfloat16, whose few numbers have the law's moments.",
        implementation="torch_impl",
        edits=(Edit("parameters.py:draw", "    return values\n", "    return values.bfloat16().to(dtype)\n"),),
        experiment="hello-gru",
        check="initialization",
        tensor="rnn.weight_ih_l0, come again",
        precision="float32",
    ),
    Fault(
        name="float64-starts-twice-as-wide",
        what="In float64 alone the law is twice as wide.",
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:draw",
                UNIFORM,
                f"{UNIFORM}.mul_(2.0 if values.dtype == torch.float64 else 1.0)",
            ),
        ),
        experiment="hello-gru",
        check="initialization",
        tensor="rnn.weight_ih_l0, *",
    ),
    *(
        Fault(
            name=f"seed-cut-to-{bits}-bits",
            what=f"Of a seed the last {bits} bits count.",
            implementation="torch_impl",
            edits=(Edit("parameters.py:initialize", "manual_seed(seed)", f"manual_seed(seed % 2**{bits})"),),
            experiment="hello-gru",
            check="initialization",
            tensor="rnn.weight_ih_l0, far seeds",
            precision="float32",
        )
        for bits in (16, 31)
    ),
    Fault(
        name="mask-with-a-period",
        what="A mask repeats itself after 5 features.",
        implementation="flax_impl",
        edits=(
            Edit(
                "dropout.py:Dropout.__call__",
                "        return super().__call__(inputs,",
                "        if not self.deterministic and self.rate:\n"
                "            keep = jax.random.bernoulli(self.rngs(), 1 - self.rate, (*inputs.shape[:-1], 5))\n"
                "            keep = keep[..., jax.numpy.arange(inputs.shape[-1]) % 5]\n"
                "            return jax.numpy.where(keep, inputs / (1 - self.rate), 0.0)\n"
                "        return super().__call__(inputs,",
            ),
        ),
        experiment="hello-transformer-dropout",
        check="dropout",
        tensor="*, over feature, 5 apart",
        precision="float32",
    ),
    Fault(
        name="columns-by-twos",
        what="Each second column of a matrix is the one before it again.",
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:draw",
                UNIFORM,
                f"{UNIFORM}\n"
                "            if values.ndim == 2:\n"
                "                values[:, 1::2] = values[:, 0 : values.shape[1] // 2 * 2 : 2].clone()",
            ),
        ),
        experiment="hello-gru",
        check="initialization",
        tensor="rnn.weight_ih_l0, *",
        precision="float32",
    ),
)
