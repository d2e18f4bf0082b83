"""Faults planted on one side of two otherwise equal ones: the blame falls on that side, the right stage and step.

Here the sides are `spec.reference` twice, so that a test takes milliseconds; test_blame_of_copies.py has real ones.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import numpy as np
import pytest

from crosscheck.checks import LADDER
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.diagnosis import vote
from crosscheck.diagnosis.finding import Blame
from crosscheck.probes import equations
from crosscheck.report.details import blame_facts
from crosscheck.request import Request
from spec import reference
from spec.experiment import Experiment, load, override, shipped
from spec.framework import Gradients, Replay, Settings, Side, bound
from spec.reference.contract import forced

FIRST, SECOND = "first", "second"


class Faulty:
    """The reference with some functions replaced; each replacement is given the original first."""

    def __init__(self, **faults: Callable[..., Any]):
        self._faults = faults

    def open(self, subject: Any, settings: Settings) -> Side:
        def planted(name: str, fault: Callable[..., Any]) -> Callable[..., Any]:
            return bound(subject, settings, partial(fault, getattr(reference, name)))

        faults = {name: planted(name, fault) for name, fault in self._faults.items()}
        return msgspec.structs.replace(reference.open(subject, settings), **faults)


def wrong_stages(*stages: str, factor: float = 1 + 1e-6) -> Faulty:
    """Those stages off by a factor, and whatever follows computed from them by the equations."""

    def forward(original: Any, *given: Any, **named: Any) -> Arrays:
        wrong: Arrays = {}
        for stage in stages:
            made = forced(*given, stages=wrong, **named)
            wrong = {**wrong, stage: made[stage] * factor}
        return {**forced(*given, stages=wrong, **named), **wrong}

    return Faulty(forward=forward)


def judged(
    experiment: Experiment, check_name: str, first: Any, second: Any, seed: int = 0
) -> tuple[list[Comparison], Blame | None]:
    """The first case that fails, recorded, compared and blamed in this process, in float64."""
    check = next(check for check in LADDER if check_name == check.NAME)
    found: list[Comparison] = []
    for case in check.cases(experiment, "float64", False):
        recorded = {
            name: check.record(side, experiment, case, Request("float64", "cpu", seed, envelope=name == FIRST))
            for name, side in ((FIRST, first), (SECOND, second))
        }
        place = Place(experiment.name, check_name, "float64", case, (FIRST, SECOND))
        found = check.compare(experiment, place, recorded[FIRST], recorded[SECOND])
        if not all(comparison.passed for comparison in found):
            return found, vote.find(experiment, found, recorded, seed)
    return found, None


def blamed(experiment: Experiment, check: str, fault: Any, on: str = SECOND) -> Blame:
    """The blame for a fault on that side alone, which must be found there and only there."""
    sides = (fault, reference) if on == FIRST else (reference, fault)
    _, blame = judged(experiment, check, *sides)
    assert blame is not None
    assert (blame.at_fault, [departure.side for departure in blame.departures]) == (on, [on])
    return blame


@pytest.mark.by_default(
    "hello-transformer-norm-first",
    "ragged-lstm",
    "hello-encoder-decoder-lstm",
    "hello-lstm-attention",
    "hello-stacked-*",
    "hello-multi-head-attention",
    "hello-embedding-*",
    "course-*",
    "last-step-classifier",
    "text-lstm",
)
@pytest.mark.parametrize("name", shipped())
def test_every_stage_of_every_model_is_told_from_what_it_drags_along(name: str):
    experiment = load(name)
    stages = experiment.model.intermediates()
    for position, stage in enumerate(stages):
        side = (FIRST, SECOND)[position % 2]
        (departure,) = blamed(experiment, "forward", wrong_stages(stage), side).departures
        assert departure.stage == stage
        assert departure.wrong == [stage]
        # An LSTM's c_t is computed before its h_t and listed after it.
        earlier = set(stages[:position]) - {stage.replace(".c_", ".h_")}
        assert not earlier & set(departure.downstream)
        # Nothing is computed from what is handed back.
        assert stage.endswith(("logits", ".h_n", ".c_n")) or departure.downstream


def test_a_late_stage_is_told_from_an_early_one():
    fault = wrong_stages("encoder.layers.0.norm1", "encoder.layers.1.linear2")
    (departure,) = blamed(load("hello-transformer"), "forward", fault).departures
    assert departure.wrong == ["encoder.layers.0.norm1", "encoder.layers.1.linear2"]
    assert departure.downstream == [
        "encoder.layers.0.linear2",
        "encoder.layers.0.norm2",
        "encoder.layers.0.output",
        "encoder.layers.1.self_attn",
        "encoder.layers.1.norm1",
        "encoder.layers.1.norm2",
        "encoder.layers.1.output",
        "logits",
    ]


@pytest.mark.parametrize(("stage", "time"), [("rnn.h_l0", 2), ("rnn.h_l0_reverse", 2)])
def test_the_time_step_of_a_recurrence(stage: str, time: int):
    """One state is off and all that follow are computed from it, so that they are downstream."""
    experiment = load("hello-bidirectional-gru")

    def forward(original: Any, *given: Any, **named: Any) -> Arrays:
        made = original(*given, **named)
        values = made[stage].copy()
        length = values.shape[1]
        values[:, time] *= 1 + 1e-6
        for _ in range(length):
            own = forced(*given, stages={stage: values}, **named)[stage]
            later = range(time) if stage.endswith("_reverse") else range(time + 1, length)
            values[:, list(later)] = own[:, list(later)]
        return {**forced(*given, stages={stage: values}, **named), stage: values}

    (departure,) = blamed(experiment, "forward", Faulty(forward=forward)).departures
    assert (departure.stage, departure.time, departure.index[1]) == (stage, time, time)
    assert departure.wrong == [stage]
    assert isinstance(departure.value, float)
    assert isinstance(departure.expected, float)
    assert departure.value / departure.expected == pytest.approx(1 + 1e-6, abs=1e-12)


@pytest.mark.parametrize("check", ["forward", "gradients", "loss", "trajectory"])
def test_a_first_side_with_chance_in_it_does_not_widen_its_own_bound(check: str):
    """Its perturbed runs part by chance, and an envelope of them would let any difference pass."""
    generator = np.random.default_rng(0)

    def moved(value: Any) -> Any:
        return value * generator.uniform(0.5, 1.5, np.shape(value))

    def forward(original: Any, *given: Any, **named: Any) -> Arrays:
        return {name: moved(value) for name, value in original(*given, **named).items()}

    def gradients(original: Any, *given: Any, **named: Any) -> Gradients:
        made = original(*given, **named)
        return made._replace(loss=moved(made.loss), parameters={n: moved(g) for n, g in made.parameters.items()})

    def loss_gradient(original: Any, *given: Any, **named: Any) -> Any:
        made = original(*given, **named)
        return made._replace(loss=moved(made.loss), logits=moved(made.logits))

    def shifted(made: Any) -> Any:
        return made._replace(losses=moved(made.losses), logits=moved(made.logits))

    def train(original: Any, *given: Any, **named: Any) -> Any:
        return shifted(original(*given, **named))

    def train_starts(original: Any, *given: Any, **named: Any) -> Any:
        return [shifted(made) for made in original(*given, **named)]

    fault = Faulty(
        forward=forward, gradients=gradients, loss_gradient=loss_gradient, train=train, train_starts=train_starts
    )
    experiment = override(load("hello-rnn"), training__epochs=3)
    found, _ = judged(experiment, check, fault, reference)
    assert not all(comparison.passed for comparison in found)


def test_both_sides_wrong_in_different_ways():
    experiment = load("hello-transformer")
    _, blame = judged(
        experiment, "forward", wrong_stages("encoder.layers.1.norm2"), wrong_stages("input", factor=1 + 1e-4)
    )
    assert blame is not None
    assert blame.at_fault == "both"
    assert [(d.side, d.stage) for d in blame.departures] == [(FIRST, "encoder.layers.1.norm2"), (SECOND, "input")]


@pytest.mark.parametrize("side", [FIRST, SECOND])
@pytest.mark.parametrize(
    ("change", "value"),
    [
        (lambda made: made | {"query": np.where(made["query"] > 0, np.nan, made["query"])}, "nan"),
        (lambda made: {name: value for name, value in made.items() if name != "query"}, "missing"),
        (lambda made: made | {"query": made["query"].astype(np.float32)}, "expected dtype float64, got float32"),
        (lambda made: made | {"query": made["query"][:, 1:]}, "expected shape (1, 5, 8), got (1, 4, 8)"),
        (lambda made: made | {"more": np.zeros(3)}, "None"),
    ],
)
def test_what_no_distance_can_be_measured_of(change: Callable[[Any], Any], value: str, side: str):
    fault = Faulty(forward=lambda original, *given, **named: change(original(*given, **named)))
    (departure,) = blamed(load("hello-self-attention"), "forward", fault, side).departures
    assert departure.tensor in ("query", "more")
    assert str(departure.value) == value


@pytest.fixture(params=["all elements", "those that differ"])
def asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the model is small enough for the reference to be asked for all of its gradients."""
    if request.param != "all elements":
        monkeypatch.setattr(equations, "LARGEST", 10)
    return request.param


