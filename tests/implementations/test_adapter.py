"""The adapter between nnx modules and canonical names works by type, for modules that are not ours too."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flax_impl.lstm import LSTMCell
from flax_impl.parameters import layout, to_canonical, to_native
from flax_impl.recurrent import Layers


class Somebodys(nnx.Module):
    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.words = nnx.Embed(7, 3, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(3, 3, rngs=rngs), nnx.LayerNorm(3, rngs=rngs)])
        self.encoder = Layers(LSTMCell, 3, 5, num_layers=2, bidirectional=True, rngs=rngs)


def test_names_shapes_and_transposition() -> None:
    model = Somebodys()
    leaves = layout(model)
    canonical = to_canonical(leaves, nnx.state(model, nnx.Param))
    shapes = {name: value.shape for name, value in canonical.items()}
    assert shapes["words.weight"] == (7, 3)
    assert shapes["blocks.1.weight"] == shapes["blocks.1.bias"] == (3,)
    assert shapes["encoder.weight_ih_l0"] == (20, 3)
    assert shapes["encoder.weight_ih_l1_reverse"] == (20, 10)
    assert shapes["encoder.bias_hh_l1_reverse"] == (20,)
    assert len(shapes) == 1 + 2 + 2 + 2 * 2 * 4
    # A square kernel is transposed as well: shape alone could not tell.
    np.testing.assert_array_equal(canonical["blocks.0.weight"], np.asarray(model.blocks[0].kernel[...]).T)


def test_round_trip_is_bit_for_bit_and_keeps_leading_axes() -> None:
    model = Somebodys()
    leaves = layout(model)
    generator = np.random.default_rng(0)
    canonical = to_canonical(leaves, nnx.state(model, nnx.Param))
    drawn = {name: generator.normal(size=value.shape).astype(np.float32) for name, value in canonical.items()}
    native = to_native(leaves, drawn)
    nnx.update(model, native)
    back = to_canonical(leaves, nnx.state(model, nnx.Param))
    stacked = to_native(leaves, {name: np.stack([value, 2 * value]) for name, value in drawn.items()})
    twice = to_canonical(leaves, stacked)
    for name, value in drawn.items():
        np.testing.assert_array_equal(back[name], value)
        np.testing.assert_array_equal(twice[name], np.stack([value, 2 * value]))


def test_a_module_without_an_adapter_is_an_error() -> None:
    class Unknown(nnx.Module):
        def __init__(self) -> None:
            self.linear = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
            self.gain = nnx.Param(jnp.ones(3))

    with pytest.raises(TypeError, match=r"Linear.*gain"):
        layout(Unknown())
