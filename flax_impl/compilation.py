"""How hard XLA should try: compiling a small model at full effort takes a hundred times as long as training it."""

from typing import Any

from spec.experiment import Experiment
from spec.framework import Settings

QUICK: dict[str, bool | int] = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
"""Compiles hello's training in 0.4 s of CPU time where the defaults take 2.4 (GRU), 1.8 for 5.9 (Transformer)."""

LARGE = 10**9
"""Multiplications above which a training outweighs its compilation: about a second of one core."""

LARGE_ENSEMBLE = 15 * 10**7
"""The same for the members of an ensemble that are trained at once, whose every operation is a loop over them: QUICK
saves 3 to 5 seconds of compilation, and makes 1,000 trainings of an RNN or GRU 0.6 or 2 seconds slower."""

MANY = 1500
"""Members at once from which full effort always pays: they are hardly the only chunk."""

CHEAP = 10**7
"""Values that a training may record although nobody asked: 80 MB in float64."""


def options(settings: Settings, quick: bool) -> dict[str, Any]:
    """Keyword arguments for `jax.jit`. These options exist for the CPU alone."""
    return {"compiler_options": QUICK} if quick and settings.device == "cpu" else {}


def is_small(experiment: Experiment) -> bool:
    """Whether the whole training multiplies less than LARGE times."""
    return multiplications(experiment) < LARGE


def is_quick(experiment: Experiment, members: int) -> bool:
    """Whether an ensemble that trains that many members at once is over before full effort would have paid."""
    return members < MANY and members * multiplications(experiment) < LARGE_ENSEMBLE


def multiplications(experiment: Experiment) -> int:
    """Of one whole training, a parameter used once a step and sequence."""
    batch = experiment.task.batch(0, 0, "float32").inputs
    steps = experiment.training.epochs * experiment.training.steps_per_epoch
    return steps * batch.shape[0] * batch.shape[1] * experiment.model.parameter_count


def records(experiment: Experiment, epochs: int) -> bool:
    """Whether recording every step costs so little that one compiled function serves with and without."""
    steps = epochs * experiment.training.steps_per_epoch
    kept = 1 + len(experiment.training.optimizer.slots)
    return steps * experiment.model.parameter_count * kept < CHEAP
