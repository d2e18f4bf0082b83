"""Long short-term memory. See spec.models.lstm."""

from torch import nn

from torch_impl.recurrent import Recurrent


class LSTM(Recurrent):
    """Stacked LSTM layers. See spec.models.LSTM."""

    layers = nn.LSTM
