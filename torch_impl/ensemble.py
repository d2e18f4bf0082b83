"""Many seeds at once: stock modules under `torch.func.vmap`, one optimizer over the members' stacked parameters."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from spec.ensemble import NEVER, chunk_size, cut, join, one_by_one, solved_members, start_by_start
from spec.experiment import Experiment, override
from spec.framework import Ensemble, Settings, Trajectory
from spec.models import Embedding
from spec.parameters import Parameters
from spec.tasks import Batch, stack_batches
from spec.training import Clipping, State
from torch_impl import optimizer as optimizers
from torch_impl.arrays import to_tensor
from torch_impl.build import build
from torch_impl.dropout import given, mode
from torch_impl.loss import cross_entropy
from torch_impl.model import Model, TensorBatch
from torch_impl.parameters import initialize
from torch_impl.recurrent import Recurrent
from torch_impl.settings import computing, dtype_of, one_thread
from torch_impl.training import dropout_of, to_tensors, train

METHOD = "vmap"

Stacked = dict[str, Tensor]
"""Canonical name -> (members, *shape)."""


class Site(NamedTuple):
    """A place that drops units: its name, a tensor laid out like what is dropped from, and the probability.

    time_first: whether that tensor's first two axes are (time, batch), where the site's own are (batch, time).
    """

    name: str
    template: Tensor
    rate: float
    time_first: bool


def train_ensemble(
    experiment: Experiment, seeds: Sequence[int], settings: Settings, chunk: int | None = None
) -> Ensemble:
    """See spec.framework.Framework.train_ensemble."""
    if not vmaps(experiment, settings):
        return one_by_one(initialize, train, experiment, seeds, settings)
    size = chunk or chunk_size(experiment, settings.precision)
    with computing(settings), decomposed():
        parts = [[int(seed) for seed in seeds[part.start : part.stop]] for part in cut(len(seeds), size)]
        return join([train_chunk(experiment, part, settings) for part in parts])


def vmaps(experiment: Experiment, settings: Settings) -> bool:
    """Whether the members can be trained together.

    Attention weights are dropped inside a function of torch that draws its own mask, which members cannot share. On
    a GPU, cuDNN's recurrent layers have no rule for `vmap`, and dropout's masks come from fused kernels. Nor may
    anything be missing that torch does not document: then the members are trained one by one.
    """
    shared = settings.device == "cpu" and not getattr(experiment.model, "attention_dropout", 0.0)
    return shared and bool(RECURRENCES) and hasattr(getattr(torch.backends, "mkldnn", None), "enabled")


def train_starts(
    experiment: Experiment, starts: Sequence[Parameters], seed: int, settings: Settings
) -> list[Trajectory]:
    """See spec.framework.Framework.train_starts."""
    if not vmaps(experiment, settings):
        return start_by_start(train, experiment, starts, seed, settings)
    training, task = experiment.training, experiment.task
    with computing(settings), decomposed():
        members = Members(experiment, starts, settings, own_batches=False, own_masks=False)
        losses, trace = [], []
        arrays = task.batch(seed, 0, settings.precision)
        batch = to_tensors(arrays, settings)
        for step in range(training.epochs * training.steps_per_epoch):
            if task.drawn:
                arrays = task.batch(seed, step, settings.precision)
                batch = to_tensors(arrays, settings)
            drawn: Any = dropout_of(experiment, arrays, seed, step, "spec")
            masks = {name: to_tensor(mask, dtype_of(settings)) for name, mask in drawn.items()}
            losses.append(members.step(step, batch, masks))
            trace.append(members.state())
        recorded = {name: np.stack([state[name] for state in trace], 1) for name in trace[0]}
        logits = evaluated(experiment, members, recorded, settings)
        return [
            recorded_member(experiment, {name: array[member] for name, array in recorded.items()}, *outputs)
            for member, outputs in enumerate(zip(torch.stack(losses, 1).numpy(), logits, strict=True))
        ]


def evaluated(experiment: Experiment, members: "Members", recorded: Parameters, settings: Settings) -> np.ndarray:
    """Every member's logits after each epoch, (members, epochs, *logits' shape), of parameters (members, steps, ...).

    All epochs' parameters are evaluated as so many members: nothing of it comes back into the training, and a call for
    each epoch is most of the time of small models.
    """
    each, count = experiment.training.steps_per_epoch, len(next(iter(recorded.values())))
    batch = to_tensors(experiment.task.evaluation_batch(settings.precision), settings)
    ended = {name: recorded[name][:, each - 1 :: each] for name in members.parameters}
    flat = {name: to_tensor(array.reshape(-1, *array.shape[2:])) for name, array in ended.items()}
    size = chunk_size(experiment, settings.precision)
    parts = [
        members.logits(batch, {name: array[part.start : part.stop] for name, array in flat.items()})
        for part in cut(count * experiment.training.epochs, size)
    ]
    found = np.concatenate(parts)
    return found.reshape(count, -1, *found.shape[1:])


def recorded_member(experiment: Experiment, recorded: Parameters, losses: np.ndarray, logits: np.ndarray) -> Trajectory:
    """One member's trajectory, of its parameters and slots after each step, (steps, *shape) each."""
    names = [parameter.name for parameter in experiment.model.parameters()]
    parameters = {name: recorded[name] for name in names}
    slots = {name: array for name, array in recorded.items() if name not in parameters}
    last = State({n: array[-1] for n, array in parameters.items()}, {n: a[-1] for n, a in slots.items()}, len(losses))
    return Trajectory(last, losses, logits, parameters, slots)


