#!/usr/bin/env bash
# optax 0.2.8, rprop: the first step moves nothing, since the sign of the gradient is compared with a previous gradient
# of zero; torch 2.13.0's Rprop moves by the learning rate. The name and the defaults are the same.
# Seen: after 1 step of gradient 1 from 0 with rate 0.1: optax 0.0, torch -0.1; after 2: optax -0.1, torch -0.22.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 jax==0.10.2 optax==0.2.8 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax.numpy as jnp
import optax
import torch

weight, state = jnp.zeros(1), optax.rprop(0.1).init(jnp.zeros(1))
parameter = torch.nn.Parameter(torch.zeros(1))
optimizer = torch.optim.Rprop([parameter], lr=0.1)
rows = []
for _ in range(2):
    updates, state = optax.rprop(0.1).update(jnp.ones(1), state, weight)
    weight = optax.apply_updates(weight, updates)
    parameter.grad = torch.ones(1)
    optimizer.step()
    rows.append((float(weight[0]), parameter.item()))
    print(f"step {len(rows)}: optax {rows[-1][0]:.4g}, torch {rows[-1][1]:.4g}")
assert rows[0][0] == 0 and abs(rows[0][1] + 0.1) < 1e-6
assert abs(rows[1][0] + 0.1) < 1e-6 and abs(rows[1][1] + 0.22) < 1e-6
PYTHON
