"""How far logits are apart because the parameters they are computed from are apart, by the equations themselves."""

import numpy as np

from crosscheck.comparison import Arrays
from crosscheck.subject import Subject
from spec.errors import Unsupported
from spec.framework import Settings


def logits(subject: Subject, first: Arrays, second: Arrays, epochs: np.ndarray) -> np.ndarray:
    """The largest difference between the reference's logits of either side's parameters, (epochs,).

    epochs: bool (epochs,), those that are asked for; 0 in the others, and where the parameters are not all there or
    nobody knows the equations.
    """
    found = np.zeros(len(epochs))
    each, table = subject.training.steps_per_epoch, subject.parameters()
    shapes = {f"parameters/{p.name}": (len(epochs) * each, *p.shape) for p in table}
    if any(name not in side or side[name].shape != shape for side in (first, second) for name, shape in shapes.items()):
        return found
    if subject.reference is None:
        return found
    batch = subject.evaluation_batch("float64")
    for epoch in np.flatnonzero(epochs):
        step = (epoch + 1) * each - 1
        sides = (
            {p.name: side[f"parameters/{p.name}"][step].astype(np.float64) for p in table} for side in (first, second)
        )
        try:
            predict = subject.reference.open(subject, Settings("float64")).need("predict")
            one, two = (predict(side, batch) for side in sides)
        except Unsupported:
            return np.zeros(len(epochs))
        found[epoch] = np.abs(np.nan_to_num(one - two, nan=0.0, posinf=0.0, neginf=0.0)).max()
    return found
