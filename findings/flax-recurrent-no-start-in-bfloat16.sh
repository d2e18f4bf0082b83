#!/usr/bin/env bash
# Flax 0.12.8, Keras 3.15.1 on JAX 0.10.2, CPU: recurrent layers cannot be made with parameters of bfloat16 or float16,
# since their orthogonal start needs a decomposition that exists for neither; torch 2.13.0's can. Only nnx.LSTMCell starts.
# Seen: NotImplementedError for nnx.GRUCell, nnx.OptimizedLSTMCell, nnx.SimpleCell, linen.LSTMCell and keras.layers.LSTM.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 jax==0.10.2 flax==0.12.8 keras==3.15.1 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import os

os.environ["KERAS_BACKEND"] = "jax"
import jax
import jax.numpy as jnp
import keras
import torch
from flax import linen, nnx

carry = (jnp.zeros((1, 4)), jnp.zeros((1, 4)))
starts = {
    "nnx.GRUCell": lambda dtype: nnx.GRUCell(3, 4, param_dtype=dtype, rngs=nnx.Rngs(0)),
    "nnx.OptimizedLSTMCell": lambda dtype: nnx.OptimizedLSTMCell(3, 4, param_dtype=dtype, rngs=nnx.Rngs(0)),
    "nnx.SimpleCell": lambda dtype: nnx.SimpleCell(3, 4, param_dtype=dtype, rngs=nnx.Rngs(0)),
    "nnx.LSTMCell": lambda dtype: nnx.LSTMCell(3, 4, param_dtype=dtype, rngs=nnx.Rngs(0)),
    "linen.LSTMCell": lambda dtype: linen.LSTMCell(4, param_dtype=dtype).init(jax.random.key(0), carry, jnp.zeros((1, 3))),
    "keras LSTM": lambda dtype: keras.layers.LSTM(4, dtype=jnp.dtype(dtype).name)(jnp.ones((1, 2, 3))),
}
for dtype in (jnp.bfloat16, jnp.float16):
    for name, start in starts.items():
        try:
            start(dtype)
            made = True
        except NotImplementedError:
            made = False
        print(f"{name}, {dtype.__name__}: {'made' if made else 'NotImplementedError'}")
        assert made == (name == "nnx.LSTMCell")
for dtype in (torch.bfloat16, torch.float16):
    torch.nn.LSTM(3, 4, dtype=dtype), torch.nn.GRU(3, 4, dtype=dtype)
PYTHON
