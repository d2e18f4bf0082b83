"""The faults of crosscheck.faults.table.unvaried in the other implementation, on the same experiments."""

from crosscheck.faults.fault import Edit, Fault

FAULTS = (
    Fault(
        name="attention-dropout-halved",
        what="Attention weights are dropped at half the rate.",
        implementation="flax_impl",
        edits=(
            Edit(
                "transformer.py:EncoderLayer.__init__",
                "spec.heads, spec.attention_dropout, rngs",
                "spec.heads, spec.attention_dropout / 2, rngs",
            ),
        ),
        experiment="attention-dropout",
        check="dropout",
        tensor="encoder.layers.0.self_attn.dropout*",
        precision="float32",
        option="attention_dropout = ",
    ),
    Fault(
        name="scale-for-two-heads",
        what="Scores are divided by the root of half of all heads' width, right where there are two.",
        implementation="flax_impl",
        edits=(
            Edit(
                "attention.py:MultiHeadAttention.mix",
                "math.sqrt(self.width), by_head",
                "math.sqrt(self.width * self.heads / 2), by_head",
            ),
        ),
        experiment="heads",
        check="forward",
        tensor="attention.weights*",
        option="heads = ",
    ),
    Fault(
        name="feed-forward-law-of-16",
        what="The feed-forward block's second layer starts within 1/4, right where it has 16 inputs.",
        implementation="flax_impl",
        edits=(
            Edit(
                "parameters.py:draw",
                "        case Uniform(bound):\n",
                '        case Uniform(bound):\n            bound = 0.25 if "linear2" in parameter.name else bound\n',
            ),
        ),
        experiment="feed-forward-size",
        check="initialization",
        tensor="encoder.layers.0.linear2.*",
        precision="float32",
        option="feed_forward_size = ",
    ),
    Fault(
        name="norm-epsilon-literal",
        what="LayerNorm's epsilon is 1e-5, whatever the experiment says.",
        implementation="flax_impl",
        edits=(Edit("transformer.py:EncoderLayer.__init__", "epsilon=spec.layer_norm_epsilon", "epsilon=1e-5"),),
        experiment="norm-epsilon",
        check="forward",
        tensor="encoder.layers.0.norm1*",
        option="layer_norm_epsilon = ",
    ),
    Fault(
        name="position-base-literal",
        what="Positions have a base of 10,000, whatever the experiment says.",
        implementation="flax_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.__init__",
                "self.position_base = spec.position_base if",
                "self.position_base = 1e4 if",
            ),
        ),
        experiment="position-base",
        check="forward",
        tensor="positions*",
        option="position_base = ",
    ),
    Fault(
        name="beta1-literal",
        what="Adam's beta1 is 0.9, whatever the experiment says.",
        implementation="flax_impl",
        edits=(Edit("optimizer.py:scale_by_adam", "state.mu, spec.beta1, 1", "state.mu, 0.9, 1"),),
        experiment="beta1",
        check="optimizer",
        tensor="slots/*.exp_avg",
        option="beta1 = ",
    ),
    Fault(
        name="beta2-literal",
        what="Adam's beta2 is 0.999, whatever the experiment says.",
        implementation="flax_impl",
        edits=(Edit("optimizer.py:scale_by_adam", "state.nu, spec.beta2, 2", "state.nu, 0.999, 2"),),
        experiment="beta2",
        check="optimizer",
        tensor="slots/*.exp_avg_sq",
        option="beta2 = ",
    ),
    Fault(
        name="adam-epsilon-literal",
        what="Adam's epsilon is 1e-8, whatever the experiment says.",
        implementation="flax_impl",
        edits=(Edit("optimizer.py:scale_by_adam", "+ spec.epsilon), mean", "+ 1e-8), mean"),),
        experiment="adam-epsilon",
        check="optimizer",
        tensor="parameters/*",
        option="epsilon = ",
    ),
    Fault(
        name="weight-decay-literal",
        what="AdamW's weight decay is 0.01, torch's default, whatever the experiment says.",
        implementation="flax_impl",
        edits=(
            Edit(
                "optimizer.py:make", "optax.add_decayed_weights(spec.weight_decay)", "optax.add_decayed_weights(0.01)"
            ),
        ),
        experiment="weight-decay",
        check="optimizer",
        tensor="parameters/*",
        option="weight_decay = ",
    ),
    Fault(
        name="warm-up-with-adamw-alone",
        what="The learning rate follows its schedule under AdamW, and stays what it is under other optimizers.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:descend",
                "    optimizer = optimizers.make(training.optimizer, at)\n",
                '    if type(training.optimizer).__name__ != "AdamW":\n'
                "        at = at._replace(learning_rate=training.optimizer.learning_rate)\n"
                "    optimizer = optimizers.make(training.optimizer, at)\n",
            ),
        ),
        experiment="warm-up",
        check="optimizer",
        tensor="parameters/*",
        option='name = "WarmUp"',
    ),
    Fault(
        name="softmax-of-the-mean-score",
        what="Without padding all sequences of a batch have the weights of their mean score, right where there is one.",
        implementation="flax_impl",
        edits=(
            Edit(
                "attention.py:_written_out",
                "        weights = jax.nn.softmax(scores, -1)\n    else:",
                "        weights = jnp.broadcast_to(jax.nn.softmax(scores.mean(0, keepdims=True), -1), scores.shape)\n"
                "    else:",
            ),
        ),
        experiment="several-sequences",
        check="forward",
        tensor="attention.weights*",
        option="batch_size = ",
    ),
    Fault(
        name="square-keys-not-transposed",
        what="Keys are transposed where their shape needs it, so not where there are as many steps as features.",
        implementation="flax_impl",
        edits=(
            Edit(
                "attention.py:_written_out",
                "query @ key.swapaxes(-1, -2) / scale",
                "query @ (key if query.shape[-1] == key.shape[-2] else key.swapaxes(-1, -2)) / scale",
            ),
        ),
        experiment="steps-as-wide",
        check="forward",
        tensor="attention.weights*",
        option="hidden_size = ",
    ),
    Fault(
        name="scale-by-an-even-width",
        what="Scores are divided by the root of the width, rounded down to an even number.",
        implementation="flax_impl",
        edits=(
            Edit(
                "attention.py:SelfAttention.mix",
                "math.sqrt(self.width), valid",
                "math.sqrt(max(self.width // 2 * 2, 1)), valid",
            ),
        ),
        experiment="odd-width",
        check="forward",
        tensor="attention.weights*",
        option="hidden_size = ",
    ),
    Fault(
        name="positions-from-the-end",
        what="Steps have the last positions, right where a sequence is as long as it may be.",
        implementation="flax_impl",
        edits=(
            Edit(
                "attention.py:SelfAttention.forward",
                "jnp.arange(inputs.shape[1]), inputs",
                "jnp.arange(self.max_length - inputs.shape[1], self.max_length), inputs",
            ),
        ),
        experiment="shorter-than-allowed",
        check="forward",
        tensor="query*",
        option="max_length = ",
    ),
    Fault(
        name="dropout-of-a-gru-halved",
        what="A GRU drops at half the rate; an LSTM at its own.",
        implementation="flax_impl",
        edits=(
            Edit(
                "recurrent.py:Recurrent.__init__",
                "dropout=spec.dropout,",
                'dropout=spec.dropout * (0.5 if type(spec).__name__ == "GRU" else 1.0),',
            ),
        ),
        experiment="dropout-in-a-gru",
        check="dropout",
        tensor="rnn.dropout_l0*",
        precision="float32",
        option='name = "GRU"',
    ),
    Fault(
        name="both-directions-dropped-alike",
        what="The backward direction's outputs are dropped by the mask of the forward direction's.",
        implementation="flax_impl",
        edits=(
            Edit(
                "recurrent.py:Layers.__call__",
                '                inputs = getattr(self, f"dropout_l{layer}")(inputs)\n',
                '                drop = getattr(self, f"dropout_l{layer}")\n'
                "                if drop.mask is not None:\n"
                "                    half = drop.mask[..., : self.cells[0].hidden_size]\n"
                "                    drop.mask = jnp.concatenate([half] * len(self.suffixes), -1)\n"
                "                inputs = drop(inputs)\n",
            ),
        ),
        experiment="dropout-in-both-directions",
        check="forward",
        tensor="rnn.h_l1",
        option="bidirectional = true",
    ),
    Fault(
        name="middle-layer-drops-as-the-first",
        what="The middle of three layers drops by the mask of the first.",
        implementation="flax_impl",
        edits=(
            Edit(
                "recurrent.py:Layers.__call__",
                'f"dropout_l{layer}"',
                'f"dropout_l{0 if layer == 1 and self.num_layers == 3 else layer}"',
            ),
        ),
        experiment="dropout-in-three-layers",
        check="forward",
        tensor="rnn.h_l2",
        option="num_layers = 3",
    ),
    Fault(
        name="positions-before-an-embedding",
        what="One-hot positions come before an embedding's features, and after other inputs.",
        implementation="flax_impl",
        edits=(
            Edit(
                "attention.py:SelfAttention.forward",
                "            inputs = jnp.concatenate([inputs, one_hot(times, self.max_length, inputs)], -1)\n",
                "            places = one_hot(times, self.max_length, inputs)\n"
                "            parts = [inputs, places] if self.embedding is None else [places, inputs]\n"
                "            inputs = jnp.concatenate(parts, -1)\n",
            ),
        ),
        experiment="embedding-in-attention",
        check="forward",
        tensor="query*",
        option='name = "Embedding"',
    ),
    Fault(
        name="cell-without-relu",
        what="A single cell computes tanh, whatever the experiment says.",
        implementation="flax_impl",
        edits=(Edit("rnn.py:RNNCell.__init__", "nonlinearity=spec.nonlinearity", 'nonlinearity="tanh"'),),
        experiment="cell-with-relu",
        check="forward",
        tensor="cell.h*",
        option='nonlinearity = "relu"',
    ),
    Fault(
        name="layers-by-the-alphabet",
        what="Layers are run in the order of their names, in which the eleventh is the third.",
        implementation="flax_impl",
        edits=(
            Edit(
                "recurrent.py:Layers.__call__",
                "for layer in range(self.num_layers):",
                "for layer in sorted(range(self.num_layers), key=str):",
            ),
        ),
        experiment="eleven-layers",
        check="forward",
        tensor="rnn.h_l*",
        option="num_layers = 1",
    ),
)
