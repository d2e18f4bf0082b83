"""Faults in a cell's equations: gates, biases, nonlinearities, and gradients through time."""

from crosscheck.faults.fault import Edit, Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="gru-reset-before-product",
        what="n = tanh(W_in x + b_in + W_hn (r h) + b_hn): the reset acts on the state, not on its product.",
        implementation="flax_impl",
        edits=(Edit("gru.py:GRUCell.__call__", "r * hidden_n)", "jnp.split(self.dense_h(r * hidden), 3, -1)[2])"),),
        experiment="hello-gru",
        check="forward",
        tensor="rnn.h_l0",
        entries=("PB01",),
    ),
    Fault(
        name="gru-without-b-hn",
        what="n = tanh(W_in x + b_in + r (W_hn h)): the bias inside the reset product is missing, as in nnx.GRUCell.",
        implementation="flax_impl",
        edits=(
            Edit(
                "gru.py:GRUCell.__call__", "r * hidden_n)", "r * (hidden_n - jnp.split(self.dense_h.bias[...], 3)[2]))"
            ),
        ),
        experiment="hello-gru",
        check="forward",
        tensor="rnn.h_l0",
        entries=("PB02",),
    ),
    Fault(
        name="gru-b-hn-outside-reset",
        what="n = tanh(W_in x + b_in + b_hn + r (W_hn h)): both biases stand outside the reset product.",
        implementation="flax_impl",
        edits=(
            Edit(
                "gru.py:GRUCell.__call__",
                "n = jnp.tanh(input_n + r * hidden_n)",
                "b = jnp.split(self.dense_h.bias[...], 3)[2]\n        n = jnp.tanh(input_n + b + r * (hidden_n - b))",
            ),
        ),
        experiment="hello-gru",
        check="forward",
        tensor="rnn.h_l0",
        entries=("PB04",),
    ),
    Fault(
        name="gru-gates-z-r-n",
        what="The rows are read as z, r, n where they hold r, z, n, as Keras and ONNX have them.",
        implementation="flax_impl",
        edits=(
            Edit(
                "gru.py:GRUCell.__call__",
                "r = jax.nn.sigmoid(input_r + hidden_r)",
                "r = jax.nn.sigmoid(input_z + hidden_z)",
            ),
            Edit(
                "gru.py:GRUCell.__call__",
                "z = jax.nn.sigmoid(input_z + hidden_z)\n        n",
                "z = jax.nn.sigmoid(input_r + hidden_r)\n        n",
            ),
        ),
        experiment="hello-gru",
        check="forward",
        tensor="rnn.h_l0",
        entries=("PB05",),
    ),
    Fault(
        name="gru-update-gate-negated",
        what="h = z n + (1 - z) h where it is (1 - z) n + z h.",
        implementation="flax_impl",
        edits=(Edit("gru.py:GRUCell.__call__", "(1 - z) * n + z * hidden", "z * n + (1 - z) * hidden"),),
        experiment="hello-bidirectional-gru",
        check="forward",
        tensor="rnn.h_l0",
        entries=("PB10",),
    ),
    Fault(
        name="gru-b-hn-frozen",
        what="The recurrent bias counts in the forward pass and gets no gradient: one bias is trained where two are.",
        implementation="flax_impl",
        edits=(
            Edit(
                "gru.py:GRUCell.__call__",
                "jnp.split(self.dense_h(hidden), 3, -1)",
                "jnp.split(hidden @ self.dense_h.kernel[...] + jax.lax.stop_gradient(self.dense_h.bias[...]), 3, -1)",
            ),
        ),
        experiment="hello-gru",
        check="gradients",
        tensor="rnn.bias_hh_l0",
        entries=("PB02",),
    ),
    Fault(
        name="one-bias-for-two",
        what="The recurrent product has no bias, and its parameter does not exist.",
        implementation="flax_impl",
        edits=(
            Edit(
                "recurrent.py:Cell.__init__",
                "Linear(hidden_size, outputs, laws=laws[1::2], **options)",
                'Linear(hidden_size, outputs, laws=laws[1::2], **options | {"use_bias": False})',
            ),
        ),
        experiment="hello-gru",
        check="structure",
        tensor="rnn.bias_hh_l0",
        entries=("PB02",),
    ),
    Fault(
        name="lstm-gates-i-g-f-o",
        what="The rows are read as i, g, f, o where they hold i, f, g, o, as Haiku and TensorFlow 1 have them.",
        implementation="flax_impl",
        edits=(Edit("lstm.py:LSTMCell.__call__", "i, f, g, o = jnp.split", "i, g, f, o = jnp.split"),),
        experiment="hello-lstm",
        check="forward",
        tensor="rnn.h_l0",
        entries=("PB07",),
    ),
    Fault(
        name="lstm-forget-bias-one",
        what="c = sigmoid(f + 1) c + ...: the cell adds 1 to the forget gate.",
        implementation="flax_impl",
        edits=(Edit("lstm.py:LSTMCell.__call__", "jax.nn.sigmoid(f)", "jax.nn.sigmoid(f + 1)"),),
        experiment="hello-bidirectional-lstm",
        check="forward",
        tensor="rnn.h_l0",
        entries=("PB08",),
    ),
    Fault(
        name="lstm-cell-state-detached",
        what="No gradient flows along the cell state: back-propagation through time is cut at c.",
        implementation="flax_impl",
        edits=(
            Edit(
                "lstm.py:LSTMCell.__call__",
                "jax.nn.sigmoid(f) * cell",
                "jax.nn.sigmoid(f) * jax.lax.stop_gradient(cell)",
            ),
        ),
        experiment="hello-lstm",
        check="gradients",
        tensor="rnn.weight_ih_l0",
    ),
    Fault(
        name="rnn-without-b-hh",
        what="h = tanh(W_ih x + b_ih + W_hh h): the second bias exists and is not used.",
        implementation="flax_impl",
        edits=(Edit("rnn.py:ElmanCell.__call__", "self.dense_h(hidden)", "hidden @ self.dense_h.kernel[...]"),),
        experiment="hello-rnn",
        check="forward",
        tensor="rnn.h_l0",
        entries=("PB02",),
    ),
    Fault(
        name="rnn-gradient-cut-at-each-step",
        what="The state is detached at every step, so that nothing is learned through time.",
        implementation="flax_impl",
        edits=(
            Edit("rnn.py:ElmanCell.__call__", "self.dense_h(hidden))", "self.dense_h(jax.lax.stop_gradient(hidden)))"),
        ),
        experiment="hello-rnn",
        check="gradients",
        tensor="rnn.weight_ih_l0",
    ),
    Fault(
        name="rnn-cell-gradient-cut-at-each-step",
        what="The state is detached at every step, so that nothing is learned through time.",
        implementation="torch_impl",
        edits=(
            Edit(
                "rnn.py:RNNCell.forward",
                "self.cell(inputs[:, time], hidden)",
                "self.cell(inputs[:, time], hidden.detach())",
            ),
        ),
        experiment="hello-rnn-cell",
        check="gradients",
        tensor="cell.weight_ih",
    ),
    Fault(
        name="rnn-relu-for-tanh",
        what="The nonlinearity that the model asks for is ignored: relu.",
        implementation="torch_impl",
        edits=(
            Edit(
                "rnn.py:RNN.__init__",
                "super().__init__(spec, nonlinearity=spec.nonlinearity)",
                'super().__init__(spec, nonlinearity="relu")',
            ),
        ),
        experiment="hello-rnn",
        check="forward",
        tensor="rnn.h_l0",
    ),
    Fault(
        name="rnn-cell-input-of-step-before",
        what="h_t reads x_(t-1): the loop's index is off by one, and the first step reads the last input.",
        implementation="torch_impl",
        edits=(
            Edit(
                "rnn.py:RNNCell.forward", "self.cell(inputs[:, time], hidden)", "self.cell(inputs[:, time - 1], hidden)"
            ),
        ),
        experiment="hello-rnn-cell",
        check="forward",
        tensor="cell.h",
    ),
    Fault(
        name="head-without-bias",
        what="logits = W h: the head's bias exists and is not used.",
        implementation="torch_impl",
        edits=(
            Edit(
                "recurrent.py:Recurrent.classify",
                "return self.head(outputs)\n",
                "return functional.linear(outputs, self.head.weight)\n",
            ),
        ),
        experiment="hello-gru",
        check="forward",
        tensor="logits",
    ),
)
