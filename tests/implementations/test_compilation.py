"""What JAX's compiler gets wrong reaches nobody: every product that flax_impl computes is compiled in one place."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest

import flax_impl
from flax_impl import compilation
from spec import parameters
from spec.experiment import load, override
from spec.framework import Settings
from spec.training import initial_state

SOURCES = sorted(Path(flax_impl.__file__).parent.rglob("*.py"))

MANY = {"float32": 32_769, "float64": 16_385}
"""Rows from which jaxlib 0.10.2 is wrong."""

OPTIONS: dict[str, Callable[[], compilation.Options]] = {
    "quick": lambda: compilation.options(Settings(), quick=True),
    "full effort": lambda: compilation.options(Settings(), quick=False),
    "--compile": lambda: compilation.options(Settings(compiled=True), quick=True),
    "ensemble": lambda: compilation.ensemble_options(Settings()),
    "small ensemble": lambda: compilation.ensemble_options(Settings(), small=True),
    "ensemble, --compile": lambda: compilation.ensemble_options(Settings(compiled=True)),
}


def worst(precision: str, options: compilation.Options) -> float:
    """Of a small product for each of many rows and the sum of its squares: the largest error, relative."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((3, 3)).astype(precision)
    rows = random.standard_normal((MANY[precision], 3)).astype(precision)
    with jax.enable_x64(precision == "float64"):
        function = compilation.jit(jax.vmap(lambda w, r: jnp.sum((w @ r) ** 2), (None, 0)), options)
        found = np.asarray(function(weight, rows), np.float64)
    expected = np.square(rows.astype(np.float64) @ weight.astype(np.float64).T).sum(axis=1)
    return float(np.abs(found - expected).max() / expected.max())


@pytest.mark.parametrize("precision", MANY)
@pytest.mark.parametrize("options", OPTIONS)
def test_a_small_product_and_a_sum_of_many_rows(precision: str, options: str) -> None:
    assert worst(precision, OPTIONS[options]()) < (1e-6 if precision == "float32" else 1e-14)


@pytest.mark.parametrize("precision", MANY)
def test_without_what_mends_it_the_numbers_are_wrong(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can fail, and what mends it is still needed."""
    if not compilation.right({}):
        pytest.skip(f"jaxlib {jaxlib.__version__} computes this right by itself")
    monkeypatch.setattr(compilation, "MENDED", {})
    for options in ("quick", "full effort"):
        assert worst(precision, OPTIONS[options]()) > 1e-3


def test_the_options_that_mend_a_version_are_passed_for_its_previews_too(monkeypatch: pytest.MonkeyPatch) -> None:
    (mended,) = compilation.MENDED["0.10.2"].items()
    monkeypatch.setattr(compilation, "_release", compilation._release.__wrapped__)  # which remembers its first answer
    for version, expected in (("0.10.2", True), ("0.10.2.dev20260601", True), ("0.10.20", False), ("0.12.0.1", False)):
        monkeypatch.setattr(compilation.metadata, "version", {"jaxlib": version}.__getitem__)
        assert (mended in compilation.options(Settings(), quick=False).items()) is expected, version
        assert mended not in compilation.options(Settings(device="gpu"), quick=False).items()


COMPILERS = {"jit", "pmap", "shard_map", "pallas_call"}
"""Names under which `jax` and `nnx` offer functions that compile others."""

WITHIN = {"devices.py": ["jax.shard_map"] * 2}
"""Uses of them inside of what is compiled in that one place: a step's gradient on several devices, and whether their
weights are the same."""


def compiling(source: str) -> list[str]:
    """Where a module compiles by JAX itself, as "line: what"."""
    return [
        f"{node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Attribute) and node.attr in COMPILERS and ast.unparse(node.value) != "compilation")
        or (isinstance(node, ast.ImportFrom) and COMPILERS & {alias.name for alias in node.names})
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_everything_is_compiled_in_one_place(path: Path) -> None:
    found = [use.partition(": ")[2] for use in compiling(path.read_text(encoding="utf-8"))]
    assert path.name == "compilation.py" or found == WITHIN.get(path.name, [])


@pytest.mark.parametrize(
    "line", ["f = jax.jit(g)", "f = nnx.jit(g)", "@jax.jit\ndef f(): ...", "from jax import jit", "f = jax.pmap(g)"]
)
def test_who_compiles_elsewhere_is_seen(line: str) -> None:
    assert compiling(line)
    assert not compiling("f = compilation.jit(g)")


PRODUCTS = re.compile(r"stablehlo\.(dot_general|convolution)\b")

MARK = "through_the_one_place"


@pytest.fixture
def strays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], set[str]]]:
    """Asks which programs with products JAX has compiled since, other than those that went through the one place.

    JAX writes down all that it compiles, under the name of the function: whatever is computed outside of `jit` too,
    where it compiles each operation alone, and a scan as a whole.
    """
    jit = compilation.jit

    def marked(function: Callable, options: compilation.Options | None = None, **keywords: Any) -> Callable:
        def named(*arguments: Any) -> Any:
            return function(*arguments)

        named.__name__ = MARK if options else "without_options"
        return jit(named, options, **keywords)

    monkeypatch.setattr(compilation, "jit", marked)
    jax.clear_caches()
    jax.config.update("jax_dump_ir_to", str(tmp_path))
    yield lambda: {
        path.name
        for path in tmp_path.glob("*.mlir")
        if MARK not in path.name and PRODUCTS.search(path.read_text(encoding="utf-8"))
    }
    assert list(tmp_path.glob("*.mlir"))
    jax.config.update("jax_dump_ir_to", "")


@pytest.mark.by_default("hello-gru-7")
@pytest.mark.parametrize(("name", "width"), [("hello-gru", 7), ("hello-transformer", 6), ("hello-encoder-decoder", 7)])
def test_no_product_is_computed_outside(name: str, width: int, strays: Callable[[], set[str]]) -> None:
    """By any function of the contract. A width of no other test, since compiled functions are kept."""
    experiment = override(load(name), training__epochs=2, model__hidden_size=width)
    settings, table = Settings(), experiment.model.parameters()
    start = flax_impl.initialize(experiment, 0, settings)
    batch = experiment.batch(0, 0, settings.precision)
    flax_impl.round_trip(experiment, start, settings)
    outputs = flax_impl.forward(experiment, start, batch, settings, dropout=0)
    flax_impl.gradients(experiment, start, batch, settings)
    flax_impl.predict(experiment, start, batch, settings)
    flax_impl.loss_gradient(experiment, outputs["logits"], batch.targets, settings)
    flax_impl.replay(experiment, start, [parameters.draw(table, 1, settings.precision, 0.1)], settings)
    flax_impl.train(experiment, initial_state(experiment.training.optimizer, start), 2, 0, settings)
    flax_impl.train_ensemble(experiment, range(40), settings)
    assert not strays()


def test_a_product_that_is_computed_outside_is_seen(strays: Callable[[], set[str]]) -> None:
    matrix = jnp.ones((2, 2))
    compilation.jit(jnp.matmul, compilation.options(Settings(), quick=True))(matrix, matrix)
    assert not strays()
    jax.lax.scan(lambda c, x: (c @ c, x), matrix, jnp.ones(3))
    compilation.jit(jnp.matmul)(matrix, matrix)
    assert len(strays()) == 2
