"""Operations, optimizers and initial laws of pairs: named where a formula fits, and not where none does."""

import time
from typing import Any

import numpy as np
import pytest
from scipy import stats

from crosscheck.explain import laws, losses, optimizers, pairs, running
from crosscheck.explain.explanation import Budget, Explanation, OutOfTime
from crosscheck.explain.variants import gelu, normalization, softmax
from crosscheck.mapping.results import OperationPart
from crosscheck.report.details import looks_like
from spec.parameters import Constant, Normal, Uniform

RANDOM = np.random.default_rng(0)
X, GAIN, BIAS = RANDOM.standard_normal((5, 12)), RANDOM.standard_normal(12), RANDOM.standard_normal(12)


def hours() -> Budget:
    return Budget(1e4)


def part(op: str, value: np.ndarray, other: np.ndarray, *inputs: np.ndarray, **fields: Any) -> OperationPart:
    made = {"behind": (), "leaves": (), "first": True, "tolerance": 1e-9, "module": ""} | fields
    return OperationPart(op=op, value=value, other=other, inputs=inputs, **made)


def norm(epsilon: float, x: np.ndarray = X) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon) * GAIN + BIAS


def said(*parts: OperationPart, run: float = 1e4) -> str:
    found = pairs.explain(parts, Budget(run))
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
    found = pairs.explain([part("native_layer_norm", norm(1e-5), noise, X, leaves=(GAIN, BIAS))], hours())
    assert found is not None
    assert not found.looks_like
    assert len(found.tried) > 5
    # An operation whose own formula is another one than is known says nothing of the other side's.
    assert said(part("native_layer_norm", noise, norm(1e-6), X, leaves=(GAIN, BIAS))) == ""


def test_nothing_is_tried_where_nothing_differs():
    assert pairs.explain([part("native_layer_norm", norm(1e-5), norm(1e-5), X, leaves=(GAIN, BIAS))], hours()) is None
    assert pairs.explain([], hours()) is None


def test_without_time_nothing_is_named():
    one = part("gelu", gelu.silu(X), gelu.tanh_gelu(X), X)
    assert said(part("gelu", gelu.tanh_gelu(X), gelu.silu(X), X))
    assert said(one, run=0.0) == ""


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
    causal = softmax.along(np.where(np.tril(np.ones((4, 4), bool)), scores, -np.inf), 2)
    plain = softmax.along(scores, 2)
    assert "the mask were causal in the port (none in the original)" in said(part("_softmax", plain, causal, scores))
    assert said(part("_softmax", plain, causal[:, ::-1], scores)) == ""
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


def told(theirs: list[dict[str, np.ndarray]], run: float = 1e4) -> Explanation | None:
    one, two = (optimizers.moves(START, GRADIENTS, side, list(SHAPES)) for side in (trained(), theirs))
    return optimizers.explain(one, two, Budget(run))


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
    found = told(noisy, 3.0)
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


@pytest.mark.parametrize("shape", [(8, 1, 3, 3), (8, 3, 3, 3), (1, 1, 8, 8), (12, 6)])
def test_laws_of_one_deviation_are_told_apart_by_their_ends(shape: tuple[int, ...]):
    """Of 48 seeds of a small kernel: as many values as a report has of it."""
    random = np.random.default_rng(2)
    size, deviation = (48, *shape), 1 / np.sqrt(np.prod(shape[1:]))
    cut = stats.truncnorm(-2, 2, 0, deviation / laws.TRUNCATION).rvs(size, random_state=random)
    whole = deviation * random.standard_normal(size)
    named = laws.told(cut), laws.told(whole)
    assert named[0] == f"truncated normal of deviation 1 / sqrt({np.prod(shape[1:])}) = {deviation:.4g}"
    # Of (8, 1, 3, 3), 3,456 values do not tell 1 / sqrt(9) from Xavier's sqrt(2 / 17), and nothing is named.
    assert named[1].startswith("normal of deviation") or shape[1] == 1
    assert named[1].endswith(f" = {deviation:.4g}") or not named[1]
    # Off by what a fan that is counted wrongly, or a gain, may be off: another law, or none, but never these.
    assert laws.told(1.03 * cut) == ""
    assert laws.told(np.clip(whole, -2 * deviation, 2 * deviation)) == ""


@pytest.mark.long
def test_a_true_law_is_hardly_ever_given_up():
    """Each test by itself has its chance, and all together the one that is said."""
    random = np.random.default_rng(3)
    laws_of_draws = {
        "uniform": lambda: random.uniform(-1, 1, 2000),
        "normal": lambda: random.standard_normal(2000),
        "truncated normal": lambda: stats.truncnorm(-2, 2, 0, 1 / laws.TRUNCATION).rvs(2000, random_state=random),
    }
    for kind, draw in laws_of_draws.items():
        law = laws.DrawnLaw(kind, 1.0, "1")
        chances = [laws.probability(draw(), law) for _ in range(400)]
        # Of 400, 20 are expected at most below 0.05; 40 are beyond four and a half standard errors of that.
        assert 0 < sum(chance < 0.05 for chance in chances) < 40, kind
        assert min(chances) > laws.UNLIKELY


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


