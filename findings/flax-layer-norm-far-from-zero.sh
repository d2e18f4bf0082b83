#!/usr/bin/env bash
# Flax 0.12.8, LayerNorm and BatchNorm (nnx and linen), and jax.nn.standardize: the variance is the mean of squares less
# the square of the mean, in float32. Features that lie far from zero lose it. Equinox 0.13.8, Haiku 0.0.17 and torch
# 2.13.0 subtract the mean first. use_fast_variance=False mends Flax; standardize has no such argument.
# Seen, eight features with a deviation of 0.1, epsilon 1e-5, largest error: around 10: 0.004 (others 1e-5); around 100:
# 0.05; around 1,000: 28, where normalized features are about 2.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 jax==0.10.2 flax==0.12.8 equinox==0.13.8 dm-haiku==0.0.17 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen, nnx

noise = 0.1 * np.random.default_rng(0).standard_normal((1, 8))
errors = {}
for mean in (0, 10, 100, 1000):
    features = (mean + noise).astype(np.float32)
    wide = features.astype(np.float64)
    exact = (wide - wide.mean()) / np.sqrt(wide.var() + 1e-5)
    x = jnp.asarray(features)
    haiku = hk.without_apply_rng(hk.transform(lambda x: hk.LayerNorm(-1, True, True)(x)))
    answers = {
        "nnx": nnx.LayerNorm(8, epsilon=1e-5, rngs=nnx.Rngs(0))(x),
        "linen": linen.LayerNorm(epsilon=1e-5).init_with_output(jax.random.key(0), x)[0],
        "standardize": jax.nn.standardize(x, epsilon=1e-5),
        "nnx, use_fast_variance=False": nnx.LayerNorm(8, epsilon=1e-5, use_fast_variance=False, rngs=nnx.Rngs(0))(x),
        "Equinox": eqx.nn.LayerNorm(8)(x[0]),
        "Haiku": haiku.apply(haiku.init(jax.random.key(0), x), x),
        "torch": torch.nn.functional.layer_norm(torch.tensor(features), (8,)).numpy(),
    }
    errors[mean] = {name: float(abs(np.asarray(answer) - exact).max()) for name, answer in answers.items()}
    print(f"mean {mean}:", {name: f"{error:.1g}" for name, error in errors[mean].items()})
for fast in ("nnx", "linen", "standardize"):
    assert errors[1000][fast] > 10 and errors[10][fast] > 1e-3
for slow in ("nnx, use_fast_variance=False", "Equinox", "Haiku", "torch"):
    assert errors[1000][slow] < 2e-3 and errors[10][slow] < 1e-4
PYTHON
