"""The initialization check: honest draws pass whatever the seed, and faults planted in a copy of flax_impl's are named.

Copies are made of the text of flax_impl's `draw` and `initialize` and run in this process, since a process with JAX
for each of them would take minutes.
"""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from sides import Opened

from crosscheck.bounds import tolerances
from crosscheck.checks import LADDER, initialization, structure
from crosscheck.comparison import Arrays, Comparison, Place
from crosscheck.faults import plant, table
from crosscheck.faults.fault import Edit, Fault
from crosscheck.request import Request
from spec import experiment as experiments
from spec.errors import Unsupported
from spec.experiment import Experiment
from spec.framework import Precision
from spec.parameters import draw

FLAX = Path(__file__).parents[2] / "flax_impl"

RunCrosscheck = Callable[..., Any]
Copied = Callable[..., str]


def record(framework: object, experiment: Experiment, seed: int = 0, precision: Precision = "float32") -> Arrays:
    return initialization.record(Opened(framework), experiment, "seeds", Request(precision, "cpu", seed))


def judged(experiment: Experiment, arrays: Arrays, precision: Precision = "float32") -> list[Comparison]:
    """What is found on one side; the other has nothing."""
    place = Place(experiment.name, initialization.NAME, precision, "seeds", ("one", "two"))
    found = initialization.compare(experiment, place, arrays, {})
    return [comparison for comparison in found if comparison.sides[0] != "two"]


def failures(experiment: Experiment, arrays: Arrays, precision: Precision = "float32") -> list[Comparison]:
    return [comparison for comparison in judged(experiment, arrays, precision) if not comparison.passed]


@pytest.mark.parametrize("name", ["torch_impl", "flax_impl"])
def test_honest_implementations_pass_at_several_seeds(name: str):
    framework = importlib.import_module(name)
    for shipped in ("hello-embedding-padding", "hello-transformer", "course-rnn-cell-walk"):
        experiment = experiments.load(shipped)
        for seed in range(2):
            assert failures(experiment, record(framework, experiment, seed)) == []


def test_the_reference_passes_in_its_own_precision():
    from spec import reference

    for name in ("hello-gru", "hello-embedding-padding", "hello-transformer", "course-rnn-walk"):
        experiment = experiments.load(name)
        assert failures(experiment, record(reference, experiment, precision="float64"), "float64") == []
        with pytest.raises(Unsupported):
            record(reference, experiment)


TABLE = {plant.label(fault): fault for fault in table.FAULTS}


class Seen(NamedTuple):
    """A fault of flax_impl. first: the first failure. named: a pattern of the parameters that fail."""

    fault: Fault
    first: str
    named: str


def of_table(name: str, first: str, named: str) -> Seen:
    return Seen(TABLE[f"flax_impl/{name}"], first, named)


def own(what: str, experiment: str, first: str, named: str, *edits: Edit) -> Seen:
    """One that the table has of the other side alone, or not so slight."""
    return Seen(Fault(what, what, "flax_impl", edits, experiment, initialization.NAME, first), first, named)


def at_uniform(line: str) -> Edit:
    """Something before the uniform draw of `parameter` within `bound`."""
    return Edit(
        "parameters.py:draw", "        case Uniform(bound):\n", f"        case Uniform(bound):\n            {line}\n"
    )


def at_end(line: str) -> Edit:
    """Something after `tensor` was drawn."""
    return Edit("parameters.py:draw", "    return tensor\n", f"    {line}\n    return tensor\n")


def labelled(expression: str) -> Edit:
    """Another label of a tensor's key."""
    return Edit("parameters.py:key_of", "zlib.crc32(parameter.name.encode())", f"zlib.crc32({expression}.encode())")


def keyed(expression: str) -> Edit:
    """Another key of the whole model."""
    return Edit("parameters.py:initialize", "jax.random.key(seed)", expression)


NORMAL = "_sampler(jax.random.normal, settings)(key, shape, dtype)"

