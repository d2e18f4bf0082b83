"""The faults of crosscheck.faults.table.unvaried in the other implementation: on the same experiments, seen by the same
checks at the same tensors. What makes them is all that differs."""

from crosscheck.faults.fault import Edit
from crosscheck.faults.table import unvaried

EDITS: dict[str, tuple[Edit, ...]] = {
    "attention-dropout-halved": (
        Edit(
            "transformer.py:EncoderLayer.__init__",
            "            spec.attention_dropout,\n",
            "            spec.attention_dropout / 2,\n",
        ),
    ),
    "scale-for-two-heads": (
        Edit(
            "attention.py:MultiHeadAttention.mix",
            "math.sqrt(self.width), by_head",
            "math.sqrt(self.width * self.heads / 2), by_head",
        ),
    ),
    "feed-forward-law-of-16": (
        Edit(
            "parameters.py:draw",
            "        case Uniform(bound):\n",
            '        case Uniform(bound):\n            bound = 0.25 if "linear2" in parameter.name else bound\n',
        ),
    ),
    "norm-epsilon-literal": (
        Edit("transformer.py:EncoderLayer.__init__", "epsilon=spec.layer_norm_epsilon", "epsilon=1e-5"),
    ),
    "position-base-literal": (
        Edit(
            "transformer.py:TransformerEncoder.__init__",
            "self.position_base = spec.position_base if",
            "self.position_base = 1e4 if",
        ),
    ),
    "beta1-literal": (Edit("optimizer.py:scale_by_adam", "state.mu, spec.beta1, 1", "state.mu, 0.9, 1"),),
    "beta2-literal": (Edit("optimizer.py:scale_by_adam", "state.nu, spec.beta2, 2", "state.nu, 0.999, 2"),),
    "adam-epsilon-literal": (Edit("optimizer.py:scale_by_adam", "+ spec.epsilon), mean", "+ 1e-8), mean"),),
    "weight-decay-literal": (
        Edit("optimizer.py:make", "                decayed(decay),\n", "                decayed(0.01),\n"),
    ),
    "warm-up-with-adamw-alone": (
        Edit(
            "training.py:descend",
            "    optimizer = optimizers.make(training.optimizer, at, decay)\n",
            '    if type(training.optimizer).__name__ != "AdamW":\n'
            "        at = at._replace(learning_rate=training.optimizer.learning_rate)\n"
            "    optimizer = optimizers.make(training.optimizer, at, decay)\n",
        ),
    ),
    "softmax-of-the-mean-score": (
        Edit(
            "attention.py:_written_out",
            "        weights = jax.nn.softmax(scores, -1)\n    else:",
            "        weights = jnp.broadcast_to(jax.nn.softmax(scores.mean(0, keepdims=True), -1), scores.shape)\n"
            "    else:",
        ),
    ),
    "square-keys-not-transposed": (
        Edit(
            "attention.py:_written_out",
            "matmul(query, key.swapaxes(-1, -2)) / scale",
            "matmul(query, key if query.shape[-1] == key.shape[-2] else key.swapaxes(-1, -2)) / scale",
        ),
    ),
    "scale-by-an-even-width": (
        Edit(
            "attention.py:SelfAttention.mix",
            "math.sqrt(self.width), valid",
            "math.sqrt(max(self.width // 2 * 2, 1)), valid",
        ),
    ),
    "positions-from-the-end": (
        Edit(
            "attention.py:SelfAttention.forward",
            "jnp.arange(inputs.shape[1]), inputs",
            "jnp.arange(self.max_length - inputs.shape[1], self.max_length), inputs",
        ),
    ),
    "dropout-of-a-gru-halved": (
        Edit(
            "recurrent.py:Recurrent.__init__",
            "dropout=spec.dropout,",
            'dropout=spec.dropout * (0.5 if type(spec).__name__ == "GRU" else 1.0),',
        ),
    ),
    "both-directions-dropped-alike": (
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
    "middle-layer-drops-as-the-first": (
        Edit(
            "recurrent.py:Layers.__call__",
            'f"dropout_l{layer}"',
            'f"dropout_l{0 if layer == 1 and self.num_layers == 3 else layer}"',
        ),
    ),
    "positions-before-an-embedding": (
        Edit(
            "attention.py:SelfAttention.forward",
            "            inputs = jnp.concatenate([inputs, one_hot(times, self.max_length, inputs)], -1)\n",
            "            places = one_hot(times, self.max_length, inputs)\n"
            "            parts = [inputs, places] if self.embedding is None else [places, inputs]\n"
            "            inputs = jnp.concatenate(parts, -1)\n",
        ),
    ),
    "cell-without-relu": (Edit("rnn.py:RNNCell.__init__", "nonlinearity=spec.nonlinearity", 'nonlinearity="tanh"'),),
    "layers-by-the-alphabet": (
        Edit(
            "recurrent.py:Layers.__call__",
            "for layer in range(self.num_layers):",
            "for layer in sorted(range(self.num_layers), key=str):",
        ),
    ),
    "forget-bias-of-the-input-gate": (
        Edit("parameters.py:draw", "tensor[first:last] += dtype.type(by)", "tensor[: last - first] += dtype.type(by)"),
    ),
    "biases-all-the-same": (
        Edit(
            "recurrent.py:Cell.__init__",
            "Linear(hidden_size, outputs, laws=laws[1::2], **options)",
            'Linear(hidden_size, outputs, laws=laws[1::2], **options | {"use_bias": True})',
        ),
    ),
    "mean-over-padding": (Edit("recurrent.py:pool", "outputs.sum(1) / jnp.maximum(count, 1)", "outputs.mean(1)"),),
    "largest-of-padding-too": (
        Edit("recurrent.py:pool", "jnp.where(valid[..., None], outputs, lowest).max(1)", "outputs.max(1)"),
    ),
}
"""By the fault's name."""

FAULTS = tuple(fault._replace(implementation="flax_impl", edits=EDITS[fault.name]) for fault in unvaried.FAULTS)
