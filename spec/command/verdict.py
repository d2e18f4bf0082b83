"""In words: whether a run came out as its experiment states, and what one seed's result is worth."""

from spec.command.events import Epoch
from spec.experiment import Experiment, load, shipped
from spec.training import CannotLearn, ExactMatch, Learns, LearnsSometimes, LossAtMost, NearLowest, NotStated


def measured(experiment: Experiment) -> bool:
    """Whether the outcome is what was measured of this very recipe: a shipped experiment, nothing of it changed."""
    return experiment.name in shipped() and load(experiment.name).hash == experiment.hash


def verdict(experiment: Experiment, last: Epoch) -> str:
    """What came of one run, for people. last: the record of the last epoch."""
    outcome = experiment.outcome
    reached = outcome.reached(last.solved, last.evaluation_loss)
    loss = f"evaluation loss {last.evaluation_loss:.7g}"
    right = learned(experiment, last)
    word = "Reached" if reached else "Missed"
    match outcome:
        case Learns(rate) | LearnsSometimes(rate) if not measured(experiment):
            return f"{word}: {right}. How many seeds learn it under this recipe was not measured: --seeds N does that."
        case Learns(rate):
            expected = f"at least {100 * rate:.4g} % of seeds do under this recipe"
            return f"{word}: {right}, {'as' if reached else 'though'} {expected}."
        case LearnsSometimes(rate):
            again = "" if reached else " Try another --seed."
            return f"{word}: {right}; one seed is luck, about {100 * rate:.4g} % of seeds do under this recipe.{again}"
        case CannotLearn(floor, reason):
            told = f"{reason} ({loss}, floor {floor:.7g})."
            if reached:
                how = "it failed, as it must" if measured(experiment) else "it failed, as the experiment says it must"
                return f"Reached: {how}: {told}"
            how = "it predicted everything right" if last.solved else "its loss fell below the floor"
            return f"Missed: {how}, which cannot be: {told}"
        case NotStated() if experiment.task.numeric:
            return f"Trained: {last.predicted}, {loss}. The experiment states no outcome."
        case NotStated():
            return f"Trained: {right}, {loss}. The experiment states no outcome."
    return "Nothing was trained."


def learned(experiment: Experiment, last: Epoch) -> str:
    """Whether a run learned what the experiment's outcome means by that, in words."""
    match experiment.outcome:
        case NearLowest(within=within):
            lowest = experiment.task.lowest_loss
            where = f"{'within' if last.solved else 'not within'} {100 * within:.4g} % of the lowest"
            return f"the evaluation loss, {last.evaluation_loss:.6f}, is {where}, {lowest:.6f}"
        case LossAtMost(loss_at_most=most):
            where = "at most" if last.solved else "more than"
            return f"the evaluation loss, {last.evaluation_loss:.7g}, is {where} {most:.7g}"
        case ExactMatch(of_sequences=share):
            how = "at least" if last.solved else "less than"
            return f"{how} {100 * share:.4g} % of the sequences are right from the first symbol to the last"
    return f"{'everything' if last.solved else 'not everything'} is predicted right"
