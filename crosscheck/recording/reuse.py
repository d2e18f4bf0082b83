"""Recordings of earlier runs, which are used again as long as nothing has changed that they were made from.

That is: the job, crosscheck's own code and the implementation's (all that its process had read, see
crosscheck.recording.sources), installed packages, some variables of the environment, and the kind of machine. Whoever
works on one side then waits for that side alone. Where the tree stands, and when its files were written, is no matter:
a folder of recordings serves in a fresh environment on the same kind of machine.
"""

import hashlib
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from crosscheck.comparison import Arrays
from crosscheck.recording import recording
from crosscheck.recording.packages import Packages
from crosscheck.recording.places import Places
from crosscheck.recording.recording import FORMAT, Recording, Stale
from crosscheck.recording.sources import Sources, unchanged
from crosscheck.recording.worker import Job
from spec import cache, machine, parameters
from spec.errors import UsageError
from spec.machine import THREADS

VARIABLES = (
    *("GLIBC_TUNABLES", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONHASHSEED", "PYTHONOPTIMIZE"),
    *THREADS,
)
"""Of the environment, those that change what is computed, or by what code."""

PREFIXES = (
    *("ATEN_", "BLIS_", "CUBLAS_", "CUDA_", "CUDNN_", "DNNL_", "DYLD_", "FLAX_", "GOMP_", "HIP_", "HSA_", "JAX_"),
    *("KMP_", "LIBTPU_", "MALLOC_", "MKL_", "NPY_", "NUMEXPR_", "NUMPY_", "NVIDIA_", "OMP_", "ONEDNN_", "OPENBLAS_"),
    *("PYTORCH_", "ROCM_", "SCIPY_", "TF_", "TORCH", "TPU_", "TRITON_", "VECLIB_", "XLA_"),
)
"""Beginnings of the names of more such."""

ASIDE = ("JAX_COMPILATION_CACHE", "JAX_ENABLE_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE")
"""Beginnings of the names of those among them that say where and whether to keep what is compiled."""


class Kept(NamedTuple):
    """An earlier run's recording. path: of the file that has the arrays as well."""

    path: Path
    recording: Recording


class Shelf:
    """The recordings of earlier runs in the user's cache directory, one file each; nothing where there is none.

    fresh: whether to find nothing, so that what this run keeps takes its place. Two processes may share the directory:
    a file is named after all that it was made from, and is written whole or not at all.
    """

    def __init__(self, fresh: bool = False):
        self._directory = cache.recordings()
        self._fresh = fresh
        self._packages = Packages()
        self._places: dict[str, Places] = {}
        self._signatures: dict[str, str] = {}
        self._circumstances = [
            FORMAT,
            platform.system(),
            platform.machine(),
            platform.libc_ver(),
            machine.processor(),
            machine.cores(),
            sys.implementation.name,
            platform.python_version(),
            variables(),
        ]
        if self._directory is not None:
            with suppress(OSError):
                cache.prune(self._directory, cache.LARGEST)

    def find(self, implementation: str, job: Job) -> Kept | None:
        """The recording of that job, where there is one and all that it was made from is as it was.

        One that is damaged, or cannot be read, is none.
        """
        if self._fresh or self._directory is None:
            return None
        key = self._key(implementation, job)
        for path in self._directory.glob(f"{key}-*.safetensors"):
            try:
                metadata = parameters.load_metadata(path)
                read = msgspec.json.decode(metadata["sources"], type=Sources)
                if metadata["key"] != key or not unchanged(
                    read, self._of(implementation), self._packages, self._signatures
                ):
                    continue
                found, _, _ = recording.load(path)
                os.utime(path)  # Those that nobody has asked for the longest are deleted first.
                return Kept(path, found)
            except (OSError, UsageError, KeyError, msgspec.MsgspecError, Stale):
                continue
        return None

    def keep(self, implementation: str, job: Job, found: Recording, arrays: Arrays, read: Sources | None) -> None:
        """Keep a recording for later runs, unless something failed in it or nobody can say what it was made from."""
        if self._directory is None or read is None:
            return
        if any(answer.status == "failed" or answer.unsteady for answer in found.answers):
            return
        encoded = msgspec.json.encode(read, order="deterministic")
        key = self._key(implementation, job)
        name = f"{key}-{hashlib.sha256(encoded).hexdigest()[:16]}.safetensors"
        # Where nothing can be kept, the next run takes as long as this one, and that is all.
        with suppress(OSError, UsageError):
            self._directory.mkdir(parents=True, exist_ok=True)
            recording.write(self._directory / name, found, arrays, {"key": key, "sources": encoded.decode()})

    def _key(self, implementation: str, job: Job) -> str:
        """Of everything that is known before anything is computed."""
        asked = msgspec.structs.replace(job, directory="", token="")
        # Its path is where it stands; what it is, its files say.
        name = Path(implementation).stem if os.sep in implementation else implementation
        arrangement = self._of(implementation).arrangement
        known = msgspec.json.encode([name, asked, arrangement, self._circumstances], order="deterministic")
        return hashlib.sha256(known).hexdigest()[:32]

    def _of(self, implementation: str) -> Places:
        if implementation not in self._places:
            self._places[implementation] = Places(implementation)
        return self._places[implementation]


def variables() -> dict[str, str]:
    """Those of the environment that change what is computed, as a worker has them."""
    given = {**dict.fromkeys(THREADS, "1"), **os.environ}
    return {
        name: value
        for name, value in sorted(given.items())
        if name in VARIABLES or (name.startswith(PREFIXES) and not name.startswith(ASIDE))
    }
