"""Expressions of torch and of optax run on the same numbers, in float64, and where they part.

torch's expressions read `p`, the parameters, and `o`, an optimizer with a rate of 0.1; optax's read nothing.
"""

import functools
import itertools
import math
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from tables.optax_cases import Template
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, get_total_norm
from torch.optim import lr_scheduler

from crosscheck.libraries.optimizers import Tried

STEPS = 50
RATES = 60
"""Steps of a schedule: past the end of those that have one at 20."""

ROUNDINGS = 8.0
"""A step's roundings of a parameter and of its step: see `crosscheck.bounds.tolerances.REPLAY`."""

UNIT = float(np.finfo(np.float64).eps) / 2

SHAPES = {"kernel": (4, 6), "bias": (5,)}

SMALLEST, TINY, FAINT = -9.0, -7.0, -4.0
"""Decimal exponents of gradients, as in `crosscheck.pair.training`: of the smallest, and at most."""

Arrays = dict[str, np.ndarray]


class Run(NamedTuple):
    """By step: what is compared, and the largest way that any element has gone until then."""

    values: list[np.ndarray]
    scale: list[float]
    names: list[str] | None = None


def generator(*key: int) -> np.random.Generator:
    return np.random.default_rng([26, 11, *key])


def start(names: tuple[str, ...]) -> Arrays:
    return {name: generator(0, number).uniform(-1.0, 1.0, SHAPES[name]) for number, name in enumerate(names)}


@functools.cache
def gradients(names: tuple[str, ...], sparse: bool = False) -> tuple[Arrays, ...]:
    """A step's gradients from 1e-9 to 1, some elements always zero, and every tenth step all of them.

    sparse: a row of the first has a gradient in half of the steps.
    """
    found = []
    for step in range(STEPS):
        arrays = {}
        for number, name in enumerate(names):
            shape = SHAPES[name]
            kind = generator(1, number).choice(3, size=shape, p=(0.1, 0.3, 0.6))
            random = generator(2, number, step)
            largest = np.where(kind == 1, TINY, FAINT if step % 3 == 2 else 0.0)
            values = random.choice((-1.0, 1.0), size=shape) * 10.0 ** random.uniform(SMALLEST, largest, shape)
            zero = (kind == 0) | (step % 10 == 3)
            if sparse:
                zero = zero | (random.uniform(size=(shape[0], 1)) < 0.5)
            arrays[name] = np.where(zero, 0.0, values)
        found.append(arrays)
    return tuple(found)


TRANSPOSED = "matrices, transposed for optax"

NAMES = {
    "replay": ("kernel", "bias"),
    "matrices": ("kernel",),
    TRANSPOSED: ("kernel",),
    "sparse": ("kernel",),
    "descent": ("kernel", "bias"),
}
"""Which parameters there are, by measure."""


def evaluated(code: str, **given: Any) -> Any:
    """The expression's value; its names are those of both libraries' documentation."""
    known = {
        "torch": torch,
        "optax": optax,
        "lr_scheduler": lr_scheduler,
        "clip_grad_norm_": clip_grad_norm_,
        "clip_grad_value_": clip_grad_value_,
        "get_total_norm": get_total_norm,
        "math": math,
    }
    return eval(code, known | given)


def flat(values: Arrays) -> np.ndarray:
    return np.concatenate([np.asarray(values[name], np.float64).ravel() for name in sorted(values)])


def followed(path: Iterator[Arrays], before: Arrays) -> Run:
    """A run of parameters, with how far the furthest of them has come."""
    values = [flat(one) for one in path]
    origin = flat(before)
    scale = list(itertools.accumulate((float(np.abs(one - origin).max()) for one in values), max))
    return Run(values, scale)


def curvature(names: tuple[str, ...]) -> Arrays:
    """Of the quadratic whose gradients are the parameters times this."""
    return {name: generator(3, number).uniform(0.5, 3.0, SHAPES[name]) for number, name in enumerate(names)}


def torch_path(code: str, measure: str) -> Iterator[Arrays]:
    names = NAMES[measure]
    parameters = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in start(names).items()}
    optimizer = evaluated(code, p=list(parameters.values()))
    curved = {name: torch.tensor(value) for name, value in curvature(names).items()}

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.stack([(curved[name] * one**2).sum() / 2 for name, one in parameters.items()]).sum()
        loss.backward()
        return loss

    for given in gradients(names, measure == "sparse"):
        for name, one in parameters.items():
            value = torch.tensor(given[name])
            if measure == "sparse":
                rows = value.any(1).nonzero()[:, 0]
                value = torch.sparse_coo_tensor(rows[None], value[rows], value.shape)
            one.grad = value
        optimizer.step(closure) if measure == "descent" else optimizer.step()
        yield {name: one.detach().numpy().copy() for name, one in parameters.items()}


