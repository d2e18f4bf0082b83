#!/usr/bin/env bash
# JAX 0.10.2 on 4 CPU devices: inside jax.shard_map with its default check_vma=True, the gradient by a parameter that is
# the same on all devices is summed over them already, so that pmean of it, the usual line of data parallelism, is the
# sum and not the mean. Adam hides the factor; SGD and clipping by norm do not. With pcast to varying first it is the mean.
# Seen: 4.0 times the gradient of the mean loss on one device; 1.0 after jax.lax.pcast(..., to="varying").
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=4 "$folder/venv/bin/python" - <<'PYTHON'
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec as P

mesh = Mesh(np.array(jax.devices()), ("data",))
inputs, weight = jnp.arange(16.0).reshape(8, 2) / 10, jnp.array([0.3, -0.2])


def loss(weight, inputs):
    return jnp.mean((inputs @ weight) ** 2)


@jax.jit
@partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
def plain(weight, inputs):
    return jax.lax.pmean(jax.grad(loss)(weight, inputs), "data")


@jax.jit
@partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
def cast(weight, inputs):
    own = jax.lax.pcast(weight, "data", to="varying")
    return jax.lax.pmean(jax.grad(loss)(own, inputs), "data")


expected = jax.grad(loss)(weight, inputs)
ratios = [np.asarray(f(weight, inputs) / expected) for f in (plain, cast)]
print(f"{len(jax.devices())} devices; times the true gradient: plain {ratios[0]}, cast to varying {ratios[1]}")
assert len(jax.devices()) == 4
np.testing.assert_allclose(ratios[0], 4, rtol=1e-5)
np.testing.assert_allclose(ratios[1], 1, rtol=1e-5)
PYTHON
