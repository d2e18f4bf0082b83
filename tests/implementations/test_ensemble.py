"""A member of an ensemble is the run of its seed alone, whatever the others are; shown by faults that break it."""

import importlib
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from kinds import covering

from crosscheck.bounds.rounding_spread import FACTOR, PREFIX, measure, perturbed
from crosscheck.checks import members
from spec.ensemble import NEVER, chunk_size, cut, first_solved, join, member_bytes, one_by_one, solved_members
from spec.experiment import Experiment, load, override, shipped
from spec.framework import Ensemble, Settings
from spec.parameters import Parameters
from spec.training import initial_state

SETTINGS = Settings("float64")
SEEDS = (3, 2**32 - 1)
TRAINED = [name for name in shipped() if load(name).training.epochs]
OF_FLAX = (
    *("course-rnn-cell", "last-step-classifier", "ragged-lstm", "ragged-transformer", "hello-transformer-dropout"),
    *("hello-stacked-lstm-dropout", "hello-encoder-decoder", "hello-lstm-attention", "hello-multi-head-attention"),
    *("hello-embedding-max-norm", "hello-embedding-padding", "hello-embedding-scale-by-frequency"),
    *("hello-gru-clipping", "hello-lstm-adamw-warm-up"),
)
"""Every model, and whatever acts on members each for itself. `vmap` knows no other options of a model, and each takes
seconds to compile; the check of members, with --thorough, compiles those of all experiments."""
ALL = [("torch_impl", name) for name in covering(TRAINED)] + [("flax_impl", name) for name in OF_FLAX]
METHODS = {"torch_impl": "vmap", "flax_impl": "jit(vmap(scan))"}
AS_SHIPPED = ("last-step-classifier", "hello-transformer-dropout")
"""Experiments that XLA compiles with the effort that users get: one with batches of each member's own, one without."""