SEEN = [
    of_table("normal-of-the-fan-in", "rnn.weight_ih_l0, range", ".*"),
    of_table("normal-of-the-right-deviation", "rnn.weight_ih_l0, range", ".*"),
    of_table("input-matrix-by-its-own-fan-in", "rnn.weight_ih_l0, range", "rnn.weight_ih_l0"),
    own(
        "orthogonal recurrent matrices",
        "hello-gru",
        "rnn.weight_hh_l0, range",
        "rnn.weight_hh_l0",
        at_end("tensor = np.linalg.qr(tensor)[0] if 'weight_hh' in parameter.name else tensor"),
    ),
    of_table("biases-start-at-zero", "rnn.bias_ih_l0, seeds", ".*bias.*"),
    of_table("forget-bias-starts-at-one", "rnn.bias_ih_l0, range", "rnn.bias_ih_l0"),
    own(
        "forget gate's bias of one sign",
        "hello-lstm",
        "rnn.bias_hh_l0, mean",
        "rnn.bias_hh_l0",
        at_end("tensor[8:16] = abs(tensor[8:16]) if 'bias_hh' in parameter.name else tensor[8:16]"),
    ),
    of_table("embedding-by-its-width", "embedding.weight, largest", "embedding.weight"),
    own(
        "embedding uniform of equal variance",
        "hello-embedding-rnn",
        "embedding.weight, largest",
        "embedding.weight",
        Edit("parameters.py:draw", NORMAL, "jax.random.uniform(key, shape, dtype, -(3**0.5), 3**0.5)"),
    ),
    of_table("xavier-of-separate-projections", "encoder.layers.0.self_attn.in_proj_weight, range", r".*in_proj_weight"),
    own("gain 5/3", "hello-rnn", "rnn.weight_ih_l0, range", ".*", at_uniform("bound *= 5 / 3")),
    own(
        "the whole range 3 % too narrow",
        "hello-rnn",
        "rnn.weight_ih_l0, largest",
        # Four elements of head.bias are too few draws for 3 %.
        "rnn.*|head.weight",
        at_uniform("bound *= 0.97"),
    ),
    of_table("one-key-for-all", "rnn.weight_hh_l0, between tensors", r"(?!rnn.weight_ih_l0$).*"),
    own(
        "layers cloned",
        "hello-transformer",
        "encoder.layers.1.self_attn.in_proj_weight, between tensors",
        r"encoder.layers.1.*(in_proj_weight|out_proj.weight|linear..(weight|bias))",
        labelled("parameter.name.replace('layers.1', 'layers.0')"),
    ),
    of_table("one-key-for-both-directions", "rnn.weight_ih_l0_reverse, between tensors", ".*_reverse"),
    own(
        "gates cloned",
        "hello-lstm",
        "rnn.weight_hh_l0, within",
        "rnn.weight_hh_l0",
        at_end("tensor[16:24] = tensor[8:16] if 'weight_hh' in parameter.name else tensor[16:24]"),
    ),
    own(
        "one row for all rows",
        "hello-lstm",
        "head.weight, within",
        "head.weight",
        at_end("tensor = np.tile(tensor[:1], (4, 1)) if parameter.name == 'head.weight' else tensor"),
    ),
    of_table("seed-ignored", "rnn.weight_ih_l0, seeds", ".*"),
    own("half of the seeds", "hello-gru", "rnn.weight_ih_l0, seeds", ".*", keyed("jax.random.key((seed + 1) // 2)")),
    of_table("key-of-seed-plus-index", "rnn.weight_hh_l0, between tensors", r"(?!rnn.weight_ih_l0$).*"),
    own(
        "a generator that remembers",
        "hello-gru",
        "rnn.weight_ih_l0, same seed",
        ".*",
        keyed("jax.random.key(next(COUNTER))"),
        Edit("parameters.py", "fold_in =", "COUNTER = iter(range(1000))\nfold_in ="),
    ),
    of_table("padding-row-drawn", "embedding.weight, row 0", "embedding.weight"),
    own(
        "out_proj's bias not zero",
        "hello-transformer",
        "encoder.layers.0.self_attn.out_proj.bias, constant",
        r".*out_proj.bias",
        at_end("tensor += 1e-6 * ('out_proj.bias' in parameter.name)"),
    ),
]


def planted(fault: Fault | None = None) -> ModuleType:
    """flax_impl's initialize, from edited text where there is a fault."""
    text = (FLAX / "parameters.py").read_text()
    if fault:
        ((file, text),) = plant.edited(fault, FLAX).items()
        assert file == "parameters.py"
    module = ModuleType("edited_parameters")
    exec(compile(text, str(FLAX / "parameters.py"), "exec"), module.__dict__)
    return module


