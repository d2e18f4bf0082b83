"""The next byte of a text."""

from collections.abc import Iterator
from functools import cache, lru_cache
from importlib import resources
from typing import Annotated, ClassVar, NamedTuple

import msgspec
import numpy as np

from spec.errors import shorten
from spec.models.base import Length, Size
from spec.parameters import generator_for
from spec.tasks import documents
from spec.tasks.base import IGNORED, Batch, Task, map_arrays
from spec.tasks.documents import Document, Documents
from spec.tasks.drawing import STEPS_DRAWN_TOGETHER, out_of_blocks
from spec.typical import NOT_DRAWN, typical

SHIPPED = str(resources.files("spec") / "texts")
"""The texts that come with ohlol, and are read where no path is given: pages of its documentation as they once were,
and its licence, which is that of the pages as well (Apache 2.0)."""

BYTES = 256
"""Values of a byte."""

VALIDATED_TOGETHER = 256
"""Sequences of a batch of a validation: who compiles does so for this number, and for what is left at the end."""

Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]


class Text(Task, frozen=True, kw_only=True, tag_field="name"):
    """Say at each step of a text which byte comes next.

    path: a file, or a folder of documents: all files in it, in the order of their names. Relative to the folder of the
    experiment's file; none: the texts that come with ohlol. digest: see `spec.tasks.documents.Documents`. It is found
    out where it is not given; a text that has another one is refused, so that no run goes on with other data.

    validation: the share of each document, at its end, that is never trained on. Training draws windows of `length`
    steps, each with the byte that follows; each window of each document's rest is as likely. Judged on up to
    `evaluated` windows at equal distances in what is kept back. No window reaches from one document into another.

    across: unless they may: then what is trained on of each document stands behind that of the one before, as in packed
    training data, and so does what is kept back. At a document's first byte a recurrent model's state is set back to
    zero (see `spec.models.recurrent`), and no step is asked for that byte. A document may be as short as it is.

    stream: windows that follow each other. With more than one, each sequence of a batch is a part of a stream that is
    drawn as a window is, and reads it in so many steps, the state of a recurrent model carried from each to the next;
    then it begins another one, with a state of zeros. Not all do so at the same step. A model is judged from zeros.
    """

    path: Annotated[str, NOT_DRAWN] = ""
    digest: Annotated[str, NOT_DRAWN] = ""
    length: Length
    batch_size: Size
    stream: Annotated[Length, typical(2, 3)] = 1
    validation: Annotated[Share, typical(0.1, 0.25, 0.5)] = 0.1
    evaluated: Annotated[Size, typical(1, 2, 3, 8)] = 32  # pyright: ignore[reportIncompatibleMethodOverride]
    across: bool = False

    drawn_together: ClassVar[int] = STEPS_DRAWN_TOGETHER
    validates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        found = documents.find(self.path) if self.path else _shipped()
        if self.digest and self.digest != found.digest:
            raise ValueError(
                f"digest: expected {found.digest}, that of {self.path or SHIPPED}, got {shorten(self.digest)}: "
                "the text is not the one that it was, or another"
            )
        parts = _parts(found, self.validation, self.across)
        for part, needed, what in zip(
            parts, (self.stream * self.length, self.length), ("to train on", "to validate on"), strict=True
        ):
            for size, path in part.stretches(self.path or SHIPPED):
                if size <= needed:
                    of = f" times stream = {self.stream}" if needed > self.length else ""
                    raise ValueError(
                        f"length: expected at most {max(size - 1, 0) // (needed // self.length)}, since a sequence{of} "
                        f"needs one byte more and {path} has {size} bytes {what}, got {self.length}"
                    )
        msgspec.structs.force_setattr(self, "digest", found.digest)
        _opened[self.path, found.digest] = found

    @property
    def classes(self) -> int:
        return BYTES

    @property
    def input_size(self) -> int:
        return BYTES

    @property
    def indices(self) -> bool:
        return True

    @property
    def documents(self) -> Documents:
        """The files that it draws from."""
        return _opened[self.path, self.digest]

    @property
    def data_source(self) -> str:
        return f"{self.path or 'the texts of ohlol'}: {self.documents.size} bytes, SHA-256 {self.digest}"

    def batch(self, seed: int, step: int, dtype: str) -> Batch:
        return map_arrays(lambda array: array[0], self.batches(seed, range(step, step + 1), dtype))

    def batches(self, seed: int, steps: range, dtype: str) -> Batch:
        del dtype  # Indices have none.
        training, _ = self._parts
        reach, shape = self.stream * self.length, (STEPS_DRAWN_TOGETHER, self.batch_size)
        count = training.windows(reach)
        streams, within = self._places(steps)
        first, last = int(streams.min()), int(streams.max())
        drawn = out_of_blocks(range(first, last + 1), lambda block: _draw_windows(seed, block, count, shape))
        numbers = np.take_along_axis(drawn, streams - first, axis=0)
        return self._batch(training, numbers, reach, within * self.length)

    @property
    def _parts(self) -> "tuple[_Part, _Part]":
        return _parts(self.documents, self.validation, self.across)

    @property
    def resets(self) -> bool:
        return self.across

    @property
    def streams(self) -> bool:
        return self.stream > 1

    def goes_on(self, steps: range) -> np.ndarray | None:
        if not self.streams:
            return None
        _, within = self._places(steps)
        return (within > 0) & (np.array(steps) > 0)[:, None]

    def _places(self, steps: range) -> tuple[np.ndarray, np.ndarray]:
        """Which stream each sequence of these steps reads, and which window of it: int64 (steps, batch) each."""
        at = np.array(steps, np.int64)[:, None] + np.arange(self.batch_size) % self.stream
        return at // self.stream, at % self.stream

    def evaluation_batch(self, dtype: str) -> Batch:
        del dtype
        _, validation = self._parts
        count = validation.windows(self.length)
        chosen = min(self.evaluated, count)
        # In Python's integers: of a text of many gigabytes the product has more than 64 bits.
        numbers = np.array([number * count // chosen for number in range(chosen)], np.int64)
        return self._batch(validation, numbers, self.length, np.zeros_like(numbers))

    def validation_batches(self, dtype: str) -> Iterator[Batch]:
        """Window after window of what is kept back, but for a rest of each document that is shorter than one."""
        del dtype
        _, validation = self._parts
        windows = validation.one_after_another(self.length)
        for first in range(0, len(windows), VALIDATED_TOGETHER):
            numbers = windows[first : first + VALIDATED_TOGETHER]
            yield self._batch(validation, numbers, self.length, np.zeros_like(numbers))

    def _batch(self, part: "_Part", numbers: np.ndarray, reach: int, offsets: np.ndarray) -> Batch:
        """Of numbers of stretches of `reach` steps, (..., batch), and of where in them the sequences begin."""
        found, begins = part.read(numbers.ravel(), reach, offsets.ravel(), self.length)
        found = found.reshape(*numbers.shape, self.length + 1).astype(np.int64)
        if not self.across:
            return Batch(found[..., :-1], found[..., 1:])
        begins = begins.reshape(found.shape)
        targets = np.where(begins[..., 1:], IGNORED, found[..., 1:])
        return Batch(found[..., :-1], targets, resets=begins[..., :-1])

    def bits_per_byte(self, logits: np.ndarray, batch: Batch) -> float:
        """The mean of -log2 softmax(logits)[target] over the targets that are not IGNORED, in float64."""
        asked = batch.targets != IGNORED
        scores = logits[asked].astype(np.float64)
        scores -= scores.max(axis=-1, keepdims=True)
        chosen = np.take_along_axis(scores, batch.targets[asked][:, None], axis=-1)[:, 0]
        return float(np.mean(np.log(np.exp(scores).sum(axis=-1)) - chosen) / np.log(2))


@cache
def _shipped() -> Documents:
    return documents.find(SHIPPED)


_opened: dict[tuple[str, str], Documents] = {}
"""By path and digest: a task looks at its folder when it is made, and not for every batch."""


class _Part(NamedTuple):
    """Of every document, the bytes from `first` on, `sizes` of them. joined: whether windows reach across documents."""

    documents: tuple[Document, ...]
    first: tuple[int, ...]
    sizes: tuple[int, ...]
    joined: bool

    def stretches(self, whole: str) -> list[tuple[int, str]]:
        """Bytes of what windows lie in, with its path; whole: that of all documents."""
        if self.joined:
            return [(sum(self.sizes), whole)]
        return [(size, document.path) for size, document in zip(self.sizes, self.documents, strict=True)]

    def windows(self, reach: int) -> int:
        """How many windows of so many steps there are, each with a byte more."""
        return sum(size - reach for size, _ in self.stretches(""))

    def one_after_another(self, length: int) -> np.ndarray:
        """The numbers of windows that share no step, int64."""
        counts = [size - length for size, _ in self.stretches("")]
        firsts = np.cumsum([0, *counts[:-1]])
        return np.concatenate([np.arange(first, first + n, length) for first, n in zip(firsts, counts, strict=True)])

    def read(self, windows: np.ndarray, reach: int, offsets: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Of windows of `reach` steps, (count,) by their numbers, the bytes from an offset on, uint8 (count, length +
        1), and which of them are a document's first, bool."""
        starts = np.cumsum([0, *self.sizes[:-1]])
        begin = windows
        if not self.joined:
            # No window begins in the last `reach` bytes of a document.
            begin = windows + reach * np.searchsorted(np.cumsum(np.array(self.sizes) - reach), windows, side="right")
        places = (begin + offsets)[:, None] + np.arange(length + 1)
        owners = np.searchsorted(starts, places, side="right") - 1
        found = np.empty(places.shape, np.uint8)
        for owner in np.unique(owners):
            of = owners == owner
            content = documents.opened(self.documents[owner])
            found[of] = content[places[of] - starts[owner] + self.first[owner]]
        return found, places == starts[owners]


def _held_back(document: Document, validation: float) -> int:
    """Bytes at a document's end that are never trained on."""
    return int(np.ceil(document.size * validation))


@lru_cache(maxsize=4)
def _parts(found: Documents, validation: float, joined: bool) -> tuple[_Part, _Part]:
    """What is trained on, and what is not."""
    kept = [_held_back(document, validation) for document in found.files]
    trained = tuple(document.size - of for document, of in zip(found.files, kept, strict=True))
    return _Part(found.files, (0,) * len(kept), trained, joined), _Part(found.files, trained, tuple(kept), joined)


@lru_cache(maxsize=2)
def _draw_windows(seed: int, block: int, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of a block's windows, int64."""
    return generator_for(seed, "batch", block).integers(0, count, shape, np.int64)
