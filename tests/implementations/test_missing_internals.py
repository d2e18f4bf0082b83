"""What JAX and torch do not document may go away: then runs go on, slower. Each test takes something away."""

from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from spec.experiment import load, override
from spec.framework import Ensemble, Settings

SETTINGS = Settings("float64")
SEEDS = range(3)
SHORT = override(load("hello-gru"), training__epochs=2)
DROPPING = override(load("hello-stacked-lstm-dropout"), training__epochs=2)


@pytest.fixture
def tried_anew() -> Iterator[None]:
    """What JAX lets be done is tried again in the test, and after it."""
    from flax_impl.fast import choice, products
    from flax_impl.members import compile_members

    tried: list[Any] = [choice.usable, products.usable, compile_members]
    for each in tried:
        each.cache_clear()
    yield
    for each in tried:
        each.cache_clear()


@pytest.mark.parametrize("wide", [False, True])
def test_this_jax_has_everything(wide: bool, tried_anew: None) -> None:
    """Else the tests of the recurrences and of the products would be tests of what stands in for them."""
    import jax

    from flax_impl.fast import choice, products

    with jax.enable_x64(wide):
        assert choice.usable()
        assert products.usable()


@pytest.fixture(scope="module")
def expected() -> Ensemble:
    """The members of an ensemble whose products are as they come."""
    from flax_impl import ensemble

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble.compilation, "ENSEMBLE", ensemble.compilation.QUICK)
        found = ensemble.train_ensemble(SHORT, range(ensemble.WORTH_COMPILING), SETTINGS)
        ensemble.compile_members.cache_clear()
    return found


@pytest.mark.by_default("dot_general_p")
@pytest.mark.parametrize("name", ["Jaxpr", "jaxpr_as_fun", "dot_general_p"])
def test_products_stay_as_they_are(
    name: str, expected: Ensemble, tried_anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flax_impl import ensemble
    from flax_impl.fast import jaxprs, products

    seeds = range(ensemble.WORTH_COMPILING)
    monkeypatch.setattr(ensemble.compilation, "ENSEMBLE", ensemble.compilation.QUICK)
    monkeypatch.setattr(ensemble.compilation, "is_large", lambda *_: True)
    monkeypatch.setattr(jaxprs, name, jaxprs.Missing)
    if name == "jaxpr_as_fun":  # without the others nothing is found that is to be written otherwise
        assert products.rows_first(abs) is abs
    found = ensemble.train_ensemble(SHORT, seeds, SETTINGS)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-12)


def test_equations_without_end_are_not_followed(tried_anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a closed jaxpr is its own `jaxpr`, and is taken for one that holds another."""
    from flax_impl.fast import products

    def endless(value: Any) -> Any:
        return endless(value)

    monkeypatch.setattr(products, "_rewritten", endless)
    assert products.rows_first(abs) is abs


def derivative(formulation: str) -> str:
    """Of a recurrence, as JAX writes it down."""
    import jax
    from flax import nnx

    from flax_impl.gru import GRUCell
    from flax_impl.recurrent import unroll_cell
    from flax_impl.settings import recurrence

    graph, parameters = nnx.split(GRUCell(2, 3, rngs=nnx.Rngs(0)))

    def loss(parameters: nnx.State, inputs: Any) -> Any:
        return unroll_cell(nnx.merge(graph, parameters), inputs)[0].sum()

    with recurrence(formulation):
        return str(jax.make_jaxpr(jax.grad(loss))(parameters, jax.numpy.ones((1, 4, 2))))


@cache
def as_scanned() -> str:
    return derivative("scan")


@pytest.mark.by_default(
    "flax_impl.fast.jaxprs-jaxpr_as_fun-*", "jax.lax-empty-recomputed", "jax.custom_derivatives-SymbolicZero-fused"
)
@pytest.mark.parametrize("formulation", ["fused", "recomputed"])
@pytest.mark.parametrize(
    ("place", "name"),
    [
        *(("flax_impl.fast.jaxprs", name) for name in ("ClosedJaxpr", "jaxpr_as_fun")),
        ("jax.lax", "empty"),
        ("jax.custom_derivatives", "SymbolicZero"),
        ("jax.custom_derivatives", "custom_vjp_primal_tree_values"),
    ],
)
def test_recurrences_are_scanned(
    formulation: str, place: str, name: str, tried_anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flax_impl.fast import choice

    scanned = as_scanned()
    assert derivative(formulation) != scanned
    choice.usable.cache_clear()
    monkeypatch.delattr(f"{place}.{name}")
    assert not choice.usable()
    assert derivative(formulation) == scanned


def test_a_name_that_is_not_there_is_missing() -> None:
    from flax_impl.fast import jaxprs

    assert jaxprs.find("jax.no_such_module", "Jaxpr") is jaxprs.Missing
    assert jaxprs.find("jax.extend.core", "NoSuchName") is jaxprs.Missing
    assert jaxprs.find("jax.extend.core", "Jaxpr") is jaxprs.Jaxpr


def test_time_that_jax_does_not_tell_of_is_not_accounted_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import jax

    from flax_impl import compilation

    monkeypatch.delattr(jax.monitoring, "register_event_duration_secs_listener")
    compilation.listen()
    monkeypatch.delattr(jax, "monitoring")
    compilation.listen()


def one_by_one(found: Ensemble) -> bool:
    return found.method != "vmap"


@pytest.mark.parametrize("name", ["lstm", "gru_cell"])
def test_members_are_trained_one_by_one_where_torch_cannot_take_layers_apart(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from torch_impl import ensemble, vmapping

    assert vmapping.RECURRENCES
    expected = ensemble.train_ensemble(SHORT, SEEDS, SETTINGS)
    assert not one_by_one(expected)
    with monkeypatch.context() as patch:
        patch.delattr(torch, name)
        assert vmapping.recurrences() == {}
    monkeypatch.setattr(vmapping, "RECURRENCES", {})
    found = ensemble.train_ensemble(SHORT, SEEDS, SETTINGS)
    assert one_by_one(found)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-12)


def test_members_are_trained_one_by_one_where_kernels_cannot_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from torch_impl import ensemble

    monkeypatch.setattr(torch.backends, "mkldnn", ModuleType("mkldnn"))
    assert one_by_one(ensemble.train_ensemble(SHORT, SEEDS, SETTINGS))


@pytest.mark.parametrize("experiment", [SHORT, DROPPING], ids=["no dropout", "dropout"])
def test_what_drops_units_is_not_compiled_to_other_masks(experiment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from torch_impl import compilation
    from torch_impl.build import build
    from torch_impl.parameters import initialize

    model = build(experiment.model, initialize(experiment, 0, SETTINGS), SETTINGS)
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(type(model), "compile", lambda self, **options: calls.append(options))
    compiled = Settings("float64", compiled=True)
    compilation.compile_model(model, compiled)
    assert calls == [{"options": {compilation.OWN_MASKS: True}}]
    monkeypatch.delattr(torch._inductor, "list_options")
    compilation.compile_model(model, compiled)
    assert calls[1:] == ([] if experiment is DROPPING else [{}])
