"""The course's shape walk: one forward pass, shown step by step with every named tensor, its shape and its values."""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from spec.command.events import Step
from spec.experiment import Experiment
from spec.tasks import Batch, Noise, Spelling, asked, is_numeric, predictions
from spec.text import LEAST

STATE = re.compile(r"(.+\.)?[hc](_l\d+)?(?P<reverse>_reverse)?")
"""Names of intermediates that are carried from step to step."""


WIDTH = 118
"""Columns of a log."""


class Part(NamedTuple):
    """One recurrence over time. inputs: (batch, time, ...). initial: the states before its first step, else zero."""

    name: str
    input_name: str
    inputs: np.ndarray
    values: dict[str, np.ndarray]
    initial: dict[str, np.ndarray]


DRAWN = (
    "The parameters are what this framework's own generator draws from the seed; another framework's draws others from "
    "the same seed. To walk or train from these in another one: --export-weights FILE here, --init-weights FILE there."
)
"""Why walks differ that begin with the same seed."""


def introduction(experiment: Experiment, batch: Batch, drawn: bool = True) -> str:
    """What will be walked through: the model's equations, and how to read the lines below them.

    drawn: whether the parameters come from the seed.
    """
    shown = f"values of the first of {len(batch.inputs)} sequences" if len(batch.inputs) > 1 else "values"
    teacher = "; the decoder is told the right symbols (teacher forcing)" if _has_decoder(experiment) else ""
    equations = inspect.getdoc(type(experiment.model)) or ""
    origin = f"\n{DRAWN}" if drawn else ""
    return (
        f"\n{type(experiment.model).__name__}: {equations}\n\n"
        f"Each line: name, shape (batch first), {shown}{teacher}.{origin}"
    )


def walk(experiment: Experiment, batch: Batch, intermediates: dict[str, np.ndarray]) -> Iterator[Step]:
    """The steps of a forward pass, in order; an encoder's before its decoder's.

    intermediates: as `forward` returns them, (batch, time, ...); without a time axis only the logits of a model that
    reads out one step, which are shown at the last. States that are returned are the last step's, and not shown again.
    """
    shown = [name for name in experiment.model.intermediates() if name not in experiment.model.returned_states()]
    values = {name: intermediates[name] for name in shown if name in intermediates}
    initial = _states(experiment, batch.initial or {}, "_0")
    if not _has_decoder(experiment):
        yield from _steps(experiment, batch, Part("", "x[t]", batch.inputs, values, initial))
        return
    encoded = {name: value for name, value in values.items() if name.startswith(("encoder.", "embedding"))}
    decoded = {name: value for name, value in values.items() if name not in encoded}
    # The state after each sequence's own last step.
    final = _states(experiment, intermediates, "_n")
    final = {name.replace("encoder.", "decoder."): value for name, value in final.items()}
    assert batch.decoder_inputs is not None
    yield from _steps(experiment, batch, Part("encoder", "x[t]", batch.inputs, encoded, initial))
    yield from _steps(experiment, batch, Part("decoder", "y[t-1]", batch.decoder_inputs, decoded, final))


def text_of(step: Step, columns: int | None = None) -> str:
    """One step for people: a headline, then a line a tensor, with the first sequence's values.

    columns: of the terminal, where there is one; where names and shapes leave little of it, values stand below them.
    """
    symbols = {"reads": step.reads, "should say": step.should_say, "says": step.says}
    words = ", ".join(f"{verb} {symbol!r}" for verb, symbol in symbols.items() if symbol is not None)
    part = f"{step.part} step" if step.part else "step"
    lines = [f"\n{part} {step.step} of {step.steps}{': ' if words else ''}{words}"]
    arrays = {name: np.array(value) for name, value in step.tensors.items()}
    name_width = max(map(len, arrays))
    shape_width = max(len(str(array.shape)) for array in arrays.values())
    columns = columns or WIDTH
    for name, array in arrays.items():
        start, prefix = f"  {name:{name_width}}  {array.shape!s:{shape_width}}  ", ""
        if columns - len(start) < LEAST:
            prefix = start.rstrip() + "\n"
            start = " " * 4
        values = np.array2string(array[0], precision=4, suppress_small=True, max_line_width=columns, prefix=start)
        lines.append(prefix + start + values)
    return "\n".join(lines)


def _states(experiment: Experiment, given: Mapping[str, np.ndarray], ending: str) -> dict[str, np.ndarray]:
    """Initial or final states, "rnn.h" with that ending, taken apart: name of an intermediate -> (batch, ...)."""
    found = {}
    for name in experiment.model.initial_states(1):
        stem = name.removesuffix("_0")
        state = given.get(stem + ending)
        if state is None:
            continue
        # In the order of the intermediates, layers and directions are that of a state's first axis.
        of_state = [
            each for each in experiment.model.intermediates() if re.fullmatch(rf"{re.escape(stem)}(_l\d+.*)?", each)
        ]
        found |= dict(zip(of_state, state if state.ndim == 3 else [state], strict=True))
    return found


def _has_decoder(experiment: Experiment) -> bool:
    return any(name.startswith("decoder.") for name in experiment.model.intermediates())


def _steps(experiment: Experiment, batch: Batch, part: Part) -> Iterator[Step]:
    steps = part.inputs.shape[1]
    for t in range(steps):
        tensors = {part.input_name: part.inputs[:, t]}
        for name, array in part.values.items():
            if array.ndim < 3:
                if t == steps - 1:
                    tensors[name] = array
                continue
            if state := STATE.fullmatch(name):
                before, label = (t + 1, "t+1") if state["reverse"] else (t - 1, "t-1")
                initial = part.initial.get(name, np.zeros_like(array[:, 0]))
                tensors[f"{name}[{label}]"] = array[:, before] if 0 <= before < steps else initial
            tensors[f"{name}[t]"] = array[:, t]
        logits = tensors.get("logits[t]", tensors.get("logits"))
        should_say = says = None
        if logits is not None and not isinstance(experiment.task, Noise):
            numeric = is_numeric(batch.targets)
            target = batch.targets[0] if batch.targets.ndim == (2 if numeric else 1) else batch.targets[0, t]
            if asked(target).any():
                should_say = _numbers(target) if numeric else _symbol(experiment, target)
            says = _numbers(logits[0]) if numeric else _symbol(experiment, predictions(logits)[0])
        yield Step(
            part=part.name,
            step=t + 1,
            steps=steps,
            reads=_symbol(experiment, part.inputs[0, t]),
            should_say=should_say,
            says=says,
            tensors={name: array.tolist() for name, array in tensors.items()},
        )


def _numbers(values: np.ndarray) -> str:
    """Targets or outputs of a regression, NaN where nothing is asked."""
    return ", ".join(f"{value:.4g}" for value in values.tolist())


def _symbol(experiment: Experiment, value: np.ndarray) -> str | None:
    """What an input, a target or a prediction stands for; None where it is just features."""
    task = experiment.task
    if value.ndim and not isinstance(task, Spelling):
        return None
    index = int(value.argmax()) if value.ndim else int(value)
    if not isinstance(task, Spelling):
        return str(index)
    return task.characters[index] if index < len(task.characters) else "start"
