"""Maps without a hint: 200 ports whose leaves have names that say nothing, in another order, and whose kernels are
square. Each has to get the right map, or be called ambiguous. Takes many minutes; prints a line a case.

As a command: python tests/shuffled_maps.py [SHUFFLES]
"""

import sys
from collections import Counter
from pathlib import Path

from flax import nnx
from torch import nn

sys.path.append(str(Path(__file__).parent / "pairs"))
import decoders
from models import CASES, Case, EncoderPort, alike, recurrent
from test_mapping import pieces, stripped

from crosscheck.mapping import Link, propose, verify
from flax_impl.pair.side import open_side

SHUFFLES = 200


def square(layer: type[nn.RNNBase], cell: type) -> Case:
    return recurrent(layer, cell)._replace(
        first=lambda: layer(6, 6, batch_first=True),
        second=lambda: nnx.RNN(cell(6, 6, rngs=nnx.Rngs(0))),
        inputs=alike(3, 4, 6),
    )


class SquareEncoderPort(EncoderPort):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = (nnx.Linear(8, 8, rngs=nnx.Rngs(0)) for _ in range(2))


SQUARE = {
    "lstm": square(nn.LSTM, nnx.LSTMCell),
    "optimized lstm": square(nn.LSTM, nnx.OptimizedLSTMCell),
    "gru": square(nn.GRU, nnx.GRUCell),
    "rnn": square(nn.RNN, nnx.SimpleCell),
    "encoder layer": Case(
        lambda: nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), SquareEncoderPort, alike(3, 5, 8)
    ),
    "layers under a scan, fused": Case(decoders.Mixed, decoders.scanned_port, alike(2, 5, decoders.WIDTH)),
    **{name: CASES[name] for name in ("tied", "stacked for a scan", "fused", "fused, interleaved", "fused at first")},
    "perceptron": CASES["perceptron"],
}


def right_of(case: Case) -> dict[str, Link]:
    """With names and in order."""
    first, second = case.sides()
    mapping, report = verify(propose(first, second, case.inputs), first, second, case.inputs)
    assert report.standing == "proven"
    return dict(mapping.links)


def outcome(case: Case, right: dict[str, Link], seed: int) -> str:
    first, _ = case.sides()
    made, names = stripped(case, seed)
    second = open_side(made)
    mapping, report = verify(propose(first, second, case.inputs, seed), first, second, case.inputs, seed)
    if report.standing != "proven":
        return "ambiguous" if report.standing == "ambiguous" else "not found"
    same = all(pieces(mapping.links[names[path]]) == pieces(link) for path, link in right.items())
    return "right" if same else "wrong"


def main(shuffles: int) -> int:
    total: Counter[str] = Counter()
    for number, (name, case) in enumerate(SQUARE.items()):
        right = right_of(case)
        share = range(number, shuffles, len(SQUARE))
        found = Counter(outcome(case, right, seed) for seed in share)
        print(f"{name}: {', '.join(f'{count} {what}' for what, count in found.items())}", flush=True)
        total += found
    print(f"{sum(total.values())} in all: {', '.join(f'{count} {what}' for what, count in total.items())}")
    return int(total["wrong"] > 0 or total["not found"] > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else SHUFFLES))
