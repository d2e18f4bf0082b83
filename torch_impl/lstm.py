"""Long short-term memory. See spec.models.lstm."""

import torch
from torch import nn

from spec.models.lstm import LSTM as Spec
from torch_impl.recurrent import Recurrent


class LSTM(Recurrent):
    """Stacked LSTM layers. See spec.models.LSTM."""

    layers = nn.LSTM

    def __init__(self, spec: Spec):
        super().__init__(spec)
        with torch.no_grad():
            for name, parameter in self.rnn.named_parameters():
                if name.startswith("bias_ih"):
                    parameter[spec.hidden_size : 2 * spec.hidden_size] += spec.forget_bias