@pytest.mark.usefixtures("asked")
def test_a_gradient_alone():
    def gradients(original: Any, *given: Any, **named: Any) -> Gradients:
        made = original(*given, **named)
        return made._replace(
            parameters=made.parameters | {"rnn.bias_hh_l0": np.zeros_like(made.parameters["rnn.bias_hh_l0"])}
        )

    blame = blamed(load("hello-gru"), "gradients", Faulty(gradients=gradients))
    (departure,) = blame.departures
    assert (departure.stage, departure.wrong, departure.downstream) == ("rnn", ["rnn.bias_hh_l0"], [])
    assert departure.value == 0.0
    assert blame.reference == departure.expected


@pytest.mark.usefixtures("asked")
def test_one_element_of_a_gradient():
    def gradients(original: Any, *given: Any, **named: Any) -> Gradients:
        made = original(*given, **named)
        wrong = made.parameters["rnn.weight_ih_l0"].copy()
        wrong[5, 2] += 1e-6
        return made._replace(parameters=made.parameters | {"rnn.weight_ih_l0": wrong})

    blame = blamed(load("hello-gru"), "gradients", Faulty(gradients=gradients))
    (departure,) = blame.departures
    assert (departure.tensor, departure.index) == ("rnn.weight_ih_l0", (5, 2))
    assert isinstance(departure.value, float)
    assert isinstance(departure.expected, float)
    assert departure.value - departure.expected == pytest.approx(1e-6, rel=1e-6)


