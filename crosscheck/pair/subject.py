"""Two sides that are asked about the same: in processes of their own, or, of live objects, in this one."""

import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from crosscheck.pair import given as given_by
from crosscheck.pair import renaming
from crosscheck.pair import worker as one_side
from crosscheck.pair.given import SIDES, PairGiven, Source
from crosscheck.pair.messages import Opened
from crosscheck.pair.remote import Remote
from crosscheck.recording import temporary
from spec import cache
from spec.errors import UsageError
from spec.pair import Inputs, PairOptions, PairSide

MALLOC = "MALLOC_MMAP_THRESHOLD_"
"""Bytes from which glibc gives memory back to the system as soon as it is let go. By itself it comes to keep what is
smaller than 32 MB, which most leaves of a large model are."""


class AskedSide(PairSide, Protocol):
    """A side, and what it is called with."""

    def inputs(
        self, random: np.random.Generator, rows: int | None = None, noise: int | None = None
    ) -> tuple[str, Inputs, np.ndarray | None]:
        """See crosscheck.pair.worker.inputs_of."""
        ...


class AskedPair:
    """name: of the report. file: of the pair, where there is one. alone: whether each side has a process of its own.

    called: what the port's leaves are called for matching, where the pair renames them.
    """

    def __init__(
        self,
        name: str,
        file: Path | None,
        sides: tuple[AskedSide, AskedSide],
        opened: tuple[Opened, Opened],
        alone: bool,
    ) -> None:
        self.name, self.file, self.alone = name, file, alone
        self.first, self.second = sides
        self.opened = opened
        self.names = frozenset(opened[0].names)
        self.expected = opened[0].expected
        self.called = opened[1].called
        renaming.check_meant(opened[1].meant, [leaf.path for leaf in opened[0].leaves], name)

    def make_inputs(self, random: np.random.Generator) -> tuple[Inputs, Inputs]:
        """See crosscheck.mapping.MakeInputs."""
        return self.drawn(random)[:2]

    def drawn(
        self, random: np.random.Generator, rows: int | None = None, noise: int | None = None
    ) -> tuple[Inputs, Inputs, np.ndarray | None]:
        """Inputs of both sides, and where padding is. Raises UsageError where they did not draw the same."""
        (one, ours, valid), (two, theirs, _) = (side.inputs(random, rows, noise) for side in (self.first, self.second))
        if one != two:
            raise UsageError(f"{self.name}: inputs: expected the same for the same rng on both sides, got others")
        return ours, theirs, valid


@contextmanager
def opened(source: Source, timeout: float) -> Iterator[AskedPair]:
    """The pair of a file, each side in a process of its own; all that they started is ended after the block."""
    file = Path(source.file)
    if not file.exists():
        raise UsageError(f"{source.file}: expected a pair file, got nothing: no such file")
    environment = {"PYTHONHASHSEED": "0", **cache.variables()}
    if MALLOC not in os.environ:
        environment[MALLOC] = str(2**20)
    if "JAX_PLATFORMS" not in os.environ:
        environment["JAX_PLATFORMS"] = "cpu"
    with temporary.directory("pair-") as directory:
        sides: list[Remote] = []
        try:
            # Both start before either is waited for: importing a framework takes seconds.
            sides += [Remote(source, number, directory, environment, timeout) for number in (0, 1)]
            first, second = (side.open() for side in sides)
            yield AskedPair(file.name, file, (sides[0], sides[1]), (first, second), alone=True)
        finally:
            temporary.undisturbed(lambda: [side.close() for side in sides])


class Local:
    """A live object in this process."""

    def __init__(self, given: PairGiven, number: int, where: str) -> None:
        self._given, self._number, self._where = given, number, where
        side, self.implementation = one_side.opened(given, where, number)
        self._side = cast(Any, side)
        self.can = frozenset(one_side.able(given, side))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._side, name)

    def inputs(
        self, random: np.random.Generator, rows: int | None = None, noise: int | None = None
    ) -> tuple[str, Inputs, np.ndarray | None]:
        state = json.loads(json.dumps(random.bit_generator.state))
        return one_side.inputs_of(self._given, self._where, self._number, state, rows, noise)

    def told(self) -> Opened:
        """What a process would have said of itself."""
        return one_side.told(self._given, self._side, self.implementation, self._where, self._number)


def live(models: tuple[Any, Any], inputs: Callable[..., Any], options: Mapping[str, Any]) -> AskedPair:
    """The pair of two objects, or of what two functions of a seed, or of nothing, make. options: of given.OPTIONAL."""
    where = "pair.check"
    if unknown := sorted(options.keys() - set(given_by.OPTIONAL)):
        raise UsageError(f"{where}: expected some of {', '.join(given_by.OPTIONAL)}, got {unknown[0]}")
    if options.get("keras_backends") is not None:
        expected = "a pair file or functions that can be imported, since Keras has one backend in a process"
        raise UsageError(f"{where}: keras_backends: expected {expected}, got live objects")
    sides = []
    for number, model in enumerate(models):
        make, made = given_by.made_by(model, where, SIDES[number]) if inspect.isfunction(model) else (None, model)
        given = PairGiven(
            made,
            PairOptions(
                make=make,
                call=options.get(f"call_{SIDES[number]}"),
                loss=given_by.of_side(options.get("loss"), number, where, "loss"),
                optimizer=given_by.of_side(options.get("optimizers"), number, where, "optimizers"),
                state=given_by.names(options.get("state"), where, "state"),
            ),
            inputs,
            options.get("to_port"),
            options.get("lengths"),
            options.get("mask"),
            given_by.texts(options.get("expected"), where, "expected"),
            tuple(name for name in given_by.OPTIONAL if options.get(name) is not None),
            renaming.checked(options.get("rename"), where),
        )
        sides.append(Local(given, number, where))
    first, second = sides
    told = first.told(), second.told()
    return AskedPair(where, None, (cast(AskedSide, first), cast(AskedSide, second)), told, alone=False)
