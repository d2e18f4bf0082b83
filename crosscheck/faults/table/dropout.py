"""Faults in each side's own dropout, which only shows where the masks are not the spec's: the dropout check."""

from crosscheck.faults.fault import Edit, Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="dropped-are-kept",
        what="Units are dropped with probability 1 - rate and kept with rate, as if keep_prob were meant.",
        implementation="flax_impl",
        edits=(
            Edit(
                "dropout.py:Dropout.__init__",
                "super().__init__(rate, ",
                "super().__init__(1 - rate if rate else rate, ",
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="dropout",
        tensor="rnn.dropout_l0, values",
        precision="float32",
    ),
    Fault(
        name="dropped-are-kept",
        what="Units are dropped with probability 1 - rate and kept with rate.",
        implementation="torch_impl",
        edits=(
            Edit(
                "recurrent.py:Recurrent.__init__",
                "dropout=spec.dropout",
                "dropout=1 - spec.dropout if spec.dropout else 0",
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="dropout",
        tensor="rnn.dropout_l0, values",
        precision="float32",
    ),
    Fault(
        name="own-dropout-not-scaled",
        what="What is kept is not divided by 1 - rate where the masks are the framework's own.",
        implementation="flax_impl",
        edits=(
            Edit(
                "dropout.py:Dropout.__call__",
                "return super().__call__(inputs, ",
                "return (self.deterministic or 1 - self.rate) * super().__call__(inputs, ",
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="dropout",
        tensor="rnn.dropout_l0, values",
        precision="float32",
    ),
    Fault(
        name="gradients-of-a-seed-drop-nothing",
        what="`gradients` of a seed are those of eval mode; `forward` of it drops units.",
        implementation="torch_impl",
        edits=(
            Edit(
                "contract.py:gradients",
                "with mode(model, dropout):\n            loss",
                "with mode(model, None if isinstance(dropout, int) else dropout):\n            loss",
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="dropout",
        tensor="head.bias, of a seed, along a direction",
        precision="float32",
    ),
    Fault(
        name="gradients-of-the-next-seed",
        what="`gradients` of a seed have the masks that `forward` has with the next.",
        implementation="flax_impl",
        edits=(
            Edit(
                "contract.py:gradients",
                "_compute(function, experiment, parameters, batch, settings, dropout)",
                "_compute(\n        function, experiment, parameters, batch, settings,"
                " dropout + 1 if isinstance(dropout, int) else dropout\n    )",
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="dropout",
        tensor="loss of a seed",
        precision="float32",
    ),
    Fault(
        name="gradients-of-a-seed-not-rescaled",
        what="What was kept is divided by 1 - rate in the forward pass of a seed, and not in its backward pass.",
        implementation="flax_impl",
        edits=(
            Edit(
                "dropout.py:Dropout.__call__",
                "        return super().__call__(inputs, deterministic=deterministic, rngs=rngs)\n",
                "        dropped = super().__call__(inputs, deterministic=deterministic, rngs=rngs)\n"
                "        if self.deterministic or not self.rate:\n"
                "            return dropped\n"
                "        slower = (1 - self.rate) * dropped\n"
                "        return slower + jax.lax.stop_gradient(dropped - slower)\n",
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="dropout",
        tensor="rnn.*, of a seed, along a direction",
        precision="float32",
    ),
    Fault(
        name="one-key-for-every-step",
        what="The key does not depend on the step: the same units are dropped for the whole training.",
        implementation="flax_impl",
        edits=(Edit("training.py:make_step.step", "dropout = jax.random.fold_in(key, dropout)", "dropout = key"),),
        experiment="hello-stacked-lstm-dropout",
        check="dropout",
        tensor="losses, one mask a step",
        entries=("PB67",),
        precision="float32",
    ),
    Fault(
        name="one-seed-for-every-step",
        what="torch's generator is seeded with the same number before each step.",
        implementation="torch_impl",
        edits=(Edit("training.py:dropout_of", 'return seed_for(seed, "dropout", step)', "return seed"),),
        experiment="hello-stacked-lstm-dropout",
        check="dropout",
        tensor="losses, one mask a step",
        entries=("PB67",),
        precision="float32",
    ),
    Fault(
        name="one-key-for-every-seed",
        what="The dropout key is that of seed 0, whatever the seed.",
        implementation="flax_impl",
        edits=(Edit("contract.py:_compute", "else jax.random.key(dropout)", "else jax.random.key(0)"),),
        experiment="hello-stacked-lstm-dropout",
        check="dropout",
        tensor="rnn.dropout_l0, between seeds*",
        entries=("PB67",),
        precision="float32",
    ),
    Fault(
        name="one-key-for-every-site",
        what="All places where units are dropped use the same key.",
        implementation="flax_impl",
        edits=(Edit("dropout.py:set_mode", "jax.random.fold_in(dropout, index)", "dropout"),),
        experiment="hello-transformer-dropout",
        check="dropout",
        tensor="encoder.layers.0.dropout*, between sites",
        entries=("PB67", "PB31"),
        precision="float32",
    ),
    Fault(
        name="one-mask-for-the-batch",
        what="The same units are dropped in every sequence of a batch.",
        implementation="flax_impl",
        edits=(
            Edit(
                "dropout.py:Dropout.__init__", "super().__init__(rate, ", "super().__init__(rate, broadcast_dims=(0,), "
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="dropout",
        tensor="rnn.dropout_l0, *",
        entries=("PB67",),
        precision="float32",
    ),
    Fault(
        name="one-mask-for-all-time",
        what="The same units are dropped at every step of a sequence.",
        implementation="flax_impl",
        edits=(
            Edit(
                "dropout.py:Dropout.__init__", "super().__init__(rate, ", "super().__init__(rate, broadcast_dims=(1,), "
            ),
        ),
        experiment="hello-transformer-dropout",
        check="dropout",
        tensor="encoder.layers.0.dropout1, over time*",
        entries=("PB67",),
        precision="float32",
    ),
    Fault(
        name="masks-not-seeded",
        what="Masks come from torch's global generator, whatever the seed.",
        implementation="torch_impl",
        edits=(Edit("dropout.py:mode", "            seed(dropout)\n", ""),),
        experiment="hello-stacked-lstm-dropout",
        check="dropout",
        tensor="rnn.dropout_l0, *",
        entries=("PB67",),
        precision="float32",
    ),
    Fault(
        name="never-back-to-dropout",
        what="After the first evaluation the model stays in eval mode; masks that are handed over act all the same.",
        implementation="torch_impl",
        edits=(
            Edit(
                "dropout.py:mode",
                "    if model.training != (dropout is not None):\n        model.train(dropout is not None)\n",
                "    if dropout is None:\n        model.eval()\n",
            ),
        ),
        experiment="hello-transformer-dropout",
        check="dropout",
        tensor="losses in train mode",
        entries=("PB53",),
        precision="float32",
    ),
    Fault(
        name="dropout-after-the-last-layer",
        what="The last layer's output is dropped out too, where the masks are torch's own.",
        implementation="torch_impl",
        edits=(
            Edit(
                "recurrent.py:run",
                "        outputs, final = layers(inputs, _as_argument(initial))\n",
                "        outputs, final = layers(inputs, _as_argument(initial))\n"
                "        outputs = nn.functional.dropout(outputs, layers.dropout, layers.training)\n",
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="dropout",
        tensor="rnn.dropout_l0, values",
        entries=("PB11",),
        precision="float32",
    ),
    Fault(
        name="dropout-on-attention-weights-too",
        what="Attention weights are dropped at the layer's rate, torch's default, and by no step's seed.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.__init__.new_layer",
                "            layer.self_attn.dropout = spec.attention_dropout\n",
                "",
            ),
            # Else vmap refuses to draw for members together.
            Edit(
                "members.py:_without_own_dropout",
                "nn.Dropout | nn.RNNBase)",
                "nn.Dropout | nn.RNNBase | nn.MultiheadAttention)",
            ),
        ),
        experiment="hello-transformer-dropout",
        check="trajectory",
        tensor="",
        entries=("PB59",),
        precision="float32",
    ),
    Fault(
        name="no-dropout-inside-the-feed-forward-block",
        what="The feed-forward block's inner dropout is missing.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.__init__.new_layer",
                "            return layer\n",
                "            layer.dropout.p = 0.0\n            return layer\n",
            ),
        ),
        experiment="hello-transformer-dropout",
        check="dropout",
        tensor="encoder.layers.0.dropout, values",
        entries=("PB59",),
        precision="float32",
    ),
)
