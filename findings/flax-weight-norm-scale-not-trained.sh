#!/usr/bin/env bash
# flax 0.12.8 (jax 0.10.2, optax 0.2.8) nnx.WeightNorm with its default use_scale=True: the scale, torch's g in
# weight_norm, is a bare array and no nnx.Param. nnx.Optimizer(..., wrt=nnx.Param) and nnx.grad leave it out, so that it
# stays 1 however long the model is trained; nnx.state(model, nnx.Param) does not have it, and what is saved of that loses
# it. linen's WeightNorm has it among its "params".
# Seen: leaves of kind Param: kernel and bias of the layer alone; the scale after 20 steps of SGD: all 1; linen: kernel,
# bias and the scale.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 flax==0.12.8 optax==0.2.8 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import optax
from flax import linen, nnx

model = nnx.WeightNorm(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
trained = [".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))]
print("Param:", trained)
assert sorted(trained) == ["layer_instance.bias", "layer_instance.kernel"]
(scale,) = model.scales.values()
print("the scale is a", type(scale).__name__, "of shape", scale.shape)
assert not isinstance(scale, nnx.Variable)

x = jax.random.normal(jax.random.key(2), (8, 3))
optimizer = nnx.Optimizer(model, optax.sgd(0.5), wrt=nnx.Param)
for _ in range(20):
    # The outputs should be 10 times as large as a normalized matrix gives them.
    gradient = nnx.grad(lambda m: ((m(x) - 10 * x[:, :2]) ** 2).mean())(model)
    optimizer.update(model, gradient)
(scale,) = model.scales.values()
print("the scale after 20 steps:", scale)
assert (scale == 1).all()

wrapped = linen.WeightNorm(linen.Dense(2))
names = {path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(wrapped.init(jax.random.key(0), x)["params"])}
print("linen:", sorted(names))
assert any("scale" in name for name in names) and len(names) == 3
PYTHON
