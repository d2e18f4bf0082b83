"""Faults in the conversion of weights, and in precision: the right equations on the wrong numbers."""

from crosscheck.faults.fault import Edit, Fault

LOADED = "to_tensor(value, dtype, device)"
EXPORTED = "{name: parameter.detach().cpu().numpy().copy() for"
CELL_KERNEL = '(*path, name, "kernel"), True)'


def _torch_reordered(expression: str) -> tuple[Edit, ...]:
    """Weights are rearranged on the way in and back on the way out; `expression` is its own inverse.

    It reads `name` and `value`, a NumPy array.
    """
    function = f"def _reordered(name, value):\n    return {expression}\n\n\ndef load(model"
    return (
        Edit("parameters.py:load", "def load(model", function),
        Edit("parameters.py:load", LOADED, LOADED.replace("value", "_reordered(name, value)")),
        Edit(
            "parameters.py:export",
            EXPORTED,
            "{name: _reordered(name, parameter.detach().cpu().numpy()).copy() for",
        ),
    )


FAULTS: tuple[Fault, ...] = (
    Fault(
        name="recurrent-matrix-not-transposed",
        what="The recurrent kernel, which is square, is loaded without being transposed: shapes cannot tell.",
        implementation="flax_impl",
        edits=(Edit("parameters.py:_cell", CELL_KERNEL, '(*path, name, "kernel"), side == "ih")'),),
        experiment="hello-rnn",
        check="forward",
        tensor="rnn.h_l0",
        entries=("PB94",),
    ),
    Fault(
        name="square-matrices-not-transposed",
        what="A kernel is transposed only where its shape asks for it.",
        implementation="flax_impl",
        edits=(
            Edit(
                "parameters.py:_swap",
                "if leaf.transposed else array",
                "if leaf.transposed and array.shape[-1] != array.shape[-2] else array",
            ),
        ),
        experiment="hello-transformer",
        check="forward",
        tensor="encoder.layers.0.self_attn",
        entries=("PB94",),
    ),
    Fault(
        name="square-matrices-transposed",
        what="Square matrices are transposed on the way in and out, as if they came from Flax.",
        implementation="torch_impl",
        edits=_torch_reordered("value.T if value.ndim == 2 and len(set(value.shape)) == 1 else value"),
        experiment="hello-lstm-attention",
        check="forward",
        tensor="attention.weights",
        entries=("PB94",),
    ),
    Fault(
        name="square-matrices-transposed-on-export",
        what="Square matrices are transposed on the way out and not on the way in.",
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:export",
                EXPORTED,
                "{name: (p.mT if p.ndim == 2 and p.shape[0] == p.shape[1] else p).detach().cpu().numpy().copy() for",
            ),
            Edit(
                "parameters.py:export",
                "for name, parameter in model.named_parameters()}",
                "for name, p in model.named_parameters()}",
            ),
        ),
        experiment="hello-rnn",
        check="round-trip",
        tensor="rnn.weight_hh_l0",
        entries=("PB94",),
    ),
    Fault(
        name="gru-gates-z-r-n",
        what="Blocks are copied in the order z, r, n into rows that hold r, z, n.",
        implementation="torch_impl",
        edits=_torch_reordered("value.reshape(3, -1)[[1, 0, 2]].reshape(value.shape) if '_l0' in name else value"),
        experiment="hello-gru",
        check="forward",
        tensor="rnn.h_l0",
        entries=("PB05",),
    ),
    Fault(
        name="packed-k-q-v",
        what="in_proj's blocks are copied in the order k, q, v into rows that hold q, k, v.",
        implementation="torch_impl",
        edits=_torch_reordered("value.reshape(3, -1)[[1, 0, 2]].reshape(value.shape) if 'in_proj' in name else value"),
        experiment="hello-transformer",
        check="forward",
        tensor="encoder.layers.0.self_attn",
        entries=("PB50",),
    ),
    Fault(
        name="biases-merged",
        what="b_ih + b_hh is put into b_ih, and b_hh is zero: the same for r and z, not for n.",
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:load",
                "    model.load_state_dict(",
                "    for name in [name for name in state if 'bias_ih' in name]:\n"
                "        state[name] += state[name.replace('_ih', '_hh')]\n"
                "        state[name.replace('_ih', '_hh')].zero_()\n"
                "    model.load_state_dict(",
            ),
        ),
        experiment="hello-gru",
        check="round-trip",
        tensor="rnn.bias_ih_l0",
        entries=("PB04",),
    ),
    Fault(
        name="biases-swapped",
        what="b_ih and b_hh stand in each other's place: the same wherever they are only added up.",
        implementation="flax_impl",
        edits=(
            Edit(
                "parameters.py:_cell",
                'bias_{side}{suffix}", (*path, name, "bias"), False)',
                'bias_{side}{suffix}", (*path, "dense_h" if side == "ih" else "dense_i", "bias"), False)',
            ),
        ),
        experiment="hello-gru",
        check="forward",
        tensor="rnn.h_l0",
        entries=("PB04",),
    ),
    Fault(
        name="directions-swapped",
        what="The backward direction's weights are loaded into the forward one, and the other way round.",
        implementation="flax_impl",
        edits=(
            Edit(
                "parameters.py:_layers",
                "layer, direction = divmod(index, len(module.suffixes))",
                "layer, direction = index // len(module.suffixes), -1 - index % len(module.suffixes)",
            ),
        ),
        experiment="hello-bidirectional-lstm",
        check="forward",
        tensor="rnn.h_l0",
        entries=("PB19",),
    ),
    Fault(
        name="layers-loaded-in-reverse",
        what="Layers above the first are loaded from the last to the first.",
        implementation="flax_impl",
        edits=(
            Edit(
                "parameters.py:_layers",
                'suffix = f"_l{layer}{module',
                'layer = layer and module.num_layers - layer\n        suffix = f"_l{layer}{module',
            ),
        ),
        experiment="hello-stacked-rnn",
        check="forward",
        tensor="rnn.h_l1",
        entries=("PB19",),
    ),
    Fault(
        name="parameters-through-float32",
        what="float64 parameters are rounded to float32 when they are loaded.",
        implementation="flax_impl",
        edits=(
            Edit(
                "build.py:load",
                "np.asarray(value, settings.precision)",
                "np.asarray(np.float32(value), settings.precision)",
            ),
        ),
        experiment="hello-gru",
        check="round-trip",
        tensor="rnn.weight_ih_l0",
        entries=("PB92",),
    ),
    Fault(
        name="everything-in-float32",
        what="JAX's 64-bit switch stays off, so that float64 is silently float32.",
        implementation="flax_impl",
        edits=(Edit("settings.py:computing", "jax.enable_x64(wide)", "jax.enable_x64(False)"),),
        experiment="hello-gru",
        check="structure",
        tensor="*",
        entries=("PB92",),
    ),
    Fault(
        name="softmax-in-float32",
        what="Attention's softmax is computed in float32, as jax.nn.dot_product_attention does.",
        implementation="flax_impl",
        edits=(
            Edit(
                "attention.py:_written_out",
                "weights = jax.nn.softmax(scores, -1)\n",
                "weights = jax.nn.softmax(scores.astype(jnp.float32), -1).astype(scores.dtype)\n",
            ),
        ),
        experiment="hello-self-attention",
        check="forward",
        tensor="attention.weights",
        entries=("PB92",),
    ),
    Fault(
        name="positions-in-float32",
        what="Sines and cosines are computed in float32.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:sinusoids",
                "positions = torch.arange(time, dtype=torch.float64)",
                "positions = torch.arange(time, dtype=torch.float32)",
            ),
            Edit(
                "transformer.py:sinusoids",
                "torch.arange(0, hidden, 2, dtype=torch.float64)",
                "torch.arange(0, hidden, 2, dtype=torch.float32)",
            ),
        ),
        experiment="hello-transformer",
        check="forward",
        tensor="positions",
        entries=("PB92",),
    ),
    Fault(
        name="state-in-float32",
        what="The recurrent state is rounded to float32 after every step.",
        implementation="torch_impl",
        edits=(
            Edit(
                "rnn.py:RNNCell.forward",
                "            trace.append(hidden)",
                "            hidden = hidden.float().to(inputs)\n            trace.append(hidden)",
            ),
        ),
        experiment="hello-rnn-cell",
        check="forward",
        tensor="cell.h",
        entries=("PB92",),
    ),
    Fault(
        name="products-in-tf32",
        what="The recurrent product's factors are rounded to 10 bits, as TF32 does on a GPU.",
        implementation="flax_impl",
        edits=(
            Edit(
                "gru.py:GRUCell.__call__",
                "self.dense_h(hidden)",
                "self.dense_h(jax.lax.reduce_precision(hidden, 8, 10))",
            ),
        ),
        experiment="hello-gru",
        check="forward",
        tensor="rnn.h_l0",
        entries=("PB91",),
        precision="float32",
    ),
    Fault(
        name="products-in-bfloat16",
        what="The factors of the projections are rounded to bfloat16, as on a TPU.",
        implementation="torch_impl",
        edits=(
            Edit(
                "attention.py:SelfAttention.forward",
                "self.query(inputs), self.key",
                "self.query(inputs.bfloat16().to(inputs)), self.key",
            ),
        ),
        experiment="hello-self-attention",
        check="forward",
        tensor="query",
        entries=("PB91",),
        precision="float32",
    ),
)