def optax_path(code: str, measure: str) -> Iterator[Arrays]:
    names = NAMES[measure]
    turned = np.transpose if measure == TRANSPOSED else np.asarray
    transformation = optax.with_extra_args_support(evaluated(code))
    parameters = {name: jnp.asarray(turned(value)) for name, value in start(names).items()}
    state = transformation.init(parameters)
    curved = {name: jnp.asarray(value) for name, value in curvature(names).items()}

    def loss(values: Any) -> jax.Array:
        return sum((jnp.sum(curved[name] * one**2) / 2 for name, one in values.items()), jnp.zeros(()))

    def step(carry: Any, given: Any) -> Any:
        parameters, state = carry
        more = {}
        if measure == "descent":
            value, given = jax.value_and_grad(loss)(parameters)
            more = {"value": value, "grad": given, "value_fn": loss}
        updates, state = transformation.update(given, state, parameters, **more)
        parameters = optax.apply_updates(parameters, updates)
        return (parameters, state), parameters

    steps = gradients(names, measure == "sparse")
    if measure in ("replay", "sparse"):  # operations one by one are compiled once for all expressions
        carry: Any = (parameters, state)
        for given in steps:
            carry, after = step(carry, {name: jnp.asarray(one) for name, one in given.items()})
            yield {name: np.asarray(one) for name, one in after.items()}
        return
    stacked = {name: jnp.stack([turned(one[name]) for one in steps]) for name in names}
    _, path = jax.lax.scan(step, (parameters, state), stacked)
    for number in range(STEPS):
        yield {name: turned(np.asarray(path[name][number])) for name in names}


LOSSES = np.array([3.0, 2.0, 1.5, 1.5, 1.6, 1.4999999, *[1.2] * 11, 1.1, *[1.3, 1.1] * 8, *[0.9] * 26])
"""Falling, level, falling by less than the threshold, level again, swinging, level."""


def torch_rates(code: str, measure: str) -> Iterator[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], lr=0.1)
    scheduler = evaluated(code, o=optimizer)
    for loss in LOSSES[:RATES]:
        if measure != "rates after a loss":
            yield float(optimizer.param_groups[0]["lr"])
        optimizer.step()
        try:
            scheduler.step(*(() if measure == "rates" else (float(loss),)))
        except ValueError as error:  # OneCycleLR has no step past its end
            if "total" not in str(error):
                raise
            return
        if measure == "rates after a loss":
            yield float(optimizer.param_groups[0]["lr"])


def optax_rates(code: str, measure: str) -> Iterator[float]:
    made = evaluated(code)
    if measure == "rates":
        yield from (float(made(jnp.asarray(count))) for count in range(RATES))
        return
    state, update = made.init(jnp.zeros(1)), jax.jit(made.update)
    for loss in LOSSES[:RATES]:
        updates, state = update(jnp.full(1, 0.1), state, value=jnp.asarray(loss))
        yield float(0.1 * state.scale if measure == "rates after a loss" else updates[0])


@functools.cache
def clipped_cases() -> dict[str, Arrays]:
    """Gradients by what is particular about them; a unit is a vector of norm 1."""
    unit = {name: generator(4, number).standard_normal(shape) for number, (name, shape) in enumerate(SHAPES.items())}
    norm = float(np.linalg.norm(flat(unit)))
    unit = {name: one / norm for name, one in unit.items()}

    def times(factor: float) -> Arrays:
        return {name: one * factor for name, one in unit.items()}

    def marked(value: float) -> Arrays:
        return {"kernel": unit["kernel"].copy(), "bias": np.array([value, *unit["bias"][1:]])}

    return {
        "norm 0": times(0.0),
        "norm 1e-3": times(1e-3),
        "norm 0.5": times(0.5),
        "norm 100": times(100.0),
        "norm 1e200, whose square is infinite": times(1e200),
        "an infinite element": marked(math.inf),
        "an element that is NaN": marked(math.nan),
    }


