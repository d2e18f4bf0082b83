"""Sequences of similar lengths together, so that little of a batch is padding."""

import numpy as np


def widths(lengths: np.ndarray, buckets: int) -> tuple[int, ...]:
    """At most so many widths, the smallest first, with the least padding in all when each of the sequences is padded to
    the smallest width that holds it.

        least sum over buckets b of width_b * (sequences in b),   width_b the longest length in b

    An optimal bucket is a run of the sorted lengths, so it is found exactly, over all ways to cut them.
    """
    sizes, counts = np.unique(lengths, return_counts=True)
    if len(sizes) > MOST:
        # Rounded up to one of MOST, each of which then holds as many.
        edges = np.unique(np.sort(lengths)[np.ceil(np.arange(1, MOST + 1) * len(lengths) / MOST).astype(int) - 1])
        sizes, counts = np.unique(edges[np.searchsorted(edges, lengths)], return_counts=True)
    before = np.concatenate([[0], np.cumsum(counts)])
    # cost[i, j]: of the lengths i to j in one bucket, of the width of the last.
    cost = np.where(np.tri(len(sizes), dtype=bool).T, (before[1:] - before[:-1, None]) * sizes, np.inf)
    least, cuts = cost[0], []
    for _ in range(1, min(buckets, len(sizes))):
        # By the last bucket's first length, from 1 on.
        whole = np.concatenate([[np.inf], least[:-1]])[:, None] + cost
        cuts.append(whole.argmin(axis=0))
        least = whole.min(axis=0)
    found, end = [int(sizes[-1])], len(sizes) - 1
    for first in reversed(cuts):
        end = int(first[end]) - 1
        found.append(int(sizes[end]))
    return tuple(reversed(found))


MOST = 512
"""Different lengths that are told apart: the search takes the square of it."""
