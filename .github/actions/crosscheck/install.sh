#!/usr/bin/env bash
# Installs crosscheck, with both frameworks, and what the pair needs.
set -euo pipefail

root="$(cd "$(dirname "$0")/../../.." && pwd)"
version="$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')"

set -- "ohlol[torch,flax,crosscheck] @ file://$root"
if [ -n "$REQUIREMENTS" ]; then
  # Whoever says what they need wants it compared with these versions, not with those that we tried.
  set -- "$@" -r "$REQUIREMENTS"
elif [ -f "$root/constraints/$version.txt" ]; then
  set -- "$@" -c "$root/constraints/$version.txt"
fi
# PyTorch's own index has builds without CUDA, which are a tenth of the size.
python -m pip install --disable-pip-version-check --quiet \
  --extra-index-url https://download.pytorch.org/whl/cpu "$@"
