"""The table of layers is what its page says, its versions are pinned, and what finds the facts can be wrong-footed."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent / "layers"))

from blocks import of_recurrent
from equations import GATES, Convention, attention, step
from judge import HIDDEN, AttentionJudge, RecurrentJudge
from laws import CUT, UNKNOWN, named

from crosscheck.libraries import layers, made, pages

ROOT = Path(__file__).parents[2]
TABLE = layers.table()
SYMBOLS = {20: "inputs", 36: "hidden", 108: "3 hidden"}


def test_the_page_is_the_table() -> None:
    assert (ROOT / "docs" / "layers.md").read_text() == pages.layers(TABLE)
    first = TABLE.recurrent[0]
    changed = msgspec.structs.replace(first, states=("c", "h"))
    other = msgspec.structs.replace(TABLE, recurrent=(changed, *TABLE.recurrent[1:]))
    assert pages.layers(other) != pages.layers(TABLE)


def test_the_versions_are_those_that_are_pinned() -> None:
    pinned = made.pins((ROOT / "constraints" / "3.11.txt").read_text())
    assert made.outdated(TABLE.made, pinned) == []
    assert {"torch", "jax", "flax", "equinox", "dm-haiku"} <= pinned.keys() & TABLE.made.versions.keys()
    (said,) = made.outdated(TABLE.made, pinned | {"flax": "0.13.0"})
    assert said == f"flax is pinned to 0.13.0, and the table was made with {pinned['flax']}: make tables-layers"


def test_the_versions_are_those_that_are_installed_for_it() -> None:
    """requirements/ is what a new run would take."""
    for path in (ROOT / "tests" / "tables" / "layers" / "requirements").glob("*.txt"):
        for name, version in made.pins(path.read_text()).items():
            assert TABLE.made.versions[name.partition("[")[0]] == version, path.name


def test_eight_libraries_are_there() -> None:
    known = {row.library.partition(" ")[0] for row in TABLE.recurrent}
    assert known == {row.library.partition(" ")[0] for row in TABLE.attention}
    assert known == {"torch", "flax", "equinox", "haiku", "keras", "mlx", "onnxruntime"}
    assert {"flax nnx", "flax linen"} <= TABLE.versions.keys()


def test_a_layer_is_found_by_its_name() -> None:
    found = layers.layer_of("flax nnx", "nnx.GRUCell")
    assert isinstance(found, layers.Recurrent)
    assert found.holds.verdict == "no"
    assert found.holds.lost == ("b_hn",)
    assert layers.layer_of("flax nnx", "nnx.Sequential") is None


class Invented:
    """A GRU of no library: its blocks in a given order, one bias that acts inside of the reset gate or outside."""

    def __init__(self, order: str, convention: Convention, inside: bool) -> None:
        self.order, self.convention, self.inside = order, convention, inside

    def __call__(self, function: str, *given: Any) -> Any:
        if function == "initial":
            _, inputs, hidden = given
            return {
                "i": np.zeros((inputs, 3 * hidden)),
                "h": np.zeros((3 * hidden, hidden)),
                "b": np.zeros(3 * hidden),
            }
        parameters, x, states, _ = given
        wi, wh, b = (dict(zip(self.order, np.split(one, 3), strict=True)) for one in self.parts(parameters))
        outputs, after = [], list(states)
        for time in range(x.shape[1]):
            after = step("gru", self.convention, wi, wh, x[:, time], after, **{"bh" if self.inside else "bi": b})
            outputs.append(after[0])
        return np.stack(outputs, 1), after

    @staticmethod
    def parts(parameters: Any) -> tuple[np.ndarray, ...]:
        return parameters["i"].T, parameters["h"], parameters["b"]


DESCRIBED = {"kind": "gru", "laws": True, "lengths": "", "projection": ""}


@pytest.mark.parametrize("order", ["rzn", "zrn", "nzr"])
@pytest.mark.parametrize("reset", ["after", "before"])
@pytest.mark.parametrize("update", ["old", "new"])
def test_an_order_and_a_convention_are_found(order: str, reset: str, update: str) -> None:
    judge = RecurrentJudge(Invented(order, Convention(reset, update), reset == "after"), DESCRIBED, "float64")
    judge.read()
    assert "".join(judge.order) == "".join(judge.other) == order
    assert (judge.convention.reset, judge.convention.update) == (reset, update)
    sides = {bias.gate: bias.side for bias in judge.biases}
    assert sides == {"r": "", "z": "", "n": "hidden" if reset == "after" else ""}


def torch_like(judge: RecurrentJudge) -> Callable[[Any], Any]:
    """torch's GRU in NumPy."""

    def run(weights: Any) -> Any:
        wi, wh, bi, bh = (dict(zip(GATES["gru"], np.split(one, 3), strict=True)) for one in weights.values())
        outputs, after = [], judge.states
        for time in range(judge.x.shape[1]):
            after = step("gru", Convention("after", "old"), wi, wh, judge.x[:, time], after, bi, bh)
            outputs.append(after[0])
        return np.stack(outputs, 1), after

    return run


