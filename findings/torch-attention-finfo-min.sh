#!/usr/bin/env bash
# torch 2.13.0, CPU: scaled_dot_product_attention with an additive mask. Where all keys of a query are masked with
# finfo.min, or -1e9, the weights are uniform and the output is right, but the gradient by the values is too large by
# the number of keys. The same formula written out, and a mask that leaves a key, are right.
# Seen: for 3, 16 and 100 keys the gradient is 3, 16 and 100 times that of softmax(q k^T / sqrt(d) + mask) v.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch.nn.functional import scaled_dot_product_attention


def written_out(q, k, v, mask):
    return torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + mask, -1) @ v


def gradient(attend, keys, low, masked):
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 1, n, 8, requires_grad=True) for n in (2, keys, keys))
    mask = torch.zeros(1, 1, 2, keys)
    mask[..., :masked] = low
    output = attend(q, k, v, mask)
    output.sum().backward()
    return output.detach(), v.grad


for low in (torch.finfo(torch.float32).min, -1e9):
    for keys in (3, 16, 100):
        ratios = []
        for masked in (keys, keys - 1):
            out, found = gradient(scaled_dot_product_attention, keys, low, masked)
            reference, expected = gradient(written_out, keys, low, masked)
            assert torch.allclose(out, reference, atol=1e-5)
            ratios.append((found.norm() / expected.norm()).item())
        print(f"mask {low:.2g}, {keys} keys: gradient {ratios[0]:.4g} times the true one; one key left: {ratios[1]:.4g}")
        assert abs(ratios[0] - keys) < 1e-3 * keys and abs(ratios[1] - 1) < 1e-3
PYTHON
