#!/usr/bin/env bash
# JAX 0.10.2 and torch 2.13.0 give other gradients where a function has a corner: jnp.linalg.norm and jnp.std at a vector
# of zeros (or of equal values) give NaN, torch 0; jnp.clip at a bound gives 0.5, torch 1; optax 0.2.8's cosine_similarity
# of a zero vector is NaN itself, torch's 0. Values agree otherwise, so that a forward comparison sees nothing.
# Seen: as above. A padded row or a weight that starts at zero is such a place.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 jax==0.10.2 optax==0.2.8 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

cases = {
    "norm": (jnp.linalg.norm, torch.linalg.vector_norm, [0.0, 0.0]),
    "std": (jnp.std, lambda x: torch.std(x, correction=0), [1.0, 1.0]),
    "clip": (lambda x: jnp.clip(x, 0, 1).sum(), lambda x: x.clamp(0, 1).sum(), [0.0, 1.0]),
    "cosine": (
        lambda x: optax.cosine_similarity(x, jnp.ones(2)),
        lambda x: torch.nn.functional.cosine_similarity(x, torch.ones(2), dim=0),
        [0.0, 0.0],
    ),
}
seen = {}
for name, (in_jax, in_torch, point) in cases.items():
    value, gradient = jax.value_and_grad(in_jax)(jnp.array(point))
    x = torch.tensor(point, requires_grad=True)
    theirs = in_torch(x)
    theirs.backward()
    seen[name] = np.asarray(gradient), x.grad.numpy()
    print(f"{name} at {point}: JAX {float(value):g}, gradient {gradient}; torch {theirs.item():g}, gradient {x.grad.numpy()}")
for name in ("norm", "std"):
    assert np.isnan(seen[name][0]).all() and (seen[name][1] == 0).all()
assert (seen["clip"][0] == 0.5).all() and (seen["clip"][1] == 1).all()
assert np.isnan(seen["cosine"][0]).all() and np.isfinite(seen["cosine"][1]).all()
PYTHON
