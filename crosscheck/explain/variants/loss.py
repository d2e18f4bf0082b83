"""The loss: what is counted, what it is divided by, what labels are, what logits are taken for."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import msgspec
import numpy as np

from crosscheck.explain.variant import Case, Variant, recipe, trained_by
from spec.tasks import IGNORED
from spec.tasks import asked as asked_targets
from spec.training import CrossEntropy, MeanSquaredError

Values = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(logits (runs, ..., classes), targets (...)) -> losses (runs,)."""

OTHER = {"mean": "sum", "sum": "mean"}
"""Each reduction's."""


def each(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Every target's loss, (runs, ...), targets out of range taken for the last class."""
    return np.take_along_axis(negative(logits), np.clip(targets, 0, None)[None, ..., None], axis=-1)[..., 0]


def negative(logits: np.ndarray) -> np.ndarray:
    """-log softmax over the last axis."""
    shifted = logits - np.real(logits).max(axis=-1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=-1, keepdims=True)) - shifted


def total(logits: np.ndarray, targets: np.ndarray, losses: np.ndarray | None = None) -> np.ndarray:
    found = each(logits, targets) if losses is None else losses
    return np.where(targets != IGNORED, found, 0).reshape(len(logits), -1).sum(axis=-1)


def over(count: Callable[[np.ndarray], float]) -> Values:
    return lambda logits, targets: total(logits, targets) / count(targets)


def asked(targets: np.ndarray) -> int:
    return int((targets != IGNORED).sum())


