"""The machine that all of this runs on."""

import contextlib
import os
import platform
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")
"""Variables that say how many threads a process's libraries have. The last is a compiler's: with two where one is busy,
it hands small operations back and forth, and a Transformer's ensemble burns twice the CPU time."""


def cores() -> int:
    """Cores that this process may use, where the system can tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads() -> int:
    """Threads that this process is to use: OMP_NUM_THREADS where that is set, whether or not by OpenMP's own users."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(asked), cores()) if asked.isdecimal() and int(asked) else cores()


def memory() -> int | None:
    """Bytes of memory that this process may have: the machine's, its container's or its own limit; None if unknown."""
    found = []
    with contextlib.suppress(ValueError, OSError, AttributeError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(ValueError, OSError):
            found.append(int(Path(file).read_text()))
    with contextlib.suppress(ImportError):
        import resource

        limits = (resource.getrlimit(limit)[0] for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
        found += [limit for limit in limits if limit != resource.RLIM_INFINITY]
    return min((size for size in found if size > 0), default=None)


def processor() -> str:
    """The kind of processor, and what it can do where the system says so."""
    try:
        flags = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")][:1]
    except OSError:
        flags = []
    return " ".join([platform.system(), platform.machine(), platform.processor(), *flags])
