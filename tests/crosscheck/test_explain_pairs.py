"""Operations, optimizers and initial laws of pairs: named where a formula fits, and not where none does."""

import time
from typing import Any

import numpy as np
import pytest

from crosscheck.explain import laws, optimizers, pairs
from crosscheck.explain.explanation import Explanation
from crosscheck.explain.variants import gelu, normalization, softmax
from crosscheck.mapping.results import OperationPart
from crosscheck.report.details import looks_like
from spec.parameters import Constant, Normal, Uniform

RANDOM = np.random.default_rng(0)
X, GAIN, BIAS = RANDOM.standard_normal((5, 12)), RANDOM.standard_normal(12), RANDOM.standard_normal(12)
LATER = time.perf_counter() + 3600


def part(op: str, value: np.ndarray, other: np.ndarray, *inputs: np.ndarray, **fields: Any) -> OperationPart:
    made = {"behind": (), "leaves": (), "first": True, "tolerance": 1e-9, "module": ""} | fields
    return OperationPart(op=op, value=value, other=other, inputs=inputs, **made)


def norm(epsilon: float, x: np.ndarray = X) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon) * GAIN + BIAS


def said(*parts: OperationPart, until: float = LATER) -> str:
    found = pairs.explain(parts, until)
    return found.looks_like if found else ""


@pytest.mark.parametrize("epsilon", [1e-6, 1e-12, 3.7e-4])
def test_an_epsilon_is_solved_for_on_both_sides(epsilon: float):
    known = {"leaves": (GAIN, BIAS)}
    words = f"LayerNorm's epsilon were {epsilon:g} in the port (1e-05 in the original)"
    assert words in said(part("native_layer_norm", norm(1e-5), norm(epsilon), X, **known))
    # The port's operation, where the original's is many small ones.
    other = part("native_layer_norm", norm(epsilon), norm(1e-5), X, first=False, **known)
    assert words in said(other)


def test_what_is_no_known_formula_is_not_named():
    noise = norm(1e-5) * (1 + 1e-6 * RANDOM.standard_normal(X.shape))
    found = pairs.explain([part("native_layer_norm", norm(1e-5), noise, X, leaves=(GAIN, BIAS))], LATER)
    assert found is not None
    assert not found.looks_like
    assert len(found.tried) > 5
    # An operation whose own formula is another one than is known says nothing of the other side's.
    assert said(part("native_layer_norm", noise, norm(1e-6), X, leaves=(GAIN, BIAS))) == ""


def test_nothing_is_tried_where_nothing_differs():
    assert pairs.explain([part("native_layer_norm", norm(1e-5), norm(1e-5), X, leaves=(GAIN, BIAS))], LATER) is None
    assert pairs.explain([], LATER) is None


def test_without_time_nothing_is_named():
    one = part("gelu", gelu.silu(X), gelu.tanh_gelu(X), X)
    assert said(part("gelu", gelu.tanh_gelu(X), gelu.silu(X), X))
    assert said(one, until=0.0) == ""


def test_activations_scalars_and_masks():
    tanh = part("gelu", gelu.tanh_gelu(X), gelu.sigmoid_gelu(X), X)
    assert "x sigmoid(1.702 x) in the port (GELU by tanh" in said(tanh)
    relu = np.maximum(X, 0)
    assert "a leaky relu of slope 0.001" in said(part("relu", relu, np.where(X > 0, X, 1e-3 * X), X))
    scale = part("div", X / 2, X / np.sqrt(8), X)
    assert "the factor were 1 / the root of 8 in the port (0.5 in the original)" in said(scale)
    assert "what is added were 1e-05 in the port" in said(part("add_", X + 1e-6, X + 1e-5, X))
    scores = RANDOM.standard_normal((2, 4, 4))
    keep = np.arange(4) < np.array([4, 2])[:, None, None]
    masked = np.where(keep, scores, -np.inf)
    right = softmax.along(masked, 2)
    for other, words in (
        (softmax.along(scores, 2), "the mask were left out"),
        (softmax.along(scores + keep, 2), "the mask were added to the scores as 0 and 1"),
        (softmax.along(masked, 1), ""),
    ):
        assert words in said(part("_softmax", right, other, masked, behind=(scores,)))


def test_group_and_batch_norm():
    x = RANDOM.standard_normal((3, 6, 2, 2))
    gain, bias, mean, variance = (np.abs(RANDOM.standard_normal(6)) for _ in range(4))
    shaped = [one.reshape(-1, 1, 1) for one in (gain, bias, mean, variance)]

    def batch(epsilon: float) -> np.ndarray:
        return (x - shaped[2]) / np.sqrt(shaped[3] + epsilon) * shaped[0] + shaped[1]

    leaves = (gain, bias, mean, variance)
    assert "BatchNorm's epsilon were 0.001" in said(
        part("native_batch_norm", batch(1e-5), batch(1e-3), x, leaves=leaves)
    )
    one, two = (normalization._grouped(x, 2, 1e-5, turns) * shaped[0] + shaped[1] for turns in (False, True))
    assert "taken in turns" in said(part("native_group_norm", one, two, x, leaves=(gain, bias)))


