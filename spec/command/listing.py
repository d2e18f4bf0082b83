"""What can be said about experiments without computing: the list of those that ship, and one in full."""

import msgspec

from spec.command.progress import say
from spec.experiment import Experiment, load, shipped
from spec.parameters import Constant, Law, Normal, Uniform
from spec.training import AnyOutcome, CannotLearn, Learns, LearnsSometimes


def list_experiments(as_json: bool) -> None:
    """Print every shipped experiment: a table, or one JSON object a line."""
    experiments = [load(name) for name in shipped()]
    if as_json:
        for experiment in experiments:
            entry = {"event": "experiment", "hash": experiment.hash, **msgspec.to_builtins(experiment)}
            say(msgspec.json.encode(entry).decode())
        return
    rows = [(e.name, type(e.model).__name__, str(e.training.epochs), expected(e.outcome)) for e in experiments]
    header = ("name", "model", "epochs", "expected")
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    descriptions = ["description", *(e.description for e in experiments)]
    for row, description in zip([header, *rows], descriptions, strict=True):
        say("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) + f"  {description}")


def show(experiment: Experiment, as_json: bool) -> None:
    """Print an experiment with every default filled in, and its model's table of parameters."""
    table = experiment.model.parameters()
    if as_json:
        entry = {
            "event": "dry-run",
            "hash": experiment.hash,
            "parameters": experiment.model.parameter_count,
            "table": table,
            "experiment": experiment,
        }
        say(msgspec.json.encode(entry).decode())
        return
    say(f"{experiment.name} (spec {experiment.hash}): {experiment.description}")
    say(msgspec.json.format(msgspec.json.encode(experiment), indent=2).decode())
    rows = [("parameter", "shape", "elements", "initial law")]
    rows += [(p.name, str(p.shape), str(p.size), law(p.law)) for p in table]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, shape, elements, drawn in rows:
        say(f"{name:{widths[0]}}  {shape:{widths[1]}}  {elements:>{widths[2]}}  {drawn}")
    say(f"{experiment.model.parameter_count} parameters in all")


def expected(outcome: AnyOutcome) -> str:
    """What comes of a training, in a few words."""
    match outcome:
        case Learns(rate):
            return f"{100 * rate:.4g} % or more learn"
        case LearnsSometimes(rate):
            return f"about {100 * rate:.4g} % learn"
        case CannotLearn():
            return "cannot learn"
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
