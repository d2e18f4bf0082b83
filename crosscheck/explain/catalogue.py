"""The known variants: the files of `variants/`, found by looking into the folder."""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from functools import cache
from types import ModuleType
from typing import Any

from crosscheck.explain import variants
from crosscheck.explain.explanation import OutOfTime
from crosscheck.explain.variant import Case, Variant


@cache
def files() -> dict[str, ModuleType]:
    """Every file by its name.

    It may have `of_experiment(case)`, which gives variants of an experiment's equations that make sense in that case,
    and `of_pair(part)`, which gives candidates for two operations of a stranger's pair. `STAGES` are words in the names
    of stages at which its variants are likely.
    """
    names = sorted(found.name for found in pkgutil.iter_modules(variants.__path__))
    return {name: importlib.import_module(f"{variants.__name__}.{name}") for name in names}


def of_experiment(case: Case) -> Iterator[tuple[str, Variant]]:
    """Each file's variants, with the file's name: first of those that are likely where the side departs."""

    def likely(file: ModuleType) -> bool:
        return any(word in case.stage for word in getattr(file, "STAGES", ()))

    yield from _each("of_experiment", case, sorted(files().items(), key=lambda item: not likely(item[1])))


def of_pair(part: Any) -> Iterator[tuple[str, Any]]:
    """The same for a pair."""
    yield from _each("of_pair", part, files().items())


def _each(function: str, given: Any, ordered: Iterable[tuple[str, ModuleType]]) -> Iterator[tuple[str, Any]]:
    for name, module in ordered:
        if not hasattr(module, function):
            continue
        try:
            for found in getattr(module, function)(given):
                yield name, found
        except OutOfTime:
            raise
        except Exception:
            # A file that cannot cope with a case must not keep the others from it.
            continue
