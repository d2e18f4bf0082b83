"""Chapter 10's two files as a pair: python -m crosscheck pair docs/lesson/10_transformer/pair.py"""

import optax
import torch
import transformer_flax
import transformer_torch
from flax import nnx


def original(seed):
    return transformer_torch.Speller()


def port(seed):
    return transformer_flax.Speller(nnx.Rngs(seed))


def inputs(rng):
    return (rng.standard_normal((2, 5, 4)), rng.integers(0, 4, (2, 5)))


def call_original(model, x, y):
    return model(x)


call_port = call_original


def cross_entropy(logits, x, y):
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())


def optax_cross_entropy(logits, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


loss = (cross_entropy, optax_cross_entropy)
optimizers = (lambda parameters: torch.optim.Adam(parameters, 0.01), optax.adam(0.01))
