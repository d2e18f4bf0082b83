#!/usr/bin/env bash
# Keras 3.15.1: .weights.h5 is loaded by the layers' position among those of one class, never by their names, which the
# file has as an attribute. A model whose layers were renamed, or made in another order, takes the other layer's weights
# without a word where the shapes agree.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check keras==3.15.1 h5py==3.16.0 numpy==2.4.6 jax==0.10.2
KERAS_BACKEND=numpy "$folder/venv/bin/python" -W ignore - "$folder/w.weights.h5" <<'PYTHON'
import sys
import warnings

import h5py
import keras
import numpy as np


def chain(first, second):
    x = keras.Input((2,))
    layers = [keras.layers.Dense(2, name=name) for name in (first, second)]
    return keras.Model(x, layers[1](layers[0](x)))


saved, loaded = chain("encoder", "decoder"), chain("decoder", "encoder")
saved.save_weights(sys.argv[1])
with warnings.catch_warnings(record=True) as warned:
    loaded.load_weights(sys.argv[1])
with h5py.File(sys.argv[1]) as file:
    stored = {name: file[f"layers/{name}/vars"].attrs["name"] for name in file["layers"] if "dense" in name}
kernel = {which: np.asarray(model.get_layer("encoder").kernel) for which, model in (("saved", saved), ("loaded", loaded))}
same = np.array_equal(kernel["saved"], kernel["loaded"])
print(f"the file: {stored}; 'encoder' has its own kernel after loading: {same}; warnings: {len(warned)}")
assert stored == {"dense": "encoder", "dense_1": "decoder"}
assert not same
assert np.array_equal(kernel["loaded"], np.asarray(saved.get_layer("decoder").kernel))
PYTHON
