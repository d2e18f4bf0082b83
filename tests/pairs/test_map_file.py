"""The map's file and the converter: what is written is read again, edited by hand, refused where it does not fit."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crosscheck.mapping import Map, emitted, read, write, written
from spec.errors import UsageError

sys.path.append(str(Path(__file__).parent))
from models import verified

NAMES = ["gru", "convolutions", "encoder layer", "stacked for a scan", "fused, interleaved", "tied apart"]
"""All kinds of links."""


def proven(name: str) -> Map:
    return verified(name)[0]


@pytest.mark.by_default("gru", "tied apart", "stacked for a scan")
@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read_again(name: str, tmp_path: Path) -> None:
    mapping = proven(name)
    path = tmp_path / "my_pair.map.toml"
    write(mapping, path)
    again = read(path, mapping.first, mapping.second)
    assert again == mapping
    assert written(again) == path.read_text()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.by_default("gru", "stacked for a scan")
@pytest.mark.parametrize("name", NAMES)
def test_the_converter_needs_nothing_of_ours(name: str, tmp_path: Path) -> None:
    mapping = proven(name)
    (tmp_path / "convert.py").write_text(emitted(mapping))
    random = np.random.default_rng(0)
    values = {leaf.path: np.asfortranarray(random.standard_normal(leaf.shape)) for leaf in mapping.first}
    np.savez(tmp_path / "weights.npz", **values)
    command = [sys.executable, "-I", "convert.py", "weights.npz", "converted.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = mapping.push(values)
    assert expected
    with np.load(tmp_path / "converted.npz") as held:
        assert set(held.files) == expected.keys()
        for target, value in expected.items():
            np.testing.assert_array_equal(held[target], value)
            assert held[target].flags.c_contiguous


def test_the_converter_refuses_another_model(tmp_path: Path) -> None:
    (tmp_path / "convert.py").write_text(emitted(proven("gru")))
    np.savez(tmp_path / "weights.npz", weight_ih_l0=np.zeros((3, 3)))
    command = [sys.executable, "-I", "convert.py", "weights.npz", "converted.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "weight_ih_l0: expected shape (21, 5), got (3, 3)" in done.stderr
    assert not (tmp_path / "converted.npz").exists()


CHANGES = [
    ("format = 1", "format = 2", "format: expected 1, got 2"),
    (
        '[leaves."cell.dense_h.kernel"]',
        '[leaves."cell.dense_x.kernel"]',
        "'cell.dense_x.kernel', which it does not have",
    ),
    ('from = "weight_hh_l0"', 'from = "weight_xx_l0"', "'weight_xx_l0', which it does not have"),
    ("axes = [1, 0]", "axes = [1, 1]", "axes: expected an order of 2 axes, got [1, 1]"),
    ("shape = [14]", "shape = [13]", "expected 13 numbers of 'bias_ih_l0', got 14"),
    ("rows = [[14, 21]]", "rows = [[14, 22]]", "rows: expected [start, stop] within 21, got [14, 22]"),
    ('kind = "copy"', 'kind = "magic"', "kind: expected one of"),
    ("axis = 0", "axis = 1", "axis: expected one of 1 axes, got 1"),
    ('proof = "value"', "proof = 3", "proof: expected one of"),
    ('kind = "copy"', 'kind = "copy"\nturns = 2', "expected no field 'turns'"),
    ('kind = "copy"', "kind = ", "expected TOML"),
    ("[[unlinked]]", "[[nothing]]", "expected no field 'nothing'"),
]


@pytest.mark.parametrize(("old", "new", "said"), CHANGES, ids=[said for _, _, said in CHANGES])
def test_a_file_that_does_not_fit_is_refused_in_a_line(old: str, new: str, said: str, tmp_path: Path) -> None:
    mapping = proven("gru")
    path = tmp_path / "my_pair.map.toml"
    text = written(mapping)
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        read(path, mapping.first, mapping.second)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_leaves_that_are_not_named_are_refused(tmp_path: Path) -> None:
    mapping = proven("gru")
    path = tmp_path / "my_pair.map.toml"
    write(mapping._replace(unlinked=()), path)
    with pytest.raises(UsageError, match=r"got none for 'bias_hh_l0', rows 14 to 20"):
        read(path, mapping.first, mapping.second)
    write(mapping._replace(links=dict(list(mapping.links.items())[1:])), path)
    with pytest.raises(UsageError, match=r"got none for 'cell.dense_h.kernel'"):
        read(path, mapping.first, mapping.second)
    with pytest.raises(UsageError, match="expected a file that can be read"):
        read(tmp_path / "missing.toml", mapping.first, mapping.second)


def test_pull_is_the_transpose_of_push() -> None:
    for name in NAMES:
        mapping = proven(name)
        random = np.random.default_rng(1)
        values, zero = (
            {leaf.path: scale * random.standard_normal(leaf.shape) for leaf in mapping.first} for scale in (1, 0)
        )
        gradients = {path: random.standard_normal(value.shape) for path, value in mapping.push(values).items()}
        moved, base = mapping.push(values), mapping.push(zero)
        left = sum(float(((moved[path] - base[path]) * one).sum()) for path, one in gradients.items())
        right = sum(float((values[path] * one).sum()) for path, one in mapping.pull(gradients).items())
        assert np.isclose(left, right, rtol=1e-12)
