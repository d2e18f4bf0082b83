"""Gated recurrent unit. See spec.models.gru."""

from torch import nn

from torch_impl.recurrent import Recurrent


class GRU(Recurrent):
    """Stacked GRU layers. See spec.models.GRU."""

    layers = nn.GRU
