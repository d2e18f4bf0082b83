"""What an ensemble came to: its numbers, and whether they are what the experiment states."""

import math
from collections.abc import Mapping

import numpy as np

from spec.command.events import Summary
from spec.convergence import runs_to_show, stated
from spec.ensemble import NEVER
from spec.exit_codes import MISSED, REACHED, UNDERPOWERED
from spec.experiment import Experiment
from spec.training import CannotLearn, ExactMatch, Learns, LearnsSometimes, LossAtMost, NearLowest, NotStated

DEVIATE = 1.959963984540054
"""The 97.5 % quantile of the standard normal law, for intervals of 95 %."""

ABOUT = 0.02
"""How far "about this share of seeds" reaches to either side: experiments state it with two digits."""

QUANTILES = (0.05, 0.5, 0.95)
"""Of the losses."""


def wilson(count: int, of: int) -> tuple[float, float]:
    """Wilson's interval of 95 % for a rate of which `count` of `of` were seen. Source: Wilson (1927)."""
    rate, z = count / of, DEVIATE
    middle = (rate + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z / (1 + z**2 / of) * math.sqrt(rate * (1 - rate) / of + z**2 / (4 * of**2))
    # At the ends it is exact, and rounding is not.
    return 0.0 if count == 0 else middle - half, 1.0 if count == of else middle + half


def time_quantile(first_solved: np.ndarray, share: float) -> int | None:
    """The smallest epoch by which at least that share of all members was solved once; None where there is none."""
    times = np.sort(np.where(first_solved == NEVER, np.iinfo(np.int64).max, first_solved))
    found = int(times[math.ceil(share * len(times)) - 1])
    return None if found == np.iinfo(np.int64).max else found


def loss_quantiles(losses: np.ndarray) -> np.ndarray:
    """QUANTILES over the first axis, what is not finite counting as infinitely high."""
    filled = np.where(np.isfinite(losses), losses, np.inf)
    return np.quantile(filled, QUANTILES, axis=0, method="inverted_cdf")


def summarize(
    experiment: Experiment,
    arrays: Mapping[str, np.ndarray],
    *,
    implementation: str,
    method: str,
    first_seed: int,
    per_second: float | None,
) -> Summary:
    """The numbers of the arrays in an ensemble's file, see `spec.command.ensemble_directory`."""
    losses, evaluation, first = arrays["losses"], arrays["evaluation_losses"], arrays["first_solved"]
    solved = arrays["solved"].astype(bool)
    low, middle, high = loss_quantiles(losses[:, -1]).tolist()
    evaluated_low, evaluated_middle, evaluated_high = loss_quantiles(evaluation).tolist()
    return Summary(
        experiment=experiment.name,
        implementation=implementation,
        method=method,
        seeds=len(losses),
        first_seed=first_seed,
        solved=int(solved.sum()),
        rate=float(solved.mean()),
        interval=wilson(int(solved.sum()), len(solved)),
        ever_solved=int((first != NEVER).sum()),
        median_epochs=time_quantile(first, 0.5),
        late_epochs=time_quantile(first, 0.95),
        losses=(low, middle, high),
        evaluation_losses=(evaluated_low, evaluated_middle, evaluated_high),
        lowest=float(np.where(np.isnan(evaluation), np.inf, evaluation).min()),
        diverged=int((~(np.isfinite(losses).all(axis=1) & np.isfinite(evaluation))).sum()),
        per_second=per_second,
    )


def judge(experiment: Experiment, summary: Summary) -> int:
    """The exit code, of spec.exit_codes: whether the runs are as the experiment states, or too few to tell.

    Too few where crosscheck's check convergence would say so of them: see spec.convergence.stated.
    """
    if isinstance(experiment.outcome, NotStated):
        return REACHED
    good = reached(experiment, summary)
    if not good and isinstance(experiment.outcome, CannotLearn):
        return MISSED  # A single run that does what none can is enough.
    if stated(experiment.outcome, summary.solved, summary.seeds).underpowered:
        return UNDERPOWERED
    return REACHED if good else MISSED


def reached(experiment: Experiment, summary: Summary) -> bool:
    """Whether the interval holds what the experiment states."""
    low, high = summary.interval
    match experiment.outcome:
        case Learns(rate):
            return high >= rate
        case LearnsSometimes(rate):
            return low <= rate + ABOUT and high >= rate - ABOUT
        case CannotLearn(floor):
            return summary.solved == 0 and summary.diverged == 0 and summary.lowest >= floor
    return True


def text_of(experiment: Experiment, summary: Summary) -> str:
    """The summary for people, a verdict in its last line."""
    low, high = summary.interval
    times = [f"epoch {t}" if t else "never" for t in (summary.median_epochs, summary.late_epochs)]
    lines = [
        f"solved          {summary.solved} of {summary.seeds} = {summary.rate:.4f}, "
        f"95 % interval {low:.4f} to {high:.4f} (Wilson)",
        f"time to solve   median {times[0]}, 95 % quantile {times[1]} ({summary.ever_solved} solved it at least once)",
        "last loss       " + _quantiles(summary.losses),
        "last evaluation " + _quantiles(summary.evaluation_losses),
    ]
    if experiment.task.numeric or isinstance(experiment.outcome, NearLowest | ExactMatch | LossAtMost):
        del lines[1]  # What counts there is when everything was right.
    if experiment.task.numeric and isinstance(experiment.outcome, NotStated):
        del lines[0]  # Nobody said what solving it would be.
    if summary.diverged:
        lines.append(f"diverged        {summary.diverged} of {summary.seeds}: a loss that is not finite")
    if summary.per_second is not None:
        lines.append(f"speed           {summary.per_second:.4g} trainings a second ({summary.method})")
    return "\n".join([*lines, _verdict(experiment, summary)])


def _quantiles(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{100 * q:.0f} %: {value:.6g}" for q, value in zip(QUANTILES, values, strict=True))


WORDS = {REACHED: "Reached", MISSED: "Missed", UNDERPOWERED: "Underpowered"}


def _verdict(experiment: Experiment, summary: Summary) -> str:
    code = judge(experiment, summary)
    word = WORDS[code]
    low, high = (f"{100 * bound:.4g}" for bound in summary.interval)
    more = ""
    if code == UNDERPOWERED:
        needed = runs_to_show(experiment.outcome)
        more = f" Too few seeds to tell: {summary.seeds}; " + (
            f"--seeds {needed} would do where it is as stated."
            if needed > summary.seeds
            else "what they came to is at the edge of what is stated, --seeds with more."
        )
    match experiment.outcome:
        case Learns(rate):
            return f"{word}: at least {100 * rate:.4g} % of seeds should solve it, and {low} to {high} % do.{more}"
        case LearnsSometimes(rate):
            expected = f"about {100 * rate:.4g} % of seeds (to {100 * ABOUT:.0f} points) should solve it"
            return f"{word}: {expected}, and {low} to {high} % do.{more}"
        case CannotLearn(floor, reason):
            got = f"{summary.solved} of {summary.seeds} did, lowest evaluation loss {summary.lowest:.7g}"
            return f"{word}: no seed can solve it, floor {floor:.7g}: {reason}; {got}.{more}"
        case NotStated() if experiment.task.numeric:
            return "Trained. The experiment states no outcome."
        case NotStated():
            return f"Trained: {low} to {high} % of seeds solve it. The experiment states no outcome."
    return "Nothing was trained."
