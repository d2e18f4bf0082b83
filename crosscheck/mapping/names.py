"""How alike the names of two leaves are: words of paths, with those that mean the same taken for one."""

import re
from collections import Counter

SAME = {
    "attention": ("attn", "mha", "att", "selfattention", "selfattn"),
    "bias": ("b", "offset", "beta"),
    "embedding": ("embed", "embeddings", "emb", "wte", "tok", "word", "token"),
    "head": ("classifier", "lm", "output", "out"),
    "key": ("k", "wk"),
    "layer": ("layers", "block", "blocks", "h", "encoderblock"),
    "linear": ("fc", "dense", "lin"),
    "mean": ("moving", "average"),
    "norm": ("ln", "layernorm", "batchnorm", "bn", "groupnorm", "rmsnorm"),
    "query": ("q", "wq"),
    "up": ("intermediate", "fc1", "linear1"),
    "value": ("v", "wv"),
    "variance": ("var",),
    "weight": ("kernel", "w", "scale", "gamma"),
}
ALIAS = {word: name for name, words in SAME.items() for word in words}
EMPTY = {"params", "module", "model", "cell", "proj", "layer", "self"}
"""Words that many paths have and that tell nothing."""


def words(path: str) -> list[str]:
    """The words of a path, camel case and underscores parted, numbers kept."""
    found: list[str] = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", path)
    named = [ALIAS.get(word.lower(), word.lower()) for word in found]
    return [word for word in named if word not in EMPTY]


def distance(first: str, second: str) -> float:
    """0 where two paths have the same words, 1 where they share none."""
    ours, theirs = Counter(words(first)), Counter(words(second))
    together = sum((ours | theirs).values())
    if not together:
        return 1.0
    shared = sum((ours & theirs).values()) / together
    numbers = [[word for word in path if word.isdecimal()] for path in (words(first), words(second))]
    last = bool(words(first)) and bool(words(second)) and words(first)[-1] == words(second)[-1]
    return 1.0 - (0.7 * shared + 0.2 * (numbers[0] == numbers[1] != []) + 0.1 * last)