@pytest.mark.usefixtures("asked")
def test_the_backward_pass_starts_at_the_end():
    """What comes before the wrong module in the table comes after it in the backward pass."""

    def gradients(original: Any, *given: Any, **named: Any) -> Gradients:
        made = original(*given, **named)
        names = list(made.parameters)
        wrong = names[: names.index("encoder.layers.1.linear1.weight")]
        parameters = {name: g * (1.001 if name in wrong else 1.0) for name, g in made.parameters.items()}
        # What is wrong goes on to the inputs.
        return made._replace(parameters=parameters, inputs=made.inputs * 1.001)

    (departure,) = blamed(load("hello-transformer"), "gradients", Faulty(gradients=gradients)).departures
    assert departure.stage == "encoder.layers.1.self_attn.out_proj"
    assert "encoder.layers.0.norm2.weight" in departure.downstream
    assert "encoder.layers.1.norm1.weight" not in departure.downstream


def altered_replay(step: int, part: str, name: str, factor: float) -> Faulty:
    """An optimizer that goes wrong at a step and takes the rest of its steps rightly."""

    def replay(original: Any, experiment: Any, parameters: Any, gradients: Any, settings: Any) -> Replay:
        from spec.reference.optimizer import step as take
        from spec.training import initial_state

        state, trace = initial_state(experiment.training.optimizer, parameters), []
        for number, given in enumerate(gradients):
            state = take(experiment.training, state, given)
            if number >= step:
                held = getattr(state, part)
                state = state._replace(**{part: held | {name: held[name] * factor}})
            trace.append(state)
        return Replay(
            {n: np.stack([s.parameters[n] for s in trace]) for n in parameters},
            {n: np.stack([s.slots[n] for s in trace]) for n in state.slots},
        )

    return Faulty(replay=replay)


@pytest.mark.parametrize("step", [0, 3, 31])
@pytest.mark.parametrize(
    ("experiment", "part", "name", "stage"),
    [
        ("hello-gru", "slots", "head.weight.exp_avg_sq", "clipping or slots"),
        ("hello-gru-clipping", "parameters", "rnn.weight_hh_l0", "update"),
    ],
)
def test_the_step_at_which_an_optimizer_departs(experiment: str, part: str, name: str, stage: str, step: int):
    blame = blamed(load(experiment), "optimizer", altered_replay(step, part, name, 1 + 1e-9))
    (departure,) = blame.departures
    assert (departure.step, departure.stage, departure.tensor) == (step, stage, f"{part}/{name}")
    assert blame.reference is not None


