"""How fast the two implementations are to be, beside each other and beside the frameworks' own layers."""

from typing import Literal

import msgspec


class Faster(msgspec.Struct, frozen=True, tag=True):
    """On workloads of these names, `subject` is at least so many times as fast as `against`."""

    workloads: str
    against: str
    at_least: float
    subject: str = "flax_impl"


class Growth(msgspec.Struct, frozen=True, tag=True):
    """From one point of a series to a later one, the quantity grows at most `at_most` times as fast as the size.

    quantity: seconds; memory, results included; temporary, without them, by the compiler's account.
    """

    first: str
    last: str
    quantity: Literal["seconds", "memory", "temporary"]
    at_most: float
    subject: str = "flax_impl"


TARGETS: tuple[Faster | Growth, ...] = (
    *(
        Faster(f"{cell}-{size}-forward+backward", "flax.nnx", 1.3)
        for cell in ("rnn", "lstm", "gru")
        for size in ("small", "long")
    ),
    *(
        Faster(f"{cell}-{size}-forward+backward", "flax.nnx", 1.0)
        for cell in ("rnn", "lstm", "gru")
        for size in ("tiny", "big")
    ),
    *(
        Faster(f"{cell}-{series}-*", "flax.nnx", 1.0)
        for cell in ("lstm", "gru")
        for series in ("time", "batch", "hidden")
    ),
    *(
        Faster(f"{cell}-{size}-forward+backward", "torch_impl", 1.25)
        for cell in ("rnn", "gru")
        for size in ("small", "long")
    ),
    Faster("lstm-small-forward+backward", "torch_impl", 0.77),
    Faster("lstm-long-forward+backward", "torch_impl", 1.0),
    Faster("*-tiny-forward+backward", "torch_impl", 8.0),
    Faster("hello-*", "torch_impl", 100.0, "flax_impl, --compile"),
    Faster("ensemble-*", "torch_impl", 3.0),
    Faster("ensemble-*", "torch_impl, one by one", 1000.0, "flax_impl, --compile"),
    *(
        Growth(f"{cell}-time-256", f"{cell}-time-2048", quantity, 1.2)
        for cell in ("lstm", "gru")
        for quantity in ("seconds", "memory")
    ),
    *(
        Growth(f"{cell}-time-256", f"{cell}-time-2048", "temporary", 0.5, "flax_impl, recomputed")
        for cell in ("lstm", "gru")
    ),
)
"""What the project wants to hold. A miss is reported and is no failure: a busy machine is no bug.

0.5 for what is recomputed: it grows as sqrt(T), for eight times the steps by 2.8, which is 0.35 of 8, and a part that
grows as T is to be seen.
"""
