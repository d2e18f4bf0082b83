#!/usr/bin/env bash
# torch 2.13.0, optim.Muon: the step is orthogonalized in bfloat16 whatever the dtype of parameters and gradients. A
# float64 parameter moves by numbers of bfloat16, 2 % of the largest away from the same iteration in float64 (optax
# 0.2.8 keeps the parameters' dtype).
# Seen: every element of the step is a bfloat16 number; the largest difference is 0.013 where the largest step is 0.65.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch

torch.manual_seed(0)
gradient = torch.randn(8, 8, dtype=torch.float64)
parameter = torch.nn.Parameter(torch.zeros(8, 8, dtype=torch.float64))
optimizer = torch.optim.Muon([parameter], lr=1.0, weight_decay=0.0)
parameter.grad = gradient.clone()
optimizer.step()
step = -parameter.detach()
# Of the first step the direction is the gradient's, whatever the momentum.
exact = gradient / gradient.norm()
a, b, c = 3.4445, -4.775, 2.0315
for _ in range(5):
    square = exact @ exact.T
    exact = a * exact + (b * square + c * square @ square) @ exact
rounded = bool((step == step.bfloat16().double()).all())
difference = float((step - exact).abs().max())
print(f"numbers of bfloat16: {rounded}; from float64: {difference:.2g} of {float(step.abs().max()):.2g}")
assert parameter.dtype == torch.float64 and rounded
assert 1e-3 < difference < 0.1
PYTHON
