import torch
from torch import nn


class Speller(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(4, 10)
        self.rnn = nn.LSTM(10, 8, batch_first=True)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        out, _ = self.rnn(self.embed(x))
        return self.head(self.drop(out))


def loss_of(logits, y):
    return nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())


def optimizer_of(parameters):
    return torch.optim.AdamW(parameters, 0.05, weight_decay=0.01)
