#!/usr/bin/env bash
# Keras 3.15.1 on JAX 0.10.2, with floatx float64 and JAX's x64 on: SimpleRNN raises on its first call, since its state
# comes out of a step in float32; GRU and LSTM give float64.
# Seen: "scan body function carry input and carry output must have equal types"; float64 of the other two.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check keras==3.15.1 jax==0.10.2 numpy==2.4.6
KERAS_BACKEND=jax JAX_PLATFORMS=cpu JAX_ENABLE_X64=1 "$folder/venv/bin/python" - <<'PYTHON'
import keras
import numpy as np

keras.config.set_floatx("float64")
inputs = np.ones((1, 3, 2))
for layer in (keras.layers.GRU(4), keras.layers.LSTM(4)):
    output = layer(inputs)
    print(f"{type(layer).__name__}: {output.dtype}")
    assert str(output.dtype) == "float64"
try:
    keras.layers.SimpleRNN(4)(inputs)
except TypeError as error:
    print("SimpleRNN:", next(line for line in str(error).splitlines() if "carry" in line))
    assert "float32" in str(error) and "float64" in str(error)
else:
    raise SystemExit("SimpleRNN gave an output")
PYTHON
