"""The exported JSON Schema is up to date, takes what ships and refuses what is wrong."""

import copy
import json
import tomllib
from typing import Any

import jsonschema
import pytest

from spec import schema
from spec.experiment import SHIPPED, shipped

VALIDATOR = jsonschema.Draft202012Validator(json.loads(schema.FILE.read_text()))


def raw(name: str) -> dict[str, Any]:
    return tomllib.loads((SHIPPED / f"{name}.toml").read_text())


def test_the_file_is_up_to_date() -> None:
    assert schema.FILE.read_text() == schema.text(), "run: python -m spec.schema --write"


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(schema.FILE.read_text()))


@pytest.mark.parametrize("name", shipped())
def test_shipped_experiments_are_valid(name: str) -> None:
    VALIDATOR.validate(raw(name))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("name",), "hello"),
        (("foo",), 1),
        (("model", "haeds"), 2),
        (("model", "name"), "Transformer"),
        (("model", "hidden_size"), 0),
        (("model", "hidden_size"), "8"),
        (("model", "dropout"), 1.0),
        (("training", "epochs"), -1),
        (("training", "optimizer", "learning_rate"), 0),
        (("training", "optimizer", "name"), "Adamax"),
        (("training", "loss", "reduction"), "median"),
        (("task", "encoding"), "two-hot"),
        (("outcome", "solved_rate_at_least"), 1.5),
    ],
)
def test_a_wrong_value_is_refused(path: tuple[str, ...], value: object) -> None:
    wrong = copy.deepcopy(raw("hello-transformer"))
    table = wrong
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = value
    assert not VALIDATOR.is_valid(wrong)


@pytest.mark.parametrize("key", ["description", "model", "task", "training"])
def test_a_missing_part_is_refused(key: str) -> None:
    wrong = raw("hello-transformer")
    del wrong[key]
    assert not VALIDATOR.is_valid(wrong)


@pytest.mark.parametrize("key", ["seeds", "outcome"])
def test_what_may_be_left_out(key: str) -> None:
    less = raw("hello-transformer")
    del less[key]
    VALIDATOR.validate(less)


def test_the_command_prints_and_writes_it(capsys: pytest.CaptureFixture[str], monkeypatch: Any, tmp_path: Any) -> None:
    assert schema.main([]) == 0
    assert capsys.readouterr().out == schema.text()
    monkeypatch.setattr(schema, "FILE", tmp_path / "experiment.schema.json")
    assert schema.main(["--write"]) == 0
    assert (tmp_path / "experiment.schema.json").read_text() == schema.text()
