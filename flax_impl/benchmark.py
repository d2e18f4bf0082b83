"""What JAX has to be measured with: flax_impl itself, and stock `flax.nnx`. See spec.benchmark."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

from flax_impl import compilation
from flax_impl.build import build, load
from flax_impl.dropout import set_mode
from flax_impl.ensemble import train_ensemble
from flax_impl.model import ArrayBatch, Model, run
from flax_impl.parameters import to_canonical
from flax_impl.settings import computing, device_of
from flax_impl.stock import StockRecurrent, StockTransformer, stock_cell, stock_optimizer
from flax_impl.training import Carry, Inputs, compile_epochs, first_carry, make_step, stack_inputs, to_arrays, train
from spec.benchmark import AnyWorkload, Layer, ManyTrainings, Planned, Prepared, Product, TrainingStep, WholeTraining
from spec.errors import Unsupported
from spec.framework import Settings
from spec.models.transformer import TransformerEncoder
from spec.parameters import Parameters
from spec.training import StepConstants, initial_state

OWN = "flax_impl"

RECOMPUTED = "flax_impl, recomputed"

COMPILED = "flax_impl, --compile, compiled part"

THOROUGH = "flax_impl, --compile"

STOCK = "flax.nnx"


def contenders(workload: AnyWorkload) -> tuple[str, ...]:
    """See spec.benchmark.Benchmark.contenders."""
    match workload:
        case Layer(recomputed=True):
            return OWN, RECOMPUTED, STOCK
        case Layer() | TrainingStep():
            return OWN, STOCK
        case WholeTraining():
            return OWN, THOROUGH, COMPILED
        case ManyTrainings():
            return OWN, THOROUGH
    return (OWN,)


def prepare(contender: str, workload: AnyWorkload, settings: Settings) -> Prepared:
    """See spec.benchmark.Benchmark.prepare."""
    if contender not in contenders(workload):
        raise Unsupported(f"flax_impl has no contender {contender!r} for {workload.name}")
    if contender == RECOMPUTED:
        chosen = (("recurrence", "recomputed"),)
        settings = Settings(settings.precision, settings.device, settings.matmul_precision, choices=chosen)
    if contender in (THOROUGH, COMPILED):
        settings = Settings(settings.precision, settings.device, settings.matmul_precision, compiled=True)
    with computing(settings):
        match workload:
            case Product():
                return product(workload, settings)
            case Layer():
                return (_stock_layer if contender == STOCK else layer)(workload, settings)
            case TrainingStep():
                return (_stock_training_step if contender == STOCK else training_step)(workload, settings)
            case WholeTraining():
                return (_compiled_part if contender == COMPILED else whole_training)(workload, settings)
            case ManyTrainings():
                return many_trainings(workload, settings)


class Compiled:
    """A function of these arguments, compiled with full effort when it is first called."""

    def __init__(self, function: Callable[..., Any], settings: Settings, *arguments: Any, donate: tuple[int, ...] = ()):
        self._jitted = compilation.jit(function, compilation.options(settings, quick=False), donate_argnums=donate)
        self._settings = settings
        self.arguments = jax.device_put(arguments, device_of(settings))
        self._compiled: Any = None

    def __call__(self) -> Any:
        """The results, when they are there."""
        if self._compiled is None:
            with computing(self._settings):
                self._compiled = self._jitted.lower(*self.arguments).compile()
        return jax.block_until_ready(self._compiled(*self.arguments))

    def planned(self) -> Planned | None:
        """Memory beside the arguments, those that are donated for results included."""
        analysis = self._compiled.memory_analysis() if self._compiled is not None else None
        return analysis and Planned(
            int(analysis.temp_size_in_bytes), int(analysis.output_size_in_bytes - analysis.alias_size_in_bytes)
        )


def product(workload: Product, settings: Settings) -> Prepared:
    """One matrix product."""
    compiled = Compiled(jnp.matmul, settings, *workload.operands())
    return Prepared(repeated(compiled), lambda: {"product": np.asarray(compiled())}, planned=compiled.planned)


def layer(workload: Layer, settings: Settings) -> Prepared:
    """flax_impl's model of one layer without a head."""
    graph, layout = build(workload.model)

    def forward(parameters: nnx.State, inputs: Array) -> Array:
        model: Model = nnx.merge(graph, parameters)
        set_mode(model, None)
        return run(model, ArrayBatch(inputs, inputs))[0]

    parameters = load(workload.model, workload.parameters(), settings)
    arguments = (parameters, workload.inputs(), workload.cotangent())
    return measured(workload, settings, forward, arguments, lambda gradients: to_canonical(layout, gradients))


