"""Dropout's masks that are handed over."""

from collections.abc import Callable, Iterator

import numpy as np

from crosscheck.explain.variant import Case, Variant
from spec.reference.model import Evaluation

STAGES = ("dropout",)


def each(change: Callable[[str, np.ndarray], np.ndarray | None]) -> Callable[[Evaluation], None]:
    """None for a site whose mask is not applied."""

    def prepare(at: Evaluation) -> None:
        made = {site: change(site, mask) for site, mask in at.masks.items()}
        at.masks = {site: mask for site, mask in made.items() if mask is not None}

    return prepare


def of_experiment(case: Case) -> Iterator[Variant]:
    if not case.computes or not case.experiment.has_dropout:
        return
    yield Variant("nothing were dropped", "PB59", prepare=each(lambda site, mask: None))
    kept = each(lambda site, mask: (mask > 0).astype(np.float64))
    yield Variant("what is kept were not divided by 1 - rate", "", prepare=kept)
    sites: list[str] = list(case.experiment.dropout_sites(1, 1))
    for end in sorted({site.rpartition(".")[2] for site in sites}) if len(sites) > 1 else ():
        yield Variant(f"nothing were dropped at any {end}", "PB59", prepare=each(_but_ending(end)))
    for one in sites if len(sites) > 1 else ():
        yield Variant(f"nothing were dropped at {one}", "PB11", prepare=each(_but(one)))
        for other in sites:
            if other != one:
                yield Variant(f"{one} were dropped by the mask of {other}", "", prepare=_by(one, other))
    turned = each(lambda site, mask: np.concatenate([mask[..., : mask.shape[-1] // 2]] * 2, axis=-1))
    if getattr(case.model, "bidirectional", False):
        yield Variant("both directions were dropped alike", "", prepare=turned)


def _but(one: str) -> Callable[[str, np.ndarray], np.ndarray | None]:
    return lambda site, mask: None if site == one else mask


def _but_ending(end: str) -> Callable[[str, np.ndarray], np.ndarray | None]:
    return lambda site, mask: None if site.rpartition(".")[2] == end else mask


def _by(one: str, other: str) -> Callable[[Evaluation], None]:
    def prepare(at: Evaluation) -> None:
        if one in at.masks and other in at.masks and at.masks[one].shape == at.masks[other].shape:
            at.masks = {**at.masks, one: at.masks[other]}

    return prepare
