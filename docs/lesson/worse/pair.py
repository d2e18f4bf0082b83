"""One way to get it wrong at a time: python -m crosscheck pair docs/lesson/worse/pair.py"""

import jax
import speller_jax
import speller_torch

CAUSE = None


def original(seed):
    return speller_torch.Speller()


def port(seed):
    return speller_jax.run, speller_jax.start(jax.random.key(seed), CAUSE)


def inputs(rng):
    return rng.integers(0, 4, (2, 5)), rng.integers(0, 4, (2, 5))


def call_original(model, x, y):
    return model(x)


def call_port(run, numbers, x, y, train, rng):
    return run(numbers, x, train, rng, CAUSE)


loss = (
    lambda logits, x, y: speller_torch.loss_of(logits, y),
    lambda logits, x, y: speller_jax.loss_of(logits, y, CAUSE),
)
optimizers = (speller_torch.optimizer_of, speller_jax.optimizer_of(CAUSE))
