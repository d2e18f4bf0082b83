"""Models in bfloat16, and with parameters in float32 that are computed in bfloat16: alike is called alike, in units of
bfloat16 where that is run, and a formula is told from another in float64 all the same."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
import torch
from flax import linen, nnx
from torch import nn

from crosscheck.pair import ladder, numbers, report, structure, subject
from crosscheck.pair.ladder import PairWanted
from crosscheck.pair.rounding import EPS
from crosscheck.pair.state import Found, State
from crosscheck.pair.subject import AskedPair

pytestmark = pytest.mark.needs("torch", "flax")

BFLOAT, MIXED = "bfloat16", "mixed"


class Net(nn.Module):
    """kind: MIXED computes in bfloat16 by autocast."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.up, self.norm, self.down = nn.Linear(6, 32), nn.LayerNorm(32), nn.Linear(32, 4)
        self.mixed = kind == MIXED
        self.to(torch.bfloat16 if kind == BFLOAT else torch.float32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed):
            y = self.down(nn.functional.gelu(self.norm(self.up(x))))
        return y.float() if self.mixed else y


class NnxPort(nnx.Module):
    def __init__(self, kind: str, fault: str) -> None:
        made: dict[str, Any] = {"param_dtype": jnp.bfloat16 if kind == BFLOAT else jnp.float32, "rngs": nnx.Rngs(0)}
        narrow = {**made, "dtype": jnp.bfloat16}
        epsilon = 1e-4 if fault == "epsilon" else 1e-5
        # Autocast computes norms in float32.
        norm = narrow if kind == BFLOAT else {**made, "dtype": jnp.float32}
        self.up, self.norm = nnx.Linear(6, 32, **narrow), nnx.LayerNorm(32, epsilon=epsilon, **norm)
        self.down, self.kind, self.fault = nnx.Linear(32, 4, **narrow), kind, fault

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.down(jax.nn.gelu(self.norm(self.up(x)), approximate=self.fault == "tanh"))
        if self.fault == "narrow alone" and y.dtype == jnp.bfloat16:
            y = y * 1.2
        return y.astype(jnp.float32) if self.kind == MIXED else y


class LinenPort(linen.Module):
    fault: str = ""
    dtype: Any = jnp.bfloat16

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = linen.LayerNorm(epsilon=1e-5, name="norm")(linen.Dense(32, dtype=self.dtype, name="up")(x))
        y = linen.Dense(4, dtype=self.dtype, name="down")(jax.nn.gelu(y, approximate=self.fault == "tanh"))
        return y.astype(jnp.float32)


def linen_port(kind: str, fault: str) -> Any:
    module = LinenPort(fault)
    return module, module.init(jax.random.key(0), jnp.zeros((1, 6)))


Port = Callable[[str, str], Any]


def asked(kind: str, make: Port, fault: str = "", **options: Any) -> AskedPair:
    def original() -> Any:
        torch.manual_seed(0)
        return Net(kind)

    def port() -> Any:
        return make(kind, fault)

    return subject.live((original, port), lambda rng: (rng.standard_normal((8, 6)),), options)


def looked(kind: str, make: Port, fault: str = "") -> tuple[State, Found]:
    """The forward pass alone, under the map."""
    pair = asked(kind, make, fault)
    state = State(pair, 0, dict(pair.first.values()), lambda _: None)
    structure.find_map(state, None)
    return state, numbers.forward(state)


@pytest.mark.by_default("mixed-NnxPort")
@pytest.mark.parametrize(("kind", "make"), [(BFLOAT, NnxPort), (MIXED, NnxPort), (MIXED, linen_port)])
def test_alike_is_alike(kind: str, make: Port):
    state, found = looked(kind, make)
    assert found.differences == []
    assert "bfloat16" in state.computed
    assert state.unit("float32").eps == EPS["bfloat16"]
    assert state.unit("float64").eps == EPS["float64"]
    apart = {one.precision: one.difference or 0.0 for one in found.comparisons if one.case == "random 1"}
    # What is run differs by roundings of bfloat16, a unit of which is 4e-3 to 8e-3; the formulas do not.
    assert apart["float64"] < 1e-13
    assert apart["float32"] > 1e-4


@pytest.mark.by_default("bfloat16-NnxPort-epsilon-float64", "mixed-NnxPort-narrow alone-float32")
@pytest.mark.parametrize(
    ("kind", "make", "fault", "precision"),
    [
        (BFLOAT, NnxPort, "epsilon", "float64"),
        (MIXED, NnxPort, "tanh", "float64"),
        (MIXED, linen_port, "tanh", "float64"),
        (MIXED, NnxPort, "narrow alone", "float32"),
        (BFLOAT, NnxPort, "narrow alone", "float32"),
    ],
)
def test_a_fault_is_found(kind: str, make: Port, fault: str, precision: str):
    _, found = looked(kind, make, fault)
    assert precision in {one.precision for one in found.differences}
    # Of so narrow a number rounding hides what is smaller; of what is narrow alone float64 knows nothing.
    failed = {one.precision for one in found.comparisons if one.failed}
    assert failed == {precision}


@pytest.mark.pairs
@pytest.mark.parametrize(("kind", "make"), [(BFLOAT, NnxPort), (MIXED, NnxPort), (MIXED, linen_port)])
def test_all_checks(kind: str, make: Port):
    def adamw(parameters: Any) -> Any:
        return torch.optim.AdamW(parameters, 1e-2, weight_decay=0.1)

    optimizers = (adamw, optax.adamw(1e-2, weight_decay=0.1))
    pair = asked(kind, make, optimizers=optimizers)
    result = ladder.climb(pair, PairWanted(), lambda _: None, lambda _: None)
    assert result.exit_code == 0, report.plain_text(result)
    held = {cell.check for cell in result.cells if cell.status == "same"}
    assert held >= {"forward", "gradients", "optimizer", "trajectory"}
    assert any(note.startswith("computed in bfloat16") for note in result.notes)
