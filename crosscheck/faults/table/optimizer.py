"""Faults in Adam, SGD and their slots: the optimizer check gives both sides the same gradients."""

from crosscheck.faults.fault import Edit, Fault

FLAX_STEP = "(m / at.correction1) / (jnp.sqrt(v / at.correction2) + spec.epsilon), mean, square"
NESTEROV = "nesterov=spec.nesterov"

ADAM_EPSILON = "\n                eps=spec.epsilon,"
ADAM_ENDS = "\n                fused=True,"
"""AdamW's ends otherwise."""

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="adam-epsilon-1e-7",
        what="Adam's epsilon is 1e-7, Keras' default, where it is 1e-8.",
        implementation="flax_impl",
        edits=(Edit("optimizer.py:scale_by_adam.update", "+ spec.epsilon), mean", "+ 1e-7), mean"),),
        experiment="hello-gru",
        check="optimizer",
        tensor="parameters/rnn.weight_ih_l0",
        entries=("PB70",),
    ),
    Fault(
        name="adam-epsilon-1e-7",
        what="Adam's epsilon is 1e-7, Keras' default, where it is 1e-8.",
        implementation="torch_impl",
        edits=(Edit("optimizer.py:make", f"eps=spec.epsilon,{ADAM_ENDS}", f"eps=1e-7,{ADAM_ENDS}"),),
        experiment="hello-lstm",
        check="optimizer",
        tensor="parameters/rnn.weight_ih_l0",
        entries=("PB70",),
    ),
    Fault(
        name="adam-epsilon-inside-the-root",
        what="m / sqrt(v + epsilon) where it is m / (sqrt(v) + epsilon).",
        implementation="flax_impl",
        edits=(
            Edit(
                "optimizer.py:scale_by_adam.update",
                FLAX_STEP,
                "(m / at.correction1) / jnp.sqrt(v / at.correction2 + spec.epsilon), mean, square",
            ),
        ),
        experiment="hello-rnn",
        check="optimizer",
        tensor="parameters/rnn.weight_ih_l0",
        entries=("PB70",),
    ),
    Fault(
        name="adam-epsilon-before-the-correction",
        what="epsilon is added to sqrt(v) before v's correction, as Keras and TensorFlow do it.",
        implementation="flax_impl",
        edits=(
            Edit(
                "optimizer.py:scale_by_adam.update",
                FLAX_STEP,
                "jnp.sqrt(at.correction2) / at.correction1 * m / (jnp.sqrt(v) + spec.epsilon), mean, square",
            ),
        ),
        experiment="hello-lstm",
        check="optimizer",
        tensor="parameters/rnn.weight_ih_l0",
        entries=("PB70",),
    ),
    Fault(
        name="adam-epsilon-underflows",
        what="epsilon is rounded to float16, where 1e-8 is 0: a gradient of zero becomes 0 / 0.",
        implementation="flax_impl",
        edits=(
            Edit(
                "optimizer.py:scale_by_adam.update", "+ spec.epsilon), mean", "+ float(np.float16(spec.epsilon))), mean"
            ),
        ),
        experiment="hello-gru",
        check="optimizer",
        tensor="parameters/rnn.weight_ih_l0",
        entries=("PB77",),
    ),
    Fault(
        name="adam-without-correction",
        what="p = p - lr m / (sqrt(v) + epsilon): neither moment is corrected, as in BertAdam.",
        implementation="flax_impl",
        edits=(Edit("optimizer.py:scale_by_adam.update", FLAX_STEP, "m / (jnp.sqrt(v) + spec.epsilon), mean, square"),),
        experiment="hello-transformer",
        check="optimizer",
        tensor="parameters/input.weight",
        entries=("PB80",),
    ),
    Fault(
        name="adam-corrected-a-step-late",
        what="Step t is corrected as if it were step t + 1.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:stack_constants",
                "training.constants(step) for step",
                "training.constants(step)._replace(correction1=training.constants(step + 1).correction1,"
                " correction2=training.constants(step + 1).correction2) for step",
            ),
        ),
        experiment="hello-rnn",
        check="optimizer",
        tensor="parameters/rnn.weight_ih_l0",
        entries=("PB80",),
    ),
    Fault(
        name="corrections-in-float32",
        what="1 - beta^t is computed in float32, as optax alone does: off by 1e-5 of itself in the first step.",
        implementation="flax_impl",
        edits=(
            Edit(
                "optimizer.py:scale_by_adam.update",
                "v / at.correction2",
                "v / (1 - jnp.float32(spec.beta2) ** (state.count + 1))",
            ),
        ),
        experiment="course-rnn",
        check="optimizer",
        tensor="parameters/rnn.weight_ih_l0",
        entries=("PB92",),
        precision="float32",
    ),
    Fault(
        name="beta2-0.99",
        what="Adam's beta2 is 0.99 where it is 0.999.",
        implementation="torch_impl",
        edits=(
            Edit("optimizer.py:make", f"spec.beta2),{ADAM_EPSILON}{ADAM_ENDS}", f"0.99),{ADAM_EPSILON}{ADAM_ENDS}"),
        ),
        experiment="hello-rnn",
        check="optimizer",
        tensor="slots/rnn.weight_ih_l0.exp_avg_sq",
    ),
    Fault(
        name="amsgrad",
        what="The largest second moment so far counts, not the present one: the same until it falls.",
        implementation="torch_impl",
        edits=(
            Edit(
                "optimizer.py:make",
                f"{ADAM_EPSILON}{ADAM_ENDS}\n                amsgrad=spec.amsgrad",
                f"{ADAM_EPSILON}{ADAM_ENDS}\n                amsgrad=True",
            ),
        ),
        experiment="hello-gru",
        check="optimizer",
        tensor="parameters/rnn.*",
    ),
    Fault(
        name="slots-under-each-others-names",
        what="The first moment is handed out as the second and the other way round.",
        implementation="flax_impl",
        edits=(
            Edit(
                "optimizer.py",
                '    "exp_avg": "mu",\n    "exp_avg_sq": "nu",',
                '    "exp_avg": "nu",\n    "exp_avg_sq": "mu",',
            ),
        ),
        experiment="hello-gru",
        check="optimizer",
        tensor="slots/rnn.weight_ih_l0.exp_avg",
    ),
    Fault(
        name="faint-gradients-flushed",
        what="Gradients below 1e-6 are taken for zero.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:descend",
                "    clipped = optimizers.clip(training.clipping, gradients)\n",
                "    gradients = jax.tree.map(lambda g: g * (abs(g) > 1e-6), gradients)\n"
                "    clipped = optimizers.clip(training.clipping, gradients)\n",
            ),
        ),
        experiment="hello-gru",
        check="optimizer",
        tensor="slots/rnn.weight_ih_l0.exp_avg*",
    ),
    Fault(
        name="nesterov",
        what="p = p - lr (g + momentum b) where it is p - lr b.",
        implementation="torch_impl",
        edits=(Edit("optimizer.py:make", NESTEROV, "nesterov=True"),),
        experiment="hello-rnn-sgd-momentum",
        check="optimizer",
        tensor="parameters/rnn.weight_ih_l0",
    ),
    Fault(
        name="dampening",
        what="b = momentum b + (1 - momentum) g from the second step on; torch's first step is not dampened.",
        implementation="torch_impl",
        edits=(Edit("optimizer.py:make", NESTEROV, f"{NESTEROV}, dampening=spec.momentum"),),
        experiment="hello-rnn-sgd-momentum",
        check="optimizer",
        tensor="slots/rnn.*.momentum_buffer",
    ),
    Fault(
        name="momentum-ignored",
        what="The momentum is kept and not used: p = p - lr g.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:descend",
                "    updated: Any = optax.apply_updates(carry.parameters, updates)\n",
                "    updates = jax.tree.map(lambda g: -at.learning_rate * g, clipped)\n"
                "    updated: Any = optax.apply_updates(carry.parameters, updates)\n",
            ),
        ),
        experiment="hello-rnn-sgd-momentum",
        check="optimizer",
        tensor="parameters/rnn.*",
    ),
    Fault(
        name="momentum-where-none-is-asked-for",
        what="Plain SGD is given momentum 0.9.",
        implementation="flax_impl",
        edits=(Edit("optimizer.py:make", "momentum=spec.momentum or None", "momentum=spec.momentum or 0.9"),),
        experiment="hello-rnn-sgd",
        check="optimizer",
        tensor="parameters/rnn.*",
    ),
    Fault(
        name="weights-decay-under-plain-sgd",
        what="Plain SGD decays weights by 1e-4, as many recipes do.",
        implementation="torch_impl",
        edits=(Edit("optimizer.py:_groups", '{"weight_decay": decay}', '{"weight_decay": 1e-4}'),),
        experiment="hello-rnn-sgd",
        check="optimizer",
        tensor="parameters/rnn.*",
    ),
)
