#!/usr/bin/env bash
# flax 0.12.8 (jax 0.10.2) nnx.Module.sow with a name that is also an attribute of the module, as an intermediate that is
# named after the layer it comes from: inside of nnx.capture it is recorded and the layer stays; the same call of the same
# module outside raises ValueError, where another name only warns.
# Seen: captured ['query'], the layer is still a Linear; outside "Expected 'query' to be a Variable, got Linear"; another
# name: a DeprecationWarning, and two values after two calls.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 flax==0.12.8 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import warnings

import jax.numpy as jnp
from flax import nnx


class Projection(nnx.Module):
    def __init__(self, name, *, rngs):
        self.name = name
        self.query = nnx.Linear(2, 2, rngs=rngs)

    def __call__(self, x):
        y = self.query(x)
        self.sow(nnx.Intermediate, self.name, y)
        return y


x = jnp.ones((1, 2))
module = Projection("query", rngs=nnx.Rngs(0))
_, recorded = nnx.capture(module, nnx.Intermediate)(x)
print("captured", list(recorded), type(module.query).__name__)
assert list(recorded) == ["query"] and isinstance(module.query, nnx.Linear)
try:
    module(x)
    raise SystemExit("outside of capture: nothing raised")
except ValueError as error:
    print("outside:", error)
    assert "Expected 'query' to be a Variable, got Linear" in str(error)

other = Projection("projected", rngs=nnx.Rngs(0))
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    other(x)
    other(x)
print("another name:", {w.category.__name__ for w in told}, len(other.projected))
assert {w.category for w in told} == {DeprecationWarning} and len(other.projected) == 2
PYTHON
