#!/usr/bin/env bash
# optax 0.2.8, global_norm of many leaves in bfloat16: the squares are added up in bfloat16, where 256 + 1 is 256, so
# that the norm of 3,000 leaves of 1 is 16 instead of 54.8; in float16 one element of 300 is infinite, and
# clip_by_global_norm makes the gradient zero. torch 2.13.0's get_total_norm is right in both.
# Seen: optax 16.0 and inf (clipped to 0.0), torch 54.75 and 300.0.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 jax==0.10.2 optax==0.2.8 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax.numpy as jnp
import optax
import torch

many = float(optax.global_norm([jnp.ones(1, jnp.bfloat16)] * 3000))
large = [jnp.full(1, 300.0, jnp.float16)]
infinite = float(optax.global_norm(large))
clip = optax.clip_by_global_norm(1.0)
clipped, _ = clip.update(large, clip.init(large))
norm = torch.nn.utils.get_total_norm
theirs = float(norm([torch.ones(1, dtype=torch.bfloat16)] * 3000)), float(norm([torch.full((1,), 300.0).half()]))
print(f"optax {many} and {infinite}, clipped to {float(clipped[0][0])}; torch {theirs[0]} and {theirs[1]}")
assert many == 16 and infinite == float("inf") and float(clipped[0][0]) == 0
assert abs(theirs[0] - 54.77) < 0.5 and theirs[1] == 300
PYTHON
