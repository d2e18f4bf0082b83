"""The train command's progress bar."""

import io
import sys

import pytest

from spec.command.events import Epoch, Speed
from spec.command.progress import Lines, bar, complain


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


def test_the_time_left_goes_down_with_the_epochs_that_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Epochs are trained many at once, and told at once: by a clock the last would have as long to go as the first."""

    def epoch(number: int) -> Epoch:
        return Epoch(epoch=number, loss=0.5, evaluation_loss=0.5, solved=False, predicted="")

    with Lines(1).training(5, 0) as report:
        report(epoch(1))
        report(Speed(step=2, steps=10, loss=0.5, tokens_per_second=1.8, seconds_left=100.0))
        for number in (2, 3, 4, 5):
            report(epoch(number))
    said = [line.partition(", loss 0.5000")[2] for line in capsys.readouterr().out.splitlines()]
    assert said == [
        "",
        *(f", 1.8 tokens/s, {left} left" for left in ("0:01:15", "0:00:50", "0:00:25")),
        ", 1.8 tokens/s",
    ]


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_a_warning_is_folded_in_a_terminal_and_one_line_in_a_log(
    stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stderr", stream())
    text = "warning: " + "what was expected and what came, " * 5 + "that is all"
    complain(text)
    lines = sys.stderr.getvalue().splitlines()  # type: ignore[attr-defined]
    assert " ".join(line.strip() for line in lines) == text
    assert len(lines) == (3 if stream is Terminal else 1)
    assert all(len(line) <= 80 for line in lines) == (stream is Terminal)
