"""How either side computes: threads by size, evaluation without a graph, and compilation where it is asked for."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch

import flax_impl
import torch_impl
from flax_impl import compilation
from spec import parameters
from spec.command import main
from spec.errors import Unsupported
from spec.experiment import load, override
from spec.framework import Settings
from spec.training import initial_state
from torch_impl import settings as torch_settings
from torch_impl import training
from torch_impl.model import Model
from torch_impl.settings import computing, is_small
from torch_impl.transformer import sinusoids

ROOT = Path(__file__).parents[2]
COMPILED = Settings("float64", compiled=True)


def start(name: str, epochs: int, precision: str = "float64") -> tuple[Any, Any]:
    experiment = override(load(name), training__epochs=epochs)
    return experiment, initial_state(
        experiment.training.optimizer, parameters.draw(experiment.model.parameters(), 0, precision, 0.1)
    )


def test_a_small_model_gets_one_thread_and_gives_the_others_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    small, large = load("hello-gru"), override(load("hello-gru"), model__hidden_size=1024)
    assert is_small(small)
    assert not is_small(large)
    torch.set_num_threads(3)
    try:
        for experiment, threads in ((small, 1), (large, 3), (None, 3)):
            with computing(Settings(), experiment):
                assert torch.get_num_threads() == threads
            assert torch.get_num_threads() == 3
        seen: list[int] = []
        inner = training.evaluate
        monkeypatch.setattr(training, "evaluate", lambda *a: seen.append(torch.get_num_threads()) or inner(*a))
        for large_from, threads in ((torch_settings.LARGE, 1), (0, 3)):
            monkeypatch.setattr(torch_settings, "LARGE", large_from)
            experiment, state = start("hello-gru", 1)
            torch_impl.train(experiment, state, 1, 0, Settings("float64"))
            assert seen.pop() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("asked", [False, True])
def test_a_gpu_is_asked_for_deterministic_algorithms(asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_settings, "device_of", lambda _: torch.device("cpu"))
    monkeypatch.setattr(torch_settings.os, "environ", {})
    settings = Settings(device="cuda", deterministic=asked)
    with computing(settings):
        assert torch.are_deterministic_algorithms_enabled() == torch.backends.cudnn.deterministic == asked
        assert not torch.backends.cudnn.benchmark
        assert ("CUBLAS_WORKSPACE_CONFIG" in torch_settings.os.environ) == asked
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic
    # An option that this XLA does not know would be left out.
    expected = {"xla_gpu_deterministic_ops": True} if asked else {}
    assert compilation.options(settings, quick=True) == compilation.ensemble_options(settings) == expected


def test_evaluation_is_in_inference_mode_and_spoils_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    sinusoids.cache_clear()
    seen: list[bool] = []
    inner = Model.predict
    monkeypatch.setattr(Model, "predict", lambda *a: seen.append(torch.is_inference_mode_enabled()) or inner(*a))
    experiment, state = start("hello-transformer", 1)
    batch = experiment.batch(0, 0, "float64")
    torch_impl.predict(experiment, state.parameters, batch, Settings("float64"))
    assert seen == [True]
    spec = experiment.model
    shape = (batch.inputs.shape[1], spec.hidden_size, spec.position_base, torch.float64, torch.device("cpu"))
    assert sinusoids.cache_info().currsize == 1
    assert not sinusoids(*shape).is_inference()
    assert sinusoids.cache_info().hits == 1
    assert np.isfinite(torch_impl.train(experiment, state, 1, 0, Settings("float64")).losses).all()


TRAIN = """
import sys
import torch, torch_impl
from torch._dynamo.utils import counters
from spec import parameters
from spec.experiment import load, override
from spec.framework import Settings
from spec.training import initial_state

experiment = override(load("hello-rnn"), training__epochs=3)
start = parameters.draw(experiment.model.parameters(), 0, "float64")
state = initial_state(experiment.training.optimizer, start)
for compiled in (False, True):
    found = torch_impl.train(experiment, state, 3, 0, Settings("float64", compiled=compiled))
    arrays = {"losses": found.losses, **found.state.parameters}
    parameters.save(f"{sys.argv[1]}/{compiled}.safetensors", arrays)
    print(counters["stats"]["unique_graphs"])
