#!/usr/bin/env bash
# jax 0.10.2, two CPU devices: under jit, an array that is put together with jnp.concatenate and then written to with
# .at[...].set, and whose result is to be sharded over the devices (out_shardings, or with_sharding_constraint), has wrong
# values where nothing was written. The same function without a sharding is right, and so are both operations alone.
# Seen: for x = [10, 11, 12], concatenate([x, x[-1:]]).at[-1:].set(-100) gives [10, 12, 12, -100] sharded and
# [10, 11, 12, -100] otherwise; concatenate alone, sharded, is [10, 11, 12, 12]; set alone is right too.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

jax.config.update("jax_num_cpu_devices", 2)
mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
halves = NamedSharding(mesh, P("d"))
x = jnp.array([10.0, 11.0, 12.0])


def longer(x):
    return jnp.concatenate([x, x[-1:]])


def marked(x):
    return longer(x).at[-1:].set(-100)


right = [10.0, 11.0, 12.0, -100.0]
alone = jax.jit(marked)(x).tolist()
sharded = jax.jit(marked, out_shardings=halves)(x).tolist()
held = jax.jit(lambda x: jax.lax.with_sharding_constraint(marked(x), halves))(x).tolist()
print("without a sharding", alone, "out_shardings", sharded, "with_sharding_constraint", held)
assert alone == right and sharded == held == [10.0, 12.0, 12.0, -100.0]

joined = jax.jit(longer, out_shardings=halves)(x).tolist()
written = jax.jit(lambda y: y.at[-1:].set(-100), out_shardings=halves)(longer(x)).tolist()
print("concatenate alone", joined, "set alone", written)
assert joined == [10.0, 11.0, 12.0, 12.0] and written == right
PYTHON
