"""Sequences of one's own, out of a CSV or .npz file."""

import hashlib
from functools import lru_cache
from importlib import resources
from typing import Annotated, ClassVar, Literal, NamedTuple

import msgspec
import numpy as np

from spec.errors import shorten
from spec.models.base import Size
from spec.parameters import generator_for
from spec.tasks import buckets, documents, tables
from spec.tasks.base import IGNORED, Batch, Task, asked, valid_steps
from spec.tasks.tables import Sequences
from spec.typical import NOT_DRAWN, typical

SHIPPED = str(resources.files("spec") / "tables")
"""The tables that come with ohlol, and are read where no path is given: a level that rises, falls or stays, once in
numbers and once in indices. Beside each stands one with numbers to be said: the mean of the level, or of the symbols,
so far, and how much the level changes."""

MOST_BUCKETS = 64
"""Each is a shape of its own, for which a compiler compiles."""

Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]


class Table(Task, frozen=True, kw_only=True, tag_field="name"):
    """Say of sequences in a file of one's own which class each step, or each sequence, is of; or which numbers.

    path: a CSV or .npz file; docs/own_data.md has what stands in them. Relative to the folder of the experiment's file;
    none: a table that comes with ohlol. digest: of its content, see `spec.tasks.documents.Documents`. It is found out
    where it is not given; another table is refused, so that no run goes on with other data. inputs: numbers, or one
    column of indices for an embedding. targets: classes, or as many numbers a step as there are columns of them, for
    each of which a model has an output. readout: with "last step" the target at a sequence's last step counts alone.

    validation: the share of the sequences, drawn once and for all, that is never trained on. Judged on all of them.
    Training goes through the others that have a target again and again, each time in another order, so that every one
    comes once in `steps_per_pass` steps; batches that would be smaller have sequences of length 0, of which nothing is
    asked.

    buckets: at most so many widths of batches. Every batch has sequences of one bucket alone, that is of similar
    lengths, and is padded to that bucket's width: see `spec.tasks.buckets`. Who compiles does so for each of them.
    """

    path: Annotated[str, NOT_DRAWN] = ""
    digest: Annotated[str, NOT_DRAWN] = ""
    inputs: Annotated[Literal["numbers", "index"], typical("numbers")] = "numbers"
    targets: Literal["classes", "numbers"] = "classes"
    readout: Literal["every step", "last step"] = "every step"  # pyright: ignore[reportIncompatibleMethodOverride]
    batch_size: Size
    validation: Annotated[Share, typical(0.25, 0.5)] = 0.2
    buckets: Annotated[int, msgspec.Meta(ge=1, le=MOST_BUCKETS), typical(1, 2, 3)] = 1

    ragged: ClassVar[bool] = True

    def __post_init__(self) -> None:
        found = documents.find(self.file)
        if len(found.files) != 1 or found.files[0].path != self.file:
            raise ValueError(f"path: expected a file, got a folder: {self.file}")
        if self.digest and self.digest != found.digest:
            raise ValueError(
                f"digest: expected {found.digest}, that of {self.file}, got {shorten(self.digest)}: "
                "the table is not the one that it was, or another"
            )
        msgspec.structs.force_setattr(self, "digest", found.digest)
        sequences = self._sequences
        tables.longest(sequences.lengths)
        if len(sequences.lengths) < 2:
            raise ValueError(f"path: expected at least 2 sequences, one to validate, in {self.file}, got 1")
        for part, what in zip(self._parts, ("train on", "validate"), strict=True):
            if not asked(self._asked(part)).any():
                raise ValueError(f"path: expected a target among the sequences to {what} in {self.file}, got none")

    @property
    def file(self) -> str:
        """Where the table is read from."""
        name = "level" if self.inputs == "numbers" else "symbols"
        return self.path or f"{SHIPPED}/{name}{'_numbers' if self.numeric else ''}.csv"

    @property
    def numeric(self) -> bool:
        return self.targets == "numbers"

    @property
    def data_source(self) -> str:
        count, steps = len(self._sequences.lengths), len(self._sequences.targets)
        return f"{self.path or 'a table of ohlol'}: {count} sequences, {steps} steps, SHA-256 {self.digest}"

    @property
    def classes(self) -> int:
        targets = self._sequences.targets
        return targets.shape[1] if self.numeric else int(targets.max()) + 1

    @property
    def length(self) -> int:
        return int(self._sequences.lengths.max())

    @property
    def input_size(self) -> int:
        inputs = self._sequences.inputs
        return int(inputs.max()) + 1 if self.indices else inputs.shape[1]

    @property
    def indices(self) -> bool:
        return self.inputs == "index"

    @property
    def evaluated(self) -> int:
        return len(self._parts.validation)

    @property
    def widths(self) -> tuple[int, ...]:
        return _widths(self)

    @property
    def steps_per_pass(self) -> int:
        """Steps after which every sequence was trained on once more."""
        return sum(-(-len(members) // self.batch_size) for members in _bucketed(self))

    @property
    def _sequences(self) -> Sequences:
        return tables.read(self.file, self.digest, self.indices, self.numeric)

    @property
    def _parts(self) -> "_Parts":
        return _parts(len(self._sequences.lengths), self.validation)

    @property
    def _trained(self) -> np.ndarray:
        """Numbers of the sequences that are trained on: of a batch of others alone, nothing would be asked."""
        return np.array([n for n in self._parts.trained if asked(self._asked(np.array([n]))).any()], np.int64)

    def batch(self, seed: int, step: int, dtype: str) -> Batch:
        number, place = divmod(step, self.steps_per_pass)
        bucket, chosen = _pass(self, seed, number)[place]
        return self._batch(chosen, self.widths[bucket], dtype)

    def evaluation_batch(self, dtype: str) -> Batch:
        chosen = self._parts.validation
        return self._batch(chosen, int(self._sequences.lengths[chosen].max()), dtype)

    def _asked(self, chosen: np.ndarray) -> np.ndarray:
        """Targets of those sequences, one behind the other, as the readout has it."""
        sequences = self._sequences
        if self.readout == "last step":
            return sequences.targets[sequences.starts[chosen + 1] - 1]
        return np.concatenate([sequences.targets[sequences.starts[n] : sequences.starts[n + 1]] for n in chosen])

    def _batch(self, chosen: np.ndarray, width: int, dtype: str) -> Batch:
        """Of the sequences of these numbers, (batch,), -1 being an empty one."""
        sequences = self._sequences
        lengths = np.where(chosen < 0, 0, sequences.lengths[chosen])
        valid = valid_steps(lengths, width)
        rows = (sequences.starts[chosen][:, None] + np.arange(width))[valid]
        inputs = np.zeros((*valid.shape, *sequences.inputs.shape[1:]), np.int64 if self.indices else dtype)
        inputs[valid] = sequences.inputs[rows]
        if self.numeric:
            targets = np.full((*valid.shape, self.classes), np.nan, dtype)
        else:
            targets = np.full(valid.shape, IGNORED, np.int64)
        targets[valid] = sequences.targets[rows]
        if self.readout == "last step":
            targets = targets[np.arange(len(lengths)), np.maximum(lengths - 1, 0)]
        return Batch(inputs, targets, lengths)


class _Parts(NamedTuple):
    """Numbers of sequences, in ascending order."""

    trained: np.ndarray
    validation: np.ndarray


@lru_cache(maxsize=8)
def _parts(count: int, validation: float) -> _Parts:
    """The split, which no seed has a part in: all runs are judged on the same. At least one sequence on either side."""
    kept = min(max(int(np.ceil(count * validation)), 1), count - 1)
    # In an order that comes of their numbers: what only lists experiments is spared the random generators.
    order = np.argsort([hashlib.sha256(b"%d" % number).digest() for number in range(count)])
    return _Parts(np.sort(order[kept:]), np.sort(order[:kept]))


@lru_cache(maxsize=8)
def _widths(task: Table) -> tuple[int, ...]:
    return buckets.widths(task._sequences.lengths[task._trained], task.buckets)


@lru_cache(maxsize=8)
def _bucketed(task: Table) -> tuple[np.ndarray, ...]:
    """Numbers of the sequences to train on, bucket by bucket."""
    trained = task._trained
    of = np.searchsorted(np.array(task.widths), task._sequences.lengths[trained])
    return tuple(trained[of == bucket] for bucket in range(len(task.widths)))


@lru_cache(maxsize=4)
def _pass(task: Table, seed: int, number: int) -> list[tuple[int, np.ndarray]]:
    """The batches of one pass: each one's bucket and its sequences, int64 (batch,), with -1 for what is missing."""
    generator = generator_for(seed, "pass", number)
    found = []
    for bucket, members in enumerate(_bucketed(task)):
        order = generator.permutation(members)
        missing = -len(order) % task.batch_size
        batches = np.concatenate([order, np.full(missing, -1, np.int64)]).reshape(-1, task.batch_size)
        found += [(bucket, batch) for batch in batches]
    return [found[place] for place in generator.permutation(len(found))]
