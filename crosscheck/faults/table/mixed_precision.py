"""Faults in bfloat16 mixed precision: what is rounded and should not be, and what is not and should be."""

from crosscheck.faults.fault import Edit, Fault

GRU = "hello-gru-bfloat16"
TRANSFORMER = "bfloat16-transformer"
DROPPING = "bfloat16-dropout"
ATTENDING = "bfloat16-attention-dropout"

NARROW = ".to(torch.bfloat16)"
FLAX_NARROW = "jax.lax.reduce_precision({}, 8, 7)"

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="operands-not-rounded",
        what="Products are of numbers as they are.",
        implementation="torch_impl",
        edits=(Edit("mixed_precision.py:_Rounded.__torch_dispatch__", "bfloat16(args[position])", "args[position]"),),
        experiment=GRU,
        check="forward",
        tensor="rnn.h_l0",
    ),
    Fault(
        name="operands-not-rounded",
        what="Products are of numbers as they are.",
        implementation="flax_impl",
        edits=(Edit("mixed_precision.py:products", "Products(_dot_general, _matmul)", "Products()"),),
        experiment=GRU,
        check="forward",
        tensor="rnn.h_l0",
    ),
    Fault(
        name="float32-operands-not-rounded",
        what="In float32 alone operands are not rounded, as where a compiler leaves out a cast that is cast back.",
        implementation="flax_impl",
        edits=(
            Edit(
                "mixed_precision.py:bfloat16",
                "    return jax.lax.reduce_precision(single, exponent_bits=8, mantissa_bits=7)",
                "    narrow = jax.lax.reduce_precision(single, exponent_bits=8, mantissa_bits=7)\n"
                "    return values if values.dtype == jnp.float32 else narrow",
            ),
        ),
        experiment=GRU,
        check="forward",
        tensor="rnn.h_l0*",
        precision="float32",
    ),
    Fault(
        name="rounded-towards-zero",
        what="The bits that a bfloat16 has no place for are cut off.",
        implementation="torch_impl",
        edits=(
            Edit(
                "mixed_precision.py:bfloat16",
                "values.to(torch.float32).to(torch.bfloat16).to(values.dtype)",
                "(values.to(torch.float32).view(torch.int32) & -65536).view(torch.float32).to(values.dtype)",
            ),
        ),
        experiment=GRU,
        check="forward",
        tensor="rnn.h_l0",
    ),
    Fault(
        name="results-rounded-too",
        what="What a product gives is rounded too, as under torch.autocast.",
        implementation="torch_impl",
        edits=(
            Edit(
                "mixed_precision.py:_Rounded.__torch_dispatch__",
                "return func(*rounded, **kwargs)",
                "return bfloat16(func(*rounded, **kwargs))",
            ),
        ),
        experiment=GRU,
        check="forward",
        tensor="rnn.h_l0",
    ),
    Fault(
        name="results-rounded-too",
        what="What a product gives is rounded too, as under dtype=jnp.bfloat16.",
        implementation="flax_impl",
        edits=(
            Edit(
                "mixed_precision.py:_dot_general",
                "jax.lax.dot_general(bfloat16(lhs), bfloat16(rhs), dimension_numbers, **options)",
                "bfloat16(jax.lax.dot_general(bfloat16(lhs), bfloat16(rhs), dimension_numbers, **options))",
            ),
        ),
        experiment=GRU,
        check="forward",
        tensor="rnn.h_l0",
    ),
    Fault(
        name="gradients-of-products-not-rounded",
        what="The products of derivatives multiply a gradient that is not rounded.",
        implementation="flax_impl",
        edits=(Edit("mixed_precision.py", "(bfloat16(gradient),)", "(gradient,)"),),
        experiment=GRU,
        check="gradients",
        tensor="rnn.weight_*",
    ),
    Fault(
        name="forward-pass-alone",
        what="Products are rounded as long as the forward pass lasts, as within torch.autocast.",
        implementation="torch_impl",
        edits=(
            Edit(
                "contract.py:gradients",
                "            loss.backward()",
                "            from torch.utils._python_dispatch import _disable_current_modes\n"
                "            with _disable_current_modes():\n"
                "                loss.backward()",
            ),
        ),
        experiment=GRU,
        check="gradients",
        tensor="rnn.weight_*",
    ),
    Fault(
        name="parameters-rounded-as-they-come",
        what="The model holds parameters of bfloat16.",
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:load",
                "to_tensor(value, dtype, device) for",
                f"to_tensor(value, dtype, device){NARROW}.to(dtype) for",
            ),
        ),
        experiment=GRU,
        check="round-trip",
        tensor="rnn.weight_ih_l0",
    ),
    Fault(
        name="updates-lost",
        what="Parameters are rounded after every step: an update below 2^-9 of a parameter is lost.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:descend",
                "    optimizer.step()",
                "    optimizer.step()\n"
                "    with torch.no_grad():\n"
                "        for parameter in model.parameters():\n"
                "            parameter.copy_(parameter.bfloat16())",
            ),
        ),
        experiment=GRU,
        check="optimizer",
        tensor="parameters/*",
    ),
    Fault(
        name="updates-lost",
        what="Parameters are rounded after every step: an update below 2^-9 of a parameter is lost.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:descend",
                "optax.apply_updates(carry.parameters, updates)",
                "jax.tree.map(lambda p: jax.lax.reduce_precision(p, 8, 7), "
                "optax.apply_updates(carry.parameters, updates))",
            ),
        ),
        experiment=GRU,
        check="optimizer",
        tensor="parameters/*",
    ),
    Fault(
        name="float32-updates-lost-in-training-alone",
        what="The training loop rounds parameters after every step, in float32 alone, and the optimizer that is asked "
        "by itself does not.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "                step += 1\n",
                "                step += 1\n"
                "                with torch.no_grad():\n"
                "                    for parameter in model.parameters():\n"
                "                        if parameter.dtype == torch.float32:\n"
                "                            parameter.copy_(parameter.bfloat16())\n",
            ),
        ),
        experiment=GRU,
        check="trajectory",
        tensor="digits of parameters/*",
        precision="float32",
    ),
    Fault(
        name="slots-in-bfloat16",
        what="Adam keeps its first moment in bfloat16.",
        implementation="flax_impl",
        edits=(
            Edit(
                "optimizer.py:scale_by_adam.update",
                "mean = optax.tree.update_moment(updates, state.mu, spec.beta1, 1)",
                "mean = jax.tree.map(lambda m: jax.lax.reduce_precision(m, 8, 7), "
                "optax.tree.update_moment(updates, state.mu, spec.beta1, 1))",
            ),
        ),
        experiment=GRU,
        check="optimizer",
        tensor="slots/*.exp_avg",
    ),
    Fault(
        name="loss-in-bfloat16",
        what="The loss is computed of logits that are rounded.",
        implementation="torch_impl",
        edits=(
            Edit(
                "loss.py:cross_entropy",
                "        logits.flatten(0, -2),",
                "        logits.bfloat16().to(logits.dtype).flatten(0, -2),",
            ),
        ),
        experiment=GRU,
        check="loss",
        tensor="loss",
    ),
    Fault(
        name="loss-in-bfloat16",
        what="The loss is computed of logits that are rounded.",
        implementation="flax_impl",
        edits=(
            Edit(
                "loss.py:cross_entropy",
                "    asked = counted(spec, targets)\n",
                "    logits = jax.lax.reduce_precision(logits, 8, 7)\n    asked = counted(spec, targets)\n",
            ),
        ),
        experiment=GRU,
        check="loss",
        tensor="loss",
    ),
    Fault(
        name="states-in-bfloat16",
        what="The state is handed on in bfloat16, as by a layer all of which has that dtype.",
        implementation="flax_impl",
        edits=(
            Edit(
                "gru.py:GRUCell.__call__",
                "        hidden = (1 - z) * n + z * hidden",
                "        hidden = jax.lax.reduce_precision((1 - z) * n + z * hidden, 8, 7)",
            ),
        ),
        experiment=GRU,
        check="forward",
        tensor="rnn.h_l0",
    ),
    Fault(
        name="softmax-in-bfloat16",
        what="Attention's weights are those of scores in bfloat16.",
        implementation="flax_impl",
        edits=(
            Edit(
                "attention.py:_written_out",
                "        weights = jax.nn.softmax(scores, -1) * kept",
                "        weights = jax.nn.softmax(jax.lax.reduce_precision(scores, 8, 7), -1) * kept",
            ),
        ),
        experiment=TRANSFORMER,
        check="forward",
        tensor="encoder.layers.0.self_attn",
    ),
    Fault(
        name="softmax-in-bfloat16",
        what="Attention's weights are those of scores in bfloat16.",
        implementation="torch_impl",
        edits=(
            Edit(
                "mixed_precision.py:attention",
                "torch.softmax(scores, -1)",
                "torch.softmax(bfloat16(scores), -1)",
            ),
        ),
        experiment=TRANSFORMER,
        check="forward",
        tensor="encoder.layers.0.self_attn",
    ),
    Fault(
        name="scaled-before-the-product",
        what="Queries and keys are divided by a root of the scale, as in torch's own attention, and then rounded.",
        implementation="torch_impl",
        edits=(
            Edit(
                "mixed_precision.py:attention",
                "    scores = query @ key.transpose(-1, -2)\n"
                "    scores = scores / math.sqrt(query.shape[-1]) if scale is None else scores * scale",
                "    root = math.sqrt(1 / math.sqrt(query.shape[-1]) if scale is None else scale)\n"
                "    scores = (query * root) @ (key * root).transpose(-1, -2)",
            ),
        ),
        experiment=TRANSFORMER,
        check="forward",
        tensor="encoder.layers.0.self_attn",
    ),
    Fault(
        name="norm-in-bfloat16",
        what="LayerNorm's mean and variance are of numbers of bfloat16.",
        implementation="flax_impl",
        edits=(
            Edit(
                "transformer.py:EncoderLayer.around",
                'stages["norm1"] = self.norm1(hidden)\n            stages["self_attn"] = attention(stages["norm1"])',
                'stages["norm1"] = self.norm1(jax.lax.reduce_precision(hidden, 8, 7))\n'
                '            stages["self_attn"] = attention(stages["norm1"])',
            ),
        ),
        experiment=TRANSFORMER,
        check="forward",
        tensor="encoder.layers.0.norm1",
    ),
    Fault(
        name="epsilon-of-a-norm-before-rounded-products",
        what="LayerNorm's epsilon is 1e-6 (Flax's default) in place of 1e-5: less than a rounding to bfloat16 makes.",
        implementation="flax_impl",
        edits=(
            Edit(
                "transformer.py:EncoderLayer.__init__",
                "epsilon=spec.layer_norm_epsilon",
                "epsilon=1e-6",
            ),
        ),
        experiment=TRANSFORMER,
        check="forward",
        tensor="encoder.layers.0.norm1",
        entries=("PB61",),
    ),
    Fault(
        name="parts-added-up-in-bfloat16",
        what="The gradients of a batch's parts are added up in bfloat16.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:make_step.step.differentiate.part",
                "jax.tree.map(jnp.add, total, (share, found))",
                "jax.tree.map(lambda x, y: jax.lax.reduce_precision(x + y, 8, 7), total, (share, found))",
            ),
        ),
        experiment=TRANSFORMER,
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="parts-added-up-in-bfloat16",
        what="The gradients of a batch's parts are added up in bfloat16.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:backward",
                "        total += loss.detach()",
                "        total += loss.detach()\n"
                "        for parameter in model.parameters():\n"
                "            if parameter.grad is not None:\n"
                "                parameter.grad = parameter.grad.bfloat16().to(parameter.dtype)",
            ),
        ),
        experiment=TRANSFORMER,
        check="trajectory",
        tensor="slots/*.exp_avg",
    ),
    Fault(
        name="layers-taken-apart-drop-nothing",
        what="Layers come in whole in inference mode, and what torch takes recurrent ones apart into drops nothing.",
        implementation="torch_impl",
        edits=(
            Edit(
                "mixed_precision.py:without_gradients",
                "torch.no_grad() if active() else torch.inference_mode()",
                "torch.inference_mode()",
            ),
            Edit(
                "mixed_precision.py:_Rounded.__torch_dispatch__",
                "        if torch.is_inference_mode_enabled():\n",
                "        with self:\n"
                "            parts = func.decompose(*args, **kwargs)\n"
                "        if parts is not NotImplemented:\n"
                "            return parts\n"
                "        if False:\n",
            ),
        ),
        experiment=DROPPING,
        check="dropout",
        tensor="rnn.dropout_l0, *",
        precision="float32",
    ),
    Fault(
        name="dropout-between-layers-of-another-rate",
        what="What is dropped between recurrent layers is kept unscaled.",
        implementation="flax_impl",
        edits=(
            Edit(
                "dropout.py:Dropout.__call__",
                "return super().__call__(inputs, ",
                "return (self.deterministic or 1 - self.rate) * super().__call__(inputs, ",
            ),
        ),
        experiment=DROPPING,
        check="dropout",
        tensor="rnn.dropout_l0, values",
        precision="float32",
    ),
    Fault(
        name="attention-drops-nothing",
        what="Attention that shows its products drops none of its weights.",
        implementation="torch_impl",
        edits=(
            Edit(
                "mixed_precision.py:MultiheadAttention.forward",
                "self.dropout if self.training else 0.0",
                "0.0",
            ),
        ),
        experiment=ATTENDING,
        check="dropout",
        tensor="encoder.layers.0.self_attn.dropout, *",
        precision="float32",
    ),
    Fault(
        name="masks-in-bfloat16",
        what="What is kept is multiplied by a number of bfloat16, 0.4 % from 1 / (1 - rate).",
        implementation="torch_impl",
        edits=(
            Edit(
                "mixed_precision.py:attention",
                "functional.dropout(torch.softmax(scores, -1), dropout_p)",
                "torch.softmax(scores, -1) * bfloat16(functional.dropout(torch.ones_like(scores), dropout_p))",
            ),
        ),
        experiment=ATTENDING,
        check="dropout",
        tensor="logits in train mode",
        precision="float32",
    ),
    Fault(
        name="members-forward-pass-alone",
        what="Of members that are trained together, the products of derivatives are of numbers as they are.",
        implementation="torch_impl",
        edits=(
            Edit(
                "members.py:_member_gradients.apply",
                "            found = torch.autograd.grad(share",
                "            from torch.utils._python_dispatch import _disable_current_modes\n"
                "            with _disable_current_modes():\n"
                "                found = torch.autograd.grad(share",
            ),
        ),
        experiment=GRU,
        check="trajectory",
        tensor="starts/loss",
    ),
)