STEPS = 24
SHAPES = {"matrix": (5, 6), "vector": (6,)}
START = {name: RANDOM.uniform(-0.4, 0.4, shape) for name, shape in SHAPES.items()}
GRADIENTS = [
    {name: 10.0 ** RANDOM.uniform(-9, 0, shape) * RANDOM.choice((-1, 1), size=shape) for name, shape in SHAPES.items()}
    for _ in range(STEPS)
]


def trained(
    rate: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.99),
    epsilon: float = 1e-8,
    decay: float = 0.1,
    ahead: int = 1,
    all_decay: bool = True,
    coupled: bool = False,
    inside: bool = False,
) -> list[dict[str, np.ndarray]]:
    """AdamW under a warm-up."""
    now, m, v = dict(START), {}, {}
    found = []
    for step, given in enumerate(GRADIENTS):
        factor = rate * min((step + ahead) / 5, 1)
        for name, gradient in given.items():
            own = decay if all_decay or gradient.ndim > 1 else 0.0
            used = gradient + own * now[name] if coupled else gradient
            m[name] = betas[0] * m.get(name, 0) + (1 - betas[0]) * used
            v[name] = betas[1] * v.get(name, 0) + (1 - betas[1]) * used**2
            one, two = (1 - beta ** (step + 1) for beta in betas)
            root = np.sqrt(v[name] / two + epsilon) if inside else np.sqrt(v[name] / two) + epsilon
            kept = now[name] if coupled else now[name] * (1 - factor * own)
            now[name] = kept - factor * (m[name] / one) / root
        found.append(dict(now))
    return found


def told(theirs: list[dict[str, np.ndarray]], until: float = LATER) -> Explanation | None:
    sides = (optimizers.moves(START, GRADIENTS, side, list(SHAPES)) for side in (trained(), theirs))
    return optimizers.explain(*sides, until)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"betas": (0.9, 0.999)}, "beta2 were 0.999 in the port (0.99 in the original)"),
        ({"epsilon": 1e-7}, "epsilon were 1e-07 in the port (1e-08"),
        ({"inside": True}, "its epsilon inside the root in the port"),
        ({"decay": 1e-4}, "the weight decay were 0.0001 in the port (0.1 in the original)"),
        ({"all_decay": False}, "the weight decay of tensors of one axis were 0"),
        ({"coupled": True}, "the decay of 0.1 were added to the gradients in the port (L2)"),
        ({"ahead": 2}, "the schedule were a step ahead"),
        ({"rate": 0.01001}, "the learning rate were 1.001 of the original's"),
    ],
)
def test_optimizers_are_told_apart_by_their_steps(fields: dict[str, Any], words: str):
    found = told(trained(**fields))
    assert found is not None
    assert words in found.looks_like


def test_optimizers_that_are_not_told_apart_are_not_named():
    alike = told(trained())
    assert alike is not None
    assert not alike.looks_like
    two = told(trained(epsilon=1e-7, decay=1e-2))
    assert two is not None
    assert not two.looks_like
    assert "not told apart" in two.stopped
    noisy = [{name: value * (1 + 1e-6) for name, value in step.items()} for step in trained()]
    found = told(noisy, time.perf_counter() + 1.0)
    assert found is not None
    assert not found.looks_like


def test_laws_of_draws():
    random = np.random.default_rng(1)
    uniform = random.uniform(-1, 1, (100, 12, 6)) / np.sqrt(6)
    assert laws.told(uniform) == "uniform within 1 / sqrt(6) = 0.4082"
    assert laws.told(np.zeros((9, 4))) == "at 0 everywhere"
    assert "5/3" in laws.told(uniform * 5 / 3)
    moved = uniform.copy()
    moved[:, 3:6] += 1
    assert laws.told(moved, 4).endswith("+1 in block 2 of 4")
    assert laws.told(uniform * 1.07) == ""
    assert laws.told(random.standard_t(5, (100, 12, 6))) == ""
    orthogonal = np.stack([np.linalg.qr(random.standard_normal((6, 6)))[0] for _ in range(9)])
    assert laws.told(orthogonal) == "orthogonal"


def test_draws_of_the_right_law_are_not_explained():
    """What is wrong with them is another thing."""
    random = np.random.default_rng(2)
    assert laws.follows(random.uniform(-0.5, 0.5, (100, 30)), Uniform(0.5))
    assert not laws.follows(random.uniform(-0.5, 0.5, (100, 30)), Uniform(0.6))
    assert laws.follows(random.standard_normal((100, 30)), Normal(1.0))
    assert laws.follows(np.ones((9, 3)), Constant(1.0))
    ours = random.uniform(-1, 1, (100, 12, 6)) / np.sqrt(6)
    assert not laws.of_port(ours, ours).looks_like
    found = laws.of_port(ours, np.zeros_like(ours))
    assert "at 0 everywhere in the port (uniform within 1 / sqrt(6)" in found.looks_like
    assert looks_like(found)[0][0] == "looks like"
