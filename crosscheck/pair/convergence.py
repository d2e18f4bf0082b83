"""Whether both sides, each trained from its own start and with its own random numbers, come to losses of one law."""

from collections.abc import Iterator

import numpy as np

from crosscheck.bounds import tolerances
from crosscheck.pair.given import SIDES
from crosscheck.pair.initial import LEVEL, far_apart
from crosscheck.pair.result import Difference
from crosscheck.pair.state import Found, NotChecked, State
from spec.pair import Objective, PairBatch

SEEDS, STEPS, EVALUATIONS = 16, 30, 4
"""Trainings of each side, steps of each, and batches by which each is judged. Two samples of 16 that lie wholly apart
have a chance of 2 / C(32, 16) = 3e-9, which is below LEVEL."""

BUILDS_ON = ("forward", "loss", "gradients", "train mode", "optimizer", "trajectory", "initialization", "dropout")


def convergence(state: State) -> Found:
    """Two samples of losses after training, and of losses on the way."""
    for needed, called in (("loss", "loss"), ("optimizer", "optimizers"), ("seed", "seed on both sides")):
        if not all(needed in side.can for side in (state.first, state.second)):
            raise NotChecked(f"the pair gives no {called}", scope=True)
    if parted := [one for one in BUILDS_ON if one in state.parted]:
        raise NotChecked(f"it builds on {', '.join(parted)}, where the sides differ", scope=True)
    if state.large:
        raise NotChecked("a large model: train both yourself", scope=True)
    losses = [np.array(list(_trained(state, number))) for number in (0, 1)]
    state.put(next(state.points(0)).values)
    place = state.place("convergence", "float32", f"{SEEDS} seeds")
    comparisons, differences = [], []
    for column, name in enumerate(("loss after training", "mean loss in training")):
        one, two = (side[:, column] for side in losses)
        if not np.isfinite([one, two]).all():
            words = " and ".join(f"{int((~np.isfinite(side)).sum())} of {SEEDS}" for side in (one, two))
            comparisons.append(place.failed(name, f"not finite in {words} trainings"))
        else:
            finding = far_apart(one, two, LEVEL / 2)
            # Trainings that nothing random enters end alike, but for rounding.
            rounding = tolerances.HORIZON * tolerances.largest(one, two)
            alike = max(float(np.ptp(one)), float(np.ptp(two)), abs(float(one.mean() - two.mean()))) <= rounding
            means = float(one.mean()), float(two.mean())
            comparisons.append(
                place.limited(name, means, 0.0 if alike else finding.difference, finding.bound, SEEDS, finding.note)
            )
        if not comparisons[-1].passed:
            words = " and ".join(f"{side.mean():.4g} ({side.std():.2g})" for side in (one, two))
            text = f"{name}, mean and standard deviation over {SEEDS} seeds: {words}"
            differences.append(Difference(name=f"convergence: {name}", check="convergence", text=text))
    one, two = losses[0][:, 0], losses[1][:, 0]
    words = f"{SEEDS} trainings of {STEPS} steps a side, losses {one.mean():.4g} and {two.mean():.4g}"
    return Found(comparisons, differences, f"{words}, deviations {one.std():.2g} and {two.std():.2g}")


def _trained(state: State, number: int) -> Iterator[tuple[float, float]]:
    """Of each seed the loss afterwards, on batches of its own, and the mean of those on the way."""
    side = (state.first, state.second)[number]
    objective = Objective("loss")
    held_out = [state.pair.make_inputs(state.random(13, batch))[number] for batch in range(EVALUATIONS)]
    train = "train" in side.can
    for seed in range(SEEDS):
        state.say(f"convergence, {SIDES[number]}, seed {seed + 1} of {SEEDS}")
        # Other seeds than those by which initial values were compared, and other batches on the two sides.
        side.load(side.initialize(1000 + seed))
        drawn = (state.pair.make_inputs(state.random(12, number, seed, step))[number] for step in range(STEPS))
        batches = [PairBatch(inputs, objective) for inputs in drawn]
        steps = list(side.steps(batches, precision="float32", train=train, seed=1000 * (seed + 1)))
        side.load(steps[-1].values)
        after = [side.gradients(inputs, objective, precision="float32").loss for inputs in held_out]
        yield float(np.mean(after)), float(np.mean([step.loss for step in steps]))
