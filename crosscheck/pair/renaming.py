"""What the port's leaves are called when they are matched with the original's, where the pair says so."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from spec.errors import OhlolError, UsageError

Rename = Mapping[str, str] | Callable[[str], str]
"""Beginnings of the port's names by what stands there on the original; or a function of a leaf's whole name."""


def checked(value: Any, where: str) -> Rename | None:
    """Raises UsageError for what is neither of the two."""
    if value is None:
        return None
    if callable(value):
        return cast(Callable[[str], str], value)
    if isinstance(value, Mapping) and all(isinstance(one, str) for pair in value.items() for one in pair):
        return dict(value)
    raise UsageError(
        f"{where}: rename: expected a dictionary of names, or a function of a name, got {type(value).__name__}"
    )


def names(rename: Rename | None, paths: Sequence[str], where: str) -> dict[str, str]:
    """By each of the port's paths what it is called. Raises UsageError where a name is none, or of two leaves."""
    if rename is None:
        return {}
    found = {}
    if isinstance(rename, Mapping):
        for begin in rename:
            if not any(begins(path, begin) for path in paths):
                raise UsageError(
                    f"{where}: rename: expected beginnings of the port's names, got {begin!r}: {few(paths)}"
                )
    for path in paths:
        called = _by_beginning(rename, path) if isinstance(rename, Mapping) else rename(path)
        if not isinstance(called, str) or not called:
            raise UsageError(f"{where}: rename: expected a name for {path!r}, got {called!r}")
        if called in found.values():
            other = next(one for one, name in found.items() if name == called)
            raise UsageError(
                f"{where}: rename: expected a name for each leaf, got {called!r} for {other!r} and {path!r}"
            )
        found[path] = called
    return found


def meant(rename: Rename | None, called: Mapping[str, str]) -> list[str]:
    """Beginnings of names that the original must have, for what was renamed."""
    if isinstance(rename, Mapping):
        return [name for name in dict.fromkeys(rename.values()) if name]
    return list(dict.fromkeys(name.partition(".")[0] for path, name in called.items() if name != path))


def check_meant(beginnings: Iterable[str], paths: Sequence[str], where: str) -> None:
    """Raises UsageError where the original has no name that begins so."""
    for begin in beginnings:
        if not any(begins(path, begin) for path in paths):
            raise UsageError(f"{where}: rename: expected names of the original, got {begin!r}: {few(paths)}")


def begins(path: str, begin: str) -> bool:
    """Whether a path is below another one, or is it."""
    return not begin or path == begin or path.startswith(f"{begin}.")


def few(paths: Sequence[str]) -> str:
    """Some of the names that there are."""
    return f"it has {', '.join(paths[:4])}{' and others' if len(paths) > 4 else ''}"


def guarded(rename: Callable[[str], str], where: str) -> Callable[[str], str]:
    """The function; what it raises becomes one line."""

    def called(path: str) -> str:
        try:
            return rename(path)
        except OhlolError:
            raise
        except Exception as error:
            raise UsageError(f"{where}: rename: raised {type(error).__name__} for {path!r}: {error}") from None

    return called


def _by_beginning(rename: Mapping[str, str], path: str) -> str:
    """With the longest beginning that is named replaced."""
    chosen = max((begin for begin in rename if begins(path, begin)), key=len, default=None)
    if chosen is None:
        return path
    rest = path[len(chosen) :].removeprefix(".")
    return ".".join(one for one in (rename[chosen], rest) if one)
