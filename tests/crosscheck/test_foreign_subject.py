"""Models that are none of the spec's go through every check that applies to them, with no check knowing of it.

A subject here is a stranger's: a perceptron with a LayerNorm, and a block of attention. One side is stock `torch.nn`,
the other `flax.nnx`, each initialized, evaluated and trained in a few lines of its own framework.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Self

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch import nn

from crosscheck.checks import BY_DEFAULT, devices, dropout, generation, members, outcome
from crosscheck.checks.wanted import Wanted
from crosscheck.judging.verdict import RecordedSide, Verdict, judge
from crosscheck.probes.determinism import Repeats
from crosscheck.recording.recording import FORMAT, Recording
from crosscheck.recording.worker import ask
from crosscheck.request import Request
from crosscheck.subject import Subject
from flax_impl.compilation import QUICK, jit, known
from flax_impl.settings import computing
from spec.dropout import DropoutSite
from spec.errors import Unsupported
from spec.framework import Gradients, LossGradient, Precision, Replay, Settings, Side, Trajectory
from spec.parameters import Constant, Parameter, Parameters, Uniform, draw, generator_for, layer_norm, linear
from spec.parameters import self_attention as attention_table
from spec.points import Point
from spec.tasks import IGNORED, Batch
from spec.training import SGD, ConstantSchedule, CrossEntropy, NotStated, State, Training

pytestmark = pytest.mark.needs("torch", "flax")

WIDTH, CLASSES, HEADS, EPSILON = 6, 4, 2, 1e-5

RECIPE = Training(
    epochs=3,
    steps_per_epoch=2,
    loss=CrossEntropy(reduction="mean"),
    optimizer=SGD(learning_rate=0.1, momentum=0.9),
    schedule=ConstantSchedule(),
)

PERCEPTRON = (*linear("inner", WIDTH, 5), *layer_norm("norm", 5), *linear("head", 5, CLASSES))
BLOCK = (*attention_table("mix", WIDTH), *layer_norm("norm", WIDTH), *linear("head", WIDTH, CLASSES))


class Stranger(msgspec.Struct, frozen=True, kw_only=True):
    """What both sides are asked about. shape: of a batch's inputs."""

    name: str
    table: tuple[Parameter, ...]
    inner: tuple[str, ...]
    shape: tuple[int, ...]
    training: Training = RECIPE
    outcome: NotStated = NotStated()
    seeds: int = 1
    family: str = "Stranger"
    classes: int = CLASSES
    decodes: bool = False
    writes_nothing: str = "has no symbols"
    has_numeric_inputs: bool = True
    has_dropout: bool = False
    observed_length: int = 1
    has_drawn_batches: bool = True
    own_of_members: tuple[str, ...] = ("batches",)
    reference: None = None

    @property
    def hash(self) -> str:
        return f"{self.name}, {self.training}"

    @property
    def parameter_count(self) -> int:
        return sum(parameter.size for parameter in self.table)

    def parameters(self) -> tuple[Parameter, ...]:
        return self.table

    def stages(self) -> tuple[str, ...]:
        return (*self.inner, "logits")

    def recurrence(self, stage: str) -> int:
        return 0

    def dropout_sites(self, batch: int, time: int) -> dict[str, DropoutSite]:
        return {}

    def keep_masks(self, batch: int, time: int, generator: "np.random.Generator") -> dict[str, np.ndarray]:
        return {}

    def observed_batch(self, size: int, seed: int, precision: Precision) -> Batch:
        raise Unsupported("it drops nothing")

    def observed_masks(self, forward: Callable[..., Any], batch: Batch) -> dict[str, np.ndarray]:
        raise Unsupported("it drops nothing")

    def start(self, seed: int, precision: Precision) -> Parameters:
        return draw(self.table, seed, precision, spread=0.1)

    def batch(self, seed: int, step: int, precision: Precision) -> Batch:
        generator = generator_for(seed, self.name, step)
        targets = generator.integers(0, CLASSES, self.shape[:-1])
        targets.flat[0] = IGNORED
        return Batch(generator.normal(size=self.shape).astype(precision), targets)

    def evaluation_batch(self, precision: Precision) -> Batch:
        return self.batch(0, 0, precision)

    def with_training(self, training: Training) -> Self:
        return msgspec.structs.replace(self, training=training)

    def cases(self, precision: Precision, thorough: bool) -> tuple[str, ...]:
        return ("own",)

    def variant(self, case: str) -> Self:
        return self

    def points(self, case: str, seed: int, precision: Precision) -> list[Point]:
        start, batch = self.start(seed, precision), self.batch(seed, 0, precision)
        zeros = {name: np.zeros_like(value) for name, value in start.items()}
        return [Point("", self, start, batch, measured=True, live=True), Point("zeros", self, zeros, batch)]

    def fullest(self, seed: int, precision: Precision) -> Point:
        return self.points("own", seed, precision)[0]

    def options(self, declared: Mapping[str, str]) -> list[str]:
        return []

    is_at_hand = False

    def stands_for_others(self, kinds: Callable[[Any], Sequence[str]]) -> bool:
        return bool(kinds(self))


class TorchPerceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.head = nn.Linear(WIDTH, 5), nn.LayerNorm(5), nn.Linear(5, CLASSES)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        inner = self.inner(x)
        normed = self.norm(inner)
        return {"inner": inner, "norm": normed, "logits": self.head(torch.relu(normed))}


class TorchBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        mixed = self.mix(x, x, x, need_weights=False)[0]
        normed = self.norm(x + mixed)
        return {"mix": mixed, "norm": normed, "logits": self.head(normed)}


class FlaxPerceptron(nnx.Module):
    def __init__(self, epsilon: float, rngs: nnx.Rngs) -> None:
        self.inner, self.head = nnx.Linear(WIDTH, 5, rngs=rngs), nnx.Linear(5, CLASSES, rngs=rngs)
        self.norm = nnx.LayerNorm(5, epsilon=epsilon, use_fast_variance=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        inner = self.inner(x)
        normed = self.norm(inner)
        return {"inner": inner, "norm": normed, "logits": self.head(jax.nn.relu(normed))}


class FlaxBlock(nnx.Module):
    def __init__(self, epsilon: float, rngs: nnx.Rngs) -> None:
        self.query, self.key, self.value, self.out = (nnx.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(4))
        self.norm = nnx.LayerNorm(WIDTH, epsilon=epsilon, use_fast_variance=False, rngs=rngs)
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        q, k, v = (layer(x).reshape(*x.shape[:2], HEADS, -1) for layer in (self.query, self.key, self.value))
        weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k) / (WIDTH / HEADS) ** 0.5)
        mixed = self.out(jnp.einsum("bhts,bshd->bthd", weights, v).reshape(x.shape))
        normed = self.norm(x + mixed)
        return {"mix": mixed, "norm": normed, "logits": self.head(normed)}


def native(name: str, parameters: Mapping[str, Any]) -> Any:
    """Canonical parameters as the nnx modules hold them: {module: {attribute: array}}."""
    found: dict[str, dict[str, Any]] = {}
    for full, array in parameters.items():
        module, _, kind = full.rpartition(".")
        if module == "mix":
            for part, block in zip(("query", "key", "value"), jnp.split(array, 3), strict=True):
                found.setdefault(part, {})["kernel" if array.ndim == 2 else "bias"] = block.T
            continue
        module = "out" if module == "mix.out_proj" else module
        attribute = kind if kind == "bias" else "scale" if module == "norm" else "kernel"
        found.setdefault(module, {})[attribute] = array.T
    return found


