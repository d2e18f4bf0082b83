"""Faults in what each side draws for itself, planted where its ensembles draw: do thousands of trainings show them?

In torch_impl a member of an ensemble starts where `initialize` does. In flax_impl it is drawn by `sample`, inside the
compiled function, which the check initialization does not ask.
"""

from crosscheck.faults.fault import Edit, Fault

SAMPLED = "    tensor = values[: parameter.size].reshape(parameter.shape)\n"
TORCH_DRAWN = "values.uniform_(-bound, bound, generator=generator)\n"

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="ensemble-by-flax-own-laws",
        what="Flax's default initial laws: biases at 0, orthogonal recurrent and LeCun normal other weights.",
        implementation="flax_impl",
        edits=(
            Edit(
                "parameters.py:sample",
                SAMPLED,
                SAMPLED + '    if ".bias" in parameter.name:\n'
                "        tensor = jnp.zeros(parameter.shape, dtype)\n"
                '    elif "weight_hh" in parameter.name:\n'
                "        tensor = jax.nn.initializers.orthogonal()(key, parameter.shape, dtype)\n"
                "    else:\n"
                "        normal = jax.nn.initializers.lecun_normal(in_axis=-1, out_axis=-2)\n"
                "        tensor = normal(key, parameter.shape, dtype)\n",
            ),
        ),
        experiment="hello-gru",
        check="convergence",
        tensor="log loss-AUC",
        entries=("PB23", "PB26"),
        precision="float32",
    ),
    Fault(
        name="ensemble-with-the-gain-of-tanh",
        what="Weights are 5/3 as wide, torch's calculate_gain of tanh.",
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:draw",
                TORCH_DRAWN,
                TORCH_DRAWN + '            if "weight" in parameter.name:\n                values *= 5 / 3\n',
            ),
        ),
        experiment="hello-rnn",
        check="convergence",
        tensor="log loss-AUC",
        entries=("PB29",),
        precision="float32",
    ),
    Fault(
        name="ensemble-orthogonal",
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
        experiment="course-rnn",
        check="convergence",
        tensor="log loss-AUC",
        entries=("PB26",),
        precision="float32",
    ),
    Fault(
        name="ensemble-with-one-key",
        what="One key for all parameters of a member: every tensor begins with the same numbers.",
        implementation="flax_impl",
        edits=(Edit("parameters.py:key_of", "zlib.crc32(parameter.name.encode())", "0"),),
        experiment="course-embedding-rnn",
        check="convergence",
        tensor="log loss-AUC",
        entries=("PB31",),
        precision="float32",
    ),
    Fault(
        name="ensemble-of-layers-as-copies",
        what="Every layer is built with the same key: all start as copies, attention's four projections included.",
        implementation="flax_impl",
        edits=(
            Edit(
                "parameters.py:key_of",
                "parameter.name.encode()",
                'parameter.name.rpartition(".")[2].removeprefix("in_proj_").encode()',
            ),
            Edit(
                "parameters.py:sample",
                SAMPLED,
                SAMPLED + '    if parameter.name.endswith("in_proj_weight"):\n'
                "        tensor = jnp.tile(tensor[: parameter.shape[1]], (3, 1))\n",
            ),
        ),
        experiment="hello-transformer-norm-first",
        check="convergence",
        tensor="log loss-AUC",
        entries=("PB31",),
        precision="float32",
    ),
    Fault(
        name="ensemble-with-one-mask",
        what="The same dropout mask at every step: torch's generator is seeded with the same number before each.",
        implementation="torch_impl",
        edits=(Edit("training.py:dropout_of", 'return seed_for(seed, "dropout", step)', "return seed"),),
        experiment="hello-stacked-lstm-dropout",
        check="convergence",
        tensor="solved, as stated",
        entries=("PB67",),
        precision="float32",
    ),
    Fault(
        name="ensemble-on-the-first-batch",
        what="The data is not shuffled, and its order begins anew at every step: each gets the first batch.",
        implementation="torch_impl",
        edits=(
            Edit(
                "ensemble.py:_train_chunk",
                "lambda array, step=step: array[:, step % block]",
                "lambda array: array[:, 0]",
            ),
        ),
        experiment="last-step-classifier",
        check="convergence",
        tensor="solved, as stated",
        entries=("PB68",),
        precision="float32",
    ),
    Fault(
        name="ensemble-with-forget-bias-one",
        what="The forget gate's bias starts 1 higher, as Keras' unit_forget_bias has it.",
        implementation="flax_impl",
        edits=(
            Edit(
                "parameters.py:sample",
                SAMPLED,
                SAMPLED + '    if "bias_ih" in parameter.name:\n'
                "        quarter = parameter.size // 4\n"
                "        tensor = tensor.at[quarter : 2 * quarter].add(1)\n",
            ),
        ),
        experiment="hello-lstm",
        check="convergence",
        tensor="log loss-AUC",
        entries=("PB08",),
        precision="float32",
    ),
)
