"""Pairs that are alike, over many seeds: is there an alarm? Seed 0 is in `make test-pairs`. Takes hours.

As a command: python tests/clean_pairs.py [SEEDS [FIRST]]
Prints a line a run, and at the end the largest difference in units of its bound, and what no alarm says of their rate.
"""

import sys
import time
from pathlib import Path

from scipy.stats import beta

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent / "pairs")]
from planted import PAIRS  # noqa: E402
from test_planted import climbed  # noqa: E402

from crosscheck.pair import report  # noqa: E402

SEEDS = 100
CONFIDENCE = 0.95


def main(count: str = str(SEEDS), first: str = "1") -> int:
    runs = alarms = 0
    largest = 0.0
    for seed in range(int(first), int(first) + int(count)):
        for pair in PAIRS:
            begin = time.monotonic()
            result = climbed(pair, frozenset(), seed)
            nearest = max((cell.ratio for cell in result.cells if cell.ratio is not None), default=0.0)
            runs, alarms, largest = runs + 1, alarms + (result.exit_code != 0), max(largest, nearest)
            seconds = time.monotonic() - begin
            print(f"seed {seed}, {pair}: {result.verdict}, {nearest:.2f} of its bound, {seconds:.0f} s", flush=True)
            if result.exit_code:
                print(report.plain_text(result), flush=True)
    upper = beta.ppf(CONFIDENCE, alarms + 1, runs - alarms)
    print(f"{alarms} alarms in {runs} runs, at most {upper:.1%} with {CONFIDENCE:.0%} confidence")
    print(f"largest difference: {largest:.2f} of its bound")
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