def _stock_layer(workload: Layer, settings: Settings) -> Prepared:
    """`nnx.RNN` around a stock cell; time first, which is up to 5 % faster than batch first."""
    cell = stock_cell(workload.cell, "rnn", workload.parameters(), settings)
    graph, parameters, rest = nnx.split(nnx.RNN(cell, time_major=True), nnx.Param, ...)

    def forward(parameters: nnx.State, inputs: Array) -> Array:
        # A copy: the carry's generator may not count on outside of the function that is differentiated.
        stock: Any = nnx.merge(graph, parameters, rest, copy=True)
        return stock(inputs)

    def canonical(gradients: nnx.State) -> Parameters:
        found = {"/".join(map(str, path)): np.asarray(v[...]) for path, v in nnx.to_flat_state(gradients)}
        bias = found.get("cell/dense_i/bias", found.get("cell/dense_h/bias"))
        assert bias is not None
        return {
            "rnn.weight_ih_l0": found["cell/dense_i/kernel"].T,
            "rnn.weight_hh_l0": found["cell/dense_h/kernel"].T,
            "rnn.bias_ih_l0": bias,
        }

    arguments = (parameters, workload.inputs().swapaxes(0, 1), workload.cotangent().swapaxes(0, 1))
    return measured(workload, settings, forward, arguments, canonical, time_first=True)


def measured(
    workload: Layer,
    settings: Settings,
    forward: Callable[[nnx.State, Array], Array],
    arguments: tuple[nnx.State, np.ndarray, np.ndarray],
    canonical: Callable[[nnx.State], Parameters],
    time_first: bool = False,
) -> Prepared:
    """A layer's outputs, and where they are asked for its gradients; arguments: parameters, inputs, cotangent.

    The compiled function takes and gives a list of arrays, as a call of `nnx.State` is 20 microseconds of Python: most
    of what a tiny layer would be seen to take.
    """
    leaves, structure = jax.tree.flatten(arguments[0])
    given = leaves, *arguments[1:]

    def of_leaves(leaves: list[Array], inputs: Array) -> Array:
        return forward(jax.tree.unflatten(structure, leaves), inputs)

    def both(leaves: list[Array], inputs: Array, cotangent: Array) -> tuple[Array, list[Array], Array]:
        outputs, pull = jax.vjp(of_leaves, leaves, inputs)
        return outputs, *pull(cotangent)

    compiled = Compiled(both, settings, *given) if workload.gradients else Compiled(of_leaves, settings, *given[:2])

    def ordered(values: Array) -> np.ndarray:
        return np.asarray(values).swapaxes(0, 1) if time_first else np.asarray(values)

    def result() -> dict[str, np.ndarray]:
        if not workload.gradients:
            return {"outputs": ordered(compiled())}
        outputs, by_leaves, by_inputs = compiled()
        by_parameters = canonical(jax.tree.unflatten(structure, by_leaves))
        return {"outputs": ordered(outputs), "inputs": ordered(by_inputs), **by_parameters}

    return Prepared(repeated(compiled), result, planned=compiled.planned)


def training_step(workload: TrainingStep, settings: Settings) -> Prepared:
    """The step that flax_impl's training scans over."""
    experiment = workload.experiment
    training = experiment.training
    _, layout = build(experiment.model)
    carry = first_carry(experiment, initial_state(training.optimizer, workload.parameters()), settings)
    make = make_step(experiment, record=False, masks="own")
    batch = jax.device_put(to_arrays(workload.sample()), device_of(settings))

    def step(carry: Carry, batch: ArrayBatch, constants: StepConstants) -> tuple[Carry, Array]:
        carry, outputs = make(carry, Inputs(batch, constants, None), jax.random.key(0))
        return carry, outputs.loss

    def constants(number: int) -> StepConstants:
        return StepConstants(*(np.asarray(value, settings.precision) for value in training.constants(number)))  # pyright: ignore[reportArgumentType]

    compiled = Compiled(step, settings, carry, batch, constants(0), donate=(0,))
    number = 0

    def once() -> Array:
        nonlocal number
        compiled.arguments = (compiled.arguments[0], batch, constants(number))
        carry, loss = compiled()
        compiled.arguments = (carry, batch, constants(number))
        number += 1
        return loss

    def result() -> dict[str, np.ndarray]:
        loss = once()
        return {"loss": np.asarray(loss), **to_canonical(layout, compiled.arguments[0].parameters)}

    return Prepared(repeated(once), result, planned=compiled.planned)


