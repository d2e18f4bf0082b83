#!/usr/bin/env bash
# torch 2.13.0: making the first optimizer of a process, of two numbers and with nothing compiled, imports torch's
# compiler (torch._dynamo) and sympy: some 800 modules, and more CPU time than many a small training.
# Seen: 821 modules, 1.7 s of CPU time; a second optimizer imports none.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import time

import torch

heavy = ("torch._dynamo", "sympy")
assert not any(name in sys.modules for name in heavy)
counts = []
for _ in range(2):
    parameter = torch.nn.Parameter(torch.ones(2))
    before, begin = len(sys.modules), time.process_time()
    torch.optim.SGD([parameter], lr=0.1)
    counts.append(len(sys.modules) - before)
    print(f"{counts[-1]} modules, {time.process_time() - begin:.1f} s of CPU time")
assert all(name in sys.modules for name in heavy)
assert counts[0] > 100 and counts[1] == 0
PYTHON
