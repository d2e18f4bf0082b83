#!/usr/bin/env bash
# optax 0.2.8 reduce_on_plateau and torch 2.13.0 ReduceLROnPlateau, both with factor 0.5 and patience 2, on a loss that
# never improves: optax halves when `patience` calls brought no improvement, torch when more than `patience` did.
# Seen: of 8 calls, optax halves at 3, 5, 7 (the first call sets the best value), torch at 4 and 7.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 jax==0.10.2 optax==0.2.8 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax.numpy as jnp
import optax
import torch
from optax.contrib import reduce_on_plateau

plateau = reduce_on_plateau(factor=0.5, patience=2)
state, scales = plateau.init(jnp.zeros(1)), []
optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
scheduler, rates = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2), []
for _ in range(8):
    _, state = plateau.update(jnp.ones(1), state, value=1.0)
    scheduler.step(1.0)
    scales.append(float(state.scale))
    rates.append(optimizer.param_groups[0]["lr"])
halved = [[i + 1 for i, now in enumerate(s) if now < ([1.0, *s])[i]] for s in (scales, rates)]
print(f"halved at call: optax {halved[0]}, torch {halved[1]}")
assert halved[0] == [3, 5, 7] and halved[1] == [4, 7]
PYTHON
