"""One side of a pair in a process of its own: makes its model, and answers calls of `spec.pair.PairSide`.

Started as `python -m crosscheck.pair.worker SOURCE SIDE DIRECTORY`, where SOURCE is a `given.Source` as JSON. It calls
its own function of the pair file, and never the other side's.
"""

import importlib
import inspect
import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from crosscheck.pair import given as given_by
from crosscheck.pair import padding, renaming
from crosscheck.pair.codec import CHILD, digest, pack, unpack
from crosscheck.pair.given import PairGiven, Source
from crosscheck.pair.messages import Message, Opened, Raised, SideAnswered, SideCall
from crosscheck.recording import channel
from crosscheck.recording.places import OURS, SITES
from spec import machine, text
from spec.errors import OhlolError, Unsupported
from spec.exit_codes import COULD_NOT_RUN
from spec.pair import LARGE, Objective, PairBatch, PairSide, PairStep

NOT_THEIRS = (*(f"{os.sep}{site}{os.sep}" for site in SITES), *OURS, "<")
"""Parts of the paths of files that are not the user's."""

STREAMS = ("steps", "replay")
"""Functions that give one result after another."""


def main(source: str, side: str, directory: str) -> int:
    """Serve calls until standard input ends."""
    with channel.opened() as (calls, answers):
        service = Service(source, int(side), Path(directory))
        for line in calls:
            _send(answers, service.answer(msgspec.json.decode(line, type=SideCall)))
    return 0


class Service:
    """Answers every call, whatever the model does; the first has it made."""

    def __init__(self, source: str, side: int, directory: Path) -> None:
        self._given = source, side, directory
        self._worker: SideWorker | None = None

    def answer(self, call: SideCall) -> Message:
        source, side, directory = self._given
        try:
            if self._worker is None:
                self._worker = SideWorker(msgspec.json.decode(source, type=Source), side, directory)
            return self._worker.answer(call)
        except Unsupported as error:
            return Raised(message=text.admit(str(error)), exit_code=error.exit_code, unsupported=True)
        except OhlolError as error:
            return Raised(message=text.admit(str(error) + _at(error.__cause__)), exit_code=_exit_code(error))
        # Also SystemExit: a model may do anything.
        except BaseException as error:
            traceback.print_exc()
            return Raised(message=f"{given_by.SIDES[side]}: {_where(error)}", exit_code=COULD_NOT_RUN)


def _exit_code(error: OhlolError) -> int:
    """What a model raises when it is called is no mistake in the use of crosscheck."""
    return COULD_NOT_RUN if type(error) is OhlolError else error.exit_code


def _where(error: BaseException) -> str:
    return f"raised {text.exception(error)}{_at(error)}"


def _at(error: BaseException | None) -> str:
    """The innermost line of somebody's own, outside of what is installed, that an exception came through."""
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    own = [one for one in frames if not any(part in one.filename for part in NOT_THEIRS)]
    return f" (at {Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""


def _send(answers: BinaryIO, message: Message) -> None:
    answers.write(msgspec.json.encode(message) + b"\n")
    answers.flush()