CLASSES = 5
PLAIN = losses.LossFormula("cross-entropy", "mean", 0.1)


def seen(ours: losses.LossFormula, theirs: Any, points: int = 2) -> list[losses.LossSeen]:
    """theirs: a formula, or a function of the original's loss."""
    random = np.random.default_rng(3)
    found = []
    for _ in range(points):
        logits, targets = random.standard_normal((4, 6, CLASSES)), random.integers(0, CLASSES, (4, 6))
        one = losses.cross_entropy(ours, logits, targets)
        two = losses.cross_entropy(theirs, logits, targets) if isinstance(theirs, losses.LossFormula) else theirs(one)
        inputs = {"0": random.standard_normal((4, 6, 3)), "1": targets}
        found.append(losses.LossSeen({"0": logits}, inputs, one, two))
    return found


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"reduction": "sum"}, "reduced by their sum in the port (their mean in the original)"),
        ({"reduction": "rows"}, "reduced by their sum over the number of rows in the port"),
        ({"smoothing": 0.0}, "labels were smoothed by 0 in the port (by 0.1 in the original)"),
        ({"others": True}, "labels were smoothed over the wrong classes alone in the port"),
        ({"twice": True}, "softmax were applied before the loss too in the port"),
        ({"ignored": 0}, "the class ignored were 0 in the port (none in the original)"),
    ],
)
def test_losses_are_told_apart_by_their_numbers(fields: dict[str, Any], words: str):
    for one, two, side in ((PLAIN, PLAIN._replace(**fields), "port"), (PLAIN._replace(**fields), PLAIN, "original")):
        found = losses.explain(seen(one, two), 1e-10, hours())
        assert found is not None
        assert found.looks_like, found.stopped
        assert side == "original" or words in found.looks_like


def test_losses_that_are_no_formula_are_not_named():
    two_things = PLAIN._replace(reduction="sum", smoothing=0.0)
    for theirs in (two_things, lambda loss: loss + 1e-6, lambda loss: loss**2):
        found = losses.explain(seen(PLAIN, theirs), 1e-10, hours())
        assert found is not None
        assert not found.looks_like
        assert len(found.tried) > 50
    assert losses.explain(seen(PLAIN, PLAIN), 1e-10, hours()) is None
    # One point alone may be chance.
    assert losses.explain(seen(PLAIN, lambda loss: 2 * loss, 1), 1e-10, hours()) is None
    found = losses.explain(seen(PLAIN, PLAIN._replace(reduction="sum")), 1e-10, Budget(0.0))
    assert found is not None
    assert not found.looks_like


def test_a_loss_of_no_known_formula_is_a_multiple():
    unknown = [one._replace(ours=one.ours + 0.3, theirs=2 * one.ours + 0.6) for one in seen(PLAIN, PLAIN)]
    found = losses.explain(unknown, 1e-10, hours())
    assert found is not None
    assert "the loss were 2 times the original's in the port" in found.looks_like


def test_regressions_are_told_apart():
    random = np.random.default_rng(4)
    points = []
    for _ in range(2):
        x, y = random.standard_normal((2, 4, 3))
        points.append(
            losses.LossSeen({"0": x}, {"y": y}, float(((x - y) ** 2).mean()), float(((x - y) ** 2).sum() / 2))
        )
    halved = [one._replace(theirs=one.ours / 2) for one in points]
    summed = [one._replace(theirs=one.theirs * 2) for one in points]
    for given, words in (
        (halved, "half the square of the difference in the port"),
        (summed, "their sum in the port (their mean in the original)"),
        (points, ""),
    ):
        found = losses.explain(given, 1e-10, hours())
        assert found is not None
        assert words in found.looks_like
        assert bool(words) == bool(found.looks_like)


def test_gradients_that_do_not_come_back():
    given = {"a": RANDOM.standard_normal((3, 4)), "b": RANDOM.standard_normal(4)}

    def said_of(theirs: dict[str, np.ndarray]) -> str:
        found = losses.of_gradients(given, theirs, 1e-10, hours())
        return found.looks_like if found else ""

    assert "no gradient came to a, b in the port" in said_of({n: 0 * g for n, g in given.items()})
    assert "gradients were -1 times" in said_of({n: -g for n, g in given.items()})
    assert said_of({"a": 2 * given["a"], "b": 3 * given["b"]}) == ""
    assert said_of({n: g + 1e-6 for n, g in given.items()}) == ""
    assert losses.of_gradients(given, given, 1e-10, hours()) is None


