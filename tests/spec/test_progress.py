"""The train command's progress bar."""

import io
import sys

import pytest

from spec.command.progress import bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_can_be_read_on_white(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich shows the time in yellow."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with bar("epoch", 3, 0, "loss") as move:
        move(2, "0.5")
    assert "0:00:00" in terminal.getvalue()
    assert "\x1b[33m" not in terminal.getvalue()