class SideWorker:
    """The side, its inputs, and the trainings that are under way."""

    def __init__(self, source: Source, side: int, directory: Path) -> None:
        self.where, self.number, self.directory = Path(source.file).name, side, directory
        self.given = given_by.read(source, side)
        self.side, self.implementation = opened(self.given, self.where, side)
        if "torch" in sys.modules:
            # In small models, operations of microseconds, whose threads would wait for each other three times as long
            # as they compute.
            large = sum(int(np.prod(leaf.shape)) for leaf in self.side.leaves) > LARGE
            sys.modules["torch"].set_num_threads(machine.cores() if large else 1)
        self.streams: dict[int, tuple[Iterator[Any], list[Any]]] = {}
        self.counted = itertools.count()

    def answer(self, call: SideCall) -> Message:
        if call.function == "open":
            return told(self.given, self.side, self.implementation, self.where, self.number)
        arguments = unpack(call.arguments, self.directory) or {}
        own: dict[str, Callable[..., Any]] = {
            "inputs": self.inputs,
            "begin": self.begin,
            "next": self.next,
            "end": self.end,
        }
        value = own[call.function](**arguments) if call.function in own else self._asked(call.function, arguments)
        if value is ENDED:
            return SideAnswered(ended=True)
        return SideAnswered(value=pack(value, self.directory, f"{CHILD}-{self.number}-{next(self.counted)}"))

    def _asked(self, function: str, arguments: dict[str, Any]) -> Any:
        if "objective" in arguments:
            arguments["objective"] = Objective(*arguments["objective"])
        if arguments.get("replaced"):
            arguments["replaced"] = {int(number): value for number, value in arguments["replaced"].items()}
        found = getattr(self.side, function)(**arguments)
        return tuple(found) if function in ("forward", "gradients") else found

    def inputs(self, state: str, rows: int | None, noise: int | None) -> tuple[str, Any, Any]:
        """See `inputs_of`."""
        return inputs_of(self.given, self.where, self.number, json.loads(state), rows, noise)

    def begin(self, function: str, arguments: dict[str, Any]) -> int:
        """A new stream of results; its items are given with `next`."""
        assert function in STREAMS
        items: list[Any] = []

        def fed() -> Iterator[Any]:
            while items:
                yield items.pop()

        number = next(self.counted)
        self.streams[number] = iter(getattr(self.side, function)(fed(), **arguments)), items
        return number

    def next(self, stream: int, item: Any) -> Any:
        results, items = self.streams[stream]
        if isinstance(item, tuple):
            inputs, objective = item
            item = PairBatch(inputs, Objective(*objective))
        items.append(item)
        try:
            found = next(results)
        except StopIteration:
            return ENDED
        return tuple(found) if isinstance(found, PairStep) else found

    def end(self, stream: int) -> None:
        self.streams.pop(stream, None)


ENDED = object()


def opened(given: PairGiven, where: str, number: int) -> tuple[PairSide, str]:
    """The side, and the implementation that it is of."""
    implementation = given_by.implementation_of(given.made, where, given_by.SIDES[number])
    return importlib.import_module(f"{implementation}.pair.side").open_side(given.made, given.options), implementation


def told(given: PairGiven, side: PairSide, implementation: str, where: str, number: int) -> Opened:
    """What a side says of itself."""
    rename = given.rename if number == 1 else None
    if callable(rename):
        rename = renaming.guarded(rename, where)
    called = renaming.names(rename, [leaf.path for leaf in side.leaves], where)
    return Opened(
        kind=text.admit(side.kind, text.NAME),
        implementation=implementation,
        leaves=side.leaves,
        packed=side.packed,
        recurrent=side.recurrent,
        can=able(given, side),
        names=list(given.names),
        expected=given.expected,
        versions=versions(implementation),
        called=called,
        meant=renaming.meant(rename, called),
    )


def able(given: PairGiven, side: PairSide) -> list[str]:
    """What the side can be asked for. A model of several items is as its `call` makes it: in train mode if that can."""
    call, made = given.options.call, given.made
    if call is None or not isinstance(made, tuple):
        return sorted(side.can)
    return sorted(
        name for name in side.can if name not in ("train", "rng") or name in inspect.signature(call).parameters
    )


def inputs_of(
    given: PairGiven, where: str, number: int, state: dict[str, Any], rows: int | None, noise: int | None
) -> tuple[str, Any, Any]:
    """A digest of what was drawn; what this side is called with; and where the padding is, or nothing.

    rows: only so many of each array's first axis, where all have the same. noise: a seed by which what is padding is
    given other values.
    """
    drawn = given_by.inputs_of(given, state, where)
    if rows is not None:
        drawn = padding.first_rows(drawn, rows)
    valid = padding.valid(drawn, given.lengths, given.mask, where)
    if noise is not None and valid is not None:
        drawn = padding.with_noise(drawn, valid, np.random.default_rng(noise))
    own = drawn
    if number == 1 and given.to_port is not None:
        moved = given.to_port(**drawn) if isinstance(drawn, dict) else given.to_port(*drawn)
        own = given_by.checked_inputs(moved, where, "to_port")
    return digest(drawn), own, valid


def versions(implementation: str) -> dict[str, str]:
    """Of Python and of the frameworks that were imported."""
    found = {"python": sys.version.split()[0]}
    for name in ("torch", "jax", "flax", "optax", "equinox", "haiku", "keras", "numpy"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None and (name != "torch" or implementation == "torch_impl"):
            found[name] = text.admit(str(version), text.NAME)
    return found


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
