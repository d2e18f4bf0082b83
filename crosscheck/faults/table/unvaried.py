"""Faults in options that the shipped experiments have in one form alone. `crosscheck explore` finds them, and the
experiments that they are planted on here are what it shrank the first failing one to: see crosscheck.faults.given."""

from crosscheck.faults.fault import Edit, Fault

ADAM = """,
                eps=spec.epsilon,
                fused"""
"""What follows Adam's betas, and not AdamW's."""

FAULTS = (
    Fault(
        name="attention-dropout-halved",
        what="Attention weights are dropped at half the rate.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.__init__",
                "dropout = spec.attention_dropout\n",
                "dropout = spec.attention_dropout / 2\n",
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
        implementation="torch_impl",
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
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:draw",
                "            values.uniform_(-bound, bound, generator=generator)\n",
                '            bound = 0.25 if "linear2" in parameter.name else bound\n'
                "            values.uniform_(-bound, bound, generator=generator)\n",
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
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.__init__",
                "layer_norm_eps=spec.layer_norm_epsilon",
                "layer_norm_eps=1e-5",
            ),
        ),
        experiment="norm-epsilon",
        check="forward",
        tensor="encoder.layers.0.norm1*",
        option="layer_norm_epsilon = ",
    ),
    Fault(
        name="position-base-literal",
        what="Positions have a base of 10,000, whatever the experiment says.",
        implementation="torch_impl",
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
        implementation="torch_impl",
        edits=(Edit("optimizer.py:make", "betas=(spec.beta1, spec.beta2)" + ADAM, "betas=(0.9, spec.beta2)" + ADAM),),
        experiment="beta1",
        check="optimizer",
        tensor="slots/*.exp_avg",
        option="beta1 = ",
    ),
    Fault(
        name="beta2-literal",
        what="Adam's beta2 is 0.999, whatever the experiment says.",
        implementation="torch_impl",
        edits=(Edit("optimizer.py:make", "betas=(spec.beta1, spec.beta2)" + ADAM, "betas=(spec.beta1, 0.999)" + ADAM),),
        experiment="beta2",
        check="optimizer",
        tensor="slots/*.exp_avg_sq",
        option="beta2 = ",
    ),
    Fault(
        name="adam-epsilon-literal",
        what="Adam's epsilon is 1e-8, whatever the experiment says.",
        implementation="torch_impl",
        edits=(
            Edit("optimizer.py:make", "eps=spec.epsilon,\n                fused", "eps=1e-8,\n                fused"),
        ),
        experiment="adam-epsilon",
        check="optimizer",
        tensor="parameters/*",
        option="epsilon = ",
    ),
    Fault(
        name="weight-decay-literal",
        what="AdamW's weight decay is 0.01, torch's default, whatever the experiment says.",
        implementation="torch_impl",
        edits=(Edit("optimizer.py:_groups", '{"weight_decay": decay}', '{"weight_decay": 0.01}'),),
        experiment="weight-decay",
        check="optimizer",
        tensor="parameters/*",
        option="weight_decay = ",
    ),
    Fault(
        name="warm-up-with-adamw-alone",
        what="The learning rate follows its schedule under AdamW, and stays what it is under other optimizers.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:descend",
                'group["initial_lr"] * training.schedule.factor(step)',
                'group["initial_lr"] * (\n'
                "            training.schedule.factor(step) if isinstance(optimizer, torch.optim.AdamW) else 1.0\n"
                "        )",
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
        implementation="torch_impl",
        edits=(
            Edit(
                "attention.py:attend",
                "        weights = torch.softmax(scores, -1)\n    else:",
                "        weights = torch.softmax(scores.mean(0, keepdim=True).expand_as(scores), -1)\n    else:",
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
        implementation="torch_impl",
        edits=(
            Edit(
                "attention.py:attend",
                "scores = query @ key.transpose(-1, -2) / scale",
                "scores = query @ (key if query.shape[-1] == key.shape[-2] else key.transpose(-1, -2)) / scale",
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
        implementation="torch_impl",
        edits=(
            Edit(
                "attention.py:SelfAttention.mix",
                "attend(query, key, value, math.sqrt(self.width), valid",
                "attend(query, key, value, math.sqrt(max(self.width // 2 * 2, 1)), valid",
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
        implementation="torch_impl",
        edits=(
            Edit(
                "attention.py:SelfAttention.forward",
                "times = torch.arange(inputs.shape[1], device=inputs.device)",
                "times = torch.arange(self.max_length - inputs.shape[1], self.max_length, device=inputs.device)",
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
        implementation="torch_impl",
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
        implementation="torch_impl",
        edits=(
            Edit(
                "recurrent.py:unroll",
                "            inputs = inputs * mask\n",
                "            mask = torch.cat([mask[..., : layers.hidden_size]] * len(suffixes), -1)\n"
                "            inputs = inputs * mask\n",
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
        implementation="torch_impl",
        edits=(
            Edit(
                "recurrent.py:unroll",
                'f"rnn.dropout_l{layer}"',
                'f"rnn.dropout_l{0 if layer == 1 and layers.num_layers == 3 else layer}"',
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
        implementation="torch_impl",
        edits=(
            Edit(
                "attention.py:SelfAttention.forward",
                "inputs = torch.cat([inputs, one_hot(times, self.max_length, inputs)], -1)",
                "places = one_hot(times, self.max_length, inputs)\n"
                "            inputs = torch.cat([inputs, places] if self.embedding is None else [places, inputs], -1)",
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
        implementation="torch_impl",
        edits=(
            Edit(
                "rnn.py:RNNCell.__init__",
                "bias=spec.bias, nonlinearity=spec.nonlinearity)",
                "bias=spec.bias)",
            ),
        ),
        experiment="cell-with-relu",
        check="forward",
        tensor="cell.h*",
        option='nonlinearity = "relu"',
    ),
    Fault(
        name="layers-by-the-alphabet",
        what="Layers are run in the order of their names, in which the eleventh is the third.",
        implementation="torch_impl",
        edits=(
            Edit(
                "recurrent.py:unroll",
                "for layer in range(layers.num_layers):",
                "for layer in sorted(range(layers.num_layers), key=str):",
            ),
        ),
        experiment="eleven-layers",
        check="forward",
        tensor="rnn.h_l*",
        option="num_layers = 1",
    ),
    Fault(
        name="forget-bias-of-the-input-gate",
        what="What is added to the forget gate's bias when it is drawn is added to the input gate's.",
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:draw",
                "values[raised[0] : raised[1]] += raised[2]",
                "values[: raised[1] - raised[0]] += raised[2]",
            ),
        ),
        experiment="forget-bias",
        check="initialization",
        tensor="rnn.bias_ih_*",
        precision="float32",
        option="forget_bias = ",
    ),
    Fault(
        name="biases-all-the-same",
        what="Recurrent layers have biases, whatever the experiment says.",
        implementation="torch_impl",
        edits=(Edit("recurrent.py:Recurrent.__init__", "bias=spec.bias", "bias=True"),),
        experiment="without-biases",
        check="structure",
        tensor="*",
        option="bias = false",
    ),
    Fault(
        name="mean-over-padding",
        what="The mean of the outputs is over padding too.",
        implementation="torch_impl",
        edits=(Edit("recurrent.py:pool", "outputs.sum(1) / count.clamp(min=1)", "outputs.mean(1)"),),
        experiment="mean-readout",
        check="forward",
        tensor="logits*",
        option='readout = "mean"',
    ),
    Fault(
        name="largest-of-padding-too",
        what="The zeros at padding are among what the largest is found in.",
        implementation="torch_impl",
        edits=(Edit("recurrent.py:pool", "outputs.masked_fill(~valid[..., None], lowest).amax(1)", "outputs.amax(1)"),),
        experiment="max-readout",
        check="forward",
        tensor="logits*",
        option='readout = "max"',
    ),
)
