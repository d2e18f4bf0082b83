"""The readout, and biases that exist and are not added."""

from collections.abc import Iterator

import numpy as np

from crosscheck.explain.variant import Case, Variant
from spec.reference.model import Evaluation

STAGES = ("logits", "head")


def without_bias(at: Evaluation) -> None:
    at.parameters = {**at.parameters, "head.bias": np.zeros_like(at.parameters["head.bias"])}


def of_experiment(case: Case) -> Iterator[Variant]:
    if case.computes and any(parameter.name == "head.bias" for parameter in case.experiment.parameters()):
        yield Variant("the head's bias were not added", "", prepare=without_bias)
