"""Any `torch.nn.Module` as a side of a pair. See `spec.pair`."""
