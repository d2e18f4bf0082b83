"""Names of the port that a pair translates: they decide where nothing else can, and are refused where they are none."""

import importlib.util
import tomllib
from pathlib import Path
from typing import Any

import pytest

from crosscheck.cli import command
from crosscheck.pair import ladder, renaming, subject
from crosscheck.pair.ladder import PairWanted
from crosscheck.pair.result import PairResult
from spec.errors import UsageError

FILES = Path(__file__).parent / "files"

pytestmark = pytest.mark.needs("torch", "flax")


def twins(rename: Any, map_file: Path | None = None) -> PairResult:
    found = importlib.util.spec_from_file_location("twins", FILES / "twins.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    pair = subject.live((module.original, module.port), module.inputs, {"rename": rename})
    return ladder.climb(pair, PairWanted(map_file=map_file), lambda _: None, lambda _: None)


def swapped(name: str) -> str:
    return {"x": "b", "y": "a"}[name[0]] + name[1:]


@pytest.mark.parametrize(
    ("rename", "first"), [({"x": "a", "y": "b"}, "a"), ({"x": "b", "y": "a"}, "b"), (swapped, "b")]
)
def test_names_tell_what_no_output_can(rename: Any, first: str, tmp_path: Path) -> None:
    result = twins(rename, tmp_path / "twins.map.toml")
    assert result.exit_code == 0, result.verdict
    leaves = tomllib.loads((tmp_path / "twins.map.toml").read_text())["leaves"]
    second = {"a": "b", "b": "a"}[first]
    expected = {"x.w": f"{first}.weight", "x.c": f"{first}.bias", "y.w": f"{second}.weight", "y.c": f"{second}.bias"}
    assert {path: one["from"] for path, one in leaves.items()} == expected


PATHS = ("block.0.kernel", "block.0.bias", "head.kernel")


def test_the_longest_beginning_counts_and_ends_at_a_dot() -> None:
    rename = {"block": "layers", "block.0": "first", "hea": "no", "head": ""}
    with pytest.raises(UsageError, match="got 'hea': it has block"):
        renaming.names(rename, PATHS, "my_pair.py")
    del rename["hea"]
    assert renaming.names(rename, PATHS, "my_pair.py") == {
        "block.0.kernel": "first.kernel",
        "block.0.bias": "first.bias",
        "head.kernel": "kernel",
    }
    assert renaming.names({"": "model"}, PATHS, "")["head.kernel"] == "model.head.kernel"


def raising(name: str) -> str:
    raise KeyError(name)


BAD: list[tuple[Any, str]] = [
    ({"x": 3}, "expected a dictionary of names, or a function of a name, got dict"),
    ("x", "expected a dictionary of names, or a function of a name, got str"),
    ({"z": "a"}, "expected beginnings of the port's names, got 'z': it has x.c, x.w, y.c, y.w"),
    ({"x": "c"}, "expected names of the original, got 'c': it has a.weight, a.bias, b.weight, b.bias"),
    ({"x": "a", "y": "a"}, "expected a name for each leaf, got 'a.c' for 'x.c' and 'y.c'"),
    (lambda name: None, "expected a name for 'x.c', got None"),
    (lambda name: "c" + name, "expected names of the original, got 'cx'"),
    (raising, "raised KeyError for 'x.c'"),
]


@pytest.mark.parametrize(("rename", "said"), BAD, ids=[said for _, said in BAD])
def test_a_name_that_is_none_is_refused_in_a_line(rename: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        twins(rename)
    assert "rename: " in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_whose_names_do_not_occur(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "twins.py"
    file.write_text((FILES / "twins.py").read_text() + '\nrename = {"x": "branch"}\n')
    assert command.main(["pair", str(file), "--out", str(tmp_path / "out")]) == 2
    printed, complained = capsys.readouterr()
    assert "twins.py: rename: expected names of the original, got 'branch'" in complained
    assert "Traceback" not in complained
    assert printed == ""
