"""The command line that every implementation's train.py shares: `main` and what it is made of."""

from spec.command.entry import main

__all__ = ["main"]
