import numpy as np
import torch
from torch import nn


class Speller(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(9, 8)
        self.k = nn.Linear(9, 8)
        self.v = nn.Linear(9, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        where = torch.eye(5, dtype=x.dtype).expand(len(x), 5, 5)
        x = torch.cat([x, where], dim=-1)
        scores = self.q(x) @ self.k(x).mT / 8**0.5
        weights = scores.softmax(dim=-1)
        return self.head(weights @ self.v(x))


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
    np.savez("self_attention.npz", **model.state_dict())
    x, y = torch.eye(4)[torch.tensor([[1, 0, 2, 2, 3]])], torch.tensor([[3, 1, 2, 3, 2]])
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for epoch in range(40, 201, 40):
        losses += [update(model, optimizer, x, y).item() for _ in range(40)]
        letters = "".join("ehlo"[k] for k in model(x)[0].argmax(-1))
        print(f"epoch {epoch}: loss {losses[-1]:.4f}, {letters}")
