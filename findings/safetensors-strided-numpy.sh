#!/usr/bin/env bash
# safetensors 0.8.0, safetensors.numpy: a transposed or strided view is stored as other numbers than it holds, without an
# error: the buffer is written as it lies in memory. 0.7.0 stored the view's values. np.ascontiguousarray first is right.
# Seen: for a 2x3 array's transpose [[0, 3], [1, 4], [2, 5]], 0.8.0 gives back [[0, 1], [2, 3], [4, 5]].
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
for version in 0.7.0 0.8.0; do
  python3.11 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install -q --disable-pip-version-check safetensors==$version numpy==2.4.6
  "$folder/$version/bin/python" - $version <<'PYTHON'
import sys

import numpy as np
from safetensors.numpy import load, save

version, array = sys.argv[1], np.arange(6.0).reshape(2, 3)
gates = np.arange(24.0).reshape(4, 6)
for name, view in {"transposed": array.T, "columns 0 and 1": gates[:, :2], "contiguous copy": array.T.copy()}.items():
    found = load(save({"x": view}))["x"]
    same = found.shape == view.shape and np.array_equal(found, view)
    print(f"{version}, {name}: expected {view.tolist()}, got {found.tolist()}")
    assert same == (version == "0.7.0" or name == "contiguous copy")
PYTHON
done