@pytest.mark.by_default("hello-gru-clipping-slots-gradient or slots-0-*", "hello-lstm-adamw-warm-up-*-5-10")
@pytest.mark.parametrize(
    ("name", "part", "stage", "step", "largest"),
    [
        ("hello-lstm-adamw-warm-up", "parameters", "update", 0, equations.LARGEST),
        ("hello-lstm-adamw-warm-up", "parameters", "update", 5, equations.LARGEST),
        ("hello-lstm-adamw-warm-up", "parameters", "update", 5, 10),
        ("hello-gru-clipping", "slots", "gradient or slots", 0, equations.LARGEST),
        ("hello-gru", "slots", "gradient or slots", 5, 10),
        ("hello-gru-clipping", "slots", "gradient or slots", 5, 10),
    ],
)
def test_the_step_at_which_a_training_departs(
    name: str, part: str, stage: str, step: int, largest: int, monkeypatch: pytest.MonkeyPatch
):
    experiment = override(load(name), training__epochs=12)
    monkeypatch.setattr(equations, "LARGEST", largest)

    def train(original: Any, experiment: Any, state: Any, epochs: int, seed: int, settings: Any, **named: Any) -> Any:
        if state.step > step:  # Resumed later than that.
            return original(experiment, state, epochs, seed, settings, **named)
        before = original(experiment, state, step, seed, settings, record=True) if step else None
        at = before.state if before else state
        made = original(experiment, at, 1, seed, settings, record=True)
        held = getattr(made.state, part)
        wrong = {key: value * (1 + 1e-6) for key, value in held.items()}
        rest = original(
            experiment, made.state._replace(**{part: wrong}), epochs - step - 1, seed, settings, record=True
        )
        recorded = made._replace(**{part: {key: value[None] for key, value in wrong.items()}})
        runs = [run for run in (before, recorded, rest) if run]
        return rest._replace(
            losses=np.concatenate([run.losses for run in runs]),
            logits=np.concatenate([run.logits for run in runs]),
            parameters={key: np.concatenate([run.parameters[key] for run in runs]) for key in rest.parameters},
            slots={key: np.concatenate([run.slots[key] for run in runs]) for key in rest.slots},
        )

    blame = blamed(experiment, "trajectory", Faulty(train=train))
    (departure,) = blame.departures
    assert (departure.step, departure.stage) == (step, stage)
    assert departure.tensor.startswith(f"{part}/")
    assert isinstance(blame.reference, float)
    assert np.isfinite(blame.reference)


def test_a_wrong_loss_comes_before_what_follows_from_it():
    experiment = override(load("hello-rnn"), training__epochs=3)

    def train(original: Any, *given: Any, **named: Any) -> Any:
        made = original(*given, **named)
        return made._replace(losses=made.losses * (1 + 1e-6))

    (departure,) = blamed(experiment, "trajectory", Faulty(train=train)).departures
    assert (departure.step, departure.stage, departure.tensor) == (0, "loss", "loss")


def test_a_side_that_is_held_against_the_law_or_against_itself():
    experiment = load("hello-gru")
    doubled = Faulty(initialize=lambda original, *given: {n: 2 * p for n, p in original(*given).items()})
    rounded = Faulty(round_trip=lambda original, *given: {n: p + 1e-12 for n, p in original(*given).items()})
    for side in (FIRST, SECOND):
        assert blamed(experiment, "initialization", doubled, side).departures[0].stage == "initialization"
        assert blamed(experiment, "round-trip", rounded, side).departures[0].tensor == "rnn.weight_ih_l0"
    _, blame = judged(experiment, "round-trip", rounded, rounded)
    assert blame is not None
    assert blame.at_fault == "both"


def test_structure_is_the_specs_to_say():
    def fewer(original: Any, *given: Any) -> Arrays:
        return {name: value for name, value in original(*given).items() if name != "rnn.bias_hh_l0"}

    (departure,) = blamed(load("hello-gru"), "structure", Faulty(initialize=fewer)).departures
    assert (departure.tensor, departure.value, departure.expected) == ("rnn.bias_hh_l0", "missing", "float64[24]")


