"""The train step of every kind lowers for CPU, GPU and TPU, which needs none of them."""

import jax
import jax.numpy as jnp
import pytest
from jax import export
from kinds import covering

from flax_impl.training import compile_epochs, first_carry, stack_inputs, to_arrays
from spec.experiment import load, shipped
from spec.framework import Settings
from spec.parameters import draw
from spec.training import initial_state

TRAINED = [n for n in covering([n for n in shipped() if load(n).training.epochs]) if n != "hello-embedding-sparse"]


@pytest.mark.by_default(
    "reverse", "ragged-transformer", "text-lstm", "hello-stacked-lstm-dropout", "hello-gru-bfloat16"
)
@pytest.mark.parametrize("name", TRAINED)
def test_train_step_lowers_for_every_platform(name: str) -> None:
    experiment, settings = load(name), Settings("float32")
    start = initial_state(experiment.training.optimizer, draw(experiment.model.parameters(), 0, "float32"))
    inputs = stack_inputs(experiment, range(experiment.training.steps_per_epoch), 0, settings, "own")
    arguments = (
        first_carry(experiment, start, settings),
        inputs,
        to_arrays(experiment.evaluation_batch("float32")),
    )
    flat, structure = jax.tree.flatten((*arguments, jax.random.key_data(jax.random.key(0))))
    # The settings of a GPU, since those of a CPU carry options for its compiler, which is not asked here.
    run = compile_epochs(experiment, Settings("float32", device="cuda"), False, "own")

    def train(*leaves: jax.Array) -> jax.Array:
        carry, inputs, evaluation_batch, key = jax.tree.unflatten(structure, leaves)
        _, (outputs, logits) = run(carry, inputs, evaluation_batch, jax.random.wrap_key_data(key))
        return outputs.loss.sum() + logits.sum()

    # As arrays of JAX's, whose integers are narrower than NumPy's: JAX 0.12 warns of what it would have to narrow.
    shapes = [jax.typeof(jnp.asarray(leaf)) for leaf in flat]
    exported = export.export(jax.jit(train), platforms=["cpu", "cuda", "tpu"])(*shapes)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert "while" in exported.mlir_module()  # the scans are there, not an empty program
