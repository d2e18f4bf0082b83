import numpy as np
import torch
from torch import nn


class Speller(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(9, 2 * 8), nn.Linear(9, 2 * 8), nn.Linear(9, 2 * 8)
        self.out = nn.Linear(2 * 8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        def heads(x):
            return x.unflatten(-1, (2, 8)).transpose(1, 2)

        where = torch.eye(5, dtype=x.dtype).expand(len(x), 5, 5)
        x = torch.cat([x, where], dim=-1)
        q, k, v = heads(self.q(x)), heads(self.k(x)), heads(self.v(x))
        weights = (q @ k.mT / 8**0.5).softmax(dim=-1)
        joined = (weights @ v).transpose(1, 2).flatten(2)
        return self.head(self.out(joined))


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
    np.savez("multi_head.npz", **model.state_dict())
    x, y = torch.eye(4)[torch.tensor([[1, 0, 2, 2, 3]])], torch.tensor([[3, 1, 2, 3, 2]])
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for epoch in range(20, 101, 20):
        losses += [update(model, optimizer, x, y).item() for _ in range(20)]
        letters = "".join("ehlo"[k] for k in model(x)[0].argmax(-1))
        print(f"epoch {epoch}: loss {losses[-1]:.4f}, {letters}")