def means_of_means(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    counts = (targets != IGNORED).sum(-1)
    return (np.where(targets != IGNORED, each(logits, targets), 0).sum(-1) / counts).mean(-1)


def ignored_counted(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return each(logits, targets).reshape(len(logits), -1).mean(axis=-1)


def zero_ignored(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    kept = np.where(targets == 0, IGNORED, targets)
    with np.errstate(all="ignore"):
        return total(logits, kept) / asked(kept)


def twice(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return total(np.exp(-negative(logits)), targets) / asked(targets)


def smoothed(amount: float, others: bool) -> Values:
    """others: whether the amount is spread over the wrong classes alone."""

    def values(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        classes, right, every = logits.shape[-1], each(logits, targets), negative(logits).sum(-1)
        if others:
            losses = (1 - amount) * right + amount / (classes - 1) * (every - right)
        else:
            losses = (1 - amount) * right + amount / classes * every
        return total(logits, targets, losses) / asked(targets)

    return values


def scrambled(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return total(logits.swapaxes(-1, -2).reshape(logits.shape), targets) / asked(targets)


def rolled(by: int) -> Values:
    return lambda logits, targets: total(logits, np.roll(targets, by, -1)) / asked(targets)


def by(values: Values) -> Callable:
    """The experiment with that loss."""

    def change(experiment):
        made = SimpleNamespace(
            numeric=experiment.training.loss.numeric,
            reduction=experiment.training.loss.reduction,
            class_weights=None,
            ignore_index=None,
            values=lambda logits, targets: values(logits.astype(np.result_type(logits, np.float64)), targets),
            value=lambda logits, targets: float(np.real(values(logits[None].astype(np.float64), targets)[0])),
        )
        return trained_by(experiment, msgspec.structs.replace(experiment.training, loss=made))

    return change


def gradient_scaled(factor: Callable[[np.ndarray], float]) -> Callable:
    return lambda found, logits, targets, *_: found._replace(logits=found.logits * factor(targets))


def _of_options(loss: CrossEntropy, classes: int) -> Iterator[Variant]:
    """Where labels are smoothed, classes weighted or ignored."""
    weights = np.ones(classes) if loss.class_weights is None else np.array(loss.class_weights)
    unweighted = msgspec.structs.replace(loss, class_weights=None)

    def divided(by_count: Callable[[np.ndarray], float]) -> Values:
        summed = msgspec.structs.replace(loss, reduction="sum")
        return lambda logits, targets: summed.values(logits, targets) / (by_count(targets) or 1.0)

    def over_others(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        counted, share = loss.asked(targets), loss.label_smoothing / (classes - 1)
        every = negative(logits)[:, counted] * weights
        right = np.take_along_axis(every, targets[counted][None, :, None], axis=-1)[..., 0]
        total = ((1 - loss.label_smoothing - share) * right + share * every.sum(-1)).sum(-1)
        return total / (loss.divisor(targets) or 1.0) if loss.reduction == "mean" else total

    if loss.label_smoothing:
        yield recipe("labels were not smoothed", "PB86", loss__label_smoothing=0.0)
        if classes > 1:
            words = f"labels were smoothed by {loss.label_smoothing:g}, over the wrong classes alone"
            yield Variant(words, "PB86", experiment=by(over_others))
    if loss.class_weights is not None:
        yield recipe("all classes had the same weight", "", loss__class_weights=None)
        if loss.reduction == "mean":
            words = "the weighted sum were divided by the number of targets, not by their weights"
            yield Variant(words, "", experiment=by(divided(unweighted.divisor)))
    if loss.ignore_index is not None:
        yield recipe(f"class {loss.ignore_index} were not ignored", "PB83", loss__ignore_index=None)
        if loss.reduction == "mean":
            words = f"class {loss.ignore_index} were ignored, and counted in what the sum is divided by"
            counted = msgspec.structs.replace(loss, ignore_index=None)
            yield Variant(words, "PB83", experiment=by(divided(counted.divisor)))


def squares(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Every target's (output - target)^2, (runs, ...), 0 where nothing is asked."""
    known = asked_targets(targets)
    return np.where(known, logits - np.where(known, targets, 0), 0) ** 2


def summed(losses: np.ndarray) -> np.ndarray:
    return losses.reshape(len(losses), -1).sum(axis=-1)


def counted(targets: np.ndarray) -> int:
    return int(asked_targets(targets).sum())


def absolute(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """|output - target| in their place, whose derivative the complex step is to have."""
    known = asked_targets(targets)
    differences = np.where(known, logits - np.where(known, targets, 0), 0)
    return differences * np.sign(np.real(differences))


def huber(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Half the square up to 1, beyond it the distance less a half."""
    far = absolute(logits, targets)
    return np.where(np.real(far) < 1, far**2 / 2, far - 0.5)


def against_all(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(N, 1) less (N,): every output of one is held against every target, what nothing is asked of being 0."""
    known = asked_targets(targets)
    outputs = np.where(known, logits, 0).reshape(len(logits), -1, 1)
    return (outputs - np.where(known, targets, 0).ravel()) ** 2


def unmasked(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return (logits - np.nan_to_num(targets)) ** 2


def _of_squares(case: Case, reduction: str) -> Iterator[Variant]:
    """Of numbers. By a sum nothing is divided, and what it would be divided by is no difference."""
    outputs = case.experiment.model.classes

    def over_count(losses: Values) -> Values:
        if reduction == "sum":
            return lambda logits, targets: summed(losses(logits, targets))
        return lambda logits, targets: summed(losses(logits, targets)) / (counted(targets) or 1)

    def over_other(count: Callable[[np.ndarray], float]) -> Values:
        return lambda logits, targets: summed(squares(logits, targets)) / count(targets)

    def rolled_targets(by: int) -> Values:
        return lambda logits, targets: squares(logits, np.roll(targets, by, -2))

    def of_means(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        each = squares(logits, targets).reshape(len(logits), len(targets), -1).sum(-1)
        counts = asked_targets(targets).reshape(len(targets), -1).sum(-1)
        return (each / np.maximum(counts, 1)).mean(-1)

    formulas: list[tuple[str, str, Values]] = [
        ("half of the square were the loss", "", over_count(lambda o, t: squares(o, t) / 2)),
        ("distances were taken, not their squares", "", over_count(absolute)),
        ("the loss were Huber's, half of the square up to a distance of 1", "", over_count(huber)),
        ("targets of which nothing is asked counted as 0", "PB83", over_count(unmasked)),
        ("each step were held against the target of the next", "", over_count(rolled_targets(-1))),
        ("each step were held against the target of the step before", "", over_count(rolled_targets(1))),
    ]
    if reduction == "mean":
        formulas += [
            ("the sum were divided by all numbers, those that nothing is asked of too", "PB82", over_other(np.size)),
            ("the sum were divided by the number of sequences", "PB82", over_other(len)),
            ("each sequence's mean were taken first", "PB89", of_means),
            ("the root of the mean were the loss", "", lambda o, t: np.sqrt(over_count(squares)(o, t))),
            (
                "targets of which nothing is asked counted as 0, in what the sum is divided by too",
                "PB83",
                lambda o, t: summed(unmasked(o, t)) / t.size,
            ),
        ]
    if outputs > 1 and reduction == "mean":
        words = "a step's squares were added up, and the mean taken over steps"
        formulas.append((words, "PB82", over_other(lambda t: int(asked_targets(t).any(-1).sum()))))
    if outputs == 1:
        words = "every output were held against every target: (N, 1) and (N,) broadcast"
        formulas.append(
            (words, "", lambda o, t: over_count(against_all)(o, t) / (t.size if reduction == "mean" else 1))
        )
    for words, source, values in formulas:
        yield Variant(words, source, experiment=by(values))


def of_experiment(case: Case) -> Iterator[Variant]:
    if case.check != "loss" and not (case.check == "gradients" and case.failure.tensor == "loss"):
        return
    reduction = case.experiment.training.loss.reduction
    other = OTHER[reduction]
    yield recipe(f"the losses were reduced by their {other} ({reduction} in the recipe)", "PB82", loss__reduction=other)
    if isinstance(case.experiment.training.loss, MeanSquaredError):
        yield from _of_squares(case, reduction)
        yield from _misreported(case, reduction, counted)
        return
    if case.experiment.training.loss != CrossEntropy(reduction):
        yield from _of_options(case.experiment.training.loss, case.experiment.model.classes)
        return
    formulas: list[tuple[str, str, Values]] = []
    if reduction == "mean":
        formulas += [
            ("the sum were divided by all steps, those that nothing is asked of too", "PB82", over(lambda t: t.size)),
            ("the sum were divided by the number of sequences", "PB82", over(len)),
            ("each sequence's mean were taken first", "PB89", means_of_means),
            ("what is ignored counted as class 0", "PB83", ignored_counted),
            ("class 0 were ignored", "PB83", zero_ignored),
            ("softmax were applied before the loss too", "PB85", twice),
            ("classes and time were reshaped, not transposed", "PB88", scrambled),
            ("each step were held against the target of the next", "", rolled(-1)),
            ("each step were held against the target of the step before", "", rolled(1)),
        ]
        for amount in (0.1, 0.05, 0.2):
            formulas += [
                (f"labels were smoothed by {amount:g}", "PB86", smoothed(amount, False)),
                (f"labels were smoothed by {amount:g}, over the wrong classes alone", "PB86", smoothed(amount, True)),
            ]
    for words, source, values in formulas:
        yield Variant(words, source, experiment=by(values))
    yield from _misreported(case, reduction, asked)


def _misreported(case: Case, reduction: str, count: Callable[[np.ndarray], int]) -> Iterator[Variant]:
    if case.check == "loss":
        factor = count if reduction == "mean" else (lambda targets: 1 / count(targets))
        other = OTHER[reduction]
        words = f"the {reduction} were reported, and the gradient were the {other}'s"
        yield Variant(words, "PB82", answers={"loss_gradient": gradient_scaled(factor)})
