"""In words: whether a run came out as its experiment states, and what one seed's result is worth."""

from spec.command.events import Epoch
from spec.experiment import Experiment, load, shipped
from spec.training import CannotLearn, Learns, LearnsSometimes


def verdict(experiment: Experiment, last: Epoch) -> str:
    """One line for people. last: the record of the last epoch."""
    reached = experiment.outcome.reached(last.solved, last.evaluation_loss)
    changed = experiment.name in shipped() and load(experiment.name).hash != experiment.hash
    recipe = "the recipe as it ships" if changed else "this recipe"
    match experiment.outcome:
        case Learns(rate):
            expected = f"at least {100 * rate:.4g} % of seeds do under {recipe}"
            if reached:
                return f"Reached: everything is predicted right, as {expected}."
            return f"Missed: not everything is predicted right, though {expected}."
        case LearnsSometimes(rate):
            expected = f"one seed is luck, about {100 * rate:.4g} % of seeds do under {recipe}"
            if reached:
                return f"Reached: everything is predicted right; {expected}."
            return f"Missed: not everything is predicted right; {expected}. Try another --seed."
        case CannotLearn(floor, reason):
            loss = f"evaluation loss {last.evaluation_loss:.7g}, floor {floor:.7g}"
            if reached:
                return f"Reached: it failed, as it must: {reason} ({loss})."
            how = "it predicted everything right" if last.solved else "its loss fell below the floor"
            return f"Missed: {how}, which cannot be: {reason} ({loss})."
    return "Nothing was trained."
