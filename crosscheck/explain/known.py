"""Where values that differ are defaults: what the tables of other people's libraries say of them.

Nothing here is a cause; it is said beside one that was found.
"""

from collections.abc import Sequence
from typing import NamedTuple

from crosscheck.libraries import defaults

LISTED = 3
"""Names beside a value, at most."""


class Argument(NamedTuple):
    """called: names of layers, functions or optimizers. arguments: what libraries call it. at: of a pair of numbers."""

    called: tuple[str, ...]
    arguments: tuple[str, ...]
    at: int = 0


ADAM = ("Adam", "AdamW")

EPSILON = ("eps", "epsilon")

ARGUMENTS: dict[str, Argument] = {
    "LayerNorm's epsilon": Argument(("LayerNorm",), EPSILON),
    "RMSNorm's epsilon": Argument(("RMSNorm",), EPSILON),
    "GroupNorm's epsilon": Argument(("GroupNorm",), EPSILON),
    "BatchNorm's epsilon": Argument(("BatchNorm",), EPSILON),
    "the activation": Argument(("gelu",), ("approximate",)),
    "the optimizer's epsilon": Argument(ADAM, EPSILON),
    "the weight decay": Argument(("AdamW",), ("weight_decay",)),
    "beta1": Argument(ADAM, ("b1", "beta_1", "betas"), 0),
    "beta2": Argument(ADAM, ("b2", "beta_2", "betas"), 1),
    "the share that squares keep": Argument(("RMSprop",), ("alpha", "decay", "rho")),
}
"""What a difference is in, as explanations call it."""

GELU = {"GELU by tanh": (True, "tanh"), "GELU by erf": (False, "none")}
"""How libraries write it."""


def beside(what: str, values: Sequence[object]) -> str:
    """Which libraries have which of the values by default; empty where that is not of both, or of all the same.

    what: in which two sides differ. values: of both, numbers or words.
    """
    argument = ARGUMENTS.get(what)
    if argument is None:
        return ""
    said = []
    for value in values:
        names = [name for called in argument.called for name in _having(called, argument, value)]
        if not names:
            return ""
        short = list(dict.fromkeys(names))
        more = f" and {len(short) - LISTED} more" if len(short) > LISTED else ""
        shown = f"{value:g}" if isinstance(value, float) else value
        said.append(f"{shown} in {', '.join(short[:LISTED])}{more}")
    return f"by default {'; '.join(said)}" if len(set(said)) > 1 else ""


def _having(called: str, argument: Argument, value: object) -> list[str]:
    wanted = GELU.get(str(value), (value,))
    found = []
    for name, default in defaults.having(called, argument.arguments).items():
        held = default[argument.at] if isinstance(default, list) else default
        if any(_same(held, one) for one in wanted):
            found.append(name)
    return found


def _same(one: object, other: object) -> bool:
    """Numbers may be written in words; True is no 1."""
    if isinstance(one, bool) or isinstance(other, bool) or isinstance(one, str):
        return type(one) is type(other) and one == other
    try:
        return float(one) == float(other)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
