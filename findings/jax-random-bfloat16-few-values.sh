#!/usr/bin/env bash
# JAX 0.10.2: random numbers of bfloat16 are drawn from 128 values (float16: 1,024). normal() never leaves -2.9 to 2.6,
# where torch 2.13.0's randn in bfloat16 has thousands of values and its tails; uniform() and truncated_normal() are off
# in the mean, and so is whatever is initialized with param_dtype=bfloat16.
# Seen, of a million: jax 128 values from -2.89 to 2.52, torch over 3,000 from below -4.5 to above 4.5; the mean of uniform
# 0.4963, of truncated_normal -0.0153. Drawn in float32 and rounded, both are right.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 jax==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
import torch

COUNT = 1_000_000
key = jax.random.key(0)


def seen(name, values):
    values = np.asarray(values, np.float64)
    print(f"{name}: {len(np.unique(values))} values, {values.min():.4g} to {values.max():.4g}, mean {values.mean():.4g}")
    return values


wide = lambda array: array.astype(jnp.float32)
theirs = seen("torch.randn, bfloat16", torch.randn(COUNT, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(0)).float())
normal = seen("jax.random.normal, bfloat16", wide(jax.random.normal(key, (COUNT,), jnp.bfloat16)))
rounded = seen("the same in float32, rounded", wide(jax.random.normal(key, (COUNT,), jnp.float32).astype(jnp.bfloat16)))
half = seen("jax.random.normal, float16", wide(jax.random.normal(key, (COUNT,), jnp.float16)))
uniform = seen("jax.random.uniform, bfloat16", wide(jax.random.uniform(key, (COUNT,), jnp.bfloat16)))
truncated = seen("jax.random.truncated_normal, bfloat16", wide(jax.random.truncated_normal(key, -2, 2, (COUNT,), jnp.bfloat16)))
assert len(np.unique(normal)) == 128 and len(np.unique(half)) == 1024
assert abs(normal).max() < 3 and abs(theirs).max() > 4.5 and abs(rounded).max() > 4.5
assert len(np.unique(theirs)) > 3000 and len(np.unique(rounded)) > 3000
assert abs(uniform.mean() - 0.5) > 0.003 and truncated.mean() < -0.01
PYTHON
