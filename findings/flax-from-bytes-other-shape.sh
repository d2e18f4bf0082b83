#!/usr/bin/env bash
# Flax 0.12.8: `flax.serialization.from_bytes(target, bytes)` compares names with the target's, neither shapes nor dtypes:
# arrays of the file's shape come back in place of the target's, without an error.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 flax==0.12.8 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import warnings

import jax.numpy as jnp
from flax import serialization

held = serialization.to_bytes({"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)})
target = {"kernel": jnp.zeros((5, 7)), "bias": jnp.zeros(9, jnp.int32)}
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    restored = serialization.from_bytes(target, held)
for name in target:
    print(f"{name}: asked for {target[name].shape} {target[name].dtype}, got {restored[name].shape} {restored[name].dtype}")
assert not warned
assert restored["kernel"].shape == (2, 3) and restored["bias"].dtype == "float32"
try:
    serialization.from_bytes({"other": target["bias"]}, held)
except ValueError as error:
    print(f"another name is refused: {str(error).splitlines()[0][:70]}")
else:
    raise AssertionError("names are not compared either")
PYTHON
