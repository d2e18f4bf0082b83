"""From an experiment that fails to the smallest one that fails in the same way, by hypothesis.

Hypothesis is handed the choices that an experiment came of and makes them fewer and simpler: an option at its default,
a smaller size, another model. Which experiments a seed draws does not depend on it: its own generator mixes in
constants of whatever modules are loaded, so that the same seed draws others once more of them are.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from hypothesis import Phase, configuration, find, reject, settings
from hypothesis import strategies as st
from hypothesis.database import (
    DirectoryBasedExampleDatabase,
    ExampleDatabase,
    InMemoryExampleDatabase,
    choices_from_bytes,
    choices_to_bytes,
)
from hypothesis.errors import NoSuchExample

from crosscheck.comparison import Comparison
from crosscheck.explore.drawing import Drawn, Impossible, build, replay
from crosscheck.judging.verdict import Verdict
from spec.experiment import Experiment

KEY = b"crosscheck explore"
"""Under which failing experiments are kept."""

PARTS = (2, 4, 8)
"""Into so many blocks an experiment's choices are cut, one number after another."""

KEPT = 20
"""Of an earlier run's failing experiments that are tried again, at most."""


@st.composite
def experiments(draw: st.DrawFn, name: str = "drawn") -> Drawn:
    """Every experiment of the spec in a small size, and the choices that it came of."""
    made: list[int] = []

    def choose(count: int) -> int:
        made.append(draw(st.integers(0, count - 1)))
        return made[-1]

    try:
        return Drawn(build(name, choose), tuple(made))
    except Impossible:
        reject()


def alike(verdict: Verdict, failure: Comparison) -> bool:
    """Whether it fails in the same way: first in the same check, by a difference or by a crash."""
    found = verdict.failures
    return bool(found) and (found[0].check, found[0].crashed) == (failure.check, failure.crashed)


def shrink(drawn: Drawn, fails: Callable[[Experiment], bool], seconds: float, place: Path) -> Drawn:
    """The smallest experiment found within that time for which `fails` holds; of the same name as the first.

    place: a directory for what hypothesis may want to keep for itself.
    """
    configuration.set_hypothesis_home_dir(place)
    known: dict[str, bool] = {drawn.experiment.hash: True}
    end = time.monotonic() + seconds
    smallest = drawn

    def failing(one: Drawn) -> bool:
        nonlocal smallest
        mark = one.experiment.hash
        if mark not in known:
            # When time is up nothing else fails, and hypothesis is done.
            known[mark] = time.monotonic() < end and fails(one.experiment)
        if known[mark] and (len(one.choices), one.choices) < (len(smallest.choices), smallest.choices):
            smallest = one
        return known[mark]

    found = drawn
    for _ in range(ROUNDS):
        # Hypothesis' passes are random, and now and then end beside a model that is not needed.
        begun = _on_the_simplest_model(_without_blocks(found, failing), failing)
        database = InMemoryExampleDatabase()
        # With one choice more than are used: what is used to the end hypothesis takes for shrunk already.
        database.save(KEY, choices_to_bytes((*begun.choices, 0)))
        chosen = settings(
            database=database,
            deadline=None,
            phases=(Phase.reuse, Phase.shrink),
            max_examples=1000,
        )
        try:
            found = find(experiments(drawn.experiment.name), failing, settings=chosen, database_key=KEY)
        except NoSuchExample:
            found = smallest
    # It holds a model that takes fewer choices for the simpler one.
    return _on_the_simplest_model(found, failing)


def _without_blocks(drawn: Drawn, failing: Callable[[Drawn], bool]) -> Drawn:
    """Halves, quarters and eighths of the choices made the simplest, wherever it still fails: large steps first, since
    each costs a second. Hypothesis goes on from there."""
    found = drawn
    for parts in PARTS:
        for part in reversed(range(parts)):
            size = len(found.choices)
            first, last = size * part // parts, size * (part + 1) // parts
            simpler = (*found.choices[:first], *(0,) * (last - first), *found.choices[last:])
            with suppress(Impossible):
                one = replay(drawn.experiment.name, simpler)
                if one.experiment.hash != found.experiment.hash and failing(one):
                    found = one
    return found


ROUNDS = 2
"""So often it begins again with what it has; the experiments that are known by then cost nothing."""

MORE, FEWER = 8, 24
"""So many choices more or fewer than another model takes the simplest at most, that which it is included."""


def _on_the_simplest_model(drawn: Drawn, failing: Callable[[Drawn], bool]) -> Drawn:
    """The same with the simplest of all models in front, where it still fails. What stands behind must stay as it is,
    but for how many choices it begins later or sooner, which is found by trying."""
    for fewer in range(-MORE, FEWER):
        with suppress(Impossible):
            behind = (0,) * max(-fewer, 0) + drawn.choices[1 + max(fewer, 0) :]
            one = replay(drawn.experiment.name, (0, *behind))
            if one.experiment.hash != drawn.experiment.hash and failing(one):
                return one
    return drawn


class FailingBefore:
    """The failing experiments of earlier runs. directory: of this user's; None to keep nothing."""

    def __init__(self, directory: Path | None):
        self._database: ExampleDatabase = (
            DirectoryBasedExampleDatabase(directory) if directory else InMemoryExampleDatabase()
        )

    def drawn(self) -> Iterator[tuple[bytes, Drawn]]:
        """Those that are there, each with what `forget` takes."""
        for number, saved in enumerate(sorted(self._database.fetch(KEY))[:KEPT]):
            choices = choices_from_bytes(saved)
            if choices is None or not all(type(choice) is int and choice >= 0 for choice in choices):
                self.forget(saved)
                continue
            try:
                yield saved, replay(f"explore-kept-{number}", [int(choice) for choice in choices])
            except Impossible:
                self.forget(saved)

    def keep(self, drawn: Drawn, instead_of: Drawn | None = None) -> None:
        """For the next run; what it was shrunk from is not needed any more."""
        if instead_of:
            self.forget(choices_to_bytes(instead_of.choices))
        self._database.save(KEY, choices_to_bytes(drawn.choices))

    def forget(self, saved: bytes) -> None:
        """It fails no longer."""
        self._database.delete(KEY, saved)
