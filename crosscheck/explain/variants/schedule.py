"""Which step's learning rate a step has."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

from crosscheck.explain.variant import Case, Variant, recipe
from spec.training import ConstantSchedule, Cosine


def by(words: str, source: str, factor: Callable[[int], float]) -> Variant:
    return recipe(words, source, schedule=SimpleNamespace(factor=factor, uses_epochs=False))


def of_experiment(case: Case) -> Iterator[Variant]:
    schedule = case.experiment.training.schedule
    if case.check not in ("optimizer", "trajectory") or isinstance(schedule, ConstantSchedule):
        return
    yield by("the schedule were a step ahead", "PB74", lambda step: schedule.factor(step + 1))
    yield by("the schedule were a step behind", "PB74", lambda step: schedule.factor(step - 1))
    yield by("the learning rate followed no schedule", "PB74", lambda step: 1.0)
    if case.failure.step:
        last = case.failure.step - 1
        yield by(f"the schedule stood still after step {last}", "PB74", lambda step: schedule.factor(min(step, last)))
    if isinstance(schedule, Cosine):
        other = {"at the last step": "one step later", "one step later": "at the last step"}[schedule.reached]
        yield recipe(f"the cosine reached its end {other}", "", schedule__reached=other)
        if schedule.end:
            yield recipe("the cosine went down to zero", "", schedule__end=0.0)
