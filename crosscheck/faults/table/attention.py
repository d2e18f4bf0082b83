"""Faults in attention: scores, scale, mask, softmax, heads."""

from crosscheck.faults.fault import Edit, Fault

FLAX_MASK = "scores = jnp.where(kept, scores, jnp.finfo(scores.dtype).min)"
TORCH_MASK = "scores = scores.masked_fill(~kept, torch.finfo(scores.dtype).min)"

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="scale-by-all-heads",
        what="Scores are divided by the root of all heads' width together, not of one head's.",
        implementation="flax_impl",
        edits=(
            Edit(
                "attention.py:MultiHeadAttention.mix",
                "math.sqrt(self.width), by_head,",
                "math.sqrt(self.width * self.heads), by_head,",
            ),
        ),
        experiment="hello-multi-head-attention",
        check="forward",
        tensor="attention.weights",
        entries=("PB41",),
    ),
    Fault(
        name="scale-by-all-heads",
        what="Scores are divided by the root of all heads' width together, not of one head's.",
        implementation="torch_impl",
        edits=(
            Edit(
                "attention.py:MultiHeadAttention.mix",
                "math.sqrt(self.width), by_head,",
                "math.sqrt(self.width * self.heads), by_head,",
            ),
        ),
        experiment="hello-multi-head-attention",
        check="forward",
        tensor="attention.weights",
        entries=("PB41",),
    ),
    Fault(
        name="scores-not-scaled",
        what="Scores are q . k, without the division by sqrt(width).",
        implementation="torch_impl",
        edits=(Edit("attention.py:attend", "key.transpose(-1, -2) / scale", "key.transpose(-1, -2)"),),
        experiment="hello-self-attention",
        check="forward",
        tensor="attention.weights",
        entries=("PB41",),
    ),
    Fault(
        name="softmax-over-queries",
        what="The softmax runs over the queries where it runs over the keys.",
        implementation="flax_impl",
        edits=(
            Edit(
                "attention.py:_written_out",
                "weights = jax.nn.softmax(scores, -1)\n",
                "weights = jax.nn.softmax(scores, -2)\n",
            ),
        ),
        experiment="hello-self-attention",
        check="forward",
        tensor="attention.weights",
        entries=("PB52",),
    ),
    Fault(
        name="softmax-over-the-batch",
        what="The softmax runs over axis 0, torch's old choice for three axes: every weight is 1 for a batch of one.",
        implementation="torch_impl",
        edits=(
            Edit(
                "attention.py:attend", "weights = torch.softmax(scores, -1)\n", "weights = torch.softmax(scores, 0)\n"
            ),
        ),
        experiment="hello-encoder-decoder",
        check="forward",
        tensor="attention.weights",
        entries=("PB52",),
    ),
    Fault(
        name="mask-upside-down",
        what="Valid keys are ignored, and padding is attended to.",
        implementation="flax_impl",
        edits=(
            Edit(
                "attention.py:_written_out",
                "jnp.where(kept, scores, jnp.finfo(scores.dtype).min)",
                "jnp.where(kept, jnp.finfo(scores.dtype).min, scores)",
            ),
        ),
        experiment="hello-lstm-attention",
        check="forward",
        tensor="attention.weights",
        entries=("PB43",),
    ),
    Fault(
        name="mask-upside-down",
        what="Valid keys are ignored, and padding is attended to.",
        implementation="torch_impl",
        edits=(Edit("attention.py:attend", "masked_fill(~kept,", "masked_fill(kept,"),),
        experiment="hello-self-attention",
        check="forward",
        tensor="attention.weights",
        entries=("PB43",),
    ),
    Fault(
        name="mask-added-as-zero-and-one",
        what="The 0/1 mask is added to the scores: padding is one less likely, not impossible.",
        implementation="flax_impl",
        edits=(
            Edit("attention.py:_written_out", FLAX_MASK, "scores = scores + kept"),
            Edit("attention.py:_written_out", "jax.nn.softmax(scores, -1) * kept", "jax.nn.softmax(scores, -1)"),
        ),
        experiment="hello-multi-head-attention",
        check="forward",
        tensor="attention.weights",
        entries=("PB44",),
    ),
    Fault(
        name="mask-added-as-zero-and-one",
        what="The 0/1 mask is added to the scores: padding is one less likely, not impossible.",
        implementation="torch_impl",
        edits=(
            Edit("attention.py:attend", TORCH_MASK, "scores = scores + kept"),
            Edit("attention.py:attend", "torch.softmax(scores, -1) * kept", "torch.softmax(scores, -1)"),
        ),
        experiment="hello-encoder-decoder-lstm",
        check="forward",
        tensor="attention.weights",
        entries=("PB44",),
    ),
    Fault(
        name="masked-after-softmax",
        what="Padding is taken out after the softmax: the valid weights do not add up to one.",
        implementation="flax_impl",
        edits=(Edit("attention.py:_written_out", FLAX_MASK, ""),),
        experiment="hello-self-attention",
        check="forward",
        tensor="attention.weights",
        entries=("PB44",),
    ),
    Fault(
        name="mask-too-weak",
        what="Padding is masked by a score of -20, which leaves it some of the softmax's normalizer.",
        implementation="torch_impl",
        edits=(Edit("attention.py:attend", "torch.finfo(scores.dtype).min", "-20.0"),),
        experiment="hello-self-attention",
        check="forward",
        tensor="attention.weights",
        entries=("PB47",),
    ),
    Fault(
        name="queries-masked-too",
        what="Padded queries are masked like keys, by minus infinity: their rows are NaN, and so are all gradients.",
        implementation="torch_impl",
        edits=(
            Edit(
                "attention.py:attend", "kept = valid[..., None, :]", "kept = valid[..., None, :] & valid[..., :, None]"
            ),
            Edit("attention.py:attend", "torch.finfo(scores.dtype).min", "-torch.inf"),
        ),
        experiment="hello-self-attention",
        check="gradients",
        tensor="value.weight",
        entries=("PB56",),
    ),
    Fault(
        name="padding-attended-to",
        what="The decoder's attention has no mask: it also looks at the encoder's padding.",
        implementation="flax_impl",
        edits=(
            Edit(
                "encoder_decoder.py:EncoderDecoder.forward",
                "attend(decoded, encoded, encoded, 1.0, valid,",
                "attend(decoded, encoded, encoded, 1.0, None,",
            ),
        ),
        experiment="hello-encoder-decoder",
        check="forward",
        tensor="attention.weights",
    ),
    Fault(
        name="matrix-on-the-query",
        what="score = (W h_t) . h_s where it is h_t . (W h_s): W is applied to the other side.",
        implementation="flax_impl",
        edits=(
            Edit(
                "attention.py:LSTMAttention.forward",
                "attend(states, self.attention(states), states,",
                "attend(self.attention(states), states, states,",
            ),
        ),
        experiment="hello-lstm-attention",
        check="forward",
        tensor="attention.weights",
        entries=("PB94",),
    ),
    Fault(
        name="context-after-state",
        what="The head reads [h; context] where it reads [context; h].",
        implementation="torch_impl",
        edits=(
            Edit(
                "attention.py:LSTMAttention.forward",
                "torch.cat([context, states], -1)",
                "torch.cat([states, context], -1)",
            ),
        ),
        experiment="hello-lstm-attention",
        check="forward",
        tensor="logits",
    ),
    Fault(
        name="weights-without-gradient",
        what="The attention weights are detached, so that queries and keys learn nothing.",
        implementation="flax_impl",
        edits=(
            Edit(
                "attention.py:_written_out",
                "return matmul(weights, value), weights",
                "return matmul(jax.lax.stop_gradient(weights), value), weights",
            ),
        ),
        experiment="hello-self-attention",
        check="gradients",
        tensor="query.weight",
    ),
    Fault(
        name="weights-without-gradient",
        what="The attention weights are detached, so that the scores teach nothing.",
        implementation="torch_impl",
        edits=(
            Edit("attention.py:attend", "return weights @ value, weights", "return weights.detach() @ value, weights"),
        ),
        experiment="hello-encoder-decoder",
        check="gradients",
        tensor="encoder.weight_ih_l0",
    ),
    Fault(
        name="head-width-before-heads",
        what="Features are split as (width, heads) where they are (heads, width).",
        implementation="flax_impl",
        edits=(
            Edit(
                "attention.py:split_heads",
                "projection.reshape(batch, time, heads, features // heads).swapaxes(1, 2)",
                "projection.reshape(batch, time, features // heads, heads).transpose(0, 3, 1, 2)",
            ),
        ),
        experiment="hello-multi-head-attention",
        check="forward",
        tensor="attention.weights",
        entries=("PB49",),
    ),
    Fault(
        name="head-width-before-heads",
        what="Features are split as (width, heads) where they are (heads, width).",
        implementation="torch_impl",
        edits=(
            Edit(
                "attention.py:split_heads",
                "projection.unflatten(-1, (heads, -1)).transpose(1, 2)",
                "projection.unflatten(-1, (-1, heads)).permute(0, 3, 1, 2)",
            ),
        ),
        experiment="hello-multi-head-attention",
        check="forward",
        tensor="attention.weights",
        entries=("PB49",),
    ),
    Fault(
        name="heads-merged-without-transpose",
        what="(heads, time, width) is reshaped to (time, heads width) without swapping the first two axes.",
        implementation="flax_impl",
        edits=(Edit("attention.py:merge_heads", "return context.swapaxes(1, 2).reshape(", "return context.reshape("),),
        experiment="hello-multi-head-attention",
        check="forward",
        tensor="attention.context",
        entries=("PB49", "PB19"),
    ),
    Fault(
        name="positions-from-one",
        what="One-hot positions count from 1, so that the last step has none.",
        implementation="flax_impl",
        edits=(
            Edit(
                "attention.py:SelfAttention.forward",
                "jnp.arange(inputs.shape[1])",
                "jnp.arange(1, inputs.shape[1] + 1)",
            ),
        ),
        experiment="hello-self-attention",
        check="forward",
        tensor="query",
        entries=("PB38",),
    ),
    Fault(
        name="query-and-key-swapped",
        what="weights_t(s) comes from q_s . k_t where it comes from q_t . k_s.",
        implementation="torch_impl",
        edits=(
            Edit(
                "attention.py:SelfAttention.mix",
                "attend(query, key, value, math.sqrt(self.width), valid,",
                "attend(key, query, value, math.sqrt(self.width), valid,",
            ),
        ),
        experiment="hello-self-attention-no-positions",
        check="forward",
        tensor="attention.weights",
    ),
)
