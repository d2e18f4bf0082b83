"""How hard XLA should try: compiling a small model at full effort takes a hundred times as long as training it."""

import os
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import metadata
from typing import Any

import jax

from flax_impl import SIZES
from spec import cache as caches
from spec.experiment import Experiment
from spec.framework import Settings
from spec.sizes import RECORDED, TRAINING

Options = dict[str, bool | int | str]
"""XLA's, by name."""

QUICK: Options = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
"""Compiles hello's training in 0.4 s of CPU time where the defaults take 2.4 (GRU), 1.8 for 5.9 (Transformer)."""

MENDED: dict[str, Options] = {
    "0.10.2": {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"},
}
"""What makes the numbers right, by the release of jaxlib: 0.10.2 hands reductions to a library together with the
products before them, and what comes back for many rows is wrong, without a word (github.com/jax-ml/jax/issues/39103).
Products alone may go there. Not so in 0.8.0 to 0.10.1 and 0.11.0 to 0.12.0.1."""

SPENT: defaultdict[str, float] = defaultdict(float)
"""Seconds of this process by kind, as JAX tells them."""

COMPILATIONS = "compilations"
COUNTS: defaultdict[str, int] = defaultdict(int)
"""How many functions XLA has compiled for this process, or taken out of the cache, under COMPILATIONS."""

KINDS = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "tracing",
    "/jax/core/compile/backend_compile_duration": "compiling",
}


def _spend(event: str, duration_secs: float, **_: Any) -> None:
    if event in KINDS:
        SPENT[KINDS[event]] += duration_secs
    if event == "/jax/core/compile/backend_compile_duration":
        COUNTS[COMPILATIONS] += 1


def listen() -> None:
    """Have JAX tell `_spend` of its work. Where it cannot, or calls its events otherwise, no time is accounted for."""
    with suppress(AttributeError, TypeError):
        jax.monitoring.register_event_duration_secs_listener(_spend)


listen()


_KEPT = {"jax_persistent_cache_min_compile_time_secs": 0, "jax_persistent_cache_min_entry_size_bytes": -1}
"""By default JAX keeps what took a second or longer: a small model's functions take half of one, and are many."""


def _keep() -> None:
    """Keep what is compiled where `spec.cache` says, however little of it there is; JAX's own variables go first.

    What this JAX does not know is left alone: then each process compiles for itself.
    """
    place = os.environ.get(caches.VARIABLE)
    users = getattr(jax.config, "jax_compilation_cache_dir", None)
    with suppress(AttributeError):
        if not caches.wanted():
            jax.config.update("jax_enable_compilation_cache", False)
        elif place and users:
            # What is kept there is nothing that a run was made from: see crosscheck.recording.sources.
            os.environ[caches.VARIABLE] = str(users)
        elif place:
            jax.config.update("jax_compilation_cache_dir", place)
            for name, value in _KEPT.items():
                if name.upper() not in os.environ:
                    jax.config.update(name, value)


_keep()

DETERMINISTIC: Options = {"xla_gpu_deterministic_ops": True}
"""The same bits in every run on a GPU, where sums else have the order in which threads happen to arrive."""

(LARGE,) = SIZES[TRAINING]
"""Multiplications above which a training outweighs its compilation: about a second of one core."""

ENSEMBLE: Options = QUICK | {
    "xla_backend_optimization_level": 1,
    "xla_cpu_multi_thread_eigen": False,
}
"""For the members of an ensemble, whose every operation is a loop over them. Compiles a GRU in 1.7 s of CPU time where
QUICK takes 0.7 and the defaults 5, and 1,000 trainings then take 0.5 s: QUICK's 1.9, the defaults' 0.4. Without the
library's threads, XLA makes loops of its own of products, see flax_impl.fast.products: a Transformer's 1,000 trainings
take 8 s, which are 12 by default."""

THOROUGH: Options = {
    "xla_cpu_multi_thread_eigen": False,
    "xla_cpu_experimental_ynn_fusion_type": "",
}
"""For an ensemble that is to run fast whatever its compilation takes: full effort, loops of XLA's own for products and
for reductions."""

