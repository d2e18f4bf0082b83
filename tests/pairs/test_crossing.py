"""What crosses between a side's process and crosscheck comes out as it went in; and what a side is handed, in order."""

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from crosscheck.comparison import Place
from crosscheck.pair import codec, ladder, leafwise, report, rounding, subject
from crosscheck.pair.codec import Packet, pack, unpack
from crosscheck.pair.ladder import PairWanted
from crosscheck.pair.leafwise import Computed
from crosscheck.pair.state import Found
from spec.errors import OhlolError
from spec.pair import Leaf, Objective, PairBatch, PairOptions


def crossed_over(value: Any, folder: Path) -> Any:
    packet = msgspec.json.encode(pack(value, folder, "answer"))
    return unpack(msgspec.json.decode(packet, type=Packet), folder)


def test_numbers_that_json_has_no_word_for_cross(tmp_path: Path):
    crossed = crossed_over((1.5, math.inf, -math.inf, math.nan, None), tmp_path)
    assert crossed[:3] == (1.5, math.inf, -math.inf)
    assert isinstance(crossed[3], float)
    assert math.isnan(crossed[3])
    assert crossed[4] is None


def test_a_large_mapping_stays_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    arrays = {"a": np.arange(6.0).reshape(2, 3).T, "b": np.float32(3), "c": np.zeros((0, 2), np.int32)}
    small = crossed_over(arrays, tmp_path)
    assert isinstance(small, dict)
    monkeypatch.setattr(codec, "LARGE", 8)
    large = crossed_over(({"more": arrays},), tmp_path)[0]["more"]
    assert isinstance(large, Computed)
    assert list(tmp_path.iterdir()) == []
    assert list(large) == list(small) == list(arrays)
    for found in (small, large):
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            assert np.array_equal(found[name], array)
    large["a"][0, 0] = 7.0  # an array of the reader's own
    assert large["a"][0, 0] == 0.0
    assert "d" not in large
    with pytest.raises(KeyError):
        large["d"]


def test_nothing_is_left_of_what_cannot_cross(tmp_path: Path):
    with pytest.raises(OhlolError, match="expected NumPy arrays"):
        pack({"a": np.ones(3), "b": object()}, tmp_path, "answer")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [False, True])
def test_blocks_say_what_the_whole_does(keep: bool, monkeypatch: pytest.MonkeyPatch):
    random = np.random.default_rng(0)
    one = random.standard_normal((7, 9))
    allowed = random.uniform(0.5, 1.0, one.shape)
    place = Place("pair", "check", "float64", "case", ("a", "b"))
    for number in range(40):
        two = one + random.uniform(-1, 1, one.shape) * (0.4 if number % 2 else 1.0)
        if number == 9:
            two[3, 4] = np.nan
        chosen = random.random(one.shape) < 0.1 if keep else None
        for bound in (0.7, allowed):
            monkeypatch.setattr(leafwise, "BLOCK", 10**6)
            whole = leafwise.close(place, "leaf", one, two, bound, chosen)
            monkeypatch.setattr(leafwise, "BLOCK", 5)
            assert repr(leafwise.close(place, "leaf", one, two, bound, chosen)) == repr(whole)  # NaN is no NaN
    assert not leafwise.close(place, "leaf", one, one, 1.0, np.zeros(one.shape, bool)).passed


@pytest.mark.parametrize(("numbers", "runs", "factor"), [(2 * 10**6, 5, 10), (10**7, 2, 20), (10**8, 1, 20)])
def test_large_models_are_asked_again_less_often(numbers: int, runs: int, factor: float):
    leaves = (Leaf("w", (numbers,), "float32", True),) * 2  # of both sides
    for precision in ("float64", "float32"):
        assert rounding.unit_of(precision, leaves, False)[2:] == (runs, factor)


def test_numbers_move_by_a_unit_in_their_last_place_and_stay_as_narrow_as_they_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leafwise, "BLOCK", 7)
    values = {"w": np.random.default_rng(0).standard_normal((5, 9)).astype(np.float32), "t": np.ones(3, np.float32)}
    values["w"][2, 3] = 0.0
    for precision, dtype in (("float32", np.float32), ("float64", np.float64)):
        unit = rounding.unit_of(precision, (Leaf("w", (45,), "float32", True),), False)
        runs = [dict(one) for one in rounding.nudged(values, unit, 0, ["t"])]
        assert len(runs) == rounding.RUNS
        for one in runs:
            assert one["w"].dtype == dtype
            assert one["t"] is values["t"]
            wide = values["w"].astype(np.float64)
            steps = np.abs(one["w"].astype(np.float64) - wide) / np.ldexp(unit.eps, np.frexp(wide)[1] - 1)
            assert np.array_equal(steps, wide != 0)
        assert not np.array_equal(runs[0]["w"], runs[1]["w"])


