"""Where two sides are compared: values of the leaves at which a wrong map shows."""

from collections.abc import Iterable, Mapping

import numpy as np

from spec.pair import Intermediate, Leaf, Values

NEUTRAL = {"bias": 0.0, "mean": 0.0, "scale": 1.0, "variance": 1.0}
"""What a leaf of that role is where it does nothing."""


ADDS = ("add", "add_")
MULTIPLIES = ("mul", "mul_")
SUBTRACTS = ("sub", "sub_")
LOOKS_UP = ("gather", "embedding", "index_select")


def roles(leaves: Iterable[Leaf], values: Values, entries: Iterable[Intermediate]) -> dict[str, str]:
    """Each leaf's role: as its side says; else by how it starts, of a vector of ones or zeros; else by what it enters.

    entries: of a run of the side.
    """
    entered: dict[str, Intermediate] = {}
    for entry in entries:
        for path in entry.leaves:
            entered.setdefault(path.partition("[")[0], entry)
    found = {}
    for leaf in leaves:
        value = values[leaf.path]
        plain = value.ndim <= 1 and value.size > 0 and bool((value == value.flat[0]).all())
        role = leaf.role
        if not role and plain and value.flat[0] in (0.0, 1.0):
            first, second = ("bias", "scale") if leaf.trainable else ("mean", "variance")
            role = second if value.flat[0] else first
        if not role and leaf.path in entered:
            role = _by_use(entered[leaf.path])
        if not leaf.trainable and role not in ("mean", "variance"):
            role = "constant"
        found[leaf.path] = role
    return found


def _by_use(entry: Intermediate) -> str:
    """What a leaf is by the operation that it enters. A variance is what a small number is added to before all else."""
    if entry.op in ADDS:
        return "bias" if entry.operands else "variance"
    if entry.op in MULTIPLIES:
        return "scale" if entry.operands else ""
    if entry.op in SUBTRACTS:
        return "mean"
    return "embedding" if entry.op in LOOKS_UP else ""


def draw(
    leaves: Iterable[Leaf], values: Values, by_role: Mapping[str, str], neutral: Iterable[str], seed: int
) -> dict[str, np.ndarray]:
    """Random values of every leaf but constants; those of the roles in `neutral` where they do nothing.

    They are numbers of float32, of which a large model's take half the memory. Matrices keep the scale that a signal
    passes at; biases, scales and statistics differ from each other and from 0 and 1 everywhere. values: as the side was
    made, for the constants.
    """
    random = np.random.default_rng(seed)
    found = {}
    for leaf in leaves:
        role, shape = by_role[leaf.path], leaf.shape
        noise = random.standard_normal(shape)
        if role == "constant":
            found[leaf.path] = values[leaf.path]
        elif role in neutral:
            found[leaf.path] = np.full(shape, NEUTRAL[role])
        elif role == "variance":
            found[leaf.path] = random.uniform(0.5, 1.5, shape)
        elif role in ("scale", "bias", "mean") or len(shape) < 2:
            found[leaf.path] = (1.0 if role == "scale" else 0.0) + 0.3 * noise
        elif role == "embedding":
            found[leaf.path] = noise
        else:
            inward = shape[1:] if role == "weight" else shape[:-1]
            found[leaf.path] = 1.2 * noise / np.sqrt(max(np.prod(inward), 1))
        if role != "constant":
            found[leaf.path] = found[leaf.path].astype(np.float32)
    return found
