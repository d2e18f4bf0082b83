"""Any JAX model as a side of a pair: nnx, linen, Equinox, Haiku, or a function of parameters. See `spec.pair`."""
