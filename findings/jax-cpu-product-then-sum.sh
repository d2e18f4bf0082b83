#!/usr/bin/env bash
# JAX 0.10.2, CPU: under jit, a 3x3 product for each row and the sum of its squares are wrong from 32,769 rows in
# float32 (16,385 in float64), without an error or a warning; the gradient is right. JAX 0.10.1 and 0.12 are right, and
# so is 0.10.2 with one compiler option. Public: https://github.com/jax-ml/jax/issues/39103
# Seen: largest relative error 0.082 (float32) and 0.24 (float64); with the option below 1e-6.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
OPTION = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}


def squares(matrix, rows):
    return jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2))(rows)


def worst(dtype, count, options=None):
    random = np.random.default_rng(0)
    matrix, rows = (random.standard_normal(shape).astype(dtype) for shape in ((3, 3), (count, 3)))
    found = np.asarray(jax.jit(squares, compiler_options=options)(matrix, rows), np.float64)
    expected = ((rows.astype(np.float64) @ matrix.T.astype(np.float64)) ** 2).sum(1)
    return np.abs(found - expected).max() / expected.max()


for dtype, count in (("float32", 32769), ("float64", 16385)):
    wrong, below, mended = worst(dtype, count), worst(dtype, count // 4), worst(dtype, count, OPTION)
    print(f"{dtype}: {count} rows {wrong:.2g}, {count // 4} rows {below:.2g}, {count} rows with the option {mended:.2g}")
    assert wrong > 1e-3 and below < 1e-5 and mended < 1e-5
PYTHON
