#!/usr/bin/env bash
# torch 2.13.0, nn.MultiheadAttention on a CPU: a query whose keys are all masked (bool) gives NaN with
# need_weights=True, the default, and the output projection's bias with need_weights=False. In the former case the
# gradients of a loss that leaves that query out are NaN too.
# Seen: rows nan and 1.0 (the bias); finite gradients False and True.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch

torch.manual_seed(0)
layer = torch.nn.MultiheadAttention(4, 2, batch_first=True)
torch.nn.init.ones_(layer.out_proj.bias)
inputs = torch.randn(1, 3, 4)
mask = torch.zeros(3, 3, dtype=torch.bool)
mask[0] = True
rows, finite = {}, {}
for need_weights in (True, False):
    layer.zero_grad()
    output, _ = layer(inputs, inputs, inputs, attn_mask=mask, need_weights=need_weights)
    output[0, 1:].sum().backward()
    rows[need_weights] = output[0, 0].detach()
    finite[need_weights] = bool(layer.in_proj_weight.grad.isfinite().all())
    print(f"need_weights={need_weights}: the masked query gives {rows[need_weights].tolist()}, "
          f"gradients of the other queries are finite: {finite[need_weights]}")
assert rows[True].isnan().all() and not finite[True]
assert (rows[False] == 1).all() and finite[False]
PYTHON
