"""What binds an implementation's functions to the contract, and what it says of those that are not there."""

from typing import Any

import pytest

from spec.choices import chosen
from spec.errors import Unsupported
from spec.framework import REQUIRED, Settings, side_of


def round_trip(subject: Any, parameters: Any, settings: Settings, more: int = 0) -> tuple[Any, ...]:
    return subject, parameters, settings, more


def test_functions_are_bound_by_their_names() -> None:
    settings = Settings("float64")
    side = side_of({"round_trip": round_trip, "rounds": len}, "subject", settings, compiles=True)
    assert side.round_trip({}, more=3) == ("subject", {}, settings, 3)  # type: ignore[call-arg]
    assert side.compiles
    assert side.functions().keys() == set(REQUIRED)


@pytest.mark.parametrize("name", ["train", "replay"])
def test_what_is_not_there_is_unsupported(name: str) -> None:
    with pytest.raises(Unsupported, match=f"^it has no function `{name}`$"):
        side_of({}, "subject", Settings()).need(name)("start", epochs=1)


def test_a_choice_is_the_first_of_its_values_unless_another_is_asked_for() -> None:
    declared = {"order": ("forwards", "backwards")}
    assert chosen(declared, Settings(), "order") == "forwards"
    assert chosen(declared, Settings(choices=(("order", "backwards"),)), "order") == "backwards"
