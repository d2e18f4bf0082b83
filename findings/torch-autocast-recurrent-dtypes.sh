#!/usr/bin/env bash
# torch 2.13.0, CPU: torch.autocast("cpu", torch.bfloat16) does not treat recurrent layers alike. nn.RNN and nn.LSTM give
# outputs in bfloat16, nn.GRU in float32; nn.RNNCell in bfloat16, nn.LSTMCell and nn.GRUCell in float32.
# Seen: RNN, LSTM, RNNCell bfloat16; GRU, LSTMCell, GRUCell float32; in train and in eval mode.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(2, 3, 4)
found = {}
with torch.autocast("cpu", dtype=torch.bfloat16):
    for train in (True, False):
        for kind in (nn.RNN, nn.LSTM, nn.GRU):
            outputs, _ = kind(4, 5, batch_first=True).train(train)(x)
            found[kind.__name__, train] = outputs.dtype
        for kind in (nn.RNNCell, nn.LSTMCell, nn.GRUCell):
            state = kind(4, 5).train(train)(x[:, 0])
            found[kind.__name__, train] = (state[0] if isinstance(state, tuple) else state).dtype
for (name, train), dtype in found.items():
    print(name, "train" if train else "eval", dtype)
narrow = {name for (name, _), dtype in found.items() if dtype == torch.bfloat16}
wide = {name for (name, _), dtype in found.items() if dtype == torch.float32}
assert narrow == {"RNN", "LSTM", "RNNCell"} and wide == {"GRU", "LSTMCell", "GRUCell"}
PYTHON
