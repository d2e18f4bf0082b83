"""The original and one of its ports: python -m crosscheck pair docs/lesson/port/pair.py"""

import ports
import reader
from flax import nnx

PORT = "Third"


def original(seed):
    return reader.Reader()


def port(seed):
    return getattr(ports, PORT)(nnx.Rngs(seed))


def inputs(rng):
    return rng.standard_normal((4, 5, 6)), rng.permutation([5, 2, 4, 3])


lengths = 1