@pytest.mark.needs("torch", "flax")
def test_a_large_model_trains_as_a_small_one_does(monkeypatch: pytest.MonkeyPatch):
    """Copies that are let go, and slots that make room for new ones: no result changes, nor do a side's values."""
    import jax.numpy as jnp
    import optax
    import torch

    import flax_impl.pair.side
    import torch_impl.pair.side

    weights = np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32)
    model = torch.nn.Linear(3, 3, bias=False)
    model.weight.data = torch.from_numpy(weights.copy())
    slots = optax.adamw(0.1)

    def averaged() -> optax.GradientTransformation:
        """As Adam, and the parameters' mean: at first it is the parameters, the very arrays."""

        def update(gradients: Any, state: Any, parameters: Any) -> Any:
            updates, inner = slots.update(gradients, state[0], parameters)
            mean = {name: 0.9 * state[1][name] + 0.1 * one for name, one in parameters.items()}
            return updates, (inner, mean)

        return optax.GradientTransformation(lambda parameters: (slots.init(parameters), parameters), update)  # pyright: ignore[reportArgumentType]

    batches = [
        PairBatch((np.random.default_rng(step).standard_normal((4, 3)),), Objective("loss")) for step in range(3)
    ]
    for made, module, optimizer in (
        (model, torch_impl.pair.side, lambda parameters: torch.optim.AdamW(parameters, 0.1)),
        (((lambda p, x: x @ p["w"]), {"w": jnp.asarray(weights)}), flax_impl.pair.side, averaged()),
    ):
        options = PairOptions(loss=lambda output, x: (output**2).mean(), optimizer=optimizer)
        for precision in ("float64", "float32"):
            runs, replays = [], []
            for large in (10**9, 1):
                monkeypatch.setattr(module, "LARGE", large)
                side = module.open_side(made, options)
                (path,) = side.values()
                side.forward(batches[0].inputs, precision=precision)
                gradients = [{path: np.full((3, 3), 0.1 * step)} for step in range(3)]
                runs.append([step.values[path] for step in side.steps(batches, precision=precision)])
                replays.append([step[path] for step in side.replay(gradients, precision=precision)])
                assert np.array_equal(side.values()[path], weights)
            # Compiled with another effort, so other roundings.
            rounding = 16 * float(np.finfo(precision).eps)
            np.testing.assert_allclose(runs[0], runs[1], rounding, rounding)
            np.testing.assert_allclose(replays[0], replays[1], rounding, rounding)
            assert not np.array_equal(runs[0][0], runs[0][1])


@pytest.mark.needs("torch", "flax")
def test_a_loss_is_given_inputs_by_name_in_their_order():
    """Tracing sorts the names of a dictionary; a loss that took what it is called with in that order would differ."""
    import jax.numpy as jnp
    import optax
    import torch

    from flax_impl.pair.side import open_side as open_flax
    from torch_impl.pair.side import open_side as open_torch

    def loss(output: Any, words: Any, again: Any) -> Any:
        return ((output - 2 * words + 3 * again) ** 2).mean()

    weights = {"w": jnp.ones((3, 3))}
    sides = (
        open_torch(
            torch.nn.Linear(3, 3, bias=False),
            PairOptions(
                call=lambda model, words, again: model(words),
                loss=loss,
                optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1),
            ),
        ),
        open_flax((lambda p, words, again: words @ p["w"], weights), PairOptions(loss=loss, optimizer=optax.sgd(0.1))),
    )
    sides[0].load({"weight": np.ones((3, 3))})
    inputs = {"words": np.full((2, 3), 5.0), "again": np.full((2, 3), 7.0)}
    batch = PairBatch(inputs, Objective("loss"))
    for side in sides:
        assert side.gradients(inputs, batch.objective).loss == (15 - 10 + 21) ** 2
        assert next(iter(side.steps([batch]))).loss == (15 - 10 + 21) ** 2


@pytest.mark.needs("torch", "flax")
def test_the_ladder_of_a_large_model_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch):
    """A small one that is taken for a large one: few steps, few runs, everything by blocks, and each leaf by itself."""
    import jax.numpy as jnp
    import optax
    import torch

    import flax_impl.pair.side
    import torch_impl.pair.side

    for module in (rounding, flax_impl.pair.side, torch_impl.pair.side):
        monkeypatch.setattr(module, "LARGE", 10)
    monkeypatch.setattr(rounding, "HUGE", 12)
    monkeypatch.setattr(leafwise, "BLOCK", 5)

    def original(seed: int) -> Any:
        return torch.nn.Linear(4, 3)

    def port(seed: int) -> Any:
        draws = np.random.default_rng(seed).uniform(-0.5, 0.5, (5, 3)).astype(np.float32)
        return (lambda p, x: x @ p["w"] + p["b"]), {"w": jnp.asarray(draws[:4]), "b": jnp.asarray(draws[4])}

    def climbed(decay: float, step: float) -> Any:
        optimizers = (
            lambda parameters: torch.optim.AdamW(parameters, 0.1, weight_decay=0.1),
            lambda: optax.adamw(optax.piecewise_constant_schedule(0.1, {2: step}), weight_decay=decay),
        )
        options = {"optimizers": optimizers, "loss": lambda output, x: (output**2).mean()}
        pair = subject.live((original, port), lambda rng: (rng.standard_normal((6, 4)),), options)
        said: list[str] = []
        return ladder.climb(pair, PairWanted(), said.append, lambda _: None), said

    result, said = climbed(0.1, 1.0)
    assert result.exit_code == 0, report.plain_text(result)
    texts = {cell.check: cell.text for cell in result.cells}
    assert texts["trajectory"].startswith("5 steps in eval mode, 1 perturbed run")
    assert texts["optimizer"].startswith("4 steps")
    assert texts["initialization"].startswith("3 seeds")
    assert "gradients, as made, float64, perturbed run 1 of 1" in said
    assert "trajectory, float32, step 5 of 5" in said
    result, _ = climbed(0.11, 1.0)
    assert {one.check for one in result.differences} == {"optimizer"}, report.plain_text(result)
    # What only a training shows: the optimizer is left out, as if it had been the same.
    monkeypatch.setattr(ladder.training, "optimizer", lambda state: Found([], [], ""))
    result, _ = climbed(0.1, 1.001)
    assert {one.check for one in result.differences} == {"trajectory"}, report.plain_text(result)
