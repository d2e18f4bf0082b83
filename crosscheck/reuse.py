"""Recordings of earlier runs, which are used again as long as nothing has changed that they were made from.

That is: the job, crosscheck's own code and the implementation's (all files that its process had read, see
crosscheck.sources), installed packages, the environment, and the machine. Whoever works on one side then waits for that
side alone.
"""

import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from crosscheck import sources
from crosscheck.comparison import Arrays
from crosscheck.recording import FORMAT, Recording
from crosscheck.worker import Job
from spec import cache, machine, parameters
from spec.errors import UsageError

IGNORED = (
    *("_", "COLORTERM", "COLUMNS", "LINES", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "OLDPWD", "PWD", "SHLVL", "TERM"),
    "PYTEST_CURRENT_TEST",
)
"""Variables that differ from one call to the next and are about the terminal, or about who called."""

IGNORED_PREFIXES = ("ACTIONS_", "GITHUB_", "MAKE_TERM", "RUNNER_", "SSH_", "TERM_", "TMUX", "VSCODE_")
"""Beginnings of the names of more such. All other variables count: an implementation may read any of them."""


class Kept(NamedTuple):
    """An earlier run's recording. path: of the file that has the arrays as well."""

    path: Path
    recording: Recording


class Shelf:
    """The recordings of earlier runs in the user's cache directory, one file each.

    fresh: whether to find nothing, so that what this run keeps takes its place. Two
    processes may share the directory: a file is named after all that it was made from, and is written whole or not at
    all.
    """

    def __init__(self, fresh: bool = False):
        self._directory = cache.recordings()
        self._fresh = fresh
        self._circumstances = [
            FORMAT,
            os.getcwd(),
            sys.prefix,
            platform.platform(),
            platform.python_version(),
            np.__version__,
            machine.processor(),
            machine.cores(),
            sorted((name, value) for name, value in os.environ.items() if _counts(name)),
        ]
        self._signatures: dict[str, str] = {}
        with suppress(OSError):
            cache.prune(self._directory, cache.LARGEST)

    def find(self, implementation: str, job: Job) -> Kept | None:
        """The recording of that job, where there is one and all that it was made from is as it was."""
        pattern = f"{self._key(implementation, job)}-*.safetensors"
        for path in [] if self._fresh else self._directory.glob(pattern):
            try:
                metadata = parameters.load_metadata(path)
                read = msgspec.json.decode(metadata["sources"], type=dict[str, str])
                if all(self._signature(source) == then for source, then in read.items()):
                    os.utime(path)  # Those that nobody has asked for the longest are deleted first.
                    return Kept(path, msgspec.json.decode(metadata["recording"], type=Recording))
            except (OSError, UsageError, KeyError, msgspec.DecodeError):
                continue  # Another process has deleted it, or it is damaged. Then it is recorded anew.
        return None

    def keep(
        self, implementation: str, job: Job, recording: Recording, arrays: Arrays, read: Mapping[str, str]
    ) -> None:
        """Keep a recording for later runs, unless something failed in it or nobody can say what it was made from."""
        if not read or any(answer.status == "failed" or answer.unsteady for answer in recording.answers):
            return
        encoded = msgspec.json.encode(read, order="deterministic")
        name = f"{self._key(implementation, job)}-{hashlib.sha256(encoded).hexdigest()[:16]}.safetensors"
        metadata = {"recording": msgspec.json.encode(recording).decode(), "sources": encoded.decode()}
        # Where nothing can be kept, the next run takes as long as this one, and that is all.
        with suppress(OSError, UsageError):
            self._directory.mkdir(parents=True, exist_ok=True)
            parameters.save(self._directory / name, arrays, metadata)

    def _key(self, implementation: str, job: Job) -> str:
        """Of everything that is known before anything is computed."""
        asked = msgspec.structs.replace(job, directory="", token="")
        known = msgspec.json.encode([implementation, asked, self._circumstances], order="deterministic")
        return hashlib.sha256(known).hexdigest()[:32]

    def _signature(self, path: str) -> str:
        """As it is in this run: both sides' recordings name the same files over and over."""
        if path not in self._signatures:
            self._signatures[path] = sources.signature(path)
        return self._signatures[path]


def _counts(name: str) -> bool:
    return name not in IGNORED and not name.startswith(IGNORED_PREFIXES)