"""


@pytest.mark.long
def test_compiled_is_eager_to_rounding(tmp_path: Path) -> None:
    """In a process of its own, without the checks of shapes, which torch cannot trace.

    A few steps in float64, as in crosscheck's lock step, on which rounding has hardly grown.
    """
    command = [sys.executable, "-c", TRAIN, str(tmp_path)]
    # One graph is worth no processes that import torch, no header compiled for others, and no programs that find out
    # what this processor can do.
    quick = {
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0",
        "TORCHINDUCTOR_VEC_ISA_OK": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    # The bytecode of torch's compiler is where torch was installed, not with what this run keeps.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPYCACHEPREFIX"} | quick
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    graphs = [int(line) for line in done.stdout.split()]
    assert graphs[0] == 0 < graphs[1]
    eager, found = (parameters.load(tmp_path / f"{compiled}.safetensors")[0] for compiled in (False, True))
    for name, values in eager.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-12, err_msg=name)


def test_compilation_without_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(Unsupported, match="no-such-compiler"):
        torch_impl.describe(COMPILED)
    out = tmp_path / "run"
    assert main("torch_impl", ["hello-gru", "--compile", "--out", str(out)]) == Unsupported.exit_code
    assert "no-such-compiler" in capsys.readouterr().err
    assert not out.exists()
    assert torch_impl.describe(Settings())


def test_an_ensemble_of_torch_is_not_compiled(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main("torch_impl", ["hello-gru", "--compile", "--seeds", "2"]) == 2
    assert "--compile: expected none with --seeds: torch_impl compiles" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_an_ensemble_of_jax_says_before_it_begins_that_it_compiles(tmp_path: Path) -> None:
    """In a process that has compiled nothing yet."""
    command = [sys.executable, "-m", "flax_impl.train", "hello-rnn", "--compile", "--seeds", "2", "--epochs", "1"]
    done = subprocess.run([*command, "--out", str(tmp_path / "a")], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert (tmp_path / "a" / "summary.json").exists()


@pytest.fixture
def nothing_asked() -> Iterator[None]:
    """Nothing is known of the compiler yet, and nothing that is found out is kept."""
    compilation._known.cache_clear()
    yield
    compilation._known.cache_clear()


@pytest.mark.parametrize(
    "unknown", [{"xla_cpu_no_such_option": True}, {"xla_backend_optimization_level": "no such level"}]
)
def test_options_that_this_compiler_lacks_are_left_out(unknown: compilation.Options) -> None:
    given = {"xla_cpu_multi_thread_eigen": False} | unknown | {"xla_llvm_disable_expensive_passes": True}
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.jit(lambda: 0, compiler_options=given).lower().compile()
    assert compilation.known(given) == {
        "xla_cpu_multi_thread_eigen": False,
        "xla_llvm_disable_expensive_passes": True,
    }


@pytest.mark.usefixtures("nothing_asked")
@pytest.mark.parametrize("raised", [ValueError, TypeError, NotImplementedError, KeyError, jax.errors.JaxRuntimeError])
def test_whatever_this_compiler_raises_for_an_option(monkeypatch: pytest.MonkeyPatch, raised: type[Exception]) -> None:
    jit = jax.jit

    def picky(function: Callable, compiler_options: compilation.Options) -> Any:
        if "xla_cpu_multi_thread_eigen" in compiler_options:
            raise raised("no such thing")
        return jit(function, compiler_options=compiler_options)

    monkeypatch.setattr(jax, "jit", picky)
    given: compilation.Options = {"xla_cpu_multi_thread_eigen": False, "xla_backend_optimization_level": 1}
    assert compilation.known(given) == {"xla_backend_optimization_level": 1}


@pytest.mark.usefixtures("nothing_asked")
def test_the_compiler_is_asked_once_for_options_that_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[compilation.Options] = []
    monkeypatch.setattr(compilation, "_accepts", lambda options: asked.append(options) or True)
    for _ in range(3):
        assert compilation.known(compilation.QUICK) == compilation.QUICK
    assert asked == [compilation.QUICK]


def test_compiling_harder_trains_the_same_to_rounding() -> None:
    """JAX's side of --compile, whole: other options, and recurrences without a loop."""
    experiment, state = start("hello-gru", 3)
    usual, harder = (flax_impl.train(experiment, state, 3, 0, Settings("float64", compiled=c)) for c in (False, True))
    np.testing.assert_allclose(harder.losses, usual.losses, rtol=1e-12)
    for name, values in usual.state.parameters.items():
        np.testing.assert_allclose(harder.state.parameters[name], values, rtol=0, atol=1e-12, err_msg=name)
    quick = compilation.options(Settings(), quick=True).keys()
    assert (
        compilation.options(COMPILED, quick=True).keys() == quick - compilation.known(compilation.QUICK).keys() != quick
    )
    assert compilation.ensemble_options(COMPILED) != compilation.ensemble_options(Settings())
    assert compilation.ensemble_options(COMPILED, small=True) == compilation.ensemble_options(COMPILED)
