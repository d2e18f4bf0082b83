"""Faults in clipping."""

from crosscheck.faults.fault import Edit, Fault

FLAX_CLIP = "spec.max_norm / (optax.tree.norm(gradients) + spec.epsilon)"
TORCH_CLIP = "nn.utils.clip_grad_norm_(model.parameters(), spec.max_norm)"

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="clipped-tensor-by-tensor",
        what="Every tensor's gradient is clipped by its own norm.",
        implementation="flax_impl",
        edits=(
            Edit(
                "optimizer.py:clip",
                "    factor = jnp.minimum",
                "    norms = jax.tree.map(optax.tree.norm, gradients)\n"
                "    return jax.tree.map(lambda g, n: g * jnp.minimum(1, spec.max_norm / n), gradients, norms)\n"
                "    factor = jnp.minimum",
            ),
        ),
        experiment="hello-gru-clipping",
        check="optimizer",
        tensor="slots/rnn.weight_ih_l0.momentum_buffer",
        entries=("PB76",),
    ),
    Fault(
        name="clipped-tensor-by-tensor",
        what="Every tensor's gradient is clipped by its own norm.",
        implementation="torch_impl",
        edits=(
            Edit(
                "optimizer.py:clip",
                TORCH_CLIP,
                "[nn.utils.clip_grad_norm_(parameter, spec.max_norm) for parameter in model.parameters()]",
            ),
        ),
        experiment="hello-gru-clipping",
        check="optimizer",
        tensor="slots/rnn.weight_ih_l0.momentum_buffer",
        entries=("PB76",),
    ),
    Fault(
        name="clipped-without-epsilon",
        what="The factor is max_norm / norm, as in optax, where it is max_norm / (norm + 1e-6).",
        implementation="flax_impl",
        edits=(Edit("optimizer.py:clip", FLAX_CLIP, "spec.max_norm / optax.tree.norm(gradients)"),),
        experiment="hello-gru-clipping",
        check="optimizer",
        tensor="slots/rnn.weight_ih_l0.momentum_buffer",
    ),
    Fault(
        name="clipped-by-value",
        what="Every element is clipped to [-max_norm, max_norm].",
        implementation="torch_impl",
        edits=(Edit("optimizer.py:clip", "clip_grad_norm_(", "clip_grad_value_("),),
        experiment="hello-gru-clipping",
        check="optimizer",
        tensor="slots/rnn.weight_ih_l0.momentum_buffer",
        entries=("PB76",),
    ),
    Fault(
        name="scaled-up-to-the-norm",
        what="Gradients below max_norm are scaled up to it.",
        implementation="flax_impl",
        edits=(Edit("optimizer.py:clip", f"jnp.minimum(1, {FLAX_CLIP})", FLAX_CLIP),),
        experiment="hello-gru-clipping",
        check="optimizer",
        tensor="slots/rnn.*",
    ),
    Fault(
        name="clipped-after-the-momentum",
        what="The step is clipped, and the momentum gathers gradients that are not.",
        implementation="flax_impl",
        edits=(
            Edit("training.py:descend", "optimizer.update(clipped, carry", "optimizer.update(gradients, carry"),
            Edit(
                "training.py:descend",
                "    updated: Any = optax.apply_updates(carry.parameters, updates)\n",
                "    updates = optimizers.clip(training.clipping, updates)\n"
                "    updated: Any = optax.apply_updates(carry.parameters, updates)\n",
            ),
        ),
        experiment="hello-gru-clipping",
        check="optimizer",
        tensor="slots/rnn.weight_ih_l0.momentum_buffer",
    ),
    Fault(
        name="not-clipped",
        what="Gradients are clipped after the step, which is too late.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:descend",
                "    optimizers.clip(training.clipping, model)\n    optimizer.step()\n",
                "    optimizer.step()\n    optimizers.clip(training.clipping, model)\n",
            ),
        ),
        experiment="hello-gru-clipping",
        check="optimizer",
        tensor="slots/rnn.weight_ih_l0.momentum_buffer",
    ),
)
