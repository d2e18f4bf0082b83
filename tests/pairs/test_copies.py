"""A side asks copies of a model: they have to be whole, and nothing of the model itself may compute in their place."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from spec.errors import OhlolError
from spec.pair import PairOptions
from torch_impl.pair.side import open_side


def applied(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return layer(x)


class Held(nn.Module):
    """Calls its layers by a function that it made of them."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.inner, self.drop = nn.Linear(3, 3), nn.Dropout(0.5)
        inner, drop = self.inner, self.drop

        def plain(x: torch.Tensor) -> torch.Tensor:
            return drop(inner(x))

        ways: dict[str, Any] = {
            "function": plain,
            "function of a function": lambda x: plain(x),
            "partial": partial(applied, nn.Sequential(inner, drop)),
            "in a list": [plain],
            "method": self.of_itself,
        }
        self.run: Any = ways[how]

    def of_itself(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.inner(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        run: Callable[..., torch.Tensor] = self.run[0] if isinstance(self.run, list) else self.run
        return run(x)


@pytest.mark.parametrize("how", ["function", "function of a function", "partial", "in a list", "method"])
def test_a_copy_computes_with_its_own_layers(how: str):
    side = open_side(Held(how))
    side.load({"inner.weight": np.eye(3), "inner.bias": np.ones(3)})
    x = (np.arange(6.0).reshape(2, 3),)
    for precision in ("float64", "float32"):
        assert np.array_equal(side.forward(x, precision=precision).outputs["output"], x[0] + 1), precision
        dropped = side.forward(x, precision=precision, train=True).outputs["output"]
        assert not np.array_equal(dropped, x[0] + 1)
        assert np.array_equal(side.forward(x, precision=precision, record=True).outputs["output"], x[0] + 1)


def test_the_model_itself_is_not_asked():
    """A call that does not use what it is handed, which would compute with values that nobody loaded."""
    model = nn.Sequential(nn.Linear(3, 3))
    side = open_side(model, PairOptions(call=lambda handed, x: model[0](x)))
    with pytest.raises(OhlolError, match="of the model that is handed in, got 0 of the one that was made"):
        side.forward((np.zeros((2, 3)),))
