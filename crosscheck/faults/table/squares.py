"""Faults where targets are numbers: what is squared, what counts, what the sum is divided by, and what broadcasts."""

from crosscheck.faults.fault import Edit, Fault

TORCH, FLAX = "loss.py:mean_squared_error", "loss.py:mean_squared_error"
TORCH_ASKED, FLAX_ASKED = "    asked = ~targets.isnan()\n", "    asked = ~jnp.isnan(targets)\n"
TORCH_OUTPUTS, TORCH_TARGETS = "outputs.where(asked, 0)", "targets.where(asked, 0)"
FLAX_OUTPUTS, FLAX_TARGETS = "jnp.where(asked, outputs, 0)", "jnp.where(asked, targets, 0)"
TORCH_COUNT = "(asked if whole is None else ~whole.isnan()).sum().clamp(min=1)"
FLAX_COUNT = "jnp.maximum((asked if whole is None else ~jnp.isnan(whole)).sum(), 1)"
FLAX_SQUARES = f"optax.squared_error({FLAX_OUTPUTS}, {FLAX_TARGETS})"
SWING, TABLE = "oscillation-gru", "squares"

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="sum-of-squares-for-their-mean",
        what="The squares' sum where the recipe asks for their mean; Adam divides the scale out again.",
        implementation="torch_impl",
        edits=(Edit(TORCH, 'spec.reduction == "sum"', "True"),),
        experiment=SWING,
        check="loss",
        tensor="loss*",
        entries=("PB82",),
    ),
    Fault(
        name="sum-of-squares-for-their-mean",
        what="The squares' sum where the recipe asks for their mean; Adam divides the scale out again.",
        implementation="flax_impl",
        edits=(Edit(FLAX, 'spec.reduction == "sum"', "True"),),
        experiment=SWING,
        check="loss",
        tensor="loss*",
        entries=("PB82",),
    ),
    Fault(
        name="half-of-the-square",
        what="(o - t)^2 / 2, as textbooks of pattern recognition and optax.l2_loss have it.",
        implementation="flax_impl",
        edits=(Edit(FLAX, "optax.squared_error(", "optax.l2_loss("),),
        experiment=SWING,
        check="loss",
        tensor="loss*",
    ),
    Fault(
        name="half-of-the-square",
        what="(o - t)^2 / 2, as textbooks of pattern recognition have it.",
        implementation="torch_impl",
        edits=(Edit(TORCH, 'reduction="sum")', 'reduction="sum") / 2'),),
        experiment=SWING,
        check="loss",
        tensor="loss*",
    ),
    Fault(
        name="squares-divided-by-all-numbers",
        what="The sum over what is asked is divided by all numbers, padding included.",
        implementation="torch_impl",
        edits=(Edit(TORCH, TORCH_COUNT, "targets.numel()"),),
        experiment=SWING,
        check="loss",
        tensor="loss*",
        entries=("PB82",),
    ),
    Fault(
        name="squares-divided-by-all-numbers",
        what="The sum over what is asked is divided by all numbers, padding included.",
        implementation="flax_impl",
        edits=(Edit(FLAX, FLAX_COUNT, "targets.size"),),
        experiment=SWING,
        check="loss",
        tensor="loss*",
        entries=("PB82",),
    ),
    Fault(
        name="squares-divided-by-steps",
        what="A step's squares are added up, and the mean is taken over steps, not over numbers.",
        implementation="torch_impl",
        edits=(
            Edit(
                TORCH,
                TORCH_COUNT,
                "(asked if whole is None else ~whole.isnan()).any(-1).sum().clamp(min=1)",
            ),
        ),
        experiment=TABLE,
        check="loss",
        tensor="loss*",
        entries=("PB82",),
    ),
    Fault(
        name="missing-numbers-are-zero",
        what="Targets of which nothing is asked count as 0.",
        implementation="flax_impl",
        edits=(Edit(FLAX, FLAX_ASKED, "    targets = jnp.nan_to_num(targets)\n" + FLAX_ASKED),),
        experiment=SWING,
        check="loss",
        tensor="loss*",
        entries=("PB83",),
    ),
    Fault(
        name="missing-numbers-are-zero",
        what="Targets of which nothing is asked count as 0.",
        implementation="torch_impl",
        edits=(Edit(TORCH, TORCH_ASKED, "    targets = targets.nan_to_num()\n" + TORCH_ASKED),),
        experiment=TABLE,
        check="loss",
        tensor="loss*",
        entries=("PB83",),
    ),
    Fault(
        name="outputs-against-all-targets",
        what="(N, 1) less (N,): every output is held against every target, and the mean of all pairs is taken.",
        implementation="torch_impl",
        edits=(
            Edit(TORCH, TORCH_OUTPUTS, f"{TORCH_OUTPUTS}.flatten(0, -2)"),
            Edit(TORCH, TORCH_TARGETS, f"{TORCH_TARGETS}.flatten()"),
            Edit(TORCH, 'reduction="sum")', 'reduction="sum") / targets.numel()'),
        ),
        experiment=SWING,
        check="loss",
        tensor="loss*",
    ),
    Fault(
        name="outputs-against-all-targets",
        what="(N, 1) less (N,): every output is held against every target, and the mean of all pairs is taken.",
        implementation="flax_impl",
        edits=(
            Edit(FLAX, FLAX_SQUARES, f"jnp.square({FLAX_OUTPUTS}.reshape(-1, 1) - {FLAX_TARGETS}.reshape(-1))"),
            Edit(FLAX, "    total = ", "    total = 1 / targets.size * "),
        ),
        experiment=SWING,
        check="loss",
        tensor="loss*",
    ),
    Fault(
        name="masked-after-the-square",
        what="What is missing is left out of the sum alone, so that its gradient is NaN times zero.",
        implementation="flax_impl",
        edits=(Edit(FLAX, FLAX_SQUARES, "jnp.where(asked, optax.squared_error(outputs, targets), 0)"),),
        experiment=SWING,
        check="loss",
        tensor="gradient*",
    ),
    Fault(
        name="masked-after-the-square",
        what="What is missing is left out of the sum alone, so that its gradient is NaN times zero.",
        implementation="torch_impl",
        edits=(
            Edit(
                TORCH,
                f'functional.mse_loss({TORCH_OUTPUTS}, {TORCH_TARGETS}, reduction="sum")',
                'functional.mse_loss(outputs, targets, reduction="none").where(asked, 0).sum()',
            ),
        ),
        experiment=TABLE,
        check="loss",
        tensor="gradient*",
    ),
    Fault(
        name="distances-for-squares",
        what="The mean of |o - t|, which does not grow as squares do.",
        implementation="torch_impl",
        edits=(Edit(TORCH, "functional.mse_loss", "functional.l1_loss"),),
        experiment=TABLE,
        check="loss",
        tensor="loss*",
    ),
    Fault(
        name="parts-divide-by-their-own-numbers",
        what="Each part of a batch is divided by its own count of numbers, not by the whole batch's.",
        implementation="torch_impl",
        edits=(Edit(TORCH, "asked if whole is None else ~whole.isnan()", "asked"),),
        experiment="squares-in-parts",
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="parts-divide-by-their-own-numbers",
        what="Each part of a batch is divided by its own count of numbers, not by the whole batch's.",
        implementation="flax_impl",
        edits=(Edit(FLAX, "asked if whole is None else ~jnp.isnan(whole)", "asked"),),
        experiment="squares-in-parts",
        check="trajectory",
        tensor="loss",
    ),
)
