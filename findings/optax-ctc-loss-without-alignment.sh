#!/usr/bin/env bash
# optax 0.2.8, ctc_loss: where no alignment fits (more labels than frames), the loss is near 100,000, a number like any
# other, and zero_infinity has no counterpart; torch 2.13.0 gives inf. A mean over the batch hides what is wrong.
# Seen, three frames and four labels: optax 100,000.8, torch inf; optax's gradient is finite and not zero.
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

logits = np.random.default_rng(0).standard_normal((1, 3, 4)).astype(np.float32)
labels = np.array([[1, 1, 1, 2]])
loss = lambda values: optax.ctc_loss(values, jnp.zeros((1, 3)), jnp.asarray(labels), jnp.zeros((1, 4)))[0]
ours, gradient = jax.value_and_grad(loss)(jnp.asarray(logits))
theirs = torch.nn.functional.ctc_loss(
    torch.tensor(logits).log_softmax(-1).transpose(0, 1), torch.tensor(labels), torch.tensor([3]), torch.tensor([4]), reduction="none"
)
print(f"optax {float(ours):.1f}, torch {theirs.item()}, largest of optax's gradient {float(abs(gradient).max()):.3g}")
assert np.isfinite(ours) and ours > 99_000 and torch.isinf(theirs).all()
assert jnp.isfinite(gradient).all() and abs(gradient).max() > 1e-3
fits = np.array([[1, 2, 0, 0]])
short = jnp.array([[0.0, 0.0, 1.0, 1.0]])
both = float(optax.ctc_loss(jnp.asarray(logits), jnp.zeros((1, 3)), jnp.asarray(fits), short)[0]), torch.nn.functional.ctc_loss(
    torch.tensor(logits).log_softmax(-1).transpose(0, 1), torch.tensor(fits), torch.tensor([3]), torch.tensor([2]), reduction="none"
).item()
print("labels that fit:", both)
assert abs(both[0] - both[1]) < 1e-4
PYTHON