def _stock_training_step(workload: TrainingStep, settings: Settings) -> Prepared:
    """Stock modules and stock optax, one jitted step over split state."""
    make = StockTransformer if isinstance(workload.model, TransformerEncoder) else StockRecurrent
    graph, parameters, rest = nnx.split(make(workload, settings), nnx.Param, ...)
    optimizer = stock_optimizer(workload.optimizer)
    sample = workload.sample()

    def step(parameters: nnx.State, state: optax.OptState, inputs: Array, targets: Array) -> tuple[Any, ...]:
        def loss_of(parameters: nnx.State) -> Array:
            logits = nnx.merge(graph, parameters, rest, copy=True)(inputs)
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

        loss, gradients = jax.value_and_grad(loss_of)(parameters)
        updates, state = optimizer.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state, loss

    arguments = (parameters, optimizer.init(parameters), make.order(sample.inputs), make.order(sample.targets))
    compiled = Compiled(step, settings, *arguments, donate=(0, 1))

    def once() -> Array:
        parameters, state, loss = compiled()
        compiled.arguments = (parameters, state, *compiled.arguments[2:])
        return loss

    def result() -> dict[str, np.ndarray]:
        loss = once()
        parameters = nnx.merge(graph, compiled.arguments[0], rest, copy=True)
        embedding, head = parameters.embedding.embedding[...], parameters.head.kernel[...]
        return {
            "loss": np.asarray(loss),
            "embedding.weight": np.asarray(embedding),
            "head.weight": np.asarray(head).T,
        }

    return Prepared(repeated(once), result, planned=compiled.planned)


def whole_training(workload: WholeTraining, settings: Settings) -> Prepared:
    """flax_impl.train."""
    experiment, start = workload.load(), workload.parameters()

    def once() -> dict[str, np.ndarray]:
        state = initial_state(experiment.training.optimizer, start)
        trained = train(experiment, state, experiment.training.epochs, 0, settings)
        return {"losses": trained.losses, "logits": trained.logits}

    return Prepared(repeated(once), once)


def _compiled_part(workload: WholeTraining, settings: Settings) -> Prepared:
    """The compiled function inside of flax_impl.train alone: the rest of its time is Python's."""
    experiment = workload.load()
    epochs = experiment.training.epochs
    state = initial_state(experiment.training.optimizer, workload.parameters())
    carry = jax.tree.map(np.asarray, first_carry(experiment, state, settings))
    inputs = stack_inputs(experiment, range(epochs * experiment.training.steps_per_epoch), 0, settings, "own")
    train_epochs = compile_epochs(experiment, settings, compilation.records(experiment, epochs), "own")
    batch, key = to_arrays(experiment.evaluation_batch(settings.precision)), jax.random.key(0)

    def once() -> dict[str, np.ndarray]:
        with computing(settings):
            _, (outputs, logits) = train_epochs(carry, inputs, batch, key)
        return {"losses": np.asarray(outputs.loss).reshape(-1), "logits": np.asarray(logits)}

    return Prepared(repeated(once), once)


def many_trainings(workload: ManyTrainings, settings: Settings) -> Prepared:
    """flax_impl.train_ensemble."""
    experiment = workload.load()

    def once() -> dict[str, np.ndarray]:
        ensemble = train_ensemble(experiment, range(workload.members), settings)
        return {"losses": ensemble.losses, "logits": ensemble.logits}

    return Prepared(repeated(once), once)


def repeated(once: Callable[[], object]) -> Callable[[int], None]:
    """Do it so many times, each until its result is there: XLA may otherwise overlap them on a CPU."""

    def run(repetitions: int) -> None:
        for _ in range(repetitions):
            once()

    return run
