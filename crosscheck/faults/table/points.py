"""Faults that are invisible on an ordinary batch: they need a certain point of spec.points.

Exact zeros, an offset in float32, four layers, a row that is padding throughout, a target shorter than its source, a
state to start from, the gradient by the inputs.
"""

from crosscheck.faults.fault import Edit, Fault

NAIVE_SOFTMAX = Edit(
    "attention.py:attend",
    "weights = torch.softmax(scores, -1) * kept",
    "weights = scores.exp() / scores.exp().sum(-1, keepdim=True).clamp(min=1e-30) * kept",
)

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="relu-by-a-root",
        what="relu(x) = (x + sqrt(x^2)) / 2, whose gradient at exactly zero is 0 / 0.",
        implementation="flax_impl",
        edits=(
            Edit(
                "transformer.py",
                '"relu": jax.nn.relu',
                '"relu": lambda x: (x + jnp.sqrt(x * x)) / 2',
            ),
        ),
        experiment="hello-transformer",
        check="gradients",
        tensor="*zero*",
        entries=("PB65",),
    ),
    Fault(
        name="relu-by-maximum",
        what="relu(x) = maximum(x, 0), whose gradient at exactly zero is 1/2 in JAX, where torch's relu has 0.",
        implementation="flax_impl",
        edits=(Edit("transformer.py", '"relu": jax.nn.relu', '"relu": lambda x: jnp.maximum(x, 0)'),),
        experiment="hello-transformer",
        check="gradients",
        tensor="*zero*",
        entries=("PB65",),
    ),
    Fault(
        name="relu-by-clamp",
        what="relu(x) = clamp(x, min=0), whose gradient at exactly zero is 1.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.__init__.new_layer",
                "activation=ACTIVATIONS[spec.activation]",
                "activation=lambda x: x.clamp(min=0)",
            ),
        ),
        experiment="hello-transformer",
        check="gradients",
        tensor="*zero*",
        entries=("PB65",),
    ),
    Fault(
        name="layer-norm-fast-variance",
        what="The variance is E[x^2] - E[x]^2, Flax's default, which loses its digits where the mean is large.",
        implementation="flax_impl",
        edits=(Edit("transformer.py:EncoderLayer.__init__", ", use_fast_variance=False", ""),),
        experiment="hello-transformer",
        check="forward",
        tensor="encoder.layers.0.norm1 (offset)",
        entries=("PB62",),
        precision="float32",
    ),
    Fault(
        name="softmax-without-its-maximum",
        what="softmax is exp(x) / sum exp(x), without the largest score being taken off first.",
        implementation="torch_impl",
        edits=(NAIVE_SOFTMAX,),
        experiment="hello-self-attention",
        check="forward",
        tensor="attention.weights (offset)",
        precision="float32",
    ),
    Fault(
        name="softmax-without-its-maximum-float64",
        what="softmax is exp(x) / sum exp(x): in float64 scores have to be above 709 for it to overflow.",
        implementation="torch_impl",
        edits=(NAIVE_SOFTMAX,),
        experiment="hello-self-attention",
        check="forward",
        tensor="attention.weights (overflow)",
    ),
    Fault(
        name="fourth-layer-has-weights-of-third",
        what="Layers from the fourth on call the third layer's cell.",
        implementation="flax_impl",
        edits=(
            Edit(
                "recurrent.py:Layers.__call__",
                "unroll_cell(self.cells[index],",
                "unroll_cell(self.cells[min(index, 2)],",
            ),
        ),
        experiment="hello-stacked-rnn",
        check="forward",
        tensor="rnn.h_l3",
        entries=("PB13",),
    ),
    Fault(
        name="fourth-layer-has-weights-of-third",
        what="Layers from the fourth on are the third layer again.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.__init__",
                "        self.head = ",
                "        for layer in self.encoder.layers[3:]:\n"
                "            layer.forward = self.encoder.layers[2].forward\n"
                "        self.head = ",
            ),
        ),
        experiment="hello-transformer-norm-first",
        check="forward",
        tensor="encoder.layers.2.norm1",
        entries=("PB13",),
    ),
    Fault(
        name="third-layer-without-residual",
        what="Layers from the third on lack the residual connection around the feed-forward block.",
        implementation="flax_impl",
        edits=(
            Edit(
                "transformer.py:Encoder.__call__",
                "        for index, layer in enumerate(self.layers):\n",
                "        for index, layer in enumerate(self.layers):\n            layer.residual = index < 2\n",
            ),
            Edit(
                "transformer.py:EncoderLayer.around",
                'hidden = hidden + self.dropout2(stages["linear2"])',
                'hidden = hidden * self.residual + self.dropout2(stages["linear2"])',
            ),
        ),
        experiment="hello-transformer-norm-first",
        check="forward",
        tensor="encoder.layers.2.output",
    ),
    Fault(
        name="states-by-direction-first",
        what="h_n's first axis is [all layers forward, all backward] where it is [layer 0 both, layer 1 both, ...].",
        implementation="flax_impl",
        edits=(
            Edit(
                "recurrent.py:Layers.__call__",
                "tuple(jnp.stack(s) for s in zip(*final, strict=True)), trace",
                "tuple(jnp.stack(s[::2] + s[1::2]) for s in zip(*final, strict=True)), trace",
            ),
        ),
        experiment="hello-bidirectional-gru",
        check="forward",
        tensor="rnn.h_n",
        entries=("PB19",),
    ),
    Fault(
        name="backward-state-of-the-last-step",
        what="The backward direction's final state is its output at the last step, where it has seen one symbol.",
        implementation="flax_impl",
        edits=(Edit("recurrent.py:Layers.__call__", "values[:, 0 if suffix else -1]", "values[:, -1]"),),
        experiment="hello-bidirectional-gru",
        check="forward",
        tensor="rnn.h_n",
        entries=("PB17",),
    ),
    Fault(
        name="inputs-without-gradient",
        what="The inputs are detached: no parameter's gradient tells.",
        implementation="flax_impl",
        edits=(
            Edit(
                "model.py:Model.embed",
                "return zero_padding(batch.inputs, valid)",
                "return jax.lax.stop_gradient(zero_padding(batch.inputs, valid))",
            ),
        ),
        experiment="hello-gru",
        check="gradients",
        tensor="inputs",
    ),
    Fault(
        name="inputs-without-gradient",
        what="The inputs are detached: no parameter's gradient tells.",
        implementation="torch_impl",
        edits=(
            Edit(
                "model.py:Model.embed",
                "return zero_padding(batch.inputs, valid)",
                "return zero_padding(batch.inputs, valid).detach()",
            ),
        ),
        experiment="hello-lstm",
        check="gradients",
        tensor="inputs",
    ),
    Fault(
        name="minus-infinity-for-the-lowest-number",
        what="Padding is masked by minus infinity: a row of nothing else is 0 / 0.",
        implementation="flax_impl",
        edits=(Edit("attention.py:_written_out", "jnp.finfo(scores.dtype).min", "-jnp.inf"),),
        experiment="hello-encoder-decoder",
        check="forward",
        tensor="attention.weights",
        entries=("PB47",),
    ),
    Fault(
        name="two-masks-added",
        what="The lowest number is added twice, by two masks, which makes minus infinity: a row of it is 0 / 0.",
        implementation="torch_impl",
        edits=(
            Edit(
                "attention.py:attend",
                "scores = scores.masked_fill(~kept, torch.finfo(scores.dtype).min)",
                "mask = torch.zeros_like(scores).masked_fill(~kept, torch.finfo(scores.dtype).min)\n"
                "        scores = scores + mask + mask",
            ),
        ),
        experiment="hello-encoder-decoder",
        check="forward",
        tensor="attention.weights",
        entries=("PB47",),
    ),
    Fault(
        name="nan-hidden",
        what="The NaN of a row without a valid key is replaced by 0 in the weights, and stays in their gradient.",
        implementation="flax_impl",
        edits=(
            Edit(
                "attention.py:_written_out",
                "scores = jnp.where(kept, scores, jnp.finfo(scores.dtype).min)",
                "scores = scores + jnp.where(kept, 0.0, -jnp.inf)",
            ),
            Edit(
                "attention.py:_written_out",
                "jax.nn.softmax(scores, -1) * kept",
                "jnp.nan_to_num(jax.nn.softmax(scores, -1)) * kept",
            ),
        ),
        experiment="hello-encoder-decoder",
        check="gradients",
        tensor="decoder.weight_ih_l0",
        entries=("PB47",),
    ),
    Fault(
        name="source-cut-to-the-target",
        what="The decoder sees as many of the encoder's outputs as it has steps of its own.",
        implementation="flax_impl",
        edits=(
            Edit(
                "encoder_decoder.py:EncoderDecoder.forward",
                "attend(decoded, encoded, encoded, 1.0, valid,",
                "attend(decoded, encoded[:, : decoded.shape[1]], encoded[:, : decoded.shape[1]], 1.0,"
                " None if valid is None else valid[:, : decoded.shape[1]],",
            ),
        ),
        experiment="hello-encoder-decoder",
        check="forward",
        tensor="attention.weights",
    ),
    Fault(
        name="sequences-sorted-and-not-put-back",
        what="Sequences are sorted by length to be packed, and stay in that order.",
        implementation="torch_impl",
        edits=(
            Edit(
                "recurrent.py:run",
                "        packed = pack_padded_sequence(",
                "        order = lengths.argsort(descending=True, stable=True)\n"
                "        inputs, lengths = inputs[order], lengths[order]\n"
                "        packed = pack_padded_sequence(",
            ),
        ),
        experiment="hello-lstm",
        check="forward",
        tensor="rnn.h_n",
    ),
    Fault(
        name="one-length-for-all",
        what="Every sequence is as long as the longest: the padding of the others is read.",
        implementation="torch_impl",
        edits=(Edit("model.py:valid_steps", "< batch.lengths[:, None]", "< batch.lengths.max()"),),
        experiment="hello-self-attention",
        check="forward",
        tensor="query",
    ),
    Fault(
        name="start-ignored",
        what="The layers start from zero whatever state the batch brings.",
        implementation="torch_impl",
        edits=(Edit("recurrent.py:initial_state", "    if batch.initial is None:", "    if batch is not None:"),),
        experiment="hello-lstm",
        check="forward",
        tensor="rnn.h_l0*",
    ),
    Fault(
        name="start-ignored",
        what="The layers start from zero whatever state the batch brings.",
        implementation="flax_impl",
        edits=(Edit("recurrent.py:initial_state", "    if batch.initial is None:", "    if batch is not None:"),),
        experiment="hello-gru",
        check="forward",
        tensor="rnn.h_l0*",
    ),
    Fault(
        name="start-of-both-states-alike",
        what="The state that the batch brings is taken for the hidden state and for the cell state alike.",
        implementation="flax_impl",
        edits=(Edit("recurrent.py:initial_state", 'f"{module}.c_0")', 'f"{module}.h_0")'),),
        experiment="hello-lstm",
        check="forward",
        tensor="rnn.*",
    ),
    Fault(
        name="start-of-layer-zero-for-all",
        what="Every layer starts from the first layer's state.",
        implementation="flax_impl",
        edits=(
            Edit("recurrent.py:Layers.__call__", "tuple(s[index] for s in initial)", "tuple(s[0] for s in initial)"),
        ),
        experiment="hello-stacked-rnn",
        check="forward",
        tensor="rnn.h_l1*",
        entries=("PB19",),
    ),
    Fault(
        name="recurrent-relu-by-maximum",
        what="The recurrent layers' relu is maximum(x, 0), whose gradient at exactly zero is 1/2 in JAX.",
        implementation="flax_impl",
        edits=(Edit("rnn.py:ElmanCell.__init__", '"relu": jax.nn.relu', '"relu": lambda x: jnp.maximum(x, 0)'),),
        experiment="hello-stacked-bidirectional-relu",
        check="gradients",
        tensor="rnn.weight_ih_l0 (zero units)",
    ),
    Fault(
        name="recurrent-relu-leaks",
        what="The recurrent layers' relu lets a thousandth of what is negative through.",
        implementation="flax_impl",
        edits=(Edit("rnn.py:ElmanCell.__init__", '"relu": jax.nn.relu', '"relu": lambda x: jnp.maximum(x, x / 1000)'),),
        experiment="hello-stacked-bidirectional-relu",
        check="forward",
        tensor="rnn.h_l0",
    ),
)
