"""Words that become words of another length."""

from functools import lru_cache
from typing import Annotated, ClassVar, Literal

import numpy as np

from spec.models.base import Size
from spec.parameters import generator_for
from spec.tasks.base import Batch, map_arrays
from spec.tasks.drawing import STEPS_DRAWN_TOGETHER, out_of_blocks
from spec.tasks.pairs import Transduction
from spec.tasks.spelling import Characters
from spec.typical import typical


class Words(Transduction, frozen=True, kw_only=True, tag_field="name"):
    """Turn each of several words into its own: "hello" into "ohlol", "hi" into "aloha". For a model that decodes.

    characters: the vocabulary, index by index. sources, targets: words with a space between them, as many of either;
    the n-th source becomes the n-th target. encoding: what the model is given. A training batch has `batch_size` pairs
    that are drawn with repetition, and is as wide as the longest of all, with index 0 where there is padding. Judged on
    all pairs, by how many words are right from the first character to the end.
    """

    characters: Annotated[Characters, typical("abcde", "abcdefg")]
    sources: Annotated[Characters, typical("abc d", "a bcde", "ab a")]
    targets: Annotated[Characters, typical("ba edcb", "e ab", "abcd bcda")]
    encoding: Annotated[Literal["one-hot", "index"], typical("one-hot")]
    batch_size: Size

    drawn_together: ClassVar[int] = STEPS_DRAWN_TOGETHER
    ragged: ClassVar[bool] = True
    spells: ClassVar[bool] = True
    transduces: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if len(set(self.characters)) < len(self.characters) or " " in self.characters:
            raise ValueError(f"characters: expected each one once, and no space, got {self.characters!r}")
        for key in ("sources", "targets"):
            text = getattr(self, key)
            if unknown := sorted(set(text) - set(self.characters) - {" "}):
                raise ValueError(f"{key}: expected characters out of {self.characters!r}, got {unknown[0]!r}")
            if not text.split(" ")[0] or "" in text.split(" "):
                raise ValueError(f"{key}: expected words with one space between two of them, got {text!r}")
        if len(self.targets.split(" ")) != (count := len(self.sources.split(" "))):
            raise ValueError(
                f"targets: expected as many words as there are sources ({count}), got {len(self.targets.split(' '))}"
            )

    @property
    def classes(self) -> int:
        return len(self.characters) + 1

    @property
    def length(self) -> int:
        return max(map(len, self.sources.split(" ")))

    @property
    def input_size(self) -> int:
        return len(self.characters)

    @property
    def indices(self) -> bool:
        return self.encoding == "index"

    @property
    def target_length(self) -> int:
        return max(map(len, self.targets.split(" "))) + 1

    @property
    def evaluated(self) -> int:
        return len(self.sources.split(" "))

    def batch(self, seed: int, step: int, dtype: str) -> Batch:
        return map_arrays(lambda array: array[0], self.batches(seed, range(step, step + 1), dtype))

    def batches(self, seed: int, steps: range, dtype: str) -> Batch:
        shape = (STEPS_DRAWN_TOGETHER, self.batch_size)
        return self._batch(out_of_blocks(steps, lambda block: _draw_pairs(seed, block, self.evaluated, shape)), dtype)

    def evaluation_batch(self, dtype: str) -> Batch:
        return self._batch(np.arange(self.evaluated), dtype)

    def _batch(self, chosen: np.ndarray, dtype: str) -> Batch:
        """Of the pairs of these numbers, (..., batch)."""
        sources, lengths = self._indices(self.sources)
        targets, sizes = self._indices(self.targets)
        return self._pairs(sources[chosen], lengths[chosen], targets[chosen], sizes[chosen], dtype)

    def _indices(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """The words' characters as indices, padded to the longest with 0, and how many each has."""
        words = text.split(" ")
        found = np.zeros((len(words), max(map(len, words))), np.int64)
        for row, word in zip(found, words, strict=True):
            row[: len(word)] = [self.characters.index(character) for character in word]
        return found, np.array([len(word) for word in words], np.int64)

    def describe(self, predictions: np.ndarray, batch: Batch) -> str:
        ends = np.where(predictions == self.classes - 1, np.arange(predictions.shape[1]), predictions.shape[1])
        rows = zip(predictions[:SHOWN], ends.min(axis=1), strict=False)
        shown = " ".join("".join(self.characters[index] for index in row[:end]) for row, end in rows)
        return f"{super().describe(predictions, batch)}, predicted words: {shown}"


SHOWN = 3
"""Words of a line."""


@lru_cache(maxsize=2)
def _draw_pairs(seed: int, block: int, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """A block's numbers of pairs, int64."""
    return generator_for(seed, "batch", block).integers(0, count, shape, np.int64)
