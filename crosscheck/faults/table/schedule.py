"""Faults in weight decay and in the learning rate's schedule."""

from crosscheck.faults.fault import Edit, Fault

FLAX_DECAY = "decayed(decay)"
FLAX_ADAMW = f"                {FLAX_DECAY},\n"
TORCH_DECAY = '{"weight_decay": decay}'
TORCH_RATE = 'group["initial_lr"] * training.schedule.factor(step)'

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="weight-decay-1e-4",
        what="AdamW's decay is 1e-4, optax's default, where it is 1e-2.",
        implementation="flax_impl",
        edits=(Edit("optimizer.py:make", FLAX_ADAMW, FLAX_ADAMW.replace("(decay)", "(1e-4)")),),
        experiment="hello-lstm-adamw-warm-up",
        check="optimizer",
        tensor="parameters/rnn.weight_ih_l0",
        entries=("PB71",),
    ),
    Fault(
        name="weight-decay-not-scheduled",
        what="The decay is multiplied by the full learning rate throughout, where the schedule acts on it too.",
        implementation="flax_impl",
        edits=(
            Edit(
                "optimizer.py:make",
                FLAX_ADAMW,
                FLAX_ADAMW.replace("(decay)", "(jnp.asarray(decay * spec.learning_rate / at.learning_rate))"),
            ),
        ),
        experiment="hello-lstm-adamw-warm-up",
        check="optimizer",
        tensor="parameters/rnn.weight_ih_l0",
        entries=("PB71",),
    ),
    Fault(
        name="weight-decay-coupled",
        what="The decay is added to the gradient before the moments, as in Adam with L2.",
        implementation="flax_impl",
        edits=(
            Edit(
                "optimizer.py:make",
                f"                scale_by_adam(spec, at),\n                {FLAX_DECAY},\n",
                f"                {FLAX_DECAY},\n                scale_by_adam(spec, at),\n",
            ),
        ),
        experiment="hello-lstm-adamw-warm-up",
        check="optimizer",
        tensor="slots/rnn.weight_ih_l0.exp_avg",
        entries=("PB73",),
    ),
    Fault(
        name="weight-decay-coupled",
        what="AdamW is Adam with L2: the decay is added to the gradient.",
        implementation="torch_impl",
        edits=(Edit("optimizer.py:make", "torch.optim.AdamW)(", "torch.optim.Adam)("),),
        experiment="hello-lstm-adamw-warm-up",
        check="optimizer",
        tensor="slots/rnn.weight_ih_l0.exp_avg",
        entries=("PB73",),
    ),
    Fault(
        name="weight-decay-after-the-step",
        what="p = (p - step)(1 - lr wd) where it is p (1 - lr wd) - step.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:descend",
                "    return carry._replace(parameters=updated, optimizer=state)\n",
                "    decay = training.optimizer.weight_decay * at.learning_rate\n"
                "    updated = jax.tree.map(lambda p, u: u + decay * (p - u), carry.parameters, updated)\n"
                "    return carry._replace(parameters=updated, optimizer=state)\n",
            ),
            Edit("optimizer.py:make", FLAX_ADAMW, FLAX_ADAMW.replace("(decay)", "(0.0)")),
        ),
        experiment="hello-lstm-adamw-warm-up",
        check="optimizer",
        tensor="parameters/rnn.weight_ih_l0",
        entries=("PB73",),
    ),
    Fault(
        name="biases-not-decayed",
        what="Tensors of one axis are left out of the decay, as in nanoGPT.",
        implementation="flax_impl",
        edits=(
            Edit(
                "optimizer.py:own",
                "parameters, training.weight_decay)",
                "parameters, lambda name, axes: training.weight_decay(name, axes) * (axes > 1))",
            ),
        ),
        experiment="hello-lstm-adamw-warm-up",
        check="optimizer",
        tensor="parameters/rnn.bias_ih_l0",
        entries=("PB79",),
    ),
    Fault(
        name="biases-not-decayed",
        what="Tensors of one axis are left out of the decay, as in nanoGPT.",
        implementation="torch_impl",
        edits=(
            Edit(
                "optimizer.py:_groups",
                "training.weight_decay(name, parameter.ndim - stacked)",
                "training.weight_decay(name, parameter.ndim - stacked) * (parameter.ndim - stacked > 1)",
            ),
        ),
        experiment="hello-lstm-adamw-warm-up",
        check="optimizer",
        tensor="parameters/rnn.bias_ih_l0",
        entries=("PB79",),
    ),
    Fault(
        name="warm-up-from-zero",
        what="Step s has the learning rate of step s - 1, and the first step none, as optax's warm-up starts.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:stack_constants",
                "training.constants(step) for step",
                "training.constants(step)._replace(learning_rate=training.learning_rate(step - 1)) for step",
            ),
        ),
        experiment="hello-lstm-adamw-warm-up",
        check="optimizer",
        tensor="parameters/rnn.weight_ih_l0",
        entries=("PB74",),
    ),
    Fault(
        name="warm-up-skips-a-step",
        what="The schedule is advanced before the step: the first learning rate is never used.",
        implementation="torch_impl",
        edits=(Edit("training.py:descend", TORCH_RATE, TORCH_RATE.replace("(step)", "(step + 1)")),),
        experiment="hello-lstm-adamw-warm-up",
        check="optimizer",
        tensor="parameters/rnn.weight_ih_l0",
        entries=("PB74",),
    ),
    Fault(
        name="learning-rate-stays-after-step-5",
        what="The schedule is read up to step 5 and stays there: the first six steps are right.",
        implementation="torch_impl",
        edits=(Edit("training.py:descend", TORCH_RATE, TORCH_RATE.replace("(step)", "(min(step, 5))")),),
        experiment="hello-lstm-adamw-warm-up",
        check="optimizer",
        tensor="parameters/rnn.*",
        entries=("PB74",),
    ),
)
