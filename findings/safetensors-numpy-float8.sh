#!/usr/bin/env bash
# safetensors 0.8.0: its NumPy functions write float8 (ml_dtypes') and cannot read it again: `load_file` raises
# AttributeError, `load` KeyError, though ml_dtypes is imported. Of bfloat16 `load_file` reads what `load` cannot.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check safetensors==0.8.0 ml_dtypes==0.6.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/w.safetensors" <<'PYTHON'
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import load, load_file, save_file

path = Path(sys.argv[1])
expected = {
    ml_dtypes.bfloat16: ["read as bfloat16", "KeyError"],
    ml_dtypes.float8_e4m3fn: ["AttributeError", "KeyError"],
    ml_dtypes.float8_e5m2: ["AttributeError", "KeyError"],
}
for kind, outcomes in expected.items():
    save_file({"w": np.ones(2, kind)}, path)
    said = []
    for read in (lambda: load_file(path), lambda: load(path.read_bytes())):
        try:
            said.append(f"read as {read()['w'].dtype}")
        except (AttributeError, KeyError) as error:
            said.append(f"{type(error).__name__}: {error}")
    print(f"{kind.__name__}: written; load_file: {said[0]}; load: {said[1]}")
    assert all(one.startswith(outcome) for one, outcome in zip(said, outcomes, strict=True)), said
PYTHON
