#!/usr/bin/env bash
# Flax 0.12.8, nnx.RNN with seq_lengths and return_carry: a row of length 0 is given the state after all steps, padding
# included, where a row of length 1 is given the state after one step.
# Seen: the carry of length 0 equals that of length 4 of 4; NaN in the padding reaches it.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 flax==0.12.8 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax.numpy as jnp
import numpy as np
from flax import nnx

rnn = nnx.RNN(nnx.GRUCell(2, 3, rngs=nnx.Rngs(0)), return_carry=True)
inputs = jnp.tile(jnp.asarray(np.random.default_rng(0).standard_normal((1, 4, 2)), jnp.float32), (3, 1, 1))
carry, _ = rnn(inputs, seq_lengths=jnp.array([4, 1, 0]))
print(f"last state by length: 4 {carry[0]}, 1 {carry[1]}, 0 {carry[2]}")
first, _ = rnn(inputs[:1, :1])
padded, _ = rnn(inputs.at[2].set(jnp.nan), seq_lengths=jnp.array([4, 1, 0]))
print(f"length 0 with NaN in all of its padding: {padded[2]}")
assert np.array_equal(carry[2], carry[0]) and not np.array_equal(carry[1], carry[0])
assert np.allclose(carry[1], first[0], atol=1e-6)
assert np.isnan(padded[2]).all()
PYTHON
