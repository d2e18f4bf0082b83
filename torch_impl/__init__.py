"""ohlol's models in PyTorch, built from stock `torch.nn`. Satisfies `spec.framework.Framework`.

torch is imported when a function of the contract is first asked for, so that `--help` need not wait for it.
"""

from typing import Any

LEAVES_OUT: dict[str, str] = {}
"""See spec.options."""

CHOICES: dict[str, tuple[str, ...]] = {}
"""See spec.choices."""

SIZES: dict[str, tuple[int, ...]] = {
    "attention weights": (10**5,),
    "multiplications of a training step": (5 * 10**6,),
}
"""See spec.sizes, and torch_impl.attention.MANY and torch_impl.settings.LARGE."""


def __getattr__(name: str) -> Any:
    # Here, since `python -m` imports the package first, and a signal that comes meanwhile is nobody's to notice yet.
    from spec.framework import FUNCTIONS

    if name not in ("describe", "open", *FUNCTIONS):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from torch_impl import contract

    return getattr(contract, name)
