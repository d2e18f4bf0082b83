"""A side in a process of its own, behind the functions of `spec.pair.PairSide`."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from crosscheck.pair.codec import PARENT, pack, unpack
from crosscheck.pair.given import SIDES, Source
from crosscheck.pair.messages import Message, Opened, Raised, SideAnswered, SideCall
from crosscheck.recording.worker_pool import Worker
from spec.errors import OhlolError, Unsupported
from spec.exit_codes import COULD_NOT_RUN
from spec.framework import Precision
from spec.pair import Forward, Inputs, Intermediate, LeafGradients, Objective, PairBatch, PairStep, Values


class SideRefused(OhlolError):
    """What a side's process said went wrong, or that there is none any more."""

    def __init__(self, message: str, exit_code: int = COULD_NOT_RUN) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Remote:
    """See `spec.pair.PairSide`. Every call has a deadline; a process that misses it is ended, and asked no more."""

    def __init__(self, source: Source, number: int, directory: Path, environment: Mapping[str, str], timeout: float):
        self.number, self.name = number, SIDES[number]
        self._directory, self._timeout = directory, timeout
        self._counted = itertools.count()
        self._lost = ""
        self.worker = Worker(
            msgspec.json.encode(source).decode(),
            directory / f"{self.name}.log",
            environment,
            "crosscheck.pair.worker",
            (str(number), str(directory)),
            Message,
        )

    def open(self) -> Opened:
        """Have the model made. Raises OhlolError with what is wrong with the pair file."""
        told = self._serve(SideCall(function="open"))
        assert isinstance(told, Opened)
        self.kind, self.leaves, self.packed, self.recurrent = told.kind, told.leaves, told.packed, told.recurrent
        self.can = frozenset(told.can)
        return told

    def close(self) -> None:
        """End the process and whatever it has started."""
        self.worker.stop()
        self.worker.close()

    def inputs(
        self, random: np.random.Generator, rows: int | None = None, noise: int | None = None
    ) -> tuple[str, Inputs, np.ndarray | None]:
        """See crosscheck.pair.worker.inputs_of."""
        state = json.dumps(random.bit_generator.state)
        return self._ask("inputs", {"state": state, "rows": rows, "noise": noise})

    def pinned(self) -> tuple[str, ...]:
        return tuple(self._ask("pinned"))

    def computed_in(self, inputs: Inputs) -> tuple[str, ...]:
        return tuple(self._ask("computed_in", {"inputs": inputs}))

    def values(self) -> dict[str, np.ndarray]:
        return dict(self._ask("values"))

    def load(self, values: Values) -> None:
        self._ask("load", {"values": values})

    def initialize(self, seed: int) -> Values:
        return self._ask("initialize", {"seed": seed})

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
        arguments = {"inputs": inputs, "precision": precision, "record": record, "train": train, "seed": seed}
        if replaced:
            arguments["replaced"] = replaced
        outputs, state, intermediates, sources = self._ask("forward", arguments)
        return Forward(outputs, state, tuple(Intermediate(*one) for one in intermediates), sources)

    def gradients(
        self,
        inputs: Inputs,
        objective: Objective,
        *,
        precision: Precision = "float64",
        train: bool = False,
        seed: int = 0,
    ) -> LeafGradients:
        arguments = {"inputs": inputs, "objective": _plain(objective), "precision": precision, "train": train}
        return LeafGradients(*self._ask("gradients", arguments | {"seed": seed}))

    def replay(self, gradients: Iterable[Values], *, precision: Precision = "float64") -> Iterator[Values]:
        return self._stream("replay", gradients, {"precision": precision})

    def steps(
        self, batches: Iterable[PairBatch], *, precision: Precision = "float64", train: bool = False, seed: int = 0
    ) -> Iterator[PairStep]:
        items = ((one.inputs, _plain(one.objective)) for one in batches)
        for loss, values in self._stream("steps", items, {"precision": precision, "train": train, "seed": seed}):
            yield PairStep(loss, values)

    def _stream(self, function: str, items: Iterable[Any], arguments: dict[str, Any]) -> Iterator[Any]:
        number = self._ask("begin", {"function": function, "arguments": arguments})
        try:
            for item in items:
                told = self._told("next", {"stream": number, "item": item})
                if told.ended:
                    return
                yield unpack(told.value, self._directory)
        finally:
            if not self._lost:
                self._ask("end", {"stream": number})

    def _ask(self, function: str, arguments: Mapping[str, Any] | None = None) -> Any:
        return unpack(self._told(function, arguments).value, self._directory)

    def _told(self, function: str, arguments: Mapping[str, Any] | None = None) -> SideAnswered:
        name = f"{PARENT}-{self.number}-{next(self._counted)}"
        told = self._serve(SideCall(function=function, arguments=pack(dict(arguments or {}), self._directory, name)))
        assert isinstance(told, SideAnswered)
        return told

    def _serve(self, call: SideCall) -> Message:
        if self._lost:
            raise SideRefused(self._lost)
        told = self.worker.serve(call, self._timeout)
        if isinstance(told, str):
            self._lost = f"{self.name}: {told}"
            self.worker.stop()
            raise SideRefused(self._lost)
        if isinstance(told, Raised):
            if told.unsupported:
                raise Unsupported(told.message)
            raise SideRefused(told.message, told.exit_code)
        return told


def _plain(objective: Objective) -> tuple[str, Values]:
    return objective.kind, objective.arrays
