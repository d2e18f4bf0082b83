"""Python reads this at its start where this folder is on PYTHONPATH: what the variable BLOCKED names is not there."""

import os
import sys


class Blocker:
    """Refuses to import what is blocked, whoever asks, in the words of Python where it is not installed."""

    def __init__(self, names):
        self.names = frozenset(names)

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


if os.environ.get("BLOCKED"):
    sys.meta_path.insert(0, Blocker(os.environ["BLOCKED"].split(",")))
