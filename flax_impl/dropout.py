"""Where dropout's masks come from: JAX's own keys, or the spec, so that another side can use the same."""

from collections.abc import Mapping

import jax
from flax import nnx
from jaxtyping import Array, Float


class Dropout(nnx.Dropout):
    """`nnx.Dropout` that can also be handed its mask."""

    def __init__(self, rate: float):
        super().__init__(rate, deterministic=True)
        self.mask: Array | None = nnx.data(None)

    def __call__(
        self,
        inputs: Float[Array, "*shape"],
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | Array | None = None,
    ) -> Float[Array, "*shape"]:
        if self.mask is not None and not self.deterministic:
            return inputs * self.mask
        return super().__call__(inputs, deterministic=deterministic, rngs=rngs)


def set_mode(model: nnx.Module, dropout: Mapping[str, Array] | Array | None) -> None:
    """Eval mode where `dropout` is None, else train mode, with masks by site or drawn from that key.

    For a module that lives inside one traced function: nothing here is undone.
    """
    if dropout is None:
        model.eval()
        return
    model.train()
    sites = [(".".join(map(str, path)), m) for path, m in nnx.iter_modules(model) if isinstance(m, Dropout)]
    for index, (name, module) in enumerate(sorted(sites, key=lambda site: site[0])):
        if module.rate == 0:
            continue
        if isinstance(dropout, Mapping):
            module.mask = dropout[name]
        else:
            module.rngs = nnx.Rngs(dropout=jax.random.fold_in(dropout, index)).dropout
