#!/usr/bin/env bash
# torch 2.13.0, nn.TransformerEncoderLayer on a CPU: given nn.GELU("tanh") it trains with the tanh approximation, and in
# eval mode without gradients, where it takes its fast path, computes the exact GELU by erf. A function,
# partial(gelu, approximate="tanh"), keeps it off that path, and both modes are the same.
# Seen: 1.4e-04 and 6.7e-16 of difference.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
from functools import partial

import torch
from torch import nn


def difference(activation):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(
        8, 2, 16, dropout=0.0, activation=activation, batch_first=True, dtype=torch.float64
    )
    inputs = torch.randn(2, 3, 8, dtype=torch.float64)
    trained = layer.train()(inputs)
    with torch.inference_mode():
        evaluated = layer.eval()(inputs)
    return float((trained - evaluated).abs().max())


module = difference(nn.GELU("tanh"))
function = difference(partial(nn.functional.gelu, approximate="tanh"))
print(f"train and eval mode differ by {module:.1e} with the module, {function:.1e} with the function")
assert module > 1e-6 and function < 1e-12
PYTHON
