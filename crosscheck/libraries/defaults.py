"""What arguments libraries' layers, functions and optimizers have by default, as their signatures state."""

from functools import cache
from pathlib import Path

import msgspec

from crosscheck.libraries import made

PATH = Path(__file__).with_name("defaults.json")

Value = bool | int | float | str | list[float]


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """libraries: by library, by the full name of what is called, by argument."""

    made: made.Made
    libraries: dict[str, dict[str, dict[str, Value]]]


@cache
def table() -> Defaults:
    return made.read(Defaults, PATH)


def having(called: str, arguments: tuple[str, ...]) -> dict[str, Value]:
    """By the full name of all that is called so in any library, the default of the first argument that it has.

    called: "LayerNorm". Case, the end of "LayerNormalization" and of "BatchNorm1d", and "adamw" for "AdamW" are one.
    """
    found: dict[str, Value] = {}
    for signatures in table().libraries.values():
        for name, given in signatures.items():
            own = name.rpartition(".")[2].lower().removesuffix("alization").removesuffix("1d")
            held = next((argument for argument in arguments if argument in given), None)
            if own == called.lower() and held is not None:
                found[name] = given[held]
    return found
