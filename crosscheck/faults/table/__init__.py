"""Every planted fault, and the catalogue's entries that have none."""

from crosscheck.faults.fault import Fault
from crosscheck.faults.table import (
    attention,
    causal,
    cells,
    chance,
    clipping,
    convergence,
    conversion,
    data,
    devices,
    dropout,
    embedding,
    feedback,
    generation,
    initial,
    layers,
    layouts,
    loss,
    members,
    mixed_precision,
    numbers,
    optimizer,
    points,
    positions,
    ragged,
    recipes,
    resets,
    schedule,
    shipped_path,
    sizes,
    squares,
    streams,
    tables,
    text,
    training,
    transformer,
    unvaried,
    unvaried_flax,
)

FAULTS: tuple[Fault, ...] = (
    cells.FAULTS
    + layers.FAULTS
    + embedding.FAULTS
    + attention.FAULTS
    + transformer.FAULTS
    + causal.FAULTS
    + positions.FAULTS
    + points.FAULTS
    + numbers.FAULTS
    + mixed_precision.FAULTS
    + sizes.FAULTS
    + initial.FAULTS
    + loss.FAULTS
    + squares.FAULTS
    + optimizer.FAULTS
    + layouts.FAULTS
    + schedule.FAULTS
    + clipping.FAULTS
    + recipes.FAULTS
    + training.FAULTS
    + dropout.FAULTS
    + data.FAULTS
    + ragged.FAULTS
    + resets.FAULTS
    + tables.FAULTS
    + text.FAULTS
    + streams.FAULTS
    + shipped_path.FAULTS
    + members.FAULTS
    + devices.FAULTS
    + feedback.FAULTS
    + generation.FAULTS
    + conversion.FAULTS
    + convergence.FAULTS
    + chance.FAULTS
    + unvaried.FAULTS
    + unvaried_flax.FAULTS
)
"""In the order of the ladder, roughly: what a step computes first."""

NOT_APPLICABLE: dict[str, str] = {
    "PB46": "no model has a causal mask, let alone one over sources and targets of different lengths",
}
"""Numbers of the catalogue of porting bugs that nothing here can have -> why."""
