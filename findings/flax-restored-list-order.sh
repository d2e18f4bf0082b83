#!/usr/bin/env bash
# Flax 0.12.8: a list of more than ten layers that went through flax.serialization without a target is a dictionary whose
# names are "0", "1", "10", "11", "2": jax.tree.leaves gives layer 10 where layer 2 was. Layers of one shape are
# exchanged without an error where leaves are put back by position.
# Seen, twelve layers: leaves of 0 1 10 11 2 3 4 5 6 7 8 9.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 flax==0.12.8 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import numpy as np
from flax import serialization

layers = [np.full(2, float(number)) for number in range(12)]
restored = serialization.msgpack_restore(serialization.to_bytes(layers))
order = [int(leaf[0]) for leaf in jax.tree.leaves(restored)]
print("leaves of the list:    ", [int(leaf[0]) for leaf in jax.tree.leaves(layers)])
print("leaves of what is read:", order)
assert order == [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]
back = jax.tree.unflatten(jax.tree.structure(layers), jax.tree.leaves(restored))
print("layer 2 by position:", back[2], "by name:", serialization.from_state_dict(layers, restored)[2])
assert back[2][0] == 10 and serialization.from_state_dict(layers, restored)[2][0] == 2
PYTHON
