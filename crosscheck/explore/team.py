"""Several pairs side by side, each with an experiment of its own."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from crosscheck.checks.wanted import Wanted
from crosscheck.explore.drawing import Drawn
from crosscheck.explore.pair import Pair, Question, Stopped
from crosscheck.judging.verdict import Verdict
from crosscheck.recording.temporary import undisturbed

LARGEST = 8
"""Pairs at most: each holds two frameworks in memory."""

GRACE = 30.0
"""Seconds that experiments under way may take when time is up; what is not done by then is left."""


PATIENCE = 60.0
"""Seconds that are waited at once: an endless time is no argument of the system's."""


class Answered(NamedTuple):
    """An experiment that both sides were asked about. number: its place in the draw."""

    number: int
    drawn: Drawn
    verdict: Verdict
    seconds: float


class Team:
    """The pairs of a run. size: one for each core does."""

    def __init__(
        self, implementations: Sequence[str], labels: Sequence[str], place: Path, size: int, timeout: float, seed: int
    ):
        self._seed = seed
        self.pairs = [
            Pair(implementations, labels, place / str(number), timeout) for number in range(min(max(size, 1), LARGEST))
        ]

    def run(self, drawn: Iterator[tuple[int, Drawn]], wanted: Wanted, seconds: float) -> Iterator[Answered]:
        """Ask about one experiment after another, for that long; in the order in which they are done.

        Raises what a pair raises.
        """
        lock = threading.Lock()
        answers: queue.Queue[Answered | Exception | None] = queue.Queue()
        end = time.monotonic() + seconds

        def work(pair: Pair) -> None:
            try:
                while time.monotonic() < end:
                    with lock:
                        number, one = next(drawn, (0, None))
                    if one is None:
                        break
                    begin = time.monotonic()
                    verdict = pair.ask(Question(one.experiment, self._seed), wanted)
                    answers.put(Answered(number, one, verdict, time.monotonic() - begin))
            except Stopped:
                pass
            except Exception as error:
                answers.put(error)
            finally:
                answers.put(None)

        threads = [threading.Thread(target=work, args=(pair,), daemon=True) for pair in self.pairs]
        try:
            for thread in threads:
                thread.start()
            working = len(threads)
            while working:
                try:
                    found = answers.get(timeout=min(max(end + GRACE - time.monotonic(), 0.01), PATIENCE))
                except queue.Empty:
                    if time.monotonic() < end + GRACE:
                        continue
                    break
                if found is None:
                    working -= 1
                elif isinstance(found, Exception):
                    raise found
                else:
                    yield found
        finally:
            if any(thread.is_alive() for thread in threads):
                undisturbed(lambda: self._end(threads))

    def close(self) -> None:
        """End all workers."""
        undisturbed(lambda: [pair.close() for pair in self.pairs])

    def _end(self, threads: Sequence[threading.Thread]) -> None:
        """End what is under way, and let the pairs be asked again."""
        for pair in self.pairs:
            pair.stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        for pair in self.pairs:
            pair.reopen()
