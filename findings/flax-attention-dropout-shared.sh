#!/usr/bin/env bash
# Flax 0.12.8: nnx.MultiHeadAttention drops attention weights by one mask that all heads and all sequences of a batch
# share, unless broadcast_dropout=False is given. torch.nn.MultiheadAttention draws one for each head and sequence.
# Seen: 3 sequences, 4 heads, rate 0.5: 1 different mask of 12 by default, 12 of 12 with broadcast_dropout=False.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 flax==0.12.8 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import inspect

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

SEQUENCES, HEADS, TIME = 3, 4, 8
# With one-hot values what comes out of a head is its row of attention weights, so that zeros show what was dropped.
ones = jnp.zeros((SEQUENCES, TIME, HEADS, TIME))
values = jnp.broadcast_to(jnp.eye(TIME)[None, :, None], (SEQUENCES, TIME, HEADS, TIME))


def masks(**given):
    layer = nnx.MultiHeadAttention(HEADS, 4 * TIME, dropout_rate=0.5, rngs=nnx.Rngs(0), deterministic=False, **given)
    weights = nnx.dot_product_attention(
        ones, ones, values, broadcast_dropout=layer.broadcast_dropout, dropout_rate=layer.dropout_rate,
        dropout_rng=jax.random.key(1), deterministic=False,
    )
    dropped = np.asarray(weights == 0).transpose(0, 2, 1, 3).reshape(SEQUENCES * HEADS, -1)
    assert 0.3 < dropped.mean() < 0.7
    return len(np.unique(dropped, axis=0))


found = masks(), masks(broadcast_dropout=False)
print(f"different masks of {SEQUENCES * HEADS}: {found[0]} by default, {found[1]} with broadcast_dropout=False")
assert inspect.signature(nnx.MultiHeadAttention.__init__).parameters["broadcast_dropout"].default is True
assert found == (1, SEQUENCES * HEADS)
PYTHON
