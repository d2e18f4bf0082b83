"""The machine that all of this runs on."""

import os
import platform
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")
"""Variables that say how many threads a process's libraries have. The last is XLA's: with two where one is busy, it
hands small operations back and forth, and a Transformer's ensemble burns twice the CPU time."""


def cores() -> int:
    """Cores that this process may use, where the system can tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads() -> int:
    """Threads that this process is to use: OMP_NUM_THREADS where that is set, whether or not by OpenMP's own users."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(asked), cores()) if asked.isdecimal() and int(asked) else cores()


def processor() -> str:
    """The kind of processor, and what it can do where the system says so."""
    try:
        flags = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")][:1]
    except OSError:
        flags = []
    return " ".join([platform.system(), platform.machine(), platform.processor(), *flags])
