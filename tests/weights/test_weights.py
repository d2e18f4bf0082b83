"""Every weight file of the table loads and predicts as its original does, or is refused in one line.

What takes libraries that `make test` does not install is run by `make test-weights`.
"""

import contextlib
import importlib
import io
import subprocess
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))

from rows import BAD, GOOD, MARKER, Bad, Good, predictions

from spec.command.run_directory import load_parameters
from spec.errors import OhlolError
from spec.experiment import load
from spec.weights import conversion

ROUNDING = 1e-12
"""Both sides compute in float64, some ten operations deep, with values of about 1: 2^-53 times 10^4."""


pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras's own


@pytest.fixture(autouse=True)
def converted_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a framework alone reads is converted in this process, by the same converter: to start another takes seconds.

    test_formats.py has a file of either framework read in a process of its own.
    """

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        module, *arguments = command[2:]
        said = io.StringIO()
        with contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = importlib.import_module(module).main(arguments)
        return subprocess.CompletedProcess(command, code, "", said.getvalue())

    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # which the converter sets
    monkeypatch.setattr(conversion, "subprocess", SimpleNamespace(run=run, TimeoutExpired=subprocess.TimeoutExpired))


def marked(rows: Iterable[Any]) -> list[Any]:
    return [
        pytest.param(
            row,
            id=row.name,
            marks=[*(pytest.mark.needs(side) for side in row.needs), *([pytest.mark.weights] if row.libraries else [])],
        )
        for row in rows
    ]


def inputs_of(experiment: str) -> np.ndarray:
    """Three sequences that no task draws."""
    random = np.random.default_rng(3)
    given = load(experiment).task.batch(0, 0, "float64").inputs
    shape = (3, *given.shape[1:])
    return random.integers(0, 4, shape) if given.dtype.kind == "i" else random.normal(size=shape)


def test_there_are_enough_rows() -> None:
    assert len(GOOD) >= 40
    assert len(BAD) >= 40
    assert len({row.name for row in (*GOOD, *BAD)}) == len(GOOD) + len(BAD)


@pytest.mark.by_default("linen GRU", "linen RNN", "Orbax LSTM", "Orbax, the last step", "[!lO]*")
@pytest.mark.parametrize("row", marked(GOOD))
def test_weights_predict_as_their_original_does(row: Good, tmp_path: Path) -> None:
    path, predict = row.write(tmp_path)
    loaded, said = load_parameters(path, load(row.experiment), "float64")
    text = "\n".join(said)
    for words in row.says:
        assert words in text
    inputs = inputs_of(row.experiment)
    expected = predict(inputs)
    # ONNX's own reference computes in the graph's float32.
    rounding = 1e-5 if expected.dtype == np.float32 else ROUNDING
    found = predictions(row.experiment, loaded, inputs)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=rounding)
    # Other weights would be seen.
    table = load(row.experiment).model.parameters()
    moved = {p.name: loaded[p.name] + 1e-3 * np.ptp(loaded[p.name]) for p in table}
    assert np.abs(predictions(row.experiment, moved, inputs) - expected).max() > 10 * rounding


@pytest.mark.parametrize("row", marked(BAD))
def test_what_is_no_fit_is_refused_in_one_line(row: Bad, tmp_path: Path) -> None:
    path = row.write(tmp_path)
    with pytest.raises(OhlolError) as raised:
        load_parameters(path, load(row.experiment), "float32")
    said = str(raised.value)
    assert said.startswith(str(tmp_path))
    assert row.says in said
    assert "\n" not in said
    assert len(said) < 1200
    assert raised.value.exit_code == row.code
    assert not (tmp_path / MARKER).exists()
