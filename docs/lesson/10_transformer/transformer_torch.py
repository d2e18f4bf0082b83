import numpy as np
import torch
from torch import nn


def positions(length, size):
    angles = torch.arange(length)[:, None] / 10000 ** (torch.arange(0, size, 2) / size)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class Speller(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.embed(x) + positions(x.shape[1], 8).to(x.dtype)
        return self.head(self.layer(x))


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
    np.savez("transformer.npz", **model.state_dict())
    x, y = torch.eye(4)[torch.tensor([[1, 0, 2, 2, 3]])], torch.tensor([[3, 1, 2, 3, 2]])
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for epoch in range(25, 151, 25):
        losses += [update(model, optimizer, x, y).item() for _ in range(25)]
        letters = "".join("ehlo"[k] for k in model(x)[0].argmax(-1))
        print(f"epoch {epoch}: loss {losses[-1]:.4f}, {letters}")
