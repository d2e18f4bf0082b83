"""One command line, either framework: the same loss of the same weights, and the same text."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from spec import parameters
from spec.command import main
from spec.experiment import load, override, to_toml

pytestmark = pytest.mark.needs("torch", "flax")

IMPLEMENTATIONS = ("torch_impl", "flax_impl")

TEXT = load("text-lstm")

ARGUMENTS = ("--init-weights", "w", "--precision", "float64", "--json")

MIXED = "mixed.toml"
"""The same, with products of numbers rounded to bfloat16."""


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn ones, ten times as large as a training begins with: the likeliest byte is then not always the same."""
    monkeypatch.chdir(tmp_path)
    drawn = parameters.draw(TEXT.model.parameters(), 1, "float64")
    parameters.save(Path("w"), {name: 10 * array for name, array in drawn.items()})
    Path(MIXED).write_text(to_toml(override(TEXT, model__mixed_precision="bfloat16")))


def event(
    implementation: str, capsys: pytest.CaptureFixture[str], *arguments: str, experiment: str = TEXT.name
) -> dict[str, Any]:
    assert main(implementation, [experiment, *ARGUMENTS, *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_same_text(capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for temperature in ("0", "1", "0.5"):
        asked = ("--generate", "The ", "--length", "100", "--temperature", temperature, "--seed", "7")
        one, other = (event(implementation, capsys, *asked)["bytes"] for implementation in IMPLEMENTATIONS)
        assert one == other
        assert len(set(one)) > 5
        texts.append(one)
    assert texts[0] != texts[1] != texts[2] != texts[0]
    seeded = [event("torch_impl", capsys, "--generate", "The ", "--seed", seed)["bytes"] for seed in ("7", "8")]
    assert seeded[0] != seeded[1]


@pytest.mark.parametrize("name", ["weather-gru", "reverse-long"])
def test_the_same_lines_whatever_the_outcome_asks(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = load(name)
    parameters.save(Path("w"), parameters.draw(experiment.model.parameters(), 1, "float64"))
    said = []
    for implementation in IMPLEMENTATIONS:
        arguments = [name, "--evaluate", "--init-weights", "w", "--precision", "float64"]
        assert main(implementation, arguments) == 1
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    last = said[0].splitlines()[-1]
    assert re.fullmatch(
        r"Missed: [\d.e+]+ % above the lowest loss that there is, 0\.\d+"
        if name == "weather-gru"
        else r"Missed: 0 % of 256 sequences are right from the first symbol to the last",
        last,
    )


def test_the_same_loss(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (event(implementation, capsys, "--evaluate")["measured"] for implementation in IMPLEMENTATIONS)
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-12)
    assert (one["accuracy"], one["targets"]) == (other["accuracy"], other["targets"])


def test_rounded_products_give_the_same_text_and_loss(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--generate", "The ", "--length", "60", "--temperature", "1", "--seed", "7")
    one, other = (event(each, capsys, *asked, experiment=MIXED)["bytes"] for each in IMPLEMENTATIONS)
    assert one == other
    assert len(set(one)) > 5
    losses = [event(each, capsys, "--evaluate", experiment=MIXED)["measured"]["loss"] for each in IMPLEMENTATIONS]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    full = event("torch_impl", capsys, "--evaluate")["measured"]["loss"]
    assert losses[0] != pytest.approx(full, rel=1e-6)
