"""The embedding: which row, its norm's limit, its gradient."""

from collections.abc import Iterator

import numpy as np

from crosscheck.explain.variant import Case, Variant, everywhere
from spec.reference import optimizer
from spec.reference.model import Evaluation

STAGES = ("embedding",)

WEIGHT = "embedding.weight"


def clamped(at: Evaluation) -> None:
    last = at.parameters[WEIGHT].shape[1] - 2
    at.batch = at.batch._replace(inputs=np.minimum(at.batch.inputs, last))


def unlimited(model, parameters, batch):
    return parameters


def limited(order: float | None, epsilon: float | None):
    """max_norm by another norm or epsilon; None for the equations' own."""

    def renormalized(model, parameters, batch):
        spec = model.inputs
        longest = getattr(spec, "max_norm", None)
        if longest is None:
            return parameters
        rows = parameters[WEIGHT].copy()
        for row in np.unique(optimizer.used_indices(batch)):
            norm = np.sum(np.abs(rows[row]) ** (order or spec.norm_type)) ** (1 / (order or spec.norm_type))
            if norm > longest:
                rows[row] *= longest / (norm + (spec.renormalization_epsilon if epsilon is None else epsilon))
        return {**parameters, WEIGHT: rows}

    return everywhere(("contract.renormalized", "training.renormalized"), renormalized)


def gradient(padded: bool = True, scaled: bool = True, counted: str = "valid"):
    """The embedding's own rules with one of them left out. counted: which steps count as occurrences."""

    def embedding_gradient(model, gradients, batch):
        spec, rows = model.inputs, gradients[WEIGHT].copy()
        if scaled and spec.scale_grad_by_freq:
            used = optimizer.used_indices(batch)
            if counted == "all":
                used = batch.inputs.ravel()
            elif counted == "zeros" and batch.lengths is not None:
                used = np.append(used, np.zeros(batch.inputs.size - used.size, used.dtype))
            rows /= np.maximum(np.bincount(used, minlength=spec.num_embeddings), 1)[:, None]
        if padded and spec.padding_idx is not None:
            rows[spec.padding_idx] = 0
        return {**gradients, WEIGHT: rows}

    return {"contract.embedding_gradient": embedding_gradient}


def of_experiment(case: Case) -> Iterator[Variant]:
    spec = case.model.inputs
    if not case.computes or not hasattr(spec, "num_embeddings"):
        return
    yield Variant("the last index were clamped to the one before", "PB32", prepare=clamped)
    if spec.max_norm is not None:
        places = everywhere(("contract.renormalized", "training.renormalized"), unlimited)
        yield Variant("max_norm were ignored", "PB35", substitutes=places)
        for order in (1.0, 2.0):
            if order != spec.norm_type:
                yield Variant(f"max_norm limited the {order:g}-norm", "PB35", substitutes=limited(order, None))
        yield Variant("max_norm's factor had no epsilon", "PB35", substitutes=limited(None, 0.0))
    if case.check == "gradients":
        if spec.padding_idx is not None:
            yield Variant("the row of padding_idx were trained", "PB34", substitutes=gradient(padded=False))
        if spec.scale_grad_by_freq:
            yield Variant("scale_grad_by_freq were ignored", "", substitutes=gradient(scaled=False))
            words = "padding counted among the occurrences"
            yield Variant(f"{words} of its index", "PB34", substitutes=gradient(counted="all"))
            yield Variant(f"{words} of index 0", "PB34", substitutes=gradient(counted="zeros"))
