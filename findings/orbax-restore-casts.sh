#!/usr/bin/env bash
# orbax-checkpoint 0.12.8: restoring into a target of another dtype casts without an error or a warning: 1.5 becomes 1
# in int32, 70,000 becomes inf in float16. So a target with the wrong dtype loses weights.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 orbax-checkpoint==0.12.8 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - "$folder/saved" <<'PYTHON'
import contextlib
import io
import logging
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

path, tree = sys.argv[1], {"a": jnp.array([1.5, -2.75]), "b": jnp.array([70000.0])}
with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(path, tree)
    checkpointer.wait_until_finished()
    target = {
        "a": jax.ShapeDtypeStruct((2,), jnp.int32),
        "b": jax.ShapeDtypeStruct((1,), jnp.float16),
    }
    logged = io.StringIO()
    logging.getLogger().addHandler(handler := logging.StreamHandler(logged))
    handler.setLevel(logging.WARNING)
    with warnings.catch_warnings(record=True) as warned, contextlib.redirect_stderr(logged):
        warnings.simplefilter("always")
        cast = checkpointer.restore(path, target)
print(f"float32 [1.5, -2.75] into int32: {cast['a']}, 70000 into float16: {cast['b']}")
print(f"warned while it restored: {[str(w.message) for w in warned]} {logged.getvalue()!r}")
assert not warned and not logged.getvalue()
assert cast["a"].tolist() == [1, -2] and np.isinf(cast["b"]).all()
PYTHON
