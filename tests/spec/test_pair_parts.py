"""Paths of parts: the same for every model that the same code makes, whatever was made before."""

from itertools import count
from typing import Any

from spec.pair_parts import distinct, owned_arrays, parts_of, without_count


class Weight:
    def __init__(self, name: str) -> None:
        self.name = name


class Part:
    counted = count()

    def __init__(self, **held: Any) -> None:
        self.name = f"{type(self).__name__.lower()}_{next(Part.counted)}"
        self.own: list[Weight] = []
        vars(self).update(held)

    def weights(self) -> list[Weight]:
        found = list(self.own)
        for value in vars(self).values():
            for one in value if isinstance(value, list) else [value]:
                found += [weight for weight in (one.weights() if isinstance(one, Part) else []) if weight not in found]
        return found


class Dense(Part):
    pass


def model() -> tuple[Part, Part]:
    shared = Dense(own=[Weight("kernel"), Weight("bias")])
    blocks = [Part(inner=Dense(own=[Weight("kernel")])), Part(inner=shared)]
    hidden = [Dense(own=[Weight("kernel")]), Dense(own=[Weight("kernel"), Weight("kernel")])]
    return Part(_a=hidden[0], _b=hidden[1], blocks=blocks, tied=shared, own=[Weight("scale")]), shared


def paths(whole: Part) -> list[str]:
    return list(owned_arrays(parts_of(whole, lambda one: vars(one).items(), _is_part), Part.weights))


def _is_part(one: Any) -> bool:
    return isinstance(one, Part)


def test_paths_are_attributes_and_places_and_do_not_count_what_was_made_before() -> None:
    whole, shared = model()
    parts = parts_of(whole, lambda one: vars(one).items(), _is_part)
    assert [one.path for one in parts] == ["", "blocks.0", "blocks.1", "tied", "dense", "dense_1", "blocks.0.inner"]
    assert next(one.part for one in parts if one.path == "tied") is shared
    assert paths(whole) == paths(model()[0])


def test_arrays_belong_to_the_innermost_part_that_has_them() -> None:
    expected = {"scale", "dense.kernel", "dense_1.kernel", "dense_1.kernel_1", "blocks.0.inner.kernel"}
    assert set(paths(model()[0])) == expected | {"tied.kernel", "tied.bias"}


def test_counts_are_taken_from_the_names_of_a_class_alone() -> None:
    assert without_count("dense_7", "Dense") == without_count("dense", "Dense") == "dense"
    assert without_count("multi_head_attention_12", "MultiHeadAttention") == "multi_head_attention"
    assert without_count("block_7", "Dense") == "block_7"
    assert distinct(["a", "b", "a", "a_1", "a"]) == ["a", "b", "a_1", "a_1_1", "a_2"]
