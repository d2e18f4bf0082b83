"""Products of numbers rounded to bfloat16. See spec.mixed_precision.

`torch.autocast` is another matter: it rounds results too, and what it rounds differs between kinds of layers and
devices. So torch's operations are looked at where they are multiplications of matrices and nothing else, below
autograd: there the products of derivatives are seen like those of the forward pass, and layers stay stock.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from spec.models import Model as Spec

_OPERANDS = {
    "mm": (0, 1),
    "bmm": (0, 1),
    "mv": (0, 1),
    "dot": (0, 1),
    "addmm": (1, 2),
    "addmm_": (1, 2),
    "baddbmm": (1, 2),
    "baddbmm_": (1, 2),
    "addmv": (1, 2),
    "addmv_": (1, 2),
}
"""Of torch's operations that multiply matrices: which of their arguments these are."""

_WHOLE = (
    "mkldnn_",
    "_cudnn_",
    "miopen_",
    "_scaled_dot_product_",
    "_native_multi_head_",
    "_transformer_",
    "convolution",
)
"""What the names of those begin with that multiply and do something else as well: none may be called."""

_active: ContextVar[bool] = ContextVar("active", default=False)


@contextmanager
def products(spec: Spec) -> Iterator[None]:
    """Multiply matrices as that model's equations do. Both its forward and its backward pass belong inside.

    torch's kernels that do more than multiply are off, since they do not show what they multiply.
    """
    if spec.mixed_precision is None:
        yield
        return
    backends: Any = torch.backends
    mkldnn, cudnn = backends.mkldnn, backends.cudnn
    before = mkldnn.enabled, cudnn.enabled, torch.backends.mha.get_fastpath_enabled()
    token = _active.set(True)
    try:
        mkldnn.enabled = cudnn.enabled = False
        torch.backends.mha.set_fastpath_enabled(False)
        with _Rounded():
            yield
    finally:
        _active.reset(token)
        mkldnn.enabled, cudnn.enabled = before[:2]
        torch.backends.mha.set_fastpath_enabled(before[2])


def bfloat16(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The values rounded to float32 and then to bfloat16, in their own dtype."""
    return values.to(torch.float32).to(torch.bfloat16).to(values.dtype)


def active() -> bool:
    """Whether `products` rounds."""
    return _active.get()


def without_gradients() -> AbstractContextManager:
    """`torch.inference_mode`, and within `products` `torch.no_grad`.

    In inference mode whole layers would be seen there. What torch takes those apart into is not what they compute:
    recurrent layers drop nothing then (torch 2.13).
    """
    return torch.no_grad() if active() else torch.inference_mode()


def check(spec: Spec) -> None:
    """Raise RuntimeError where such a model is called outside of `products`."""
    if spec.mixed_precision and not active():
        raise RuntimeError(
            f"mixed_precision = {spec.mixed_precision!r}: expected to be called, forward and backward, "
            f"within torch_impl.mixed_precision.products(spec), was called outside"
        )


class _Rounded(TorchDispatchMode):
    """Rounds the operands of every product of matrices."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        positions = _operands_of(func)
        if positions:
            rounded = list(args)
            for position in positions:
                rounded[position] = bfloat16(args[position])
            return func(*rounded, **kwargs)
        if torch.is_inference_mode_enabled():
            raise RuntimeError(
                "mixed_precision: expected torch.no_grad(), got torch.inference_mode(), in which layers do not show "
                "what they multiply"
            )
        return func(*args, **kwargs)


@cache
def _operands_of(func: Any) -> tuple[int, ...]:
    """Which arguments of an operation of torch are matrices that it multiplies. Raises RuntimeError for one that does
    something else as well."""
    name = func.overloadpacket.__name__
    if name.startswith(_WHOLE):
        raise RuntimeError(f"expected products of matrices alone under mixed precision, got torch's {name}")
    return _OPERANDS.get(name, ())


def attention(
    query: Float[Tensor, "*batch time width"],
    key: Float[Tensor, "*batch source width"],
    value: Float[Tensor, "*batch source features"],
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> Float[Tensor, "*batch time features"]:
    """`scaled_dot_product_attention`, of whose arguments these are: masks keep where True, or are added.

    torch's own multiplies queries and keys by a root of the scale before their product, where the equations scale it.
    """
    scores = query @ key.transpose(-1, -2)
    scores = scores / math.sqrt(query.shape[-1]) if scale is None else scores * scale
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return functional.dropout(torch.softmax(scores, -1), dropout_p) @ value


class MultiheadAttention(nn.MultiheadAttention):
    """The stock module with `attention` inside, for self-attention with the batch first; gives no weights."""

    def forward(  # type: ignore[override]
        self,
        query: Float[Tensor, "batch time hidden"],
        key: Tensor,
        value: Tensor,
        key_padding_mask: Float[Tensor, "batch time"] | None = None,
        need_weights: bool = False,
        attn_mask: Float[Tensor, "time time"] | None = None,
        average_attn_weights: bool = False,
        is_causal: bool = False,
    ) -> tuple[Float[Tensor, "batch time hidden"], None]:
        del need_weights, average_attn_weights, is_causal  # Said by the masks, or not wanted.
        packed = functional.linear(query, self.in_proj_weight, self.in_proj_bias)
        by_head = [part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in packed.chunk(3, -1)]
        mask = attn_mask
        if key_padding_mask is not None:
            padding = key_padding_mask[:, None, None, :]
            mask = padding if mask is None else mask + padding
        query, key, value = by_head
        context = attention(query, key, value, mask, self.dropout if self.training else 0.0)
        return self.out_proj(context.transpose(1, 2).flatten(2)), None
