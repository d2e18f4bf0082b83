"""ohlol's models in PyTorch, built from stock `torch.nn`. Satisfies `spec.framework.Framework`.

torch is imported when a function of the contract is first asked for, so that `--help` need not wait for it.
"""

from typing import Any

from spec.framework import CONTRACT

LEAVES_OUT: dict[str, str] = {}
"""See spec.options."""


def __getattr__(name: str) -> Any:
    if name not in CONTRACT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from torch_impl import contract

    return getattr(contract, name)
