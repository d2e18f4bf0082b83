"""Options of the spec that an implementation may say beforehand that it leaves out.

It neither differentiates nor trains experiments that have one, and computes their forward pass all the same:

    LEAVES_OUT = {"sparse embedding gradients": "this framework has none"}

crosscheck counts such experiments in its verdict. What is left out without having been declared makes an experiment one
that is checked in part only.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from spec import text
from spec.errors import UsageError
from spec.experiment import Experiment
from spec.models import Embedding

ATTRIBUTE = "LEAVES_OUT"
"""The implementation's mapping, option -> reason; may be missing from a module."""


FOLLOWS = "FOLLOWS_SPEC"
"""False in an implementation that computes other equations than the spec's on purpose, such as an approximation that is
compared before and after a change: it is held against the other side alone. May be missing from a module."""


def _sparse(experiment: Experiment) -> bool:
    return isinstance(experiment.model.inputs, Embedding) and experiment.model.inputs.sparse


def _attention_dropout(experiment: Experiment) -> bool:
    return getattr(experiment.model, "attention_dropout", 0.0) > 0


OPTIONS: Mapping[str, Callable[[Experiment], bool]] = {
    "sparse embedding gradients": _sparse,
    "attention dropout": _attention_dropout,
}
"""Each with whether an experiment has it. Only what makes no difference to a forward pass in eval mode."""


def leaves_out(name: str, implementation: Any) -> dict[str, str]:
    """What that module declares. Raises UsageError unless it is a mapping from some of OPTIONS to reasons."""
    try:
        return _checked(f"{name}: {ATTRIBUTE}", getattr(implementation, ATTRIBUTE, {}))
    except UsageError:
        raise
    # Its methods are the implementation's, and so is what they raise.
    except (Exception, SystemExit) as error:
        raise UsageError(f"{name}: {ATTRIBUTE}: expected a mapping to reasons, got {text.exception(error)}") from error


def follows_spec(name: str, implementation: Any) -> bool:
    """Whether that module is held against the spec's equations; see FOLLOWS. Raises UsageError unless it is a bool."""
    declared = getattr(implementation, FOLLOWS, True)
    if not isinstance(declared, bool):
        raise UsageError(f"{name}: {FOLLOWS}: expected True or False, got {text.admit(repr(declared))}")
    return declared


def _checked(what: str, declared: Any) -> dict[str, str]:
    known = ", ".join(map(repr, OPTIONS))
    if not isinstance(declared, Mapping):
        raise UsageError(f"{what}: expected a mapping from some of {known} to reasons, got {declared!r}")
    # Asked once: another time it may answer otherwise.
    reasons = dict(declared.items())
    for option, reason in reasons.items():
        if option not in OPTIONS:
            raise UsageError(f"{what}: expected some of {known}, got {option!r}")
        if not isinstance(reason, str) or not reason.strip():
            raise UsageError(f"{what}: expected a reason for {option!r}, got {reason!r}")
    return reasons


def had(experiment: Experiment, options: Iterable[str]) -> list[str]:
    """Those of the options that the experiment has."""
    return [option for option in options if option in OPTIONS and OPTIONS[option](experiment)]
