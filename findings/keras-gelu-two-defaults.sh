#!/usr/bin/env bash
# Keras 3.15.1 on JAX 0.10.2: `keras.ops.gelu` is the tanh approximation unless told otherwise, while
# `keras.activations.gelu`, and with it `activation="gelu"` of every layer, is the exact function.
# Seen: at -2, ops -0.0454023, activations and Dense -0.0455003.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check keras==3.15.1 jax==0.10.2 numpy==2.4.6
KERAS_HOME="$folder/keras" KERAS_BACKEND=jax JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import math

import keras
import numpy as np

x = np.array([[-2.0]], np.float32)
exact = -2 * 0.5 * math.erfc(2 / math.sqrt(2))
tanh = -2 * 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (-2 + 0.044715 * -8)))
layer = keras.layers.Dense(1, activation="gelu", kernel_initializer="ones")
found = {
    "ops.gelu": float(keras.ops.gelu(x)[0, 0]),
    "activations.gelu": float(keras.activations.gelu(x)[0, 0]),
    "Dense": float(layer(x)[0, 0]),
}
for name, value in found.items():
    print(f"{name}: {value:.7f}; exact {exact:.7f}, tanh {tanh:.7f}")
assert abs(found["ops.gelu"] - tanh) < 1e-6
assert abs(found["activations.gelu"] - exact) < 1e-6
assert abs(found["Dense"] - exact) < 1e-6
PYTHON
