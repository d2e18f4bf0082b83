"""Faults in the Transformer's encoder: norms, residuals, packed projections, activation."""

from crosscheck.faults.fault import Edit, Fault

PROJECTED = "projected = jnp.split(self.in_proj(hidden), 3, -1)"

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="layer-norm-epsilon-1e-6",
        what="LayerNorm's epsilon is 1e-6, Flax's default, where it is 1e-5.",
        implementation="flax_impl",
        edits=(Edit("transformer.py:EncoderLayer.__init__", "epsilon=spec.layer_norm_epsilon", "epsilon=1e-6"),),
        experiment="hello-transformer",
        check="forward",
        tensor="encoder.layers.0.norm1",
        entries=("PB61",),
    ),
    Fault(
        name="layer-norm-epsilon-1e-6",
        what="LayerNorm's epsilon is 1e-6 where it is 1e-5.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.__init__.new_layer",
                "layer_norm_eps=spec.layer_norm_epsilon",
                "layer_norm_eps=1e-6",
            ),
        ),
        experiment="hello-transformer",
        check="forward",
        tensor="encoder.layers.0.norm1",
        entries=("PB61",),
    ),
    Fault(
        name="layer-norm-epsilon-beside-the-root",
        what="norm(x) = (x - mean) / (sqrt(variance) + epsilon): epsilon stands beside the root.",
        implementation="flax_impl",
        edits=(
            Edit(
                "transformer.py:EncoderLayer.__init__",
                "        norm = partial(",
                "        class Norm(nnx.LayerNorm):\n"
                "            def __call__(self, x: Array) -> Array:\n"
                "                deviation = x.std(-1, keepdims=True) + self.epsilon\n"
                "                centred = x - x.mean(-1, keepdims=True)\n"
                "                return centred / deviation * self.scale[...] + self.bias[...]\n\n"
                "        norm = partial(",
            ),
            Edit("transformer.py:EncoderLayer.__init__", "partial(nnx.LayerNorm, spec", "partial(Norm, spec"),
        ),
        experiment="hello-transformer-norm-first",
        check="forward",
        tensor="encoder.layers.0.norm1",
        entries=("PB62",),
    ),
    Fault(
        name="layer-norm-sample-variance",
        what="The variance is divided by n - 1 where it is divided by n.",
        implementation="flax_impl",
        edits=(
            Edit(
                "transformer.py:EncoderLayer.__init__",
                "        norm = partial(",
                "        class Norm(nnx.LayerNorm):\n"
                "            def __call__(self, x: Array) -> Array:\n"
                "                deviation = jnp.sqrt(x.var(-1, keepdims=True, ddof=1) + self.epsilon)\n"
                "                centred = x - x.mean(-1, keepdims=True)\n"
                "                return centred / deviation * self.scale[...] + self.bias[...]\n\n"
                "        norm = partial(",
            ),
            Edit("transformer.py:EncoderLayer.__init__", "partial(nnx.LayerNorm, spec", "partial(Norm, spec"),
        ),
        experiment="hello-transformer",
        check="forward",
        tensor="encoder.layers.0.norm1",
        entries=("PB62",),
    ),
    Fault(
        name="layer-norm-without-gain",
        what="LayerNorm's gain exists and is not applied.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.__init__",
                "        self.head = ",
                "        for layer in self.encoder.layers:\n"
                "            layer.norm2.register_forward_hook(lambda m, _, y: (y - m.bias) / m.weight + m.bias)\n"
                "        self.head = ",
            ),
        ),
        experiment="hello-transformer",
        check="forward",
        tensor="encoder.layers.0.norm2",
    ),
    Fault(
        name="norm-order",
        what="Norms come first where they come last (and the other way round).",
        implementation="flax_impl",
        edits=(
            Edit(
                "transformer.py:EncoderLayer.__init__",
                "self.norm_first = spec.norm_first",
                "self.norm_first = not spec.norm_first",
            ),
        ),
        experiment="hello-transformer",
        check="forward",
        tensor="encoder.layers.0.self_attn",
        entries=("PB58",),
    ),
    Fault(
        name="norm-order",
        what="Norms come last, torch's default, where they come first.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.__init__.new_layer", "            norm_first=spec.norm_first,\n", ""
            ),
        ),
        experiment="hello-transformer-norm-first",
        check="forward",
        tensor="encoder.layers.0.norm1",
        entries=("PB58",),
    ),
    Fault(
        name="final-norm",
        what="A norm without parameters stands after the last layer.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.__init__",
                "spec.num_layers, norm, enable_nested_tensor=False)",
                "spec.num_layers, nn.LayerNorm(spec.hidden_size, elementwise_affine=False)"
                ", enable_nested_tensor=False)",
            ),
        ),
        experiment="hello-transformer-norm-first",
        check="forward",
        tensor="logits",
        entries=("PB58",),
    ),
    Fault(
        name="residual-missing",
        what="The feed-forward block has no residual connection.",
        implementation="flax_impl",
        edits=(
            Edit(
                "transformer.py:EncoderLayer.around",
                'self.norm2(hidden + self.dropout2(stages["linear2"]))',
                'self.norm2(self.dropout2(stages["linear2"]))',
            ),
        ),
        experiment="hello-transformer",
        check="forward",
        tensor="encoder.layers.0.norm2",
    ),
    Fault(
        name="second-layer-without-residual",
        what="Every layer but the first lacks the residual connection around attention.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.__init__",
                "        self.head = ",
                "        for layer in self.encoder.layers[1:]:\n"
                "            layer.dropout1.register_forward_hook(lambda m, x, y: y)\n"
                "            layer.norm1.register_forward_pre_hook(lambda m, x, layer=layer: (layer.attended,))\n"
                "            layer.self_attn.register_forward_hook(\n"
                "                lambda m, x, y, layer=layer: setattr(layer, 'attended', y[0])\n"
                "            )\n"
                "        self.head = ",
            ),
        ),
        experiment="hello-transformer",
        check="forward",
        tensor="encoder.layers.1.norm1",
    ),
    Fault(
        name="gelu-by-tanh",
        what="gelu is computed by its tanh approximation, JAX's default.",
        implementation="flax_impl",
        edits=(Edit("transformer.py", '"gelu": partial(jax.nn.gelu, approximate=False)', '"gelu": jax.nn.gelu'),),
        experiment="hello-transformer-norm-first",
        check="forward",
        tensor="encoder.layers.0.linear2",
        entries=("PB64",),
    ),
    Fault(
        name="gelu-by-tanh",
        what="gelu is computed by its tanh approximation.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.__init__.new_layer",
                "activation=ACTIVATIONS[spec.activation]",
                'activation=nn.GELU("tanh")',
            ),
        ),
        experiment="hello-transformer-norm-first",
        check="forward",
        tensor="encoder.layers.0.linear2",
        entries=("PB64",),
    ),
    Fault(
        name="relu-for-gelu",
        what="The activation that the model asks for is ignored: relu, torch's default.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.__init__.new_layer",
                "            activation=ACTIVATIONS[spec.activation],\n",
                "",
            ),
        ),
        experiment="hello-transformer-norm-first",
        check="forward",
        tensor="encoder.layers.0.linear2",
        entries=("PB59",),
    ),
    Fault(
        name="scale-by-the-models-width",
        what="Scores are divided by sqrt(hidden_size) where it is sqrt(hidden_size / heads).",
        implementation="flax_impl",
        edits=(
            Edit(
                "transformer.py:PackedSelfAttention.__call__",
                "math.sqrt(query.shape[-1])",
                "math.sqrt(hidden.shape[-1])",
            ),
        ),
        experiment="hello-transformer",
        check="forward",
        tensor="encoder.layers.0.self_attn",
        entries=("PB41",),
    ),
    Fault(
        name="packed-by-head",
        what="in_proj's rows are read as [q1 k1 v1 q2 k2 v2] where they are [q k v].",
        implementation="flax_impl",
        edits=(
            Edit(
                "transformer.py:PackedSelfAttention.project",
                PROJECTED,
                "heads = self.in_proj(hidden).reshape(*hidden.shape[:2], self.heads, -1)\n"
                "        projected = [part.reshape(hidden.shape) for part in jnp.split(heads, 3, -1)]",
            ),
        ),
        experiment="hello-transformer",
        check="forward",
        tensor="encoder.layers.0.self_attn",
        entries=("PB50",),
    ),
    Fault(
        name="encoder-mask-upside-down",
        what="src_key_padding_mask is given as True = keep, where True means ignore.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.forward",
                "None if valid is None else ~valid",
                "None if valid is None else valid",
            ),
        ),
        experiment="hello-transformer",
        check="forward",
        tensor="encoder.layers.0.self_attn",
        entries=("PB43",),
    ),
    Fault(
        name="encoder-mask-added-as-zero-and-one",
        what="src_key_padding_mask is a float mask of 0 and 1, which torch adds to the scores.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.forward", "~valid & valid.any(1, keepdim=True)", "valid.to(hidden)"
            ),
        ),
        experiment="hello-transformer",
        check="forward",
        tensor="encoder.layers.0.self_attn",
        entries=("PB44",),
    ),
    Fault(
        name="batch-taken-for-time",
        what="batch_first is left at torch's default: attention runs over the batch.",
        implementation="torch_impl",
        edits=(Edit("transformer.py:TransformerEncoder.__init__.new_layer", "            batch_first=True,\n", ""),),
        experiment="hello-transformer",
        check="forward",
        tensor="encoder.layers.0.self_attn",
        entries=("PB55",),
    ),
)
