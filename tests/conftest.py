"""What holds for every test."""

import os
import sys
from pathlib import Path

from spec.machine import THREADS

# For what tests of several packages share.
sys.path.append(str(Path(__file__).parent))

# Before anything imports torch: tests already run in as many processes as there are cores, and threads of several
# processes that wait for each other's cores take ten times as long as none.
for variable in THREADS:
    os.environ.setdefault(variable, "1")

# Tests leave nothing in the cache directory of who runs them, and take nothing from there.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")
