#!/usr/bin/env bash
# optax 0.2.8, inject_hyperparams: hyperparameters take the gradients' dtype. With bfloat16 gradients Adam's b2 of 0.999
# becomes 1.0, and every step is NaN from the first on; the same optimizer without inject_hyperparams is right.
# Seen: b1 0.8984, b2 1.0, updates NaN; without it -0.01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 optax==0.2.8 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax.numpy as jnp
import optax

parameters = {"w": jnp.ones(3, jnp.bfloat16)}
gradients = {"w": jnp.full(3, 0.5, jnp.bfloat16)}
steps = {}
for name, optimizer in {"adam": optax.adam(1e-2), "injected": optax.inject_hyperparams(optax.adam)(1e-2)}.items():
    state = optimizer.init(parameters)
    for _ in range(2):
        updates, state = optimizer.update(gradients, state, parameters)
        print(name, updates["w"])
    steps[name] = updates["w"]
print({name: float(value) for name, value in state.hyperparams.items()})
assert jnp.isnan(steps["injected"]).all() and abs(steps["adam"] + 0.01).max() < 1e-3
assert float(state.hyperparams["b2"]) == 1.0
# A dtype of one's own keeps them apart from the gradients.
optimizer = optax.inject_hyperparams(optax.adam, hyperparam_dtype=jnp.float32)(1e-2)
updates, _ = optimizer.update(gradients, optimizer.init(parameters), parameters)
print("hyperparam_dtype=float32:", updates["w"])
assert not jnp.isnan(updates["w"]).any()
PYTHON
