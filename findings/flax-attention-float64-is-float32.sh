#!/usr/bin/env bash
# Flax 0.12.8 on JAX 0.10.2: nnx.MultiHeadAttention with dtype and param_dtype float64 gives float64 whose softmax was
# computed in float32, unless its weights are recorded (sow_weights=True). It calls jax.nn.dot_product_attention, which
# computes so for any input.
# Seen: 1.2e-07 away from the same in float64; 0.0 with sow_weights=True.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 flax==0.12.8 numpy==2.4.6
JAX_PLATFORMS=cpu JAX_ENABLE_X64=1 "$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

double = {"dtype": jnp.float64, "param_dtype": jnp.float64}
layer = nnx.MultiHeadAttention(num_heads=2, in_features=8, decode=False, rngs=nnx.Rngs(0), **double)
inputs = jnp.asarray(np.random.default_rng(0).standard_normal((1, 5, 8)))
query, key, value = layer.query(inputs), layer.key(inputs), layer.value(inputs)
weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", query, key) / 2, axis=-1)
exact = layer.out(jnp.einsum("bhqk,bkhd->bqhd", weights, value))
output, recorded = layer(inputs), layer(inputs, sow_weights=True)
away = [float(jnp.abs(one - exact).max()) for one in (output, recorded)]
print(f"{output.dtype}: {away[0]:.2g} away; with sow_weights {away[1]:.2g}")
assert output.dtype == jnp.float64
assert 1e-9 < away[0] < 1e-6 and away[1] < 1e-14
PYTHON
