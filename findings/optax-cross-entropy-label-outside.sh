#!/usr/bin/env bash
# optax 0.2.8, softmax_cross_entropy_with_integer_labels: a label of -1 counts as the last class, without a word; -100,
# the label that torch ignores by default, gives NaN, as does any other label outside of the classes. torch 2.13.0 leaves
# -100 out and raises for the others.
# Seen, five classes: the loss of label -1 is that of label 4; labels -100, -6, 5 and 7 give NaN.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 jax==0.10.2 optax==0.2.8 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax.numpy as jnp
import numpy as np
import optax
import torch

logits = np.arange(5, dtype=np.float32)[None]
loss = {label: float(optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits), jnp.array([label]))[0])
        for label in (4, -1, -100, -6, 5, 7)}
print("optax:", loss)
assert loss[-1] == loss[4] and all(np.isnan(loss[label]) for label in (-100, -6, 5, 7))
print("torch:", torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor([-100]), reduction="none").tolist())
for label in (-1, 5):
    try:
        torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor([label]))
        raise AssertionError("torch took the label")
    except IndexError as error:
        print(f"torch, label {label}: {error}")
PYTHON