def train_chunk(experiment: Experiment, seeds: list[int], settings: Settings) -> Ensemble:
    """The members of these seeds at once."""
    training, task = experiment.training, experiment.task
    starts = [initialize(experiment, seed, settings) for seed in seeds]
    masks = Masks(experiment, dropout_sites(experiment, starts[0], settings), seeds)
    members = Members(experiment, starts, settings, own_batches=task.drawn, own_masks=True)
    evaluation = task.evaluation_batch(settings.precision)
    evaluation_batch = to_tensors(evaluation, settings)
    losses, logits, first = [], [np.empty(0)], np.full(len(seeds), NEVER)
    each, steps = training.steps_per_epoch, range(training.epochs * training.steps_per_epoch)
    # A call for each epoch is a third of the time of a few members, so several epochs are evaluated at once.
    together = max(1, chunk_size(experiment, settings.precision) // len(seeds))
    ended: list[Stacked] = []
    arrays = task.batch(0, 0, settings.precision)
    batch = to_tensors(arrays, settings)
    own = [task.batches(seed, steps, settings.precision) for seed in seeds if task.drawn]
    drawn: Any = stack_batches(own) if own else None
    for step in steps:
        if drawn:
            at_step: Any = (None if array is None else array[:, step] for array in drawn)
            batch = to_tensors(Batch(*at_step), settings)
        losses.append(members.step(step, batch, masks.draw(arrays, step)))
        if (step + 1) % each == 0:
            ended.append({name: values.clone() for name, values in members.parameters.items()})
        if ended and (len(ended) == together or step == steps[-1]):
            joined = {name: torch.cat([parameters[name] for parameters in ended]) for name in members.parameters}
            logits = np.split(members.logits(evaluation_batch, joined), len(ended))
            for epoch, of_epoch in enumerate(logits, (step + 1) // each - len(ended) + 1):
                first[solved_members(of_epoch, evaluation) & (first == NEVER)] = epoch
            ended = []
    return Ensemble(torch.stack(losses, 1).numpy(), logits[-1], first, METHOD)


class Members:
    """Trainings side by side, a step at a time: stacked parameters, and one optimizer for all of them.

    own_batches, own_masks: whether each member has its own, stacked like the parameters, or all share one.
    """

    def __init__(
        self,
        experiment: Experiment,
        starts: Sequence[Parameters],
        settings: Settings,
        own_batches: bool,
        own_masks: bool,
    ):
        spec = experiment.model
        # Rescaling rows in place, and sparse gradients, have no rule for vmap, and its rule for padding_idx freezes a
        # row of the first member alone: the first and the last are done here, sparse ones are the same values.
        plain = experiment
        if isinstance(spec.inputs, Embedding):
            left_out = {"model__inputs__max_norm": None, "model__inputs__padding_idx": None}
            plain = override(experiment, **left_out, model__inputs__sparse=False)
        model = build(plain.model, starts[0], settings)
        without_own_dropout(model)
        self.training = experiment.training
        self.rescaled = spec.inputs if getattr(spec.inputs, "max_norm", None) is not None else None
        self.padding = getattr(spec.inputs, "padding_idx", None)
        self.trained = {name: nn.Parameter(to_tensor(np.stack([s[name] for s in starts]))) for name in starts[0]}
        self.parameters = {name: parameter.detach() for name, parameter in self.trained.items()}
        self.optimizer = optimizers.make(experiment.training.optimizer, nn.ParameterList(self.trained.values()))
        self.gradients = member_gradients(experiment, model, own_batches, own_masks)
        self.evaluate = member_logits(model)

    def step(self, step: int, batch: TensorBatch, masks: Mapping[str, Tensor]) -> Tensor:
        """One optimizer step of every member; their losses before it, (members,)."""
        if self.rescaled is not None:
            rows = self.parameters["embedding.weight"]
            rows.copy_(renormalized(self.rescaled, rows, batch.inputs))
        found, losses = self.gradients(self.parameters, batch, masks)
        # vmap leaves some with their axes swapped in memory, and the fused optimizers read them as if they were not.
        gradients = {name: gradient.contiguous() for name, gradient in found.items()}
        if self.padding is not None:
            gradients["embedding.weight"][:, self.padding] = 0
        clip_members(self.training.clipping, gradients)
        for name, parameter in self.trained.items():
            parameter.grad = gradients[name]
        for group in self.optimizer.param_groups:
            group["lr"] = self.training.learning_rate(step)
        self.optimizer.step()
        return losses

    def logits(self, batch: TensorBatch, parameters: Stacked) -> np.ndarray:
        """Logits in eval mode, (members, *logits' shape), of these stacked parameters."""
        at = dict(parameters)
        if self.rescaled is not None:
            at["embedding.weight"] = renormalized(self.rescaled, at["embedding.weight"], batch.inputs)
        return self.evaluate(at, batch).numpy()

    def state(self) -> Parameters:
        """A copy of every member's parameters and slots, by canonical name, (members, *shape) each."""
        slots = {
            f"{name}.{slot}": self.optimizer.state[parameter][slot]
            for slot in self.training.optimizer.slots
            for name, parameter in self.trained.items()
        }
        return {name: values.detach().numpy().copy() for name, values in {**self.parameters, **slots}.items()}


def member_gradients(
    experiment: Experiment, model: Model, own_batches: bool, own_masks: bool
) -> Callable[..., tuple[Stacked, Tensor]]:
    """The function of (stacked parameters, batch, masks by site) to every member's gradients and loss."""

    def loss_of(parameters: Stacked, batch: TensorBatch, masks: Mapping[str, Tensor]) -> Tensor:
        with given(model, masks):
            logits = functional_call(model, parameters, (batch,))
        return cross_entropy(experiment.training.loss, logits, batch.targets)

    def apply(parameters: Stacked, batch: TensorBatch, masks: Mapping[str, Tensor]) -> tuple[Stacked, Tensor]:
        axes: Any = [None if array is None or not own_batches else 0 for array in batch]
        axes = TensorBatch(*axes)
        members = vmap(loss_of, in_dims=(0, axes, 0 if masks and own_masks else None))
        leaves = {name: values.detach().requires_grad_() for name, values in parameters.items()}
        # Members do not depend on each other, so the gradient of their sum is each one's own. `torch.func.grad` inside
        # vmap gives the same and takes a quarter longer.
        with TakenApart():
            losses = members(leaves, batch, masks)
        found = torch.autograd.grad(losses.sum(), list(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, found, strict=True)), losses.detach()

    return apply


class TakenApart(TorchFunctionMode):
    """Recurrent layers and cells become the operations that they consist of: as a whole they have no rule for vmap."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        recurrence = RECURRENCES.get(func)
        return (recurrence.decompose if recurrence else func)(*args, **(kwargs or {}))


def recurrences() -> dict[Callable, Any]:
    """What stock recurrent modules call, without lengths, and the operation that it is; nothing if one is missing."""
    found = {}
    for name in ("rnn_tanh", "rnn_relu", "lstm", "gru"):
        for suffix, overload in (("", "input"), ("_cell", "default")):
            try:
                operation = getattr(getattr(torch.ops.aten, name + suffix), overload)
                found[getattr(torch, name + suffix)] = operation
            except AttributeError:
                return {}
            if not hasattr(operation, "decompose"):
                return {}
    return found


RECURRENCES = recurrences()


def member_logits(model: Model) -> Callable[[Stacked, TensorBatch], Tensor]:
    """The function of (stacked parameters, evaluation batch) to every member's logits, in eval mode."""
    predict = Predict(model)

    def logits_of(parameters: Stacked, batch: TensorBatch) -> Tensor:
        named = {f"model.{name}": value for name, value in parameters.items()}
        # vjp has the stock layers taken apart into operations that have a rule for vmap; no gradient is computed.
        logits: Any = vjp(lambda values: functional_call(predict, values, (batch,)), named)[0]
        return logits.detach()

    def apply(parameters: Stacked, batch: TensorBatch) -> Tensor:
        return vmap(logits_of, in_dims=(0, None))(parameters, batch)

    return apply


class Predict(nn.Module):
    """A model whose call is its `predict`: `functional_call` calls modules only."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, batch: TensorBatch) -> Tensor:
        return self.model.predict(batch)


@contextmanager
def decomposed() -> Iterator[None]:
    """Keep torch from kernels that have no rule for vmap, where plain operations do the same, and from threads.

    Operations on so many small matrices are too short to share: on two busy cores, 1,000 trainings of hello-rnn took
    1.2 s of CPU time with one thread and 16 with two, which mostly wait for each other.
    """
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False
    try:
        with one_thread(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mkldnn.enabled = before


def without_own_dropout(model: Model) -> None:
    """Drop nothing by torch's generator: the members' masks are drawn outside.

    Not eval mode throughout, in which Transformer layers take a fast path that has no rule for vmap.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.RNNBase):
            module.eval()


def dropout_sites(experiment: Experiment, start: Mapping[str, np.ndarray], settings: Settings) -> list[Site]:
    """Where a member trained alone draws its masks, in the order in which it does."""
    if not experiment.model.has_dropout:
        return []
    arrays = experiment.task.batch(0, 0, settings.precision)
    model = build(experiment.model, dict(start), settings)
    sites: list[Site] = []

    def watch(name: str, module: nn.Dropout) -> None:
        def see(_: nn.Module, inputs: tuple[Tensor]) -> None:
            if module.p:
                sites.append(Site(name, inputs[0].detach(), module.p, time_first=False))

        module.register_forward_pre_hook(see)

    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            watch(name, module)
    with mode(model, 0):
        model(to_tensors(arrays, settings))
    if isinstance(model, Recurrent):
        batch, time = arrays.inputs.shape[:2]
        like = torch.empty(time, batch, model.rnn.hidden_size * model.directions, dtype=dtype_of(settings))
        between = range(model.rnn.num_layers - 1)
        sites += [Site(f"rnn.dropout_l{layer}", like, model.rnn.dropout, time_first=True) for layer in between]
    return sites


class Masks:
    """Every member's masks of a step: the very ones that torch draws for it alone, with its seed."""

    def __init__(self, experiment: Experiment, sites: list[Site], seeds: Sequence[int]):
        self.experiment, self.sites, self.seeds = experiment, sites, seeds
        self.generator = torch.Generator()
        # Laid out like what is dropped from, which is the order in which the generator fills them.
        self.kept = [
            torch.empty_strided(
                (len(seeds), *site.template.shape),
                (site.template.numel(), *site.template.stride()),
                dtype=site.template.dtype,
            )
            for site in sites
        ]
        # Taken apart once: to do so at every step takes longer than to draw them.
        self.by_member = list(zip(*(kept.unbind() for kept in self.kept), strict=True))

    def draw(self, batch: Batch, step: int) -> Stacked:
        """By site, (members, *site's shape); nothing where nothing is dropped."""
        if not self.sites:
            return {}
        for seed, own in zip(self.seeds, self.by_member, strict=True):
            self.generator.manual_seed(int(np.asarray(dropout_of(self.experiment, batch, seed, step, "own"))))
            for site, kept in zip(self.sites, own, strict=True):
                kept.bernoulli_(1 - site.rate, generator=self.generator)
        scaled = {}
        for site, kept in zip(self.sites, self.kept, strict=True):
            mask = kept / (1 - site.rate)
            scaled[site.name] = mask.transpose(1, 2) if site.time_first else mask
        return scaled


def clip_members(spec: Clipping | None, gradients: Stacked) -> None:
    """Scale each member's gradients by its own norm. `torch.nn.utils.clip_grad_norm_` would take one norm of all."""
    if spec is None:
        return
    norms = torch.stack([torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients.values()])
    factors = (spec.max_norm / (torch.linalg.vector_norm(norms, dim=0) + spec.epsilon)).clamp(max=1)
    for gradient in gradients.values():
        gradient.mul_(factors.reshape(-1, *[1] * (gradient.ndim - 1)))


def renormalized(spec: Any, rows: Tensor, indices: Tensor) -> Tensor:
    """Every member's rows (members, num_embeddings, features) after max_norm, for indices of one batch or of each."""
    by_member = indices.reshape(len(rows), -1) if indices.ndim == 3 else indices.reshape(1, -1).expand(len(rows), -1)
    used = torch.zeros(rows.shape[:2], dtype=torch.bool, device=rows.device).scatter_(1, by_member, True)
    norms = torch.linalg.vector_norm(rows, ord=spec.norm_type, dim=2)
    factors = torch.where(
        used & (norms > spec.max_norm), spec.max_norm / (norms + spec.renormalization_epsilon), torch.ones_like(norms)
    )
    return rows * factors[..., None]