@pytest.mark.needs("flax")
@pytest.mark.parametrize("seen", SEEN, ids=lambda seen: seen.fault.name)
def test_fault_is_found_and_its_tensors_named(seen: Seen):
    experiment = experiments.load(seen.fault.experiment)
    found = failures(experiment, record(planted(seen.fault), experiment))
    names = [p.name for p in experiment.model.parameters()]
    assert found
    assert found[0].tensor == seen.first
    assert {c.tensor.partition(",")[0] for c in found} == {name for name in names if re.fullmatch(seen.named, name)}
    assert all(c.difference is None or c.bound is None or c.difference > c.bound for c in found)


@pytest.mark.needs("flax")
def test_an_unedited_copy_passes():
    for name in sorted({seen.fault.experiment for seen in SEEN}):
        assert failures(experiments.load(name), record(planted(), experiments.load(name))) == []


def test_the_side_at_fault_is_named(run_crosscheck: RunCrosscheck, fake: Copied):
    draws = "spec_parameters.draw(experiment.model.parameters(), seed, settings.precision)"
    wrong = fake((f"return {draws}", f"drawn = {draws}\n    drawn['head.bias'] *= 1.1\n    return drawn"))
    outcome = run_crosscheck(wrong, "--checks", "initialization")
    assert outcome.exit_code == 1
    assert outcome.status("initialization") == "different"
    assert {tuple(f["sides"]) for f in outcome.failures()} == {(wrong, "law")}
    assert outcome.failures()[0]["tensor"] == "head.bias, range"


def test_what_is_left_out_is_not_checked(run_crosscheck: RunCrosscheck, fake: Copied):
    draws = "    return spec_parameters.draw(experiment"
    raises = "    from spec.errors import Unsupported\n    raise Unsupported('no generator')\n"
    outcome = run_crosscheck(fake((draws, raises + draws)), "--checks", "initialization")
    assert outcome.status("initialization") == "not checked"
    assert "no generator" in outcome.output


@pytest.mark.parametrize(
    ("change", "tensor", "note"),
    [
        (lambda arrays: arrays.pop("head.bias"), "head.bias", "missing"),
        (lambda arrays: arrays.pop("again/head.bias"), "head.bias, same seed", "missing"),
        (lambda arrays: arrays.update({"head.gain": np.ones(3)}), "head.gain", "not in the spec"),
        (lambda arrays: arrays.update({"head.bias": arrays["head.bias"][:-1]}), "head.bias", "expected shape"),
        (lambda arrays: arrays.update({"head.bias": arrays["head.bias"].astype("float64")}), "head.bias", "dtype"),
        (lambda arrays: arrays.update({"head.bias": arrays["head.bias"] * np.nan}), "head.bias", "not finite"),
    ],
)
def test_guards(change: Callable[[dict[str, np.ndarray]], object], tensor: str, note: str):
    experiment = experiments.load("hello-gru")
    arrays = dict(record(_Numpy, experiment))
    change(arrays)
    found = failures(experiment, arrays)
    assert found[0].tensor == tensor
    assert note in found[0].note


class _Numpy:
    """Honest draws without a framework, in any precision."""

    @staticmethod
    def initialize(experiment: Experiment, seed: int, settings: Any) -> dict[str, np.ndarray]:
        return draw(experiment.model.parameters(), seed, settings.precision)


def test_many_honest_draws_raise_no_alarm():
    experiment = experiments.load("hello-gru")
    assert [found for seed in range(30) for found in failures(experiment, record(_Numpy, experiment, seed))] == []


def test_the_level_of_a_whole_run():
    shipped = [experiments.load(name) for name in experiments.shipped()]
    assert 2 * len(shipped) * tolerances.INITIAL_LAW_LEVEL < 1e-4
    for experiment in shipped[::8]:
        # Every comparison that chance can fail has its share of the level: no fewer tests than comparisons.
        exact = ("same seed", "constant", "row", "range")
        made = [c for c in judged(experiment, record(_Numpy, experiment)) if "," in c.tensor]
        chance = [c for c in made if not any(word in c.tensor.partition(",")[2] for word in exact)]
        assert len(chance) <= initialization.tests(experiment.model.parameters())


def test_blocks_come_from_the_table():
    def blocks(name: str) -> dict[str, int]:
        return {p.name: p.blocks for p in experiments.load(name).parameters() if p.blocks > 1}

    lstm = blocks("hello-lstm")
    assert lstm == dict.fromkeys((f"rnn.{n}_l0" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")), 4)
    packed = blocks("hello-transformer")
    assert set(packed.values()) == {3}


def test_the_check_stands_above_structure():
    assert LADDER[LADDER.index(structure) + 1] is initialization