class TorchSide:
    """`torch.nn` modules behind the contract."""

    def __init__(self, make: Callable[[], nn.Module]):
        self._make = make

    def describe(self, settings: Settings) -> dict[str, str]:
        return {"torch": torch.__version__}

    def open(self, subject: Any, settings: Settings) -> Side:
        dtype = getattr(torch, settings.precision)

        def arrays(tensors: Mapping[str, torch.Tensor]) -> Parameters:
            return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array).copy())

        def filled(parameters: Parameters) -> nn.Module:
            module = self._make().to(dtype)
            module.load_state_dict({name: tensor(array) for name, array in parameters.items()})
            return module

        def initialize(seed: int) -> Parameters:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return arrays(self._make().to(dtype).state_dict())

        def loss_of(logits: torch.Tensor, targets: np.ndarray) -> torch.Tensor:
            return nn.functional.cross_entropy(logits.flatten(0, -2), tensor(targets).flatten(), ignore_index=IGNORED)

        def forward(parameters: Parameters, batch: Batch, dropout: Any = None) -> Parameters:
            return arrays(filled(parameters)(tensor(batch.inputs)))

        def gradients(parameters: Parameters, batch: Batch, dropout: Any = None) -> Gradients:
            module, inputs = filled(parameters), tensor(batch.inputs).requires_grad_()
            loss = loss_of(module(inputs)["logits"], batch.targets)
            loss.backward()
            found = {name: parameter.grad for name, parameter in module.named_parameters()}
            assert inputs.grad is not None
            return Gradients(loss.item(), arrays(found), inputs.grad.numpy())  # type: ignore[arg-type]

        def loss_gradient(logits: np.ndarray, targets: np.ndarray) -> LossGradient:
            given = tensor(logits).requires_grad_()
            loss = loss_of(given, targets)
            return LossGradient(loss.item(), torch.autograd.grad(loss, given)[0].numpy())

        def optimizer(module: nn.Module, state: State) -> torch.optim.Optimizer:
            recipe = subject.training.optimizer
            found = torch.optim.SGD(module.parameters(), recipe.learning_rate, recipe.momentum)
            for name, parameter in module.named_parameters():
                found.state[parameter]["momentum_buffer"] = tensor(state.slots[f"{name}.momentum_buffer"])
            return found

        def slots(module: nn.Module, at: torch.optim.Optimizer) -> Parameters:
            named = module.named_parameters()
            return {f"{name}.momentum_buffer": at.state[p]["momentum_buffer"].numpy().copy() for name, p in named}

        def train(
            state: State, epochs: int, seed: int, record: bool = False, masks: str = "own", part: int | None = None
        ) -> Trajectory:
            each = part or subject.training.steps_per_epoch
            module = filled(state.parameters)
            at, trace, losses, logits = optimizer(module, state), [], [], []
            for step in range(state.step, state.step + epochs * each):
                batch = subject.batch(seed, step, settings.precision)
                at.zero_grad()
                loss = loss_of(module(tensor(batch.inputs))["logits"], batch.targets)
                loss.backward()
                at.step()
                losses.append(loss.item())
                trace.append((arrays(module.state_dict()), slots(module, at)))
                if (step + 1 - state.step) % each == 0:
                    inputs = tensor(subject.evaluation_batch(settings.precision).inputs)
                    logits.append(module(inputs)["logits"].detach().numpy())
            return trajectory(state, trace, losses, logits, settings.precision)

        def replay(parameters: Parameters, given: list[Parameters]) -> Replay:
            module = filled(parameters)
            zeros = {f"{name}.momentum_buffer": np.zeros_like(array) for name, array in parameters.items()}
            at, trace = optimizer(module, State(parameters, zeros, 0)), []
            for each in given:
                for name, parameter in module.named_parameters():
                    parameter.grad = tensor(each[name])
                at.step()
                trace.append((arrays(module.state_dict()), slots(module, at)))
            return Replay(*stacked(trace))

        return Side(
            initialize=initialize,
            round_trip=lambda parameters: arrays(filled(parameters).state_dict()),
            forward=forward,
            gradients=gradients,
            train=train,
            loss_gradient=loss_gradient,
            replay=replay,
        )


