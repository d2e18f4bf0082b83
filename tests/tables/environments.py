"""An environment of its own for each library."""

import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "layers" / "requirements"


def environment(folder: Path, name: str) -> Path:
    """The interpreter of a library's environment, which is made where it is not there."""
    python = folder.absolute() / name / "bin" / "python"
    ready = python.parents[1] / "installed"
    if not ready.exists():
        print(f"installing {name}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder / name], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", REQUIREMENTS / f"{name}.txt"], check=True)
        ready.touch()  # An environment whose installing was stopped is made anew.
    return python
