"""The loss plot is a picture of the right size, and shows what it should."""

import struct

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spec.command.events import Epoch
from spec.command.plot import loss_plot
from spec.experiment import load


def records(losses: list[float], solved_from: int) -> list[Epoch]:
    return [
        Epoch(epoch=n, loss=loss, evaluation_loss=loss / 2, solved=n >= solved_from, predicted="x")
        for n, loss in enumerate(losses, 1)
    ]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved during the test."""
    figures = []
    real = Figure.savefig

    def save(self: Figure, *arguments: object, **options: object) -> None:
        figures.append(self)
        real(self, *arguments, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Figure, "savefig", save)
    return figures


def lines(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    return {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}  # pyright: ignore[reportArgumentType]


def test_both_losses_and_the_first_solution(drawn: list[Figure]) -> None:
    epochs = records([4.0, 3.0, 2.0, 1.0], solved_from=3)
    picture = loss_plot(load("hello-gru"), ["torch_impl", "flax_impl"], 7, epochs)
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", picture[16:24]) == (960, 540)
    (axes,) = drawn[0].axes
    assert axes.get_title(loc="left") == "hello-gru, torch_impl then flax_impl, seed 7"
    assert lines(axes) == {
        "training, before each step": ([1, 2, 3, 4], [4.0, 3.0, 2.0, 1.0]),
        "evaluation, after each epoch": ([1, 2, 3, 4], [2.0, 1.5, 1.0, 0.5]),
        "first solved: epoch 3": ([3], [1.0]),
    }


def test_a_negative_control_shows_its_floor(drawn: list[Figure]) -> None:
    loss_plot(load("hello-transformer-no-positions"), ["torch_impl"], 0, records([1.0], solved_from=9))
    (axes,) = drawn[0].axes
    (x, y) = lines(axes)["floor: 0.2773"]
    assert y == [0.2772588, 0.2772588]
    assert not any("solved" in label for label in lines(axes))
    assert [line.get_marker() for line in axes.lines[:2]] == ["o", "o"]  # One epoch: a line would be invisible.
    assert len(x) == 2
