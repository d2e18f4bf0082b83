#!/usr/bin/env bash
# torch 2.13.0, torch.func.functional_call: a name that the module does not have is ignored without a word, and the module
# computes with its own tensor; shapes are not compared either. load_state_dict raises for both. strict=True raises for
# names, and not for shapes.
# Seen: {"weigth": zeros} gives the module's own output; a weight of (3, 2) in a Linear(2, 2) gives three features.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import torch

module = torch.nn.Linear(2, 2)
x = torch.ones(1, 2)
wrong = {"weigth": torch.zeros(2, 2)}
assert torch.equal(torch.func.functional_call(module, wrong, x), module(x))
print("a misspelt name: the module's own output")
other = {"weight": torch.zeros(3, 2), "bias": torch.zeros(3)}
print("another shape:", tuple(torch.func.functional_call(module, other, x, strict=True).shape))
assert torch.func.functional_call(module, other, x, strict=True).shape == (1, 3)
for load in (lambda: torch.func.functional_call(module, wrong, x, strict=True), lambda: module.load_state_dict(wrong), lambda: module.load_state_dict(other)):
    try:
        load()
        raise AssertionError("taken")
    except RuntimeError as error:
        print("raises:", str(error).splitlines()[0])
PYTHON
