"""Many seeds at once: see flax_impl.members; a few are trained one after the other."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from flax_impl import compilation
from flax_impl.members import compile_members, make_arguments
from flax_impl.parameters import initialize
from flax_impl.settings import computing
from flax_impl.training import train
from spec.ensemble import chunk_size, cut, join, member_bytes, one_by_one, start_by_start
from spec.experiment import Experiment
from spec.framework import Ensemble, Settings, Trajectory, bound
from spec.machine import threads
from spec.parameters import Parameters

METHOD = "jit(vmap(scan))"

BLOCK_MEMORY = 2**22
"""Bytes that the members of one call on a CPU may take, by the estimate of `member_bytes`: what a core's cache holds.
Calls run side by side, see `spec.machine.threads`."""

SMALLEST_BLOCK, LARGEST_BLOCK = 32, 256
"""Members of one call on a CPU: each costs as much again as a few members take; and cores want something to share."""

WORTH_COMPILING = 64
"""Members from which on a compilation for all of them, about a second, is worth it: fewer run one after the other
through the function that `train` has compiled, in milliseconds each."""


def train_ensemble(
    experiment: Experiment, seeds: Sequence[int], settings: Settings, chunk: int | None = None
) -> Ensemble:
    """See spec.framework.Side: train_ensemble. Members with batches of several widths are trained one by one."""
    if len(seeds) < WORTH_COMPILING or len(experiment.task.widths) > 1:
        begin, go_on = (bound(experiment, settings, function) for function in (initialize, train))
        return one_by_one(begin, go_on, experiment, seeds, settings.precision)
    members = np.array(seeds, np.uint32)
    most = chunk or len(cut(len(members), chunk_size(experiment, settings.precision))[0])
    size = block_size(experiment, most, settings)
    small = compilation.is_small_ensemble(experiment, most, settings)
    large = compilation.is_large(experiment, most, settings)
    with computing(settings):
        train_members = compile_members(experiment, settings, size, small, large)

    def train_from(start: int) -> Ensemble:
        # JAX's switches are those of a thread.
        with computing(settings):
            return _train_block(experiment, members[start : start + size], settings, size, train_members)

    starts = range(0, len(members), size)
    return join(side_by_side(train_from, starts, min(threads(), most // size)))


def _train_block(
    experiment: Experiment, seeds: np.ndarray, settings: Settings, size: int, train_members: Callable
) -> Ensemble:
    """The members of these seeds, uint32, at once; filled up to `size`, for which `train_members` is compiled."""
    filled = np.concatenate([seeds, np.repeat(seeds[-1:], size - len(seeds))])
    found = train_members(*make_arguments(experiment, filled, settings))
    losses, logits, first_solved = (np.asarray(array)[: len(seeds)] for array in found)
    return Ensemble(losses, logits, first_solved.astype(np.int64), METHOD)


def train_starts(
    experiment: Experiment, starts: Sequence[Parameters], seed: int, settings: Settings
) -> list[Trajectory]:
    """See spec.framework.Side: train_starts. One after the other: `train` is compiled once for all of them."""
    return start_by_start(train, experiment, starts, seed, settings)


def block_size(experiment: Experiment, most: int, settings: Settings) -> int:
    """Members of one call. Not by the number of cores: who has others is to see the same results, to the last bit."""
    if settings.device != "cpu":
        return most
    fitting = BLOCK_MEMORY // member_bytes(experiment, settings.precision)
    return len(cut(most, min(max(fitting, SMALLEST_BLOCK), LARGEST_BLOCK))[0])


def side_by_side(function: Callable[[int], Ensemble], arguments: Sequence[int], workers: int) -> list[Ensemble]:
    """The function's results, so many at once: Python lets others run while XLA computes."""
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        try:
            return list(pool.map(function, arguments))
        except BaseException:
            # Else the others would all be computed first, after a Ctrl-C too.
            pool.shutdown(cancel_futures=True)
            raise
