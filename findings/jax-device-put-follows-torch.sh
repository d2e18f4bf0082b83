#!/usr/bin/env bash
# JAX 0.10.2 on a CPU: jax.device_put of a torch tensor's numpy() and jax.dlpack.from_dlpack share the tensor's memory.
# When torch trains on, in place, the JAX arrays change with it, and a comparison of the two finds nothing. jnp.asarray
# and jnp.array copied here.
# Seen: after one step of SGD the array of device_put has moved by 1.0 with torch's weight, that of jnp.asarray by 0.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 jax==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
import torch

layer = torch.nn.Linear(256, 256)
arrays = {
    "jax.device_put(numpy())": jax.device_put(layer.weight.detach().numpy()),
    "jax.dlpack.from_dlpack": jax.dlpack.from_dlpack(layer.weight.detach()),
    "jnp.array(numpy())": jnp.array(layer.weight.detach().numpy()),
}
before = {name: np.array(array) for name, array in arrays.items()}
optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
layer.weight.sum().backward()
optimizer.step()
moved = {name: float(abs(np.array(array) - before[name]).max()) for name, array in arrays.items()}
print(moved)
assert moved["jax.device_put(numpy())"] > 0.99 and moved["jax.dlpack.from_dlpack"] > 0.99
assert moved["jnp.array(numpy())"] == 0
PYTHON