def running_of(after: Any) -> dict[str, Explanation]:
    """BatchNorm's statistics by a share of 0.1, and on the other side by `after`, of (before, batch's values)."""
    random = np.random.default_rng(5)
    x = 2 + random.standard_normal((7, 6, 3))
    before = {"mean": random.standard_normal(6), "var": 1 + random.random(6)}
    batch = {"mean": x.mean((0, 2)), "var": x.var((0, 2), ddof=1)}
    ours = {name: 0.9 * before[name] + 0.1 * batch[name] for name in before}
    theirs = after(before, batch, x)
    moved = {name: running.MovedStatistic(before[name], ours[name], theirs[name]) for name in before}
    return running.explain(moved, [random.standard_normal((7, 5)), x], 1e-10, hours())


def share(by: float, kind: Any = None) -> Any:
    def after(before: Any, batch: Any, x: Any) -> dict[str, np.ndarray]:
        taken = batch if kind is None else batch | {"var": kind(x, before)}
        return {name: (1 - by) * before[name] + by * taken[name] for name in before}

    return after


def test_running_statistics():
    turned = running_of(share(0.9))
    for name in ("mean", "var"):
        assert "took 0.9 of each batch's in the port (0.1 in the original" in turned[name].looks_like
        assert "the momentum the other way round" in turned[name].looks_like
    biased = running_of(share(0.1, lambda x, before: x.var((0, 2))))
    assert "divided by n in the port" in biased["var"].looks_like
    assert "mean" not in biased
    about = running_of(share(0.1, lambda x, before: ((x - before["mean"][:, None]) ** 2).mean((0, 2))))
    assert "squares about the running mean in the port" in about["var"].looks_like
    x = RANDOM.standard_normal((9, 4))
    still, squares = np.zeros(4), np.ones(4)
    moved = {
        "mean": running.MovedStatistic(still, 0.1 * x.mean(0), 0.1 * x.mean(0)),
        "var": running.MovedStatistic(squares, 0.9 + 0.1 * x.var(0), 0.9 + 0.1 * (x**2).mean(0)),
    }
    assert "about the running mean, which is zero" in running.explain(moved, [x], 1e-10, hours())["var"].looks_like
    assert "stood still" in running_of(lambda before, batch, x: before)["mean"].looks_like


def test_running_statistics_of_no_known_kind_are_not_named():
    for after in (
        lambda before, batch, x: {name: value * 1.001 for name, value in batch.items()},
        share(0.137391),
        share(0.9, lambda x, before: x.var((0, 2))),  # Two things at once.
    ):
        found = running_of(after)
        assert not found["var"].looks_like
        assert found["var"].tried


def test_train_mode_that_is_eval_mode():
    assert running.mode(1e6, 0.5).looks_like == "as if train mode computed as eval mode does in the port"
    assert running.mode(0.5, 1e6).looks_like.endswith("in the original")
    assert running.mode(1e6, 1e6).looks_like == ""


def test_a_budget_is_of_this_process_s_time():
    budget = Budget(3e-2)
    time.sleep(0.05)
    budget.check()
    assert budget.spent < 1e-2
    with budget.elsewhere():
        time.sleep(0.05)
    assert budget.spent > 4e-2
    assert budget.share > 1
    with pytest.raises(OutOfTime):
        budget.check()


def test_a_row_without_a_gradient_is_padding():
    random = np.random.default_rng(0)
    ours = {f"emb.weight, {point}": random.normal(size=(9, 4)) for point in ("as made", "drawn")}

    def silenced(rows: dict[str, int], given: dict[str, np.ndarray] = ours) -> dict[str, np.ndarray]:
        return {
            path: np.where(np.arange(9)[:, None] == rows.get(path.split(", ")[1]), 0.0, one)
            for path, one in given.items()
        }

    padded = silenced({"as made": 2, "drawn": 2})
    for one, two, side in ((padded, ours, "original"), (ours, padded, "port")):
        found = losses.of_gradients(one, two, 1e-10, hours())
        assert found is not None
        assert (
            found.looks_like
            == f"as if row 2 of emb.weight got no gradient in the {side} alone, which is what padding_idx=2 does"
        )
    elsewhere = {path: one + 1e-3 * (np.arange(9)[:, None] == 5) for path, one in padded.items()}
    for other in (silenced({"as made": 2, "drawn": 3}), silenced({"as made": 2}), elsewhere):
        found = losses.of_gradients(ours, other, 1e-10, hours())
        assert found is not None
        assert not found.looks_like
        assert "a row got no gradient" in found.tried
