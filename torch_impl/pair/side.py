"""A model of this framework behind the functions of `spec.pair.PairSide`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spec.errors import OhlolError, ParameterMismatch, Unsupported, UsageError
from spec.framework import Precision
from spec.pair import (
    LARGE,
    Forward,
    Inputs,
    LeafGradients,
    Objective,
    PairBatch,
    PairOptions,
    PairStep,
    Values,
    narrowed,
    refused_optimizer,
)
from spec.text import exception
from torch_impl.arrays import to_tensor
from torch_impl.pair import keras_models, kinds
from torch_impl.pair.copies import copied
from torch_impl.pair.keras_models import KerasModule
from torch_impl.pair.recording import Recorder, Widths, plain_layers, widened
from torch_impl.pair.trees import as_entered, brought_in, floating, taken_out

DEFAULTS = PairOptions()


def open_side(made: Any, options: PairOptions = DEFAULTS) -> "Side":
    """The side of what a factory returned. Raises UsageError for what is no model of this framework."""
    if not kinds.recognize(made):
        raise UsageError(f"expected a torch.nn.Module, got {type(made).__module__}.{type(made).__qualname__}")
    return Side(*keras_models.as_module(made, options)) if keras_models.recognize(made) else Side(made, options)


class Side:
    """See `spec.pair.PairSide`."""

    def __init__(self, made: nn.Module, options: PairOptions) -> None:
        self.kind = kinds.describe(made)
        self.leaves = kinds.leaves_of(made)
        self.packed = kinds.packed_of(made)
        self.recurrent = kinds.recurrent_of(made)
        self._options = options
        self._model = made
        self._kept = {path: narrowed(taken_out(array)) for path, array in kinds.arrays_of(made).items()}
        self._large = sum(value.size for value in self._kept.values()) > LARGE
        self._copies: dict[Precision, nn.Module] = {}
        self._pinned: tuple[str, ...] = ()
        given = {"seed": options.make, "loss": options.loss, "optimizer": options.optimizer}
        modes = keras_models.modes(options.call) if isinstance(made, KerasModule) else {"train", "rng"}
        self.can = frozenset(modes | {name for name, one in given.items() if one is not None})

    def pinned(self) -> tuple[str, ...]:
        return self._pinned

    def computed_in(self, inputs: Inputs) -> tuple[str, ...]:
        seen = Widths()
        entered = self._entered(inputs, "float32")
        with torch.no_grad(), plain_layers(), seen:
            self._call(self._copy("float32"), entered, False, 0)
        return tuple(sorted(seen.found))

    def values(self) -> dict[str, np.ndarray]:
        return {path: value.copy() for path, value in self._kept.items()}

    def load(self, values: Values) -> None:
        found = {}
        for path, value in values.items():
            if path not in self._kept:
                raise ParameterMismatch(f"expected a leaf of {self.kind}, got {path!r}")
            if np.shape(value) != self._kept[path].shape:
                raise ParameterMismatch(f"{path}: expected shape {self._kept[path].shape}, got {np.shape(value)}")
            found[path] = narrowed(np.array(value))
        self._kept.update(found)
        for module in self._copies.values():
            _set(module, found)

    def initialize(self, seed: int) -> dict[str, np.ndarray]:
        if self._options.make is None:
            raise Unsupported(f"{self.kind} is made without a seed: its initialization is one draw")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made = self._options.make(seed)
        found = {path: narrowed(taken_out(array)) for path, array in kinds.arrays_of(made).items()}
        if {path: value.shape for path, value in found.items()} != {path: v.shape for path, v in self._kept.items()}:
            raise ParameterMismatch(f"{self.kind}: expected the same parameters for every seed, got others for {seed}")
        return found

    def forward(
        self,
        inputs: Inputs,
        *,
        precision: Precision = "float64",
        record: bool = False,
        replaced: Mapping[int, np.ndarray] | None = None,
        train: bool = False,
        seed: int = 0,
    ) -> Forward:
        module = self._copy(precision)
        leaves = kinds.arrays_of(module)
        entered = self._entered(inputs, precision)
        before = {path: array.detach().clone() for path, array in module.named_buffers() if train}
        recorder = Recorder(
            module, leaves, wide=precision == "float64", record=record, replaced=replaced, original=self._model
        )
        with torch.no_grad(), self._computing(precision, recorder):
            found = self._call(module, entered, train, seed)
        state = {}
        for path, array in module.named_buffers():
            if path in before and not torch.equal(before[path], array):
                if path in self._kept:
                    state[path] = taken_out(array)
                array.data.copy_(before[path])
        if record:
            self._pinned = tuple(recorder.pinned)
        outputs = floating(found)
        sources = {}
        for name, array in outputs.items():
            numbers = [by for by in recorder.memory.read(array) if isinstance(by, int)]
            if numbers:
                sources[name] = max(numbers)
        return Forward(
            {name: taken_out(array) for name, array in outputs.items()}, state, tuple(recorder.intermediates), sources
        )

    def gradients(
        self,
        inputs: Inputs,
        objective: Objective,
        *,
        precision: Precision = "float64",
        train: bool = False,
        seed: int = 0,
    ) -> LeafGradients:
        module = self._own_copy(precision) if train else self._copy(precision)
        entered = self._entered(inputs, precision)
        by_name = floating(entered)
        for array in by_name.values():
            array.requires_grad_()
        parameters = {path: array for path, array in kinds.arrays_of(module).items() if array.requires_grad}
        with self._computing(precision, self._widening(module, precision)):
            loss = self._loss(self._call(module, entered, train, seed), entered, objective)
            wanted = [*parameters.values(), *by_name.values()]
            found = [None] * len(wanted)
            if loss.requires_grad:
                found = torch.autograd.grad(loss, wanted, allow_unused=True)
        gradients = [
            taken_out(torch.zeros_like(array) if gradient is None else gradient)
            for array, gradient in zip(wanted, found, strict=True)
        ]
        return LeafGradients(
            float(loss.detach()),
            dict(zip(parameters, gradients[: len(parameters)], strict=True)),
            dict(zip(by_name, gradients[len(parameters) :], strict=True)),
        )

    def replay(self, gradients: Iterable[Values], *, precision: Precision = "float64") -> Iterator[Values]:
        module = self._own_copy(precision)
        optimizers = self._optimizers(module)
        parameters = {path: array for path, array in kinds.arrays_of(module).items() if array.requires_grad}
        for step in gradients:
            for path, array in parameters.items():
                array.grad = as_entered(np.asarray(step[path]), array.dtype)
            for one in optimizers:
                one.step()
            module.zero_grad()
            yield {path: taken_out(array) for path, array in parameters.items()}

    def steps(
        self, batches: Iterable[PairBatch], *, precision: Precision = "float64", train: bool = False, seed: int = 0
    ) -> Iterator[PairStep]:
        module = self._own_copy(precision)
        optimizers = self._optimizers(module)
        for number, batch in enumerate(batches):
            entered = self._entered(batch.inputs, precision)
            with self._computing(precision, self._widening(module, precision)):
                loss = self._loss(self._call(module, entered, train, seed + number), entered, batch.objective)
                loss.backward()
            for one in optimizers:
                one.step()
            # What takes memory goes before the values are copied.
            module.zero_grad()
            lost = float(loss.detach())
            del loss
            yield PairStep(lost, {path: taken_out(array) for path, array in kinds.arrays_of(module).items()})

    def _copy(self, precision: Precision) -> nn.Module:
        if precision not in self._copies:
            self._copies[precision] = self._own_copy(precision)
        return self._copies[precision]

    def _own_copy(self, precision: Precision) -> nn.Module:
        """One that nobody else has. Of a large model no other copies are kept beside it."""
        if self._large:
            self._copies.clear()
        return self._new_copy(precision)

    def _new_copy(self, precision: Precision) -> nn.Module:
        try:
            module = copied(self._model)
        except Exception as error:
            raise OhlolError(f"{self.kind} cannot be copied: {exception(error)}") from error
        if precision == "float64":
            module = module.double()
            for array in kinds.arrays_of(module).values():
                if array.is_complex():  # which `double` leaves as they are
                    array.data = array.data.to(torch.complex128)
        for array in module.parameters():
            array.data = array.data.contiguous()  # fused optimizers read memory as if there were no strides
        _set(module, self._kept)
        return module

    def _widening(self, module: nn.Module, precision: Precision) -> Recorder:
        return Recorder(module, {}, wide=precision == "float64", record=False, original=self._model)

    def _computing(self, precision: Precision, recorder: Recorder) -> Any:
        if precision == "float64":
            return _both(recorder)
        if recorder.record:
            return _both(recorder, wide=False)
        return nullcontext()

    def _entered(self, inputs: Inputs, precision: Precision) -> Any:
        dtype = torch.float64
        if precision == "float32":
            used = {array.dtype for array in self._model.parameters() if array.is_floating_point()}
            dtype = used.pop() if len(used) == 1 else torch.float32
        return brought_in(inputs, dtype)

    def _call(self, module: nn.Module, inputs: Any, train: bool, seed: int) -> Any:
        given: dict[str, Any] = {}
        call: Callable[..., Any] = self._options.call or (lambda model, *xs, **named: model(*xs, **named))
        if self._options.call is not None:
            if kinds.takes(call, "train"):
                given["train"] = train
            if kinds.takes(call, "rng"):
                given["rng"] = torch.Generator().manual_seed(seed)
        positional, named = ([], inputs) if isinstance(inputs, Mapping) else (inputs, {})
        module.train(train)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            try:
                return call(module, *positional, **named, **given)
            except OhlolError as error:
                raise OhlolError(f"{self.kind}: {error}") from error
            except Exception as error:
                raise OhlolError(f"{self.kind} raised when it was called: {exception(error)}") from error

    def _loss(self, output: Any, inputs: Any, objective: Objective) -> Tensor:
        if objective.kind == "loss":
            if self._options.loss is None:
                raise Unsupported(f"{self.kind}: no loss function is given")
            return self._options.loss(output, *(inputs.values() if isinstance(inputs, Mapping) else inputs))
        terms = []
        for name, array in floating(output).items():
            if name in objective.arrays:
                other = to_tensor(np.asarray(objective.arrays[name]), array.dtype)
                terms.append((array * other).sum() if objective.kind == "linear" else ((array - other) ** 2).mean())
        if not terms:
            raise Unsupported(f"{self.kind}: no floating output of {sorted(objective.arrays)}")
        return torch.stack(terms).sum()

    def _optimizers(self, module: nn.Module) -> list[Any]:
        """The optimizer, and schedulers where the factory gives them beside it."""
        if self._options.optimizer is None:
            raise Unsupported(f"{self.kind}: no optimizer is given")
        made = self._options.optimizer([array for array in module.parameters() if array.requires_grad])
        found = list(made) if isinstance(made, tuple | list) else [made]
        for one in found:
            if not callable(getattr(one, "step", None)):
                raise refused_optimizer(one, "torch's, made of the parameters")
        return found


def _both(recorder: Recorder, wide: bool = True) -> Any:
    from contextlib import ExitStack

    stack = ExitStack()
    stack.enter_context(plain_layers())
    stack.enter_context(recorder.modules_followed())
    stack.enter_context(widened(recorder) if wide else recorder)
    return stack


def _set(module: nn.Module, values: Mapping[str, np.ndarray]) -> None:
    arrays = kinds.arrays_of(module)
    with torch.no_grad():
        for path, value in values.items():
            arrays[path].copy_(as_entered(value, arrays[path].dtype))
