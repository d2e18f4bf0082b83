#!/usr/bin/env bash
# torch 2.13.0, CPU: SGD's momentum buffer of an embedding with sparse=True is a sparse tensor whose entries are never
# added up. It holds the same row again and again, so it outgrows the dense table and keeps growing, and so does what
# state_dict saves. What it stands for is right.
# Seen: for a table of 5 rows, entries after 2, 11, 101 and 300 steps: 8, 23, 61, 78; no more than 5 rows are different.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch

torch.manual_seed(0)
sparse = torch.nn.Embedding(5, 3, sparse=True)
dense = torch.nn.Embedding(5, 3)
dense.load_state_dict(sparse.state_dict())
optimizers = [torch.optim.SGD(table.parameters(), lr=0.01, momentum=0.9) for table in (sparse, dense)]
seen = {}
for step in range(1, 301):
    rows = torch.randint(0, 5, (4,))
    for table, optimizer in zip((sparse, dense), optimizers):
        optimizer.zero_grad()
        table(rows).square().sum().backward()
        optimizer.step()
    buffer = optimizers[0].state[sparse.weight]["momentum_buffer"]
    seen[step] = buffer._nnz(), buffer.coalesce()._nnz()
    if step in (2, 11, 101, 300):
        print(f"step {step}: {seen[step][0]} entries for {seen[step][1]} different rows")
there = optimizers[1].state[dense.weight]["momentum_buffer"]
assert torch.allclose(buffer.to_dense(), there, atol=1e-6)
assert buffer.layout is torch.sparse_coo and not buffer.is_coalesced()
assert seen[300][1] == 5 and seen[300][0] > seen[101][0] > seen[11][0] > 5
PYTHON
