#!/usr/bin/env bash
# optax 0.2.8, amsgrad: keeps the largest of the bias-corrected second moments; torch 2.13.0's Adam(amsgrad=True) keeps
# the largest of the moments as they are, and corrects it afterwards. The first corrected moment is the first squared
# gradient whole, so that optax's steps stay small after a large first gradient. No argument makes them equal.
# Seen: gradients 1, 0.1, 0.1, ... and a rate of 0.1, after 20 steps: optax -0.46, torch -1.1.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 jax==0.10.2 optax==0.2.8 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax.numpy as jnp
import optax
import torch

weight, optimizer = jnp.zeros(1), optax.amsgrad(0.1)
state = optimizer.init(weight)
parameter = torch.nn.Parameter(torch.zeros(1))
theirs = torch.optim.Adam([parameter], lr=0.1, amsgrad=True)
for step in range(20):
    gradient = 1.0 if step == 0 else 0.1
    updates, state = optimizer.update(jnp.full(1, gradient), state, weight)
    weight = optax.apply_updates(weight, updates)
    parameter.grad = torch.full((1,), gradient)
    theirs.step()
    if step in (0, 1, 19):
        print(f"step {step + 1}: optax {float(weight[0]):.4g}, torch {parameter.item():.4g}")
    if step == 0:
        assert abs(float(weight[0]) - parameter.item()) < 1e-5
assert abs(float(weight[0]) - parameter.item()) > 0.3
PYTHON
