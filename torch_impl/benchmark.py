"""What torch has to be measured with. See spec.benchmark.

torch_impl's layers are stock `torch.nn`, so that its contender stands for both.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from spec.benchmark import AnyWorkload, Layer, ManyTrainings, Prepared, Product, TrainingStep, WholeTraining
from spec.errors import Unsupported
from spec.experiment import Experiment
from spec.framework import Settings
from spec.training import initial_state
from torch_impl import optimizer as optimizers
from torch_impl.arrays import to_tensor
from torch_impl.build import build
from torch_impl.ensemble import train_ensemble
from torch_impl.loss import compute_loss
from torch_impl.parameters import export, initialize
from torch_impl.settings import computing, device_of
from torch_impl.training import descend, to_tensors, train

OWN = "torch_impl"

LOOP = "torch_impl, one by one"

LOOPED = 3
"""So many trainings stand for all of an ensemble's in a plain loop, which would take minutes."""

LAYERS: dict[str, Callable[..., nn.RNNBase]] = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


def contenders(workload: AnyWorkload) -> tuple[str, ...]:
    """See spec.benchmark.Benchmark.contenders."""
    return (OWN, LOOP) if isinstance(workload, ManyTrainings) else (OWN,)


def prepare(contender: str, workload: AnyWorkload, settings: Settings) -> Prepared:
    """See spec.benchmark.Benchmark.prepare."""
    if contender not in contenders(workload):
        raise Unsupported(f"torch_impl has no contender {contender!r} for {workload.name}")
    device_of(settings)
    match workload:
        case Product():
            return product(workload, settings)
        case Layer():
            return layer(workload, settings)
        case TrainingStep():
            return training_step(workload, settings)
        case WholeTraining():
            return whole_training(workload, settings)
        case ManyTrainings():
            return one_by_one(workload, settings) if contender == LOOP else many_trainings(workload, settings)


def product(workload: Product, settings: Settings) -> Prepared:
    """One matrix product."""
    first, second = (to_tensor(operand, device=device_of(settings)) for operand in workload.operands())

    def once() -> Tensor:
        with torch.inference_mode():
            return first @ second

    return Prepared(repeated(once, settings), lambda: {"product": once().cpu().numpy()})


def layer(workload: Layer, settings: Settings) -> Prepared:
    """The stock layer, time first, which is the layout that it computes in."""
    names = {name.removeprefix("rnn."): array for name, array in workload.parameters().items()}
    with torch.device("meta"):
        module = LAYERS[workload.cell](workload.features, workload.hidden)
    device = device_of(settings)
    state = {name: to_tensor(array, device=device) for name, array in names.items()}
    module.load_state_dict(state, assign=True)
    inputs, cotangent = (
        to_tensor(array.swapaxes(0, 1), device=device) for array in (workload.inputs(), workload.cotangent())
    )
    by = [inputs, *module.parameters()]
    if workload.gradients:
        inputs.requires_grad_()

    def forward() -> list[Tensor]:
        with torch.inference_mode():
            return [module(inputs)[0]]

    def both() -> list[Tensor]:
        outputs = module(inputs)[0]
        # Fresh gradients, as after zero_grad(set_to_none=True): nothing is added to what was there.
        return [outputs.detach(), *torch.autograd.grad(outputs, by, cotangent)]

    once = both if workload.gradients else forward

    def result() -> dict[str, np.ndarray]:
        outputs, *gradients = (tensor.cpu().numpy() for tensor in once())
        found = {"outputs": outputs.swapaxes(0, 1)}
        if workload.gradients:
            found["inputs"] = gradients[0].swapaxes(0, 1)
            parameters = (f"rnn.{name}" for name, _ in module.named_parameters())
            found |= dict(zip(parameters, gradients[1:], strict=True))
        return found

    return Prepared(repeated(once, settings), result)


def training_step(workload: TrainingStep, settings: Settings) -> Prepared:
    """The steps of torch_impl's training loop, without reading each loss."""
    experiment = workload.experiment
    training = experiment.training
    model = build(experiment.model, workload.parameters(), settings)
    model.train()
    optimizer = optimizers.make(training, dict(model.named_parameters()))
    batch = to_tensors(workload.sample(), settings)
    step = 0

    def once() -> Tensor:
        nonlocal step
        optimizer.zero_grad()
        loss = compute_loss(training.loss, model(batch), batch.targets)
        loss.backward()
        descend(training, model, optimizer, step)
        step += 1
        return loss.detach()

    return Prepared(repeated(once, settings), lambda: {"loss": once().cpu().numpy(), **export(model)})


def whole_training(workload: WholeTraining, settings: Settings) -> Prepared:
    """torch_impl.train."""
    experiment, start = workload.load(), workload.parameters()

    def once() -> dict[str, np.ndarray]:
        state = initial_state(experiment.training.optimizer, start)
        trained = train(experiment, state, experiment.training.epochs, 0, settings)
        return {"losses": trained.losses, "logits": trained.logits}

    return Prepared(repeated(once, settings), once)


def many_trainings(workload: ManyTrainings, settings: Settings) -> Prepared:
    """torch_impl.train_ensemble."""
    experiment = workload.load()

    def once() -> dict[str, np.ndarray]:
        ensemble = train_ensemble(experiment, range(workload.members), settings)
        return {"losses": ensemble.losses, "logits": ensemble.logits}

    return Prepared(repeated(once, settings), once)


def one_by_one(workload: ManyTrainings, settings: Settings) -> Prepared:
    """The first few seeds in a loop of torch_impl.train."""
    experiment = workload.load()
    count = min(LOOPED, workload.members)

    def once() -> dict[str, np.ndarray]:
        trained = [_alone(experiment, seed, settings) for seed in range(count)]
        return {name: np.stack([member[name] for member in trained]) for name in trained[0]}

    return Prepared(repeated(once, settings), once, share=count / workload.members)


def _alone(experiment: Experiment, seed: int, settings: Settings) -> dict[str, np.ndarray]:
    state = initial_state(experiment.training.optimizer, initialize(experiment, seed, settings))
    trained = train(experiment, state, experiment.training.epochs, seed, settings)
    return {"losses": trained.losses, "logits": trained.logits[-1]}


def repeated(once: Callable[[], object], settings: Settings) -> Callable[[int], None]:
    """Do it so many times, each until its result is there."""

    def run(repetitions: int) -> None:
        with computing(settings):
            for _ in range(repetitions):
                once()
                if settings.device == "cuda":
                    torch.cuda.synchronize()

    return run
