#!/usr/bin/env bash
# Flax 0.12.8, nnx.update: a name that the module does not have becomes a new attribute, and a parameter takes any shape
# and dtype, without a word; the module runs on with what it had. linen 0.12.8 raises for a wrong shape.
# Seen: "kernl" leaves the kernel as it was; a bias of shape (1,) is broadcast; float64 and int32 arrays stay what they are.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 flax==0.12.8 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

x = jnp.ones((3, 2))


def updated(values):
    module = nnx.Linear(2, 4, rngs=nnx.Rngs(0))
    before = module(x)
    nnx.update(module, values)
    print({name: str(value.shape) for name, value in values.items()}, "->", {name: value.shape for name, value in nnx.to_pure_dict(nnx.state(module)).items()})
    return module, np.array_equal(before, module(x))


module, same = updated({"kernl": jnp.zeros((2, 4))})
assert same and hasattr(module, "kernl")
module, same = updated({"bias": jnp.ones(1)})
assert module(x).shape == (3, 4) and module.bias.shape == (1,) and not same
module = nnx.Linear(2, 4, rngs=nnx.Rngs(0))
nnx.update(module, {"kernel": jnp.zeros((5, 7))})
assert module.kernel.shape == (5, 7)
nnx.update(module, {"kernel": np.zeros((2, 4)), "bias": jnp.zeros(4, jnp.int32)})
print("dtypes:", module.kernel.dtype, module.bias.dtype)
assert module.kernel.dtype == np.float64 and module.bias.dtype == jnp.int32
try:
    linen.Dense(4).apply({"params": {"kernel": jnp.zeros((2, 4)), "bias": jnp.zeros(1)}}, x)
    raise AssertionError("linen took the shape")
except Exception as error:
    print("linen:", type(error).__name__)
    assert type(error).__name__ == "ScopeParamShapeError"
PYTHON