LARGE_ENSEMBLE = 3 * 10**8
"""Multiplications from which members trained at once outweigh what `rows_first` adds to the compilation, half a second
or so: 1,000 trainings of a Transformer take 6 s in place of 9, of an attention 1.6 in place of 2.3."""

SMALL_ENSEMBLE = 3 * 10**7
"""Multiplications below which members trained at once are over before ENSEMBLE has compiled, which takes 0.6 (RNN) to 3
seconds (attention) longer than QUICK: 700 trainings of hello-rnn, 270 of hello-gru."""

MANY = 1500
"""Members at once from which that always pays: they are hardly the only chunk."""

(CHEAP,) = SIZES[RECORDED]
"""Values that a training may record although nobody asked: 80 MB in float64."""


def jit(function: Callable, options: Options | None = None, **keywords: Any) -> jax.stages.Wrapped:
    """`jax.jit`, through which everything goes that flax_impl compiles.

    options: those of `options` or `ensemble_options`. None for what other compiled functions call too, where JAX takes
    none; such a function multiplies no matrices.
    """
    return jax.jit(function, compiler_options=options or None, **keywords)


def options(settings: Settings, quick: bool) -> Options:
    """Compiler options for `jit`. How hard to try can be said for the CPU alone."""
    if settings.device != "cpu":
        return known(DETERMINISTIC) if settings.deterministic and settings.device == "cuda" else {}
    return right(known(QUICK if quick and not settings.compiled else {}))


def ensemble_options(settings: Settings, small: bool = False) -> Options:
    """The same for an ensemble. small: see `is_small_ensemble`."""
    if settings.device != "cpu" or (small and not settings.compiled):
        return options(settings, quick=small)
    return right(known(THOROUGH if settings.compiled else ENSEMBLE))


def right(options: Options) -> Options:
    """These options and, where this jaxlib computes wrong numbers, what it takes not to.

    That is no matter of speed and nothing that may be left out: XLA raises where it does not know it.
    """
    return MENDED.get(_release(), {}) | options


@cache
def _release() -> str:
    """jaxlib's, without what a preview or a rebuild adds."""
    return ".".join(metadata.version("jaxlib").split(".")[:3])


def known(options: Options) -> Options:
    """Those that this version of XLA knows, with a value that it knows: they come and go without notice.

    What is missing costs speed, never the run. There is no list to look them up in; XLA is asked once in a process, by
    compiling a constant (about 15 ms), and one by one only where it refuses.
    """
    return dict(_known(tuple(options.items())))


@cache
def _known(options: tuple[tuple[str, bool | int | str], ...]) -> tuple[tuple[str, bool | int | str], ...]:
    if not options or _accepts(dict(options)):
        return options
    found: Options = {}
    for name, value in options:
        if _accepts(found | {name: value}):
            found[name] = value
    return tuple(found.items())


def _accepts(options: Options) -> bool:
    """Whether XLA compiles for the CPU with these options."""
    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except Exception:  # Each version raises what it likes, and what has another cause is raised again by the run.
        return False
    return True


def is_small(experiment: Experiment) -> bool:
    """Whether the whole training multiplies less than LARGE times."""
    return multiplications(experiment) < LARGE


def is_large(experiment: Experiment, members: int, settings: Settings) -> bool:
    """Whether an ensemble that trains that many members at once pays for products that are rewritten."""
    pays = settings.compiled or members >= MANY or members * multiplications(experiment) >= LARGE_ENSEMBLE
    return settings.device == "cpu" and pays


def is_small_ensemble(experiment: Experiment, members: int, settings: Settings) -> bool:
    """Whether an ensemble that trains that many members at once is over before ENSEMBLE has compiled."""
    multiplied = members * multiplications(experiment)
    return multiplied < SMALL_ENSEMBLE and not is_large(experiment, members, settings)


def multiplications(experiment: Experiment) -> int:
    """Of the forward passes of one whole training."""
    return experiment.training.epochs * experiment.training.steps_per_epoch * experiment.multiplications_per_step


def records(experiment: Experiment, epochs: int) -> bool:
    """Whether recording every step costs so little that one compiled function serves with and without."""
    steps = epochs * experiment.training.steps_per_epoch
    kept = 1 + len(experiment.training.optimizer.slots)
    return steps * experiment.model.parameter_count * kept < CHEAP
