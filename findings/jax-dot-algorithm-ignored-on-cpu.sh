#!/usr/bin/env bash
# jax 0.10.2, CPU: a product that asks for jax.lax.DotAlgorithmPreset.BF16_BF16_F32 (operands rounded to bfloat16, sums in
# float32) is computed in full float32, under jit and without an error or a warning: what is developed on a CPU has other
# numbers where the preset is followed.
# Seen: the largest difference from float32 with the preset: 0; with the operands rounded by hand: about 0.02.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W error - <<'PYTHON'
from functools import partial

import jax
import jax.numpy as jnp
from jax.lax import DotAlgorithmPreset

a, b = (jax.random.normal(jax.random.key(seed), (8, 8)) for seed in (0, 1))


@partial(jax.jit, static_argnums=2)
def product(a, b, algorithm):
    return jnp.dot(a, b, precision=algorithm)


full = product(a, b, DotAlgorithmPreset.F32_F32_F32)
asked = product(a, b, DotAlgorithmPreset.BF16_BF16_F32)
by_hand = product(*(x.astype(jnp.bfloat16).astype(jnp.float32) for x in (a, b)), DotAlgorithmPreset.F32_F32_F32)
print("asked for", float(abs(asked - full).max()), "by hand", float(abs(by_hand - full).max()))
assert (asked == full).all() and abs(by_hand - full).max() > 1e-3
PYTHON
