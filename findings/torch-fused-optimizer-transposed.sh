#!/usr/bin/env bash
# torch 2.13.0, CPU: a fused optimizer walks parameter, gradient and moments through memory as if all had one layout.
# A parameter made from a transposed view (kernel.T, the usual line of a port) with a gradient in C order steps wrongly:
# each element moves by another element's gradient. The unfused optimizer is right, and so is kernel.T.contiguous().
# Seen: with rate 1, SGD is off by up to 2.45, Adam and AdamW by 2; unfused, and contiguous: 0.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch


def off(kind, fused, contiguous, **options):
    torch.manual_seed(0)
    kernel, gradient = torch.randn(3, 4), torch.randn(4, 3)
    weight = kernel.T.contiguous() if contiguous else kernel.T
    parameter = torch.nn.Parameter(weight.clone(memory_format=torch.preserve_format))
    reference = torch.nn.Parameter(weight.contiguous().clone())
    parameter.grad, reference.grad = gradient.clone(), gradient.clone()
    kind([parameter], fused=fused, **options).step()
    kind([reference], fused=False, **options).step()
    return (parameter - reference).abs().max().item()


for kind, options in ((torch.optim.SGD, {"lr": 1.0}), (torch.optim.Adam, {"lr": 1.0}), (torch.optim.AdamW, {"lr": 1.0})):
    wrong, plain, copied = off(kind, True, False, **options), off(kind, False, False, **options), off(kind, True, True, **options)
    print(f"{kind.__name__}: fused {wrong:.3g}, not fused {plain:.3g}, fused and contiguous {copied:.3g}")
    assert wrong > 0.1 and plain < 1e-5 and copied < 1e-5
PYTHON
