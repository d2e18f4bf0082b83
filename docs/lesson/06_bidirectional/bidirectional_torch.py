import numpy as np
import torch
from torch import nn


class Speller(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 8, bidirectional=True, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        out, (h_n, c_n) = self.rnn(x)
        return self.head(out)


def loss_of(model, x, y):
    return nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())


def update(model, optimizer, x, y):
    loss = loss_of(model, x, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


if __name__ == "__main__":
    torch.manual_seed(0)
    model = Speller()
    np.savez("bidirectional.npz", **model.state_dict())
    x, y = torch.eye(4)[torch.tensor([[1, 0, 2, 2, 3]])], torch.tensor([[3, 1, 2, 3, 2]])
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    losses = []
    for epoch in range(10, 61, 10):
        losses += [update(model, optimizer, x, y).item() for _ in range(10)]
        letters = "".join("ehlo"[k] for k in model(x)[0].argmax(-1))
        print(f"epoch {epoch}: loss {losses[-1]:.4f}, {letters}")
