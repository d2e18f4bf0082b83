"""One string into another."""

from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np

from spec.limits import LARGEST_LENGTH
from spec.models.base import Size
from spec.tasks.base import Batch, Task, shift_right
from spec.typical import typical

Characters = Annotated[str, msgspec.Meta(min_length=1, max_length=LARGEST_LENGTH)]


class Spelling(Task, frozen=True, kw_only=True, tag_field="name"):
    """Turn one string into another, symbol by symbol: hello into ohlol.

    characters: the vocabulary, index by index. encoding: what the model is given.
    """

    characters: Annotated[Characters, typical("eho", "ehlo", "ab", "abcde", "abcdefg", "abcdefghi")]
    source: Annotated[Characters, typical(letters_of="characters")]  # pyright: ignore[reportIncompatibleMethodOverride]
    target: Annotated[Characters, typical(letters_of="characters", as_long_as="source")]
    encoding: Annotated[Literal["one-hot", "index"], typical("one-hot")]
    batch_size: Size = 1

    drawn: ClassVar[bool] = False
    spells: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if len(set(self.characters)) < len(self.characters):
            raise ValueError(f"characters: expected each one once, got {self.characters!r}")
        for key in ("source", "target"):
            unknown = sorted(set(getattr(self, key)) - set(self.characters))
            if unknown:
                raise ValueError(f"{key}: expected characters out of {self.characters!r}, got {unknown[0]!r}")
        if len(self.target) != len(self.source):
            raise ValueError(
                f"target: expected as many characters as the source has ({len(self.source)}), "
                f"got {len(self.target)} in {self.target!r}"
            )

    @property
    def classes(self) -> int:
        return len(self.characters)

    @property
    def length(self) -> int:
        return len(self.source)

    @property
    def input_size(self) -> int:
        return len(self.characters)

    @property
    def indices(self) -> bool:
        return self.encoding == "index"

    def batch(self, seed: int, step: int, dtype: str) -> Batch:
        del seed, step  # There is one pair of strings.
        return self._batch(self.batch_size, dtype)

    def evaluation_batch(self, dtype: str) -> Batch:
        return self._batch(1, dtype)

    def _batch(self, size: int, dtype: str) -> Batch:
        index = {character: number for number, character in enumerate(self.characters)}
        source, target = (
            np.tile(np.array([index[c] for c in text], np.int64), (size, 1)) for text in (self.source, self.target)
        )
        inputs = source if self.indices else (source[..., None] == np.arange(self.classes)).astype(dtype)
        return Batch(inputs, target, decoder_inputs=shift_right(target, self.classes))

    def describe(self, predictions: np.ndarray, batch: Batch) -> str:
        return "Predicted string: " + "".join(self.characters[index] for index in predictions[0])
