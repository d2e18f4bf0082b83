"""Faults in the initial laws and in the random numbers they are drawn with. Only initialization can see them."""

from crosscheck.faults.fault import Edit, Fault

DRAWN = "    tensor = np.array(values)[: parameter.size].reshape(parameter.shape)\n"
UNIFORM = "_sampler(jax.random.uniform, settings)(key, shape, dtype, -bound, bound)"
NORMAL = "np.asarray(_sampler(jax.random.normal, settings)(key, shape, dtype))"
KEY = "key, np.uint32(zlib.crc32(parameter.name.encode()))"
TORCH_DRAWN = "values.uniform_(-bound, bound, generator=generator)\n"
TORCH_NORMAL = "            values.normal_(0.0, standard_deviation, generator=generator)\n"
TORCH_TABLE = (
    "    return {parameter.name: draw(parameter, generator, dtype_of(settings)).numpy() for parameter in table}\n"
)

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="biases-start-at-zero",
        what="Every bias starts at 0, Flax's default, where its law is uniform.",
        implementation="flax_impl",
        edits=(
            Edit("parameters.py:draw", DRAWN, DRAWN + '    if ".bias" in parameter.name:\n        tensor[...] = 0\n'),
        ),
        experiment="hello-gru",
        check="initialization",
        tensor="rnn.bias_ih_l0*",
        entries=("PB23", "PB26"),
        precision="float32",
    ),
    Fault(
        name="normal-of-the-fan-in",
        what="Weights are normal with variance 1 / fan_in, Flax's default, where they are uniform with a third of it.",
        implementation="flax_impl",
        edits=(Edit("parameters.py:draw", UNIFORM, f"bound * {NORMAL}"),),
        experiment="hello-rnn",
        check="initialization",
        tensor="rnn.weight_ih_l0*",
        entries=("PB23",),
        precision="float32",
    ),
    Fault(
        name="normal-of-the-right-deviation",
        what="Weights are normal where they are uniform; mean and standard deviation are right.",
        implementation="flax_impl",
        edits=(Edit("parameters.py:draw", UNIFORM, f"bound / 3**0.5 * {NORMAL}"),),
        experiment="hello-lstm",
        check="initialization",
        tensor="rnn.weight_ih_l0*",
        precision="float32",
    ),
    Fault(
        name="input-matrix-by-its-own-fan-in",
        what="W_ih is uniform within 1 / sqrt(inputs) where every recurrent tensor is within 1 / sqrt(hidden).",
        implementation="flax_impl",
        edits=(
            Edit(
                "parameters.py:draw",
                "        case Uniform(bound):\n",
                "        case Uniform(bound):\n"
                '            if "weight_ih" in parameter.name:\n'
                "                bound = parameter.shape[1] ** -0.5\n",
            ),
        ),
        experiment="hello-gru",
        check="initialization",
        tensor="rnn.weight_ih_l0*",
        entries=("PB26",),
        precision="float32",
    ),
    Fault(
        name="recurrent-matrix-orthogonal",
        what="W_hh is orthogonal, Flax's and Keras' default, where it is uniform.",
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:draw",
                TORCH_DRAWN,
                TORCH_DRAWN + '            if "weight_hh" in parameter.name:\n'
                "                torch.nn.init.orthogonal_(values, generator=generator)\n",
            ),
        ),
        experiment="hello-gru",
        check="initialization",
        tensor="rnn.weight_hh_l0*",
        entries=("PB26",),
        precision="float32",
    ),
    Fault(
        name="gain-of-tanh",
        what="Recurrent weights are 5/3 as wide, torch's calculate_gain of tanh.",
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:draw",
                TORCH_DRAWN,
                TORCH_DRAWN + '            if "weight_hh" in parameter.name:\n                values *= 5 / 3\n',
            ),
        ),
        experiment="hello-stacked-rnn",
        check="initialization",
        tensor="rnn.weight_hh_l0*",
        entries=("PB29",),
        precision="float32",
    ),
    Fault(
        name="xavier-of-separate-projections",
        what="in_proj is within sqrt(6 / 2 H), as three matrices are, where it is sqrt(6 / 4 H), as one packed one.",
        implementation="flax_impl",
        edits=(
            Edit(
                "parameters.py:draw",
                "        case Uniform(bound):\n",
                "        case Uniform(bound):\n"
                '            if "in_proj" in parameter.name:\n'
                "                bound *= 2**0.5\n",
            ),
        ),
        experiment="hello-transformer",
        check="initialization",
        tensor="encoder.layers.0.self_attn.in_proj_weight*",
        entries=("PB28",),
        precision="float32",
    ),
    Fault(
        name="attention-biases-drawn",
        what="Biases of attention are uniform like a Linear's, where they start at 0.",
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:draw",
                "            values.fill_(value)\n",
                "            values.fill_(value)\n"
                '            if "self_attn" in parameter.name:\n'
                "                values.uniform_(-0.3, 0.3, generator=generator)\n",
            ),
        ),
        experiment="hello-transformer",
        check="initialization",
        tensor="encoder.layers.0.self_attn.in_proj_bias, constant",
        entries=("PB28",),
        precision="float32",
    ),
    Fault(
        name="forget-bias-starts-at-one",
        what="The forget gate's bias starts 1 higher, as Keras' unit_forget_bias has it.",
        implementation="flax_impl",
        edits=(
            Edit(
                "parameters.py:draw",
                DRAWN,
                DRAWN
                + '    if "bias_ih" in parameter.name:\n        tensor[len(tensor) // 4 : len(tensor) // 2] += 1\n',
            ),
        ),
        experiment="hello-lstm",
        check="initialization",
        tensor="rnn.bias_ih_l0*",
        entries=("PB08",),
        precision="float32",
    ),
    Fault(
        name="gates-start-as-copies",
        what="All gates of a tensor start with the first gate's values.",
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:draw",
                TORCH_DRAWN,
                TORCH_DRAWN + '            if "weight_hh" in parameter.name:\n'
                "                width = parameter.shape[1]\n"
                "                values = values[:width].repeat(len(values) // width, 1)\n",
            ),
        ),
        experiment="hello-lstm",
        check="initialization",
        tensor="rnn.weight_hh_l0, within",
        entries=("PB31",),
        precision="float32",
    ),
    Fault(
        name="embedding-by-its-width",
        what="Embeddings are normal with variance 1 / embedding_dim, Flax's default, where the variance is 1.",
        implementation="flax_impl",
        edits=(
            Edit("parameters.py:draw", "values = standard_deviation * np", "values = parameter.shape[1] ** -0.5 * np"),
        ),
        experiment="hello-embedding-rnn",
        check="initialization",
        tensor="embedding.weight*",
        entries=("PB25",),
        precision="float32",
    ),
    Fault(
        name="biases-start-at-zero",
        what="Every bias starts at 0 where its law is uniform.",
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:draw",
                TORCH_DRAWN,
                TORCH_DRAWN + '            if ".bias" in parameter.name:\n                values.zero_()\n',
            ),
        ),
        experiment="hello-lstm",
        check="initialization",
        tensor="rnn.bias_ih_l0*",
        entries=("PB23", "PB26"),
        precision="float32",
    ),
    Fault(
        name="normal-of-the-fan-in",
        what="Weights are normal with variance 1 / fan_in where they are uniform with a third of it.",
        implementation="torch_impl",
        edits=(Edit("parameters.py:draw", TORCH_DRAWN, "values.normal_(0.0, bound, generator=generator)\n"),),
        experiment="hello-gru",
        check="initialization",
        tensor="rnn.weight_ih_l0*",
        entries=("PB23",),
        precision="float32",
    ),
    Fault(
        name="xavier-of-separate-projections",
        what="in_proj is within sqrt(6 / 2 H), as three matrices are, where it is sqrt(6 / 4 H), as one packed one.",
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:draw",
                TORCH_DRAWN,
                TORCH_DRAWN + '            if "in_proj" in parameter.name:\n                values *= 2**0.5\n',
            ),
        ),
        experiment="hello-transformer",
        check="initialization",
        tensor="encoder.layers.0.self_attn.in_proj_weight*",
        entries=("PB28",),
        precision="float32",
    ),
    Fault(
        name="embedding-by-its-width",
        what="Embeddings are normal with variance 1 / embedding_dim where the variance is 1.",
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:draw",
                TORCH_NORMAL,
                f"            standard_deviation = parameter.shape[1] ** -0.5\n{TORCH_NORMAL}",
            ),
        ),
        experiment="hello-embedding-rnn",
        check="initialization",
        tensor="embedding.weight*",
        entries=("PB25",),
        precision="float32",
    ),
    Fault(
        name="embedding-uniform",
        what="Embeddings are uniform within 0.05, Keras' default, where they are normal with variance 1.",
        implementation="torch_impl",
        edits=(
            Edit("parameters.py:draw", TORCH_NORMAL, "            values.uniform_(-0.05, 0.05, generator=generator)\n"),
        ),
        experiment="hello-embedding-padding",
        check="initialization",
        tensor="embedding.weight*",
        entries=("PB25",),
        precision="float32",
    ),
    Fault(
        name="embedding-uniform",
        what="Embeddings are uniform within 0.05, Keras' default, where they are normal with variance 1.",
        implementation="flax_impl",
        edits=(
            Edit(
                "parameters.py:draw",
                f"standard_deviation * {NORMAL}",
                UNIFORM.replace("bound", "0.05"),
            ),
        ),
        experiment="course-embedding-rnn",
        check="initialization",
        tensor="embedding.weight*",
        entries=("PB25",),
        precision="float32",
    ),
    Fault(
        name="padding-row-drawn",
        what="The row of padding_idx starts with values like any other, where it starts at 0.",
        implementation="flax_impl",
        edits=(Edit("parameters.py:draw", "        tensor[parameter.law.zero_row] = 0\n", "        pass\n"),),
        experiment="hello-embedding-padding",
        check="initialization",
        tensor="embedding.weight, row 0",
        entries=("PB34",),
        precision="float32",
    ),
    Fault(
        name="norm-gain-starts-at-zero",
        what="LayerNorm's gain starts at 0 where it starts at 1.",
        implementation="flax_impl",
        edits=(Edit("parameters.py:draw", "np.full(shape, value, dtype)", "np.full(shape, 0.0, dtype)"),),
        experiment="hello-transformer",
        check="initialization",
        tensor="encoder.layers.0.norm1.weight, constant",
        precision="float32",
    ),
    Fault(
        name="one-key-for-all",
        what="Every tensor is drawn with the same key: tensors begin with the same numbers.",
        implementation="flax_impl",
        edits=(Edit("parameters.py:key_of", KEY, "key, np.uint32(0)"),),
        experiment="hello-gru",
        check="initialization",
        tensor="*between tensors",
        entries=("PB31",),
        precision="float32",
    ),
    Fault(
        name="one-key-for-both-directions",
        what="Both directions are drawn with the same key and start as copies.",
        implementation="flax_impl",
        edits=(
            Edit("parameters.py:key_of", "parameter.name.encode()", 'parameter.name.removesuffix("_reverse").encode()'),
        ),
        experiment="hello-bidirectional-lstm",
        check="initialization",
        tensor="rnn.weight_ih_l0_reverse, between tensors",
        entries=("PB31",),
        precision="float32",
    ),
    Fault(
        name="key-of-seed-plus-index",
        what="Tensor i is drawn with the key of seed + i, which is tensor i - 1 of the next seed.",
        implementation="flax_impl",
        edits=(
            Edit("parameters.py:initialize", "key_of(parameter, key)", "jax.random.key(seed + table.index(parameter))"),
        ),
        experiment="hello-stacked-rnn",
        check="initialization",
        tensor="*between tensors",
        entries=("PB31",),
        precision="float32",
    ),
    Fault(
        name="seed-ignored",
        what="The key is that of seed 0, whatever the seed.",
        implementation="flax_impl",
        edits=(Edit("parameters.py:initialize", "key = jax.random.key(seed)", "key = jax.random.key(0)"),),
        experiment="hello-rnn",
        check="initialization",
        tensor="rnn.weight_ih_l0, seeds",
        entries=("PB31",),
        precision="float32",
    ),
    Fault(
        name="neighbouring-seeds-alike",
        what="Seeds 2 n and 2 n + 1 start alike.",
        implementation="torch_impl",
        edits=(Edit("parameters.py:initialize", "manual_seed(seed)", "manual_seed(seed // 2)"),),
        experiment="hello-lstm",
        check="initialization",
        tensor="rnn.weight_ih_l0, seeds",
        entries=("PB31",),
        precision="float32",
    ),
    Fault(
        name="generator-made-anew",
        what="Every tensor has a generator of its own, all of them with the same seed.",
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:initialize",
                "draw(parameter, generator,",
                "draw(parameter, torch.Generator().manual_seed(seed),",
            ),
        ),
        experiment="hello-gru",
        check="initialization",
        tensor="*between tensors",
        entries=("PB31",),
        precision="float32",
    ),
    Fault(
        name="generator-not-seeded",
        what="Values come from torch's global generator, whatever the seed: the same seed gives another start.",
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:draw",
                "values.uniform_(-bound, bound, generator=generator)",
                "values.uniform_(-bound, bound)",
            ),
        ),
        experiment="hello-rnn",
        check="structure",
        tensor="rnn.weight_ih_l0",
        entries=("PB31",),
        precision="float32",
    ),
    Fault(
        name="layers-start-as-copies",
        what="All layers start as copies of the first, as torch.nn.TransformerEncoder makes them.",
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:initialize",
                TORCH_TABLE,
                TORCH_TABLE.replace("return", "drawn =")
                + '    return {name: drawn[name.replace("layers.1.", "layers.0.")].copy() for name in drawn}\n',
            ),
        ),
        experiment="hello-transformer",
        check="initialization",
        tensor="encoder.layers.1.self_attn.in_proj_weight, between tensors",
        entries=("PB13", "PB31"),
        precision="float32",
    ),
)