@pytest.mark.parametrize(
    ("convention", "inside", "verdict", "lost"),
    [
        (Convention("after", "old"), True, "no", ("b_in",)),
        (Convention("after", "new"), False, "no", ("b_hn",)),
        (Convention("before", "old"), False, "no", ()),
    ],
)
def test_what_cannot_hold_torchs_weights_is_seen(
    convention: Convention, inside: bool, verdict: str, lost: tuple[str, ...]
) -> None:
    judge = RecurrentJudge(Invented("zrn", convention, inside), DESCRIBED, "float64")
    judge.read()
    random = np.random.default_rng(0)
    shapes = {"weight_ih_l0": (15, 3), "weight_hh_l0": (15, HIDDEN), "bias_ih_l0": (15,), "bias_hh_l0": (15,)}
    weights = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    found = judge.holds(weights, torch_like(judge))
    assert (found.verdict, found.lost) == (verdict, lost)
    assert found.without == lost
    assert found.difference > 1e-3


def test_an_equation_that_nobody_knows_is_an_error() -> None:
    class Odd(Invented):
        def __call__(self, function: str, *given: Any) -> Any:
            found = super().__call__(function, *given)
            return found if function == "initial" else (found[0], [found[1][0] * 1.001])

    with pytest.raises(ValueError, match="expected one equation that fits, got 0"):
        RecurrentJudge(Odd("rzn", Convention("after", "old"), True), DESCRIBED, "float64").read()


def test_an_array_that_is_no_kernel_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"w: expected a kernel or a bias, got shape \(7,\)"):
        of_recurrent({"w": (7,)}, 3, 5)


@pytest.mark.parametrize("filled", ["nan", "mean", "zero"])
def test_a_masked_row_is_told(filled: str) -> None:
    def ask(function: str, *given: Any) -> Any:
        if function == "initial":
            return {}
        _, query, key, value, mask = given
        keep = None if mask is None else mask.copy()
        rows = np.zeros(query.shape[:2], bool) if keep is None else ~keep.any(-1)
        if keep is not None:
            keep[rows] = True
        found = attention({}, {}, query, key, value, 2, "sqrt(size of a head)", keep)
        mean = np.broadcast_to(value.mean(1, keepdims=True), value.shape)
        return np.where(rows[..., None], {"nan": np.nan, "mean": mean, "zero": 0.0}[filled], found)

    judge = AttentionJudge(ask, {"biases": None, "mask": "mask", "laws": False}, "float64")
    judge.read()
    expected = {"nan": "NaN", "mean": "the mean of all values", "zero": "zero"}[filled]
    assert judge.mask() == ("attends", expected)


def test_laws_are_told_apart() -> None:
    random = np.random.default_rng(3)
    shape = (20, 36)

    def law(draw: Callable[[], np.ndarray]) -> str:
        return named([draw() for _ in range(12)], 36, SYMBOLS)

    assert law(lambda: random.uniform(-1 / 6, 1 / 6, shape)) == "uniform up to sqrt(1 / hidden)"
    assert law(lambda: random.normal(0, 20**-0.5, shape)) == "normal of deviation sqrt(1 / inputs)"
    assert law(lambda: random.uniform(-0.18, 0.18, shape)) == UNKNOWN
    assert law(lambda: np.linalg.qr(random.standard_normal((36, 36)))[0]) == "orthogonal"
    assert (
        law(lambda: np.linalg.qr(random.standard_normal((108, 36)))[0].T) == "orthogonal as a whole, not gate by gate"
    )
    gates = lambda: np.hstack([np.linalg.qr(random.standard_normal((36, 36)))[0] for _ in range(3)])  # noqa: E731
    assert law(gates) == "orthogonal gate by gate"
    assert law(lambda: np.repeat([0.0, 1.0, 0.0], 36)) == "by block 0, 1, 0"

    def cut() -> np.ndarray:
        drawn = random.standard_normal(2 * 20 * 36)
        return drawn[np.abs(drawn) < 2][: 20 * 36].reshape(shape) * 20**-0.5 / CUT

    assert law(cut) == "normal of deviation sqrt(1 / inputs), cut at 2 / 0.8796"
