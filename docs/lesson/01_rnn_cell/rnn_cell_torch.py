import numpy as np
import torch
from torch import nn


class Speller(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.RNNCell(4, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x, watch=None):
        h = torch.zeros(len(x), 8, dtype=x.dtype)
        logits = []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            logits.append(self.head(h))
            if watch:
                watch(t, tuple(x[:, t].shape), tuple(h.shape), *(f"{v:.4f}" for v in h[0, :3]))
        return torch.stack(logits, dim=1)


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
    np.savez("rnn_cell.npz", **model.state_dict())
    x, y = torch.eye(4)[torch.tensor([[1, 0, 2, 2, 3]])], torch.tensor([[3, 1, 2, 3, 2]])
    model(x, watch=print)
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    losses = []
    for epoch in range(10, 61, 10):
        losses += [update(model, optimizer, x, y).item() for _ in range(10)]
        letters = "".join("ehlo"[k] for k in model(x)[0].argmax(-1))
        print(f"epoch {epoch}: loss {losses[-1]:.4f}, {letters}")
