"""What can be said about experiments without computing: the list of those that ship, and one in full."""

import msgspec

from spec.command.progress import say, tell
from spec.experiment import COURSE_ROWS, Experiment, load, long, shipped
from spec.parameters import Constant, Law, Normal, Uniform
from spec.text import of_json, table, width
from spec.training import AnyOutcome, CannotLearn, Learns, LearnsSometimes, NotStated


def list_experiments(as_json: bool) -> None:
    """Print every shipped experiment, and those that take long: a table, or one JSON object a line."""
    experiments = [load(name) for name in [*shipped(), *long()]]
    if as_json:
        for experiment in experiments:
            entry = {"event": "experiment", "hash": experiment.hash, **msgspec.to_builtins(experiment)}
            say(msgspec.json.encode(entry).decode())
        return
    for lines in table([(e.name, _in_words(e)) for e in experiments], width()):
        for line in lines:
            say(line)
    tell(COURSE_ROWS)


def _in_words(experiment: Experiment) -> str:
    epochs = experiment.training.epochs
    length = f"{epochs} epoch{'s' if epochs != 1 else ''}, " if epochs else ""
    what = f"{type(experiment.model).__name__}, {length}{expected(experiment.outcome)}"
    return f"{experiment.description} ({what})"


def show(experiment: Experiment, as_json: bool) -> None:
    """Print an experiment with every default filled in, and its model's table of parameters."""
    parameters = experiment.model.parameters()
    if as_json:
        entry = {
            "event": "dry-run",
            "hash": experiment.hash,
            "parameters": experiment.model.parameter_count,
            "table": parameters,
            "experiment": experiment,
        }
        say(of_json(msgspec.json.encode(entry).decode()))
        return
    tell(f"{experiment.name} (spec {experiment.hash}): {experiment.description}")
    say(of_json(msgspec.json.format(msgspec.json.encode(experiment), indent=2).decode()))
    rows = [("parameter", "shape", "elements", "initial law")]
    rows += [(p.name, str(p.shape), str(p.size), law(p.law)) for p in parameters]
    digits = max(len(elements) for _, _, elements, _ in rows)
    for lines in table([(name, shape, f"{n:>{digits}}", drawn) for name, shape, n, drawn in rows], width()):
        for line in lines:
            say(line)
    tell(f"{experiment.model.parameter_count} parameters in all")


def expected(outcome: AnyOutcome) -> str:
    """What comes of a training, in a few words."""
    match outcome:
        case Learns(rate):
            return f"{100 * rate:.4g} % or more learn"
        case LearnsSometimes(rate):
            return f"about {100 * rate:.4g} % learn"
        case CannotLearn():
            return "cannot learn"
        case NotStated():
            return "no outcome stated"
    return "a walk"


def law(initial: Law) -> str:
    """A law in words."""
    match initial:
        case Uniform(bound):
            return f"uniform over [-{bound:.6g}, {bound:.6g})"
        case Normal(deviation, zero_row):
            row = f", row {zero_row} zero" if zero_row is not None else ""
            return f"normal, standard deviation {deviation:g}{row}"
        case Constant(value):
            return f"constant {value:g}"
