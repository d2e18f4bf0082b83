"""The table of defaults is what signatures state, and is said beside what differs."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from crosscheck.explain import known
from crosscheck.libraries import defaults, made, pages

ROOT = Path(__file__).parents[2]
TABLE = defaults.table()
HERE = ("torch", "jax", "flax nnx", "flax linen", "optax")
"""Libraries that the tests have."""


@pytest.mark.needs("torch", "flax")
def test_it_is_what_signatures_state() -> None:
    names = ("torch", "jax", "flax", "optax")
    if any(version(name).partition("+")[0] != TABLE.made.versions[name] for name in names):
        pytest.skip("a library is not the one that the table was made with")
    script = Path(__file__).parent / "layers" / "signatures.py"
    ran = subprocess.run([sys.executable, script, *HERE], check=True, capture_output=True, text=True)
    found = {library: one["defaults"] for library, one in json.loads(ran.stdout).items()}
    assert found == {library: TABLE.libraries[library] for library in HERE}
    assert all(found.values())


def test_the_page_is_the_table_and_the_versions_are_those_that_are_pinned() -> None:
    assert (ROOT / "docs" / "defaults.md").read_text() == pages.defaults(TABLE)
    assert made.outdated(TABLE.made, made.pins((ROOT / "constraints" / "3.11.txt").read_text())) == []
    (said,) = made.outdated(TABLE.made, {"optax": "0.3.0"})
    assert "make tables-defaults" in said


@pytest.mark.parametrize(
    ("what", "values", "words"),
    [
        ("the weight decay", (1e-2, 1e-4), ("0.01 in torch.optim.AdamW", "0.0001 in optax.adamw")),
        ("LayerNorm's epsilon", ("1e-05", "1e-06"), ("torch.nn.LayerNorm", "1e-06 in flax.nnx.LayerNorm")),
        ("LayerNorm's epsilon", (1e-5, 1e-3), ("0.001 in keras.layers.LayerNormalization",)),
        ("the activation", ("GELU by erf", "GELU by tanh"), ("GELU by tanh in jax.nn.gelu",)),
        ("the share that squares keep", (0.99, 0.9), ("0.99 in torch.optim.RMSprop", "0.9 in optax.rmsprop")),
    ],
)
def test_defaults_are_said_beside_what_differs(what: str, values: tuple[object, ...], words: tuple[str, ...]) -> None:
    said = known.beside(what, values)
    assert said.startswith("by default ")
    assert all(one in said for one in words)


@pytest.mark.parametrize(
    ("what", "values"),
    [
        ("LayerNorm's epsilon", (1e-5, 3.7e-4)),  # Nobody's default.
        ("the activation", ("relu", "GELU by tanh")),
        ("beta1", (0.9, 0.9)),
        ("the momentum", (0.9, 0.0)),
    ],
)
def test_nothing_is_said_of_what_is_no_default(what: str, values: tuple[object, ...]) -> None:
    assert known.beside(what, values) == ""
