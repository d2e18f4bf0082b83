"""The optimizer, with every constant from the spec. See spec.training."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

from flax_impl.parameters import Layout, canonical_names, from_vectors, to_canonical, to_native
from spec.parameters import Parameters
from spec.training import SGD, Adam, AdamW, AnyOptimizer, Clipping, RMSprop, StepConstants, Training

COUNT = "count"
"""What optax calls the number of steps that its state has seen."""

OPTAX_NAMES = {
    "exp_avg": "mu",
    "exp_avg_sq": "nu",
    "max_exp_avg_sq": "nu_max",
    "square_avg": "nu",
    "momentum_buffer": "trace",
}
"""The slots' names in optax's states, by their canonical names."""


def own(
    training: Training, layout: Layout, parameters: nnx.State, at: StepConstants
) -> tuple[StepConstants, float | Array]:
    """The step's constants with the learning rate of each tensor, and the decay of each.

    Numbers where all tensors have the same; else vectors, as long as all tensors one behind the other.
    """
    full = training.optimizer.learning_rate
    rate = _of_each(layout, parameters, lambda name, axes: training.full_rate(name) / full)
    decay = _of_each(layout, parameters, training.weight_decay)
    return at if isinstance(rate, float) else at._replace(learning_rate=at.learning_rate * rate), decay


def _of_each(layout: Layout, parameters: nnx.State, value: Callable[[str, int], float]) -> float | Array:
    """What it is for each tensor, by its canonical name and its number of axes."""
    leaves = jax.tree.leaves(parameters)
    values = [value(name, leaf.ndim) for name, leaf in zip(canonical_names(layout), leaves, strict=True)]
    if len(set(values)) == 1:
        return values[0]
    return jnp.concatenate([jnp.full(leaf.size, value, leaf.dtype) for leaf, value in zip(leaves, values, strict=True)])


def make(spec: AnyOptimizer, at: StepConstants, decay: float | Array = 0.0) -> optax.GradientTransformation:
    """The optimizer for a step with these constants, which are not part of its state.

    It takes all parameters for one long vector: of an optimizer written out for each tensor, XLA compiles a small
    model's training in up to twice the time. decay, and the learning rate of `at`: numbers, or vectors of that length.
    """
    match spec:
        case Adam():
            chosen = optax.chain(scale_by_adam(spec, at), optax.scale_by_learning_rate(at.learning_rate))
        case AdamW():
            chosen = optax.chain(
                scale_by_adam(spec, at),
                decayed(decay),
                optax.scale_by_learning_rate(at.learning_rate),
            )
        case SGD():
            stepped = optax.sgd(at.learning_rate, momentum=spec.momentum or None, nesterov=spec.nesterov)
            chosen = optax.chain(decayed(decay), stepped)
        case RMSprop():
            # optax.rmsprop keeps momentum of what the learning rate has been multiplied with already.
            kept = optax.trace(spec.momentum) if spec.momentum else optax.identity()
            root = optax.scale_by_rms(spec.alpha, spec.epsilon, eps_in_sqrt=False)
            chosen = optax.chain(root, kept, optax.scale_by_learning_rate(at.learning_rate))
    return optax.flatten(chosen)


def decayed(decay: float | Array) -> optax.GradientTransformation:
    """`optax.add_decayed_weights`, and nothing is added where there is no decay, however large a parameter is."""
    if isinstance(decay, float):
        return optax.add_decayed_weights(decay) if decay else optax.identity()
    return optax.stateless(lambda updates, p: jax.tree.map(lambda u, p: u + jnp.where(decay, decay * p, 0), updates, p))


def scale_by_adam(spec: Adam | AdamW, at: StepConstants) -> optax.GradientTransformation:
    """`optax.scale_by_adam` with the corrections of `at`; optax computes its own in the gradients' precision.

    And `optax.scale_by_amsgrad`, which takes the largest of what is corrected already.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params  # The names and the third argument are optax's.
        mean = optax.tree.update_moment(updates, state.mu, spec.beta1, 1)
        square = optax.tree.update_moment(updates, state.nu, spec.beta2, 2)
        moments = {"count": state.count + 1, "mu": mean, "nu": square}
        if spec.amsgrad:
            square = moments["nu_max"] = jax.tree.map(jnp.maximum, state.nu_max, square)
        scaled = jax.tree.map(
            lambda m, v: (m / at.correction1) / (jnp.sqrt(v / at.correction2) + spec.epsilon), mean, square
        )
        return scaled, type(state)(**moments)

    stock = optax.scale_by_amsgrad() if spec.amsgrad else optax.scale_by_adam()
    return optax.GradientTransformation(stock.init, update)


def clip(spec: Clipping | None, gradients: optax.Updates) -> optax.Updates:
    """Limit each gradient, then scale all together. optax's own function lacks the epsilon beside the norm."""
    if spec is None:
        return gradients
    limit = spec.max_value
    if limit is not None:
        gradients = jax.tree.map(lambda gradient: jnp.clip(gradient, -limit, limit), gradients)
    if spec.max_norm is None:
        return gradients
    factor = jnp.minimum(1, spec.max_norm / (optax.tree.norm(gradients) + spec.epsilon))
    return jax.tree.map(lambda gradient: gradient * factor, gradients)


def load_slots(
    spec: AnyOptimizer, layout: Layout, native: optax.Params, slots: Parameters, step: int
) -> optax.OptState:
    """The optimizer's state that holds canonical slots, named "<parameter>.<slot>", after `step` steps."""
    leaves, structure = jax.tree.flatten(native)
    state = _blank(spec, structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
    place = _place(spec, structure)
    # Zeros by NumPy: JAX would compile a fill for every shape.
    values: list[np.ndarray] = [np.zeros(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)]
    for slot in spec.slots:
        own = {name.removesuffix(f".{slot}"): value for name, value in slots.items() if name.endswith(f".{slot}")}
        values[place[slot]] = np.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(to_native(layout, own))])
    if COUNT in place:
        values[place[COUNT]] = np.array(step, np.int32)
    return jax.tree.unflatten(jax.tree.structure(state), values)


@cache
def _blank(spec: AnyOptimizer, structure: Any, leaves: tuple[tuple[tuple[int, ...], np.dtype], ...]) -> optax.OptState:
    """The state's shapes and dtypes. To trace them takes longer than to train hello."""
    native = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in leaves])
    return jax.eval_shape(make(spec, StepConstants(spec.learning_rate, 1.0, 1.0)).init, native)


@cache
def _place(spec: AnyOptimizer, structure: Any) -> dict[str, int]:
    """Which leaf of the state is which slot, or the number of steps. optax takes a millisecond to find one."""
    tree = jax.tree.structure(_blank(spec, structure, (((), np.dtype(np.float32)),) * structure.num_leaves))
    numbered = tree.unflatten(range(tree.num_leaves))
    place = {slot: optax.tree.get(numbered, OPTAX_NAMES[slot]) for slot in spec.slots}
    for _, number in optax.tree.get_all_with_path(numbered, COUNT):
        place[COUNT] = number
    return place


def slots(spec: AnyOptimizer, layout: Layout, like: nnx.State, state: optax.OptState) -> Parameters:
    """The optimizer's slots under their canonical names. Leading axes, such as one of steps, stay in front.

    like: parameters, without such axes.
    """
    place, found = _place(spec, jax.tree.structure(like)), {}
    for slot in spec.slots:
        native = from_vectors(np.asarray(jax.tree.leaves(state)[place[slot]]), like)
        found |= {f"{name}.{slot}": value for name, value in to_canonical(layout, native).items()}
    return found