def clipped(code: str, library: str) -> Run:
    values, scale = [], []
    for given in clipped_cases().values():
        if library == "torch":
            parameters = {name: torch.nn.Parameter(torch.zeros(one.shape)) for name, one in given.items()}
            for name, one in given.items():
                parameters[name] = torch.nn.Parameter(torch.zeros(one.shape, dtype=torch.float64))
                parameters[name].grad = torch.tensor(one)
            evaluated(code, p=list(parameters.values()))
            found = {name: one.grad.numpy() for name, one in parameters.items() if one.grad is not None}
        else:
            transformation = evaluated(code)
            arrays = {name: jnp.asarray(one) for name, one in given.items()}
            found, _ = transformation.update(arrays, transformation.init(arrays))
        values.append(flat(found))
        scale.append(float(np.abs(values[-1]).max()))
    return Run(values, scale, list(clipped_cases()))


def norms(code: str, library: str) -> Run:
    """Of ones in many leaves, by dtype: as many as a large model has, and one that is large."""
    values, names = [], []
    for dtype in ("float64", "float32", "bfloat16", "float16"):
        for what, count, size in (("3,000 leaves of 1", 3000, 1.0), ("one element of 300", 1, 300.0)):
            names.append(f"{dtype}, {what}")
            if library == "torch":
                leaves = [torch.full((1,), size, dtype=getattr(torch, dtype)) for _ in range(count)]
                values.append(np.array([float(evaluated(code, g=leaves))]))
            else:
                arrays = [jnp.full((1,), size, dtype) for _ in range(count)]
                values.append(np.array([float(evaluated(code)(arrays))]))
    return Run(values, [float(np.abs(one).max()) for one in values], names)


def run(code: str, measure: str, library: str) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of schedules that say they are stepped before their optimizer
        if measure == "clipping":
            return clipped(code, library)
        if measure == "norms":
            return norms(code, library)
        if measure.startswith("rates"):
            rates = list((torch_rates if library == "torch" else optax_rates)(code, measure))
            return Run([np.array([one]) for one in rates], [max(rates)] * len(rates))
        path = torch_path(code, measure) if library == "torch" else optax_path(code, measure)
        return followed(path, start(NAMES[measure]))


def bounds(one: Run, two: Run, measure: str) -> list[float]:
    """How far rounding may carry the two apart, by step: each step rounds a parameter and its own size."""
    found = []
    for step, (value, other) in enumerate(zip(one.values, two.values, strict=False)):
        finite = [np.abs(each[np.isfinite(each)]).max(initial=0.0) for each in (value, other)]
        size = max(*finite, min(one.scale[step], two.scale[step]) if measure.startswith("rates") else 0.0)
        found.append(ROUNDINGS * (1 if measure in ("clipping", "norms") else step + 1) * UNIT * float(size))
    return found


def compared(code: str, one: Run, two: Run, measure: str) -> Tried:
    """Where torch's run and another part, and by how much."""
    allowed = bounds(one, two, measure)
    shares: list[float] = []
    parts_at: int | None = None
    for step, (value, other, bound) in enumerate(zip(one.values, two.values, allowed, strict=False)):
        alike = (value == other) | (np.isnan(value) & np.isnan(other))
        with np.errstate(invalid="ignore"):
            difference = np.where(alike, 0.0, np.abs(value - other))
        largest = float(difference.max())
        scale = max(one.scale[step], two.scale[step])
        shares.append(0.0 if largest == 0 else (largest / scale if math.isfinite(largest / scale) else math.inf))
        if parts_at is None and not largest <= bound:
            parts_at = step
    if parts_at is None:
        return Tried(code=code, parts_at=None, size=rounded(max(shares)), at_end=rounded(shares[-1]))
    where = one.names[parts_at] if one.names else parts_at + 1
    return Tried(code=code, parts_at=where, size=rounded(shares[parts_at]), at_end=rounded(shares[-1]))


def rounded(share: float) -> float:
    """To two digits, so that a file made on another processor is the same but where rounding shows."""
    return float(f"{share:.1e}") if math.isfinite(share) else 1e308


def expressions(template: Template) -> Iterator[tuple[int, str]]:
    """The template with every choice of its options, with how many arguments were given beyond it."""
    names = list(template.options)
    for chosen in itertools.product(*((None, *range(len(values))) for values in template.options.values())):
        given = [
            f"{name}={template.options[name][number]!r}"
            for name, number in zip(names, chosen, strict=True)
            if number is not None
        ]
        yield len(given), placed(template.code, given)


def placed(code: str, given: list[str]) -> str:
    before, place, after = code.partition("{}")
    if not place:
        return code
    joined = ", ".join(given)
    return before + (f", {joined}" if joined and not before.endswith("(") else joined) + after