@pytest.fixture(autouse=True)
def any_number_is_compiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few members would run one after the other, which shows nothing.

    And most are compiled with little effort: that the same program is faster after twice the time is shown by some.
    """
    if importlib.util.find_spec("jax"):
        monkeypatch.setattr("flax_impl.ensemble.WORTH_COMPILING", 1)
        parameters = getattr(getattr(request.node, "callspec", None), "params", {})
        if parameters.get("experiment_name") not in AS_SHIPPED:
            from flax_impl import compilation

            effort = {"xla_backend_optimization_level": compilation.QUICK["xla_backend_optimization_level"]}
            monkeypatch.setattr(compilation, "ENSEMBLE", compilation.ENSEMBLE | effort)


def shortened(name: str, epochs: int = 4) -> Experiment:
    training = load(name).training
    few = {
        "training__epochs": min(epochs, training.epochs),
        "training__steps_per_epoch": min(8, training.steps_per_epoch),
    }
    return override(load(name), **few)


def arrays_of(losses: np.ndarray, logits: np.ndarray) -> dict[str, np.ndarray]:
    return {"losses": losses, "logits": logits}


def alone(implementation: Any, experiment: Experiment, seed: int, start: Parameters) -> tuple[dict[str, Any], int]:
    """Losses and last logits of the run of that seed, and its time to solve."""
    state = initial_state(experiment.training.optimizer, start)
    run = implementation.train(experiment, state, experiment.training.epochs, seed, SETTINGS)
    solved_at = first_solved(run.logits, experiment.evaluation_batch("float64"))
    return arrays_of(run.losses, run.logits[-1]), solved_at


def strangers(implementation: Any, experiment: Experiment, seeds: tuple[int, ...], found: Ensemble) -> list[str]:
    """What of which members lies outside the envelope of the runs of their seeds alone."""
    wrong = []
    for member, seed in enumerate(seeds):
        start = implementation.initialize(experiment, seed, SETTINGS)
        expected, solved_at = alone(implementation, experiment, seed, start)
        runs = (alone(implementation, experiment, seed, other)[0] for other in perturbed(start, seed))
        envelope = measure(expected, runs)
        for name, value in arrays_of(found.losses[member], found.logits[member]).items():
            assert value.shape == expected[name].shape
            assert value.dtype == expected[name].dtype
            # Never below one rounding of the largest value: some envelopes are exactly zero.
            least = np.finfo(np.float64).eps * np.abs(expected[name]).max()
            if np.abs(value - expected[name]).max() > FACTOR * max(envelope[PREFIX + name], least):
                wrong.append(f"{seed}: {name}")
        if found.first_solved[member] != solved_at:
            wrong.append(f"{seed}: first_solved")
    return wrong


@pytest.mark.by_default("*-ragged-lstm", "*-hello-stacked-lstm-dropout", "*-course-rnn-cell", "torch_impl-hello-*")
@pytest.mark.parametrize(("name", "experiment_name"), ALL)
def test_members_are_the_runs_of_their_seeds_alone(name: str, experiment_name: str) -> None:
    implementation, experiment = importlib.import_module(name), shortened(experiment_name)
    found = implementation.train_ensemble(experiment, SEEDS, SETTINGS)
    assert found.method == METHODS[name]
    assert found.first_solved.dtype == np.int64
    assert strangers(implementation, experiment, SEEDS, found) == []


@pytest.mark.parametrize("name", METHODS)
def test_the_time_to_solve_is_that_of_the_run_alone(name: str) -> None:
    implementation, experiment = importlib.import_module(name), load("course-rnn")
    seeds = tuple(range(12))
    found = implementation.train_ensemble(experiment, seeds, SETTINGS)
    times = [alone(implementation, experiment, s, implementation.initialize(experiment, s, SETTINGS))[1] for s in seeds]
    assert found.first_solved.tolist() == times
    assert len(set(times)) > 3  # NEVER among them, or the seeds would say nothing
    assert NEVER in times


@pytest.mark.by_default("torch_impl-hello-stacked-lstm-dropout", "torch_impl-ragged-lstm")
@pytest.mark.parametrize(
    ("name", "experiment_name"),
    [*((name, "hello-stacked-lstm-dropout") for name in METHODS), ("torch_impl", "ragged-lstm")],
)
def test_chunks_change_nothing(name: str, experiment_name: str) -> None:
    implementation, experiment = importlib.import_module(name), shortened(experiment_name, 3)
    whole = implementation.train_ensemble(experiment, range(5), SETTINGS)
    cut_up = implementation.train_ensemble(experiment, range(5), SETTINGS, chunk=2)
    np.testing.assert_allclose(whole.losses, cut_up.losses, rtol=1e-13)
    # A logit near 0 is a sum of terms as large as the largest logit, whose rounding it carries.
    np.testing.assert_allclose(whole.logits, cut_up.logits, rtol=1e-11, atol=1e-14 * np.abs(whole.logits).max())
    np.testing.assert_array_equal(whole.first_solved, cut_up.first_solved, strict=True)
    assert len(cut_up.losses) == 5


@pytest.mark.by_default("hello-stacked-lstm-dropout")
@pytest.mark.parametrize("experiment_name", ["last-step-classifier", "hello-stacked-lstm-dropout"])
def test_cores_change_nothing_to_the_last_bit(experiment_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from flax_impl import ensemble

    monkeypatch.setattr(ensemble, "SMALLEST_BLOCK", 2)
    monkeypatch.setattr(ensemble, "LARGEST_BLOCK", 2)
    experiment = shortened(experiment_name, 2)
    found = {}
    for cores in (1, 2, 8):
        monkeypatch.setattr(ensemble, "threads", lambda cores=cores: cores)
        found[cores] = ensemble.train_ensemble(experiment, range(7), SETTINGS)
    for other in (found[2], found[8]):
        for one, two in zip(found[1][:3], other[:3], strict=True):
            np.testing.assert_array_equal(one, two, strict=True)
    assert len({losses.tobytes() for losses in found[1].losses}) == 7
    assert strangers(importlib.import_module("flax_impl"), experiment, tuple(range(7)), found[8]) == []


def test_the_block_does_not_depend_on_the_machine_and_fills_no_cache() -> None:
    from flax_impl.ensemble import BLOCK_MEMORY, LARGEST_BLOCK, SMALLEST_BLOCK, block_size

    for name in TRAINED:
        size = block_size(load(name), 1000, SETTINGS)
        assert SMALLEST_BLOCK / 2 < size <= LARGEST_BLOCK
        assert size <= SMALLEST_BLOCK or size * member_bytes(load(name), SETTINGS.precision) <= BLOCK_MEMORY
    assert block_size(load("hello-rnn"), 10, SETTINGS) == 10
    assert block_size(load("hello-rnn"), 1000, Settings(device="gpu")) == 1000


def test_an_interruption_leaves_the_other_blocks_alone() -> None:
    from flax_impl.ensemble import side_by_side

    begun = []

    def interrupted(start: int) -> Any:
        begun.append(start)
        if start == 0:
            raise KeyboardInterrupt
        time.sleep(0.1)

    with pytest.raises(KeyboardInterrupt):
        side_by_side(interrupted, range(100), 2)
    assert len(begun) < 10


def test_what_cannot_be_batched_is_trained_in_a_loop_and_says_so() -> None:
    import torch_impl

    experiment = override(load("hello-transformer"), model__attention_dropout=0.5, training__epochs=2)
    found = torch_impl.train_ensemble(experiment, SEEDS, SETTINGS)
    assert found.method == "loop"
    assert strangers(torch_impl, experiment, SEEDS, found) == []


def test_the_reference_is_a_plain_loop() -> None:
    from spec import reference

    experiment = shortened("course-rnn-cell", 2)
    found = reference.train_ensemble(experiment, SEEDS, SETTINGS)
    assert found.method == "loop"
    assert strangers(reference, experiment, SEEDS, found) == []


def test_the_global_state_of_torch_is_left_alone() -> None:
    import torch

    import torch_impl

    torch.manual_seed(1)
    before = torch.get_rng_state(), torch.backends.mkldnn.enabled, torch.backends.cuda.flash_sdp_enabled()
    torch_impl.train_ensemble(shortened("hello-stacked-lstm-dropout", 2), SEEDS, SETTINGS)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (torch.backends.mkldnn.enabled, torch.backends.cuda.flash_sdp_enabled())


@pytest.mark.parametrize(
    ("options", "seeds"),
    [({"padding_idx": 3}, (1, 2)), ({"max_norm": 1.0}, (1, 2)), ({"scale_grad_by_freq": True}, (1, 2))],
)
def test_embedding_options_with_batches_of_their_own(options: dict[str, Any], seeds: tuple[int, ...]) -> None:
    """Members that look up different rows."""
    import torch_impl

    changes = {f"model__inputs__{key}": value for key, value in options.items()}
    experiment = override(load("last-step-classifier"), **changes, training__epochs=1, model__inputs__num_embeddings=10)
    found = torch_impl.train_ensemble(experiment, seeds, SETTINGS)
    assert strangers(torch_impl, experiment, seeds, found) == []


@pytest.mark.parametrize(
    ("base", "changes", "method"),
    [
        ("ragged-lstm", {"model__inputs__max_norm": 1.0}, "vmap"),
        ("ragged-lstm", {"model__inputs__padding_idx": 1, "task__shortest": 0}, "vmap"),
        ("ragged-lstm", {"task__readout": "last step", "model__readout": "last step"}, "vmap"),
        ("ragged-transformer", {"model__dropout": 0.5, "task__shortest": 0}, "vmap"),
        # torch counts and drops in layouts that depend on the lengths.
        ("ragged-lstm", {"model__inputs__scale_grad_by_freq": True}, "loop"),
        ("ragged-lstm", {"model__dropout": 0.5, "model__num_layers": 2}, "loop"),
    ],
)
def test_sequences_of_several_lengths(base: str, changes: dict[str, Any], method: str) -> None:
    """Each member has its own lengths and initial states, and padding is looked up, rescaled and counted by nobody."""
    import torch_impl

    experiment = override(load(base), **{"training__epochs": 1, "training__steps_per_epoch": 3, **changes})
    found = torch_impl.train_ensemble(experiment, SEEDS, SETTINGS)
    assert found.method == method
    assert strangers(torch_impl, experiment, SEEDS, found) == []


def seeds_alike(patch: pytest.MonkeyPatch) -> None:
    from torch_impl import ensemble

    real = ensemble.initialize
    patch.setattr(ensemble, "initialize", lambda experiment, seed, settings: real(experiment, 3, settings))


def one_norm_for_all(patch: pytest.MonkeyPatch) -> None:
    from torch_impl import members

    def clip(spec: Any, gradients: dict[str, Any]) -> None:
        norm = sum(float((gradient**2).sum()) for gradient in gradients.values()) ** 0.5
        for gradient in gradients.values():
            gradient.mul_(min(1.0, spec.max_norm / (norm + spec.epsilon)))

    patch.setattr(members, "clip_members", clip)


def neighbours_mix(patch: pytest.MonkeyPatch) -> None:
    from torch_impl import members

    real = members.clip_members

    def clip(spec: Any, gradients: dict[str, Any]) -> None:
        real(spec, gradients)
        for gradient in gradients.values():
            gradient += 1e-9 * gradient.mean(0, keepdim=True)

    patch.setattr(members, "clip_members", clip)


def one_mask_for_all(patch: pytest.MonkeyPatch) -> None:
    from torch_impl import member_masks

    real = member_masks.dropout_of
    patch.setattr(member_masks, "dropout_of", lambda e, batch, seed, step, masks: real(e, batch, 3, step, masks))


def rows_of_the_first(patch: pytest.MonkeyPatch) -> None:
    from torch_impl import members

    real = members.renormalized
    patch.setattr(members, "renormalized", lambda s, rows, indices: real(s, rows[:1], indices).expand_as(rows))


@pytest.mark.parametrize(
    ("plant", "experiment_name"),
    [
        (seeds_alike, "hello-rnn"),
        (one_norm_for_all, "hello-gru-clipping"),
        (neighbours_mix, "hello-lstm"),
        (one_mask_for_all, "hello-stacked-lstm-dropout"),
        (rows_of_the_first, "hello-embedding-max-norm"),
    ],
)
def test_a_planted_fault_is_seen(
    plant: Callable[[pytest.MonkeyPatch], None], experiment_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch_impl

    experiment = shortened(experiment_name)
    plant(monkeypatch)
    found = torch_impl.train_ensemble(experiment, SEEDS, SETTINGS)
    wrong = strangers(torch_impl, experiment, SEEDS, found)
    assert any(w.startswith(f"{SEEDS[1]}:") for w in wrong)


@pytest.mark.parametrize("experiment_name", ["hello-rnn", "hello-stacked-lstm-dropout"])
def test_one_key_for_all_members_is_seen_in_flax(experiment_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import jax

    import flax_impl
    from flax_impl import ensemble

    # Of a length that no other test compiles: the compiled function would be taken from the cache.
    experiment = shortened(experiment_name, 4)
    real = jax.random.key
    monkeypatch.setattr(jax.random, "key", lambda seed: real(3))
    found = flax_impl.train_ensemble(experiment, SEEDS, SETTINGS)
    monkeypatch.undo()
    ensemble.compile_members.cache_clear()
    assert any(w.startswith(f"{SEEDS[1]}:") for w in strangers(flax_impl, experiment, SEEDS, found))


def test_by_default_members_are_compiled_with_every_effort() -> None:
    """What compiles small ensembles is not what compiles large ones, so crosscheck asks for each."""
    from flax_impl import compilation

    def effort(experiment: Experiment) -> str:
        asked = (experiment, members.CHUNK, SETTINGS)
        if compilation.is_large(*asked):
            return "rows first"
        return "quick" if compilation.is_small_ensemble(*asked) else "in between"

    asked = [e for e in map(load, TRAINED) if members.MANY in members.cases(e, "float64", False)]
    assert {effort(experiment) for experiment in asked} == {"quick", "in between", "rows first"}


def test_cutting_is_even_and_bounded() -> None:
    for count, size in ((1, 5), (5, 5), (6, 5), (10, 4), (13, 6), (1000, 110), (100_000, 2048)):
        parts = cut(count, size)
        assert [member for part in parts for member in part] == list(range(count))
        assert len(parts[0]) <= size
        assert [len(part) for part in parts] == sorted((len(part) for part in parts), reverse=True)
        assert len(parts[0]) - len(parts[-1]) <= 1
        assert len(parts) == -(-count // size)
        assert cut(count, len(parts[0])) == parts


def test_large_members_come_in_small_chunks() -> None:
    small, large = load("hello-rnn"), override(load("hello-rnn"), model__hidden_size=2048)
    assert member_bytes(small, "float64") > member_bytes(small, "float32")
    assert 1 < chunk_size(large, "float32") < 16
    assert chunk_size(small, "float32") > 1000
    longer = override(
        load("last-step-classifier"), training__epochs=1000
    )  # whose batches all members have for themselves
    assert chunk_size(longer, "float32") < chunk_size(load("last-step-classifier"), "float32")


def test_solved_members_and_joining() -> None:
    experiment = load("hello-rnn")
    batch = experiment.evaluation_batch("float64")
    right = np.eye(4)[batch.targets]
    wrong = np.eye(4)[(batch.targets + 1) % 4]
    almost = right.copy()
    almost[0, -1] = wrong[0, -1]
    assert solved_members(np.stack([right, wrong, almost]), batch).tolist() == [True, False, False]
    assert first_solved(np.stack([wrong, right, wrong, right]), batch) == 2
    assert first_solved(np.stack([wrong, almost]), batch) == NEVER
    one = Ensemble(np.ones((1, 2)), right[None], np.array([1]), "loop")
    both = join([one, one._replace(losses=np.zeros((1, 2)), method="vmap")])
    assert (both.losses.tolist(), both.method) == ([[1, 1], [0, 0]], "loop, vmap")


def test_a_loop_of_a_framework_is_its_ensemble() -> None:
    import torch_impl

    experiment = shortened("hello-gru", 2)
    side = torch_impl.open(experiment, SETTINGS)
    loop = one_by_one(side.initialize, side.train, experiment, SEEDS, SETTINGS.precision)
    assert loop.method == "loop"
    assert strangers(torch_impl, experiment, SEEDS, loop) == []


@pytest.mark.needs("flax")
def test_few_members_are_not_worth_a_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    implementation = importlib.import_module("flax_impl")
    monkeypatch.setattr("flax_impl.ensemble.WORTH_COMPILING", 3)
    assert implementation.train_ensemble(shortened("hello-rnn", 1), (1, 2), SETTINGS).method == "loop"