class FlaxSide:
    """`flax.nnx` modules behind the contract. epsilon: of the LayerNorm."""

    def __init__(self, make: Callable[..., nnx.Module], epsilon: float = EPSILON):
        self._graph, self._state = nnx.split(make(epsilon, rngs=nnx.Rngs(0)))
        self._gradient = jit(jax.value_and_grad(self._loss, (0, 1)), known(QUICK))
        self._outputs = jit(self._stages, known(QUICK))
        self._draws: dict[Settings, Callable[[jax.Array], dict[str, jax.Array]]] = {}
        self._loss_gradient = jit(jax.value_and_grad(self._cross_entropy), known(QUICK))

    def describe(self, settings: Settings) -> dict[str, str]:
        return {"jax": jax.__version__}

    def _drawn(self, table: tuple[Parameter, ...], settings: Settings) -> Callable[[jax.Array], dict[str, jax.Array]]:
        """What draws all parameters; compiled once, since starts of a hundred seeds and more are asked for."""

        def draw_all(key: jax.Array) -> dict[str, jax.Array]:
            keys = jax.random.split(key, len(table))
            return {p.name: drawn(p, k, settings) for p, k in zip(table, keys, strict=True)}

        if settings not in self._draws:
            self._draws[settings] = jit(draw_all, known(QUICK))
        return self._draws[settings]

    def _stages(self, parameters: Any, inputs: Any) -> dict[str, jax.Array]:
        module = nnx.merge(self._graph, self._state)
        for name, arrays in native("", parameters).items():
            for attribute, array in arrays.items():
                setattr(getattr(module, name), attribute, nnx.Param(array))
        return module(inputs)

    def _loss(self, parameters: Any, inputs: Any, targets: Any) -> jax.Array:
        return self._cross_entropy(self._stages(parameters, inputs)["logits"], targets)

    @staticmethod
    def _cross_entropy(logits: Any, targets: Any) -> jax.Array:
        asked = targets != IGNORED
        each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(asked, targets, 0))
        return jnp.where(asked, each, 0).sum() / asked.sum()

    def open(self, subject: Any, settings: Settings) -> Side:
        recipe = subject.training.optimizer

        def arrays(found: Mapping[str, Any]) -> Parameters:
            return {name: np.array(value) for name, value in found.items()}

        def initialize(seed: int) -> Parameters:
            return arrays(self._drawn(subject.parameters(), settings)(jax.random.key(seed)))

        def gradients(parameters: Parameters, batch: Batch, dropout: Any = None) -> Gradients:
            loss, (found, inputs) = self._gradient(parameters, batch.inputs, batch.targets)
            return Gradients(float(loss), arrays(found), np.array(inputs))

        def loss_gradient(logits: np.ndarray, targets: np.ndarray) -> LossGradient:
            loss, gradient = self._loss_gradient(logits, targets)
            return LossGradient(float(loss), np.array(gradient))

        def step(parameters: Any, slots: Any, found: Any) -> tuple[Parameters, Parameters]:
            moved = {n: recipe.momentum * slots[f"{n}.momentum_buffer"] + g for n, g in found.items()}
            after = {n: jnp.asarray(p) - recipe.learning_rate * moved[n] for n, p in parameters.items()}
            return arrays(after), arrays({f"{n}.momentum_buffer": value for n, value in moved.items()})

        def train(
            state: State, epochs: int, seed: int, record: bool = False, masks: str = "own", part: int | None = None
        ) -> Trajectory:
            each = part or subject.training.steps_per_epoch
            at, trace, losses, logits = (state.parameters, state.slots), [], [], []
            for number in range(state.step, state.step + epochs * each):
                found = gradients(at[0], subject.batch(seed, number, settings.precision))
                at = step(*at, found.parameters)
                losses.append(found.loss)
                trace.append(at)
                if (number + 1 - state.step) % each == 0:
                    inputs = subject.evaluation_batch(settings.precision).inputs
                    logits.append(np.asarray(self._outputs(at[0], inputs)["logits"]))
            return trajectory(state, trace, losses, logits, settings.precision)

        def replay(parameters: Parameters, given: list[Parameters]) -> Replay:
            at, trace = (parameters, {f"{n}.momentum_buffer": np.zeros_like(p) for n, p in parameters.items()}), []
            for each in given:
                at = step(*at, {name: jnp.asarray(array) for name, array in each.items()})
                trace.append(at)
            return Replay(*stacked(trace))

        def computed(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                with computing(settings):
                    return function(*arguments, **options)

            return call

        return Side(
            initialize=computed(initialize),
            round_trip=computed(lambda parameters: arrays({n: jnp.asarray(p) for n, p in parameters.items()})),
            forward=computed(lambda parameters, batch, dropout=None: arrays(self._outputs(parameters, batch.inputs))),
            gradients=computed(gradients),
            train=computed(train),
            loss_gradient=computed(loss_gradient),
            replay=computed(replay),
        )


def drawn(parameter: Parameter, key: jax.Array, settings: Settings) -> jax.Array:
    """By the law that the subject states."""
    match parameter.law:
        case Uniform(bound):
            return jax.random.uniform(key, parameter.shape, settings.precision, -bound, bound)
        case Constant(value):
            return jnp.full(parameter.shape, value, settings.precision)
    raise AssertionError(parameter.law)


def stacked(trace: list[tuple[Parameters, Parameters]]) -> tuple[Parameters, Parameters]:
    """Parameters and slots after each step, name -> (steps, *shape)."""
    parameters, slots = (
        {name: np.stack([at[part][name] for at in trace]) for name in trace[0][part]} for part in (0, 1)
    )
    return parameters, slots


def trajectory(state: State, trace: list[Any], losses: list[float], logits: list[Any], precision: str) -> Trajectory:
    reached = State(*trace[-1], state.step + len(trace))
    return Trajectory(reached, np.array(losses, precision), np.stack(logits), *stacked(trace))


SUBJECTS = {
    "perceptron": (
        Stranger(name="perceptron", table=PERCEPTRON, inner=("inner", "norm"), shape=(3, WIDTH)),
        TorchPerceptron,
        FlaxPerceptron,
    ),
    "block": (
        Stranger(name="block", table=BLOCK, inner=("mix", "norm"), shape=(2, 5, WIDTH)),
        TorchBlock,
        FlaxBlock,
    ),
}

CHECKS = [check for check in BY_DEFAULT if check not in (dropout, outcome)]
"""Those that apply: nothing is dropped, and no outcome is stated."""


def recorded(name: str, framework: Any, subject: Subject, first: bool) -> RecordedSide:
    """What a worker would have recorded of every check."""
    repeats, answers, arrays = Repeats(framework), [], {}
    for check in CHECKS:
        for precision in check.PRECISIONS:
            for case in check.cases(subject, precision, False):
                request = Request(precision, "cpu", 0, envelope=first)
                answer, found = ask(framework, check, subject, case, request, repeats)
                answers.append(answer)
                arrays |= {answer.key + key: array for key, array in found.items()}
    repeats.finish()
    answers = [msgspec.structs.replace(a, unsteady=repeats.found.get(a.key, [])) for a in answers]
    made = Recording(
        format=FORMAT, token="", implementation=name, experiment={}, experiment_hash=subject.hash, seed=0, device="cpu",
        describe={}, machine={}, answers=answers, seconds=0.0,
    )  # fmt: skip
    return RecordedSide(name, made, arrays)


@cache
def recorded_in_torch(kind: str) -> RecordedSide:
    """The first side, which no fault is planted in. On one thread, as workers compute."""
    subject, make, _ = SUBJECTS[kind]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return recorded("torch", TorchSide(make), subject, True)
    finally:
        torch.set_num_threads(threads)


def compared(kind: str, epsilon: float = EPSILON) -> Verdict:
    subject, _, flax_module = SUBJECTS[kind]
    sides = (
        recorded_in_torch(kind),
        recorded("flax", FlaxSide(flax_module, epsilon), subject, False),
    )
    wanted = Wanted([check.NAME for check in BY_DEFAULT], ("float64", "float32"))
    return judge(subject, subject.name, wanted, sides)


@pytest.mark.by_default("block")
@pytest.mark.parametrize("kind", SUBJECTS)
def test_a_strangers_model_goes_through_every_check(kind: str) -> None:
    verdict = compared(kind)
    assert [f"{c.check} {c.tensor}: {c.note} {c.difference} {c.bound}" for c in verdict.failures] == []
    found = {cell.check: (cell.status, cell.elements > 0) for cell in verdict.cells}
    applies = {check.NAME: ("same", True) for check in CHECKS}
    others = dict.fromkeys((dropout.NAME, generation.NAME, devices.NAME, outcome.NAME), ("not applicable", False))
    # These sides train one at a time.
    assert found == applies | others | {members.NAME: ("not checked", False)}
    assert verdict.status == "same"


@pytest.mark.by_default("perceptron")
@pytest.mark.parametrize("kind", SUBJECTS)
def test_another_epsilon_in_its_norm_is_red(kind: str) -> None:
    verdict = compared(kind, epsilon=1e-6)
    assert verdict.status == "different"
    first = verdict.failures[0]
    assert (first.check, first.tensor) == ("forward", "norm")
    assert first.ratio is not None
    assert first.ratio > 1e3
    # What does not depend on it is as it was.
    cells = {cell.check: cell.status for cell in verdict.cells}
    depending = {"forward", "gradients", "trajectory", "shipped-path"}
    assert {name for name, status in cells.items() if status == "different"} <= depending
    assert cells["gradients"] == cells["trajectory"] == "different"
    assert verdict.blame is not None
    assert verdict.blame.at_fault == "undecided"
    assert "nobody knows the equations" in verdict.blame.reason
