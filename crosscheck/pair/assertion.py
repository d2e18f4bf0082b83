"""A pair in somebody's own tests."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spec.errors import OhlolError, UsageError

PathLike = str | Path


def check(
    original: Any,
    port: Any = None,
    inputs: Any = None,
    *,
    seed: int = 0,
    weights: PathLike | None = None,
    map_file: PathLike | None = None,
    timeout: float = 600.0,
    **options: Any,
) -> str:
    """Raise AssertionError, with the report as its message, unless the two are the same; returns the report.

    original: the path of a pair file; or a function that makes the original, where `port` is one that makes the port
    and `inputs` is one that takes a generator. Functions that can be imported by file and name are called in a process
    for each side. Anything else is live: models themselves (`inputs`: a function, or the arguments), or functions
    inside of others; these are checked in this process, and the report says what that leaves out.
    options: what a pair file may give beside, by the same names.

    Raises OhlolError with one line where the pair cannot be asked.
    """
    from crosscheck.pair import command, ladder, report, subject
    from crosscheck.pair.given import Source
    from spec.weights import reading

    arrays = (Path(weights), reading.read(Path(weights))) if weights is not None else None
    wanted = ladder.PairWanted(seed=seed, map_file=Path(map_file) if map_file is not None else None, weights=arrays)
    if isinstance(original, str | Path):
        if port is not None or inputs is not None or options:
            raise UsageError(f"pair.check: expected all that is given in {original}, got more beside it")
        file = Path(original)
        wanted = wanted._replace(map_file=wanted.map_file or file.with_name(f"{file.stem}{command.MAP}"))
        with subject.opened(Source(file=str(file)), timeout) as pair:
            result = ladder.climb(pair, wanted, _ignore, _ignore)
    elif (source := _importable({"original": original, "port": port, "inputs": inputs, **options})) is not None:
        with subject.opened(source, timeout) as pair:
            result = ladder.climb(pair, wanted, _ignore, _ignore)
    else:
        pair = subject.live((original, port), _drawing(inputs), options)
        result = ladder.climb(pair, wanted, _ignore, _ignore)
    told = report.plain_text(result)
    if result.exit_code:
        raise AssertionError(f"\n{told}")
    return told


def _importable(parts: dict[str, Any]) -> Any:
    """Where functions are, if every one can be found again by its file and its name."""
    from crosscheck.pair.given import Source, keras_backends

    others = {}
    backends = parts.pop("keras_backends", None)
    for name, part in parts.items():
        if part is None:
            continue
        if not inspect.isfunction(part) or "<" in part.__qualname__:
            return None
        file = inspect.getsourcefile(part)
        if file is None or not Path(file).exists():
            return None
        others[name] = (str(Path(file).resolve()), part.__qualname__)
    if not {"original", "port", "inputs"} <= others.keys():
        return None
    if backends is not None:
        backends = keras_backends(backends, "pair.check")
    return Source(file=others["original"][0], others=others, whole=False, keras_backends=backends)


def _drawing(inputs: Any) -> Callable[[np.random.Generator], Any]:
    if callable(inputs):
        return inputs
    if inputs is None:
        raise OhlolError("pair.check: expected inputs, a function of a generator or the arguments, got none")
    return lambda random: inputs


def _ignore(_: object) -> None:
    return None
