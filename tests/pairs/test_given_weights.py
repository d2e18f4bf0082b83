"""A checkpoint's arrays as the values of a stranger's model."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from crosscheck.pair.state import State
from crosscheck.pair.structure import load_weights
from spec.errors import OhlolError
from spec.pair import Leaf

FILE = Path("w.pt")


class Original:
    """A side that remembers what it was given."""

    def __init__(self, *leaves: Leaf):
        self.leaves = leaves
        self.held: dict[str, np.ndarray] = {}

    def load(self, values: dict[str, np.ndarray]) -> None:
        self.held = dict(values)

    def values(self) -> dict[str, np.ndarray]:
        return self.held


def original(dtype: str = "float32") -> Original:
    return Original(
        Leaf("rnn.weight_ih_l0", (32, 4), dtype, True),
        Leaf("rnn.weight_hh_l0", (32, 8), dtype, True),
        Leaf("rnn.bias_ih_l0", (32,), dtype, True),
        Leaf("rnn.bias_hh_l0", (32,), dtype, True),
        Leaf("norm.running_mean", (8,), dtype, False),
        Leaf("fc.weight", (5, 8), dtype, True, ("tied.weight",)),
    )


def values(dtype: str = "float32") -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {leaf.path: random.normal(size=leaf.shape).astype(dtype) for leaf in original().leaves}


def loaded(side: Original, arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    state: Any = SimpleNamespace(first=side, made={})
    said = load_weights(cast(State, state), arrays, FILE)
    assert state.made == side.held
    return said


@pytest.mark.parametrize("prefix", ["", "module.", "state_dict.net._orig_mod."])
def test_names_under_any_prefix(prefix: str) -> None:
    side = original()
    given = values()
    extra = {"tied.weight": given["fc.weight"], "steps": np.array(3)}
    said = loaded(side, {f"{prefix}{name}": array for name, array in (given | extra).items()})
    assert side.held.keys() == given.keys()
    assert all(np.array_equal(side.held[name], array) for name, array in given.items())
    assert bool(said) == bool(prefix)


def test_names_of_another_library() -> None:
    side = Original(*(leaf for leaf in original().leaves if leaf.trainable))
    given = values()
    said = loaded(
        side,
        {
            "layers/lstm/cell/vars/0": given["rnn.weight_ih_l0"].T,
            "layers/lstm/cell/vars/1": given["rnn.weight_hh_l0"].T,
            "layers/lstm/cell/vars/2": given["rnn.bias_ih_l0"],
            "layers/dense/vars/0": given["fc.weight"].T,
        },
    )
    assert any("Keras's order" in sentence for sentence in said)
    for name in ("rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0", "fc.weight"):
        np.testing.assert_array_equal(side.held[name], given[name])
    assert not side.held["rnn.bias_hh_l0"].any()


@pytest.mark.parametrize(
    ("changes", "dtype", "said"),
    [
        ({"fc.weight": None}, "float32", "expected every parameter of original, got none for 'fc.weight'"),
        ({"more": np.zeros(2)}, "float32", "expected names of original, got 'more' (1 in all)"),
        ({"fc.weight": np.zeros((5, 9))}, "float32", "fc.weight: expected shape (5, 8), got (5, 9)"),
        (
            {"fc.weight": np.full((5, 8), 1e39)},
            "float32",
            "fc.weight: expected finite values, got 1e+39 at (0, 0)",
        ),
        ({"fc.weight": np.full((5, 8), 1e39)}, "bfloat16", "fc.weight: expected finite values, got 1e+39"),
        (
            {"fc.weight": np.full((5, 8), 7e4)},
            "float16",
            "fc.weight: expected finite values, got 70000.0 at (0, 0)",
        ),
        ({"rnn.bias_ih_l0": np.full(32, np.nan)}, "float32", "rnn.bias_ih_l0: expected finite values, got nan"),
        ({"fc.weight": np.full((5, 8), 1e39)}, "float64", ""),
    ],
)
def test_what_does_not_fit_is_one_line(changes: dict[str, np.ndarray | None], dtype: str, said: str) -> None:
    side = original(dtype)
    given = {name: array for name, array in (values() | changes).items() if array is not None}
    if not said:
        loaded(side, given)
        return
    with pytest.raises(OhlolError) as raised:
        loaded(side, given)
    assert str(raised.value).startswith(f"w.pt: {said}")
    assert not side.held
