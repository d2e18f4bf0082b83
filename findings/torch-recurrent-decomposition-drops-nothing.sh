#!/usr/bin/env bash
# torch 2.13.0: what torch takes its recurrent layers apart into drops nothing between layers. It is what
# `OpOverload.decompose` gives, and the Python dispatcher, for aten.lstm, aten.gru and aten.rnn_tanh: a dispatch mode
# that takes operations apart in inference mode, where layers reach it whole, has another model in train mode.
# torch/_decomp/decompositions.py, _rnn_helper: the condition for dropout is "num_layers < i - 1", which is never true.
# Seen: outputs of two seeds are the same bits with the decomposition, and differ without; dropout = 0.5, train mode.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


class TakenApart(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        with self:
            parts = func.decompose(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if parts is NotImplemented else parts


class AsItIs(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


torch.backends.mkldnn.enabled = False
x, found = torch.ones(2, 3, 4), {}
for kind in (nn.RNN, nn.GRU, nn.LSTM):
    layer = kind(4, 5, num_layers=2, dropout=0.5, batch_first=True)
    for mode in (TakenApart, AsItIs):
        outputs = []
        for seed in (0, 1):
            with torch.inference_mode(), mode():
                torch.manual_seed(seed)
                outputs.append(layer(x)[0])
        found[kind.__name__, mode.__name__] = not torch.equal(*outputs)
        print(kind.__name__, mode.__name__, "drops units" if found[kind.__name__, mode.__name__] else "drops nothing")
assert not any(drops for (_, mode), drops in found.items() if mode == "TakenApart")
assert all(drops for (_, mode), drops in found.items() if mode == "AsItIs")
PYTHON