def a_failure(**changes: Any) -> Comparison:
    place = Place("hello-gru", "forward", "float64", "own", (FIRST, SECOND))
    return msgspec.structs.replace(place.failed("rnn.h_l0", ""), **changes)


@pytest.mark.parametrize(
    ("failure", "departs"),
    [
        (a_failure(kind="crashed", alone=FIRST, note=f"{FIRST}: ValueError: planted"), FIRST),
        (a_failure(kind="crashed", alone=SECOND, note=f"{SECOND}: its process was killed by SIGKILL"), SECOND),
        (a_failure(tensor="", note="the two sides were not handed the same inputs (seeds 0 and 1)"), "undecided"),
        (a_failure(check="outcome", case="seeds", tensor="solved"), "undecided"),
        (a_failure(check="trajectory", case="recipe"), "undecided"),
    ],
)
def test_where_the_reference_has_nothing_to_say(failure: Comparison, departs: str):
    blame = vote.find(load("hello-gru"), [failure], {FIRST: {}, SECOND: {}}, 0)
    assert blame is not None
    assert blame.at_fault == departs
    assert blame.reason


@pytest.mark.by_default("0.5-optimizer1", "1000000.0-optimizer2")
@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "Adam", "learning_rate": 0.01},
        {"name": "SGD", "learning_rate": 0.1},
        {"name": "SGD", "learning_rate": 0.1, "momentum": 0.5},
    ],
)
@pytest.mark.parametrize("norm", [0.5, 2.0, 1e6])
def test_clipping_where_most_gradients_are_not_known(
    optimizer: dict[str, Any], norm: float, monkeypatch: pytest.MonkeyPatch
):
    """It is by all of them: half the norm, twice, or none at all."""
    monkeypatch.setattr(equations, "LARGEST", 10)
    experiment = override(load("hello-gru-clipping"), training__epochs=3, training__optimizer=optimizer)
    clipping = experiment.training.clipping
    assert clipping is not None

    def train(original: Any, experiment: Any, *given: Any, **named: Any) -> Any:
        return original(override(experiment, training__clipping__max_norm=norm * clipping.max_norm), *given, **named)

    (departure,) = blamed(experiment, "trajectory", Faulty(train=train)).departures
    assert departure.step == 0
    assert departure.stage == ("gradient or slots" if experiment.training.optimizer.slots else "gradient or update")


def test_a_loss_beside_clipping(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(equations, "LARGEST", 10)
    experiment = override(load("hello-gru-clipping"), training__epochs=3)

    def train(original: Any, *given: Any, **named: Any) -> Any:
        made = original(*given, **named)
        return made._replace(losses=made.losses * (1 + 1e-6))

    (departure,) = blamed(experiment, "trajectory", Faulty(train=train)).departures
    assert (departure.step, departure.stage) == (0, "loss")


@pytest.mark.parametrize("problem", ["unsupported", "broken"])
def test_a_reference_that_cannot_serve_breaks_nothing(problem: str, monkeypatch: pytest.MonkeyPatch):
    experiment = load("hello-gru")
    failure = a_failure()
    arrays = {"rnn.h_l0": np.zeros((1, 5, 8))}
    if problem == "unsupported":
        # As for a model that has no equations here.
        monkeypatch.delattr("spec.reference.gru.GRU")
    else:
        monkeypatch.setattr("spec.reference.gru.GRU", lambda at, model: 1 / 0)
    blame = vote.find(experiment, [failure], {FIRST: arrays, SECOND: arrays}, 0)
    assert blame is not None
    expected = {"unsupported": "the reference has no GRU", "broken": "ZeroDivisionError"}
    assert blame.at_fault == "undecided"
    assert expected[problem] in blame.reason


def test_no_failure_no_blame():
    assert vote.find(load("hello-gru"), [], {}, 0) is None
    assert judged(load("hello-gru"), "forward", reference, reference)[1] is None


def test_the_words():
    blame = blamed(load("hello-gru"), "forward", wrong_stages("rnn.h_l0"))
    facts = dict(blame_facts(blame))
    assert facts["at fault"].startswith(f"{SECOND} (each stage from the side's own earlier ones")
    assert facts[f"in {SECOND}"].startswith("first wrong: rnn.h_l0, at time step 0; rnn.h_l0[0, 0, ")
    assert facts["downstream"] == "rnn.h_n, logits"
    assert float(facts["reference"]) == blame.reference
