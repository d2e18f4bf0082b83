"""What a pair file gives, read in the process of the side that needs it; and what of it is wrong, in one line."""

import ast
import difflib
import importlib.util
import inspect
import os
import random
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import numpy as np

from crosscheck.pair import renaming
from crosscheck.pair.codec import arrays_in
from spec import text
from spec.errors import FrameworkMissing, OhlolError, UsageError
from spec.files import check_regular
from spec.pair import PairOptions

SIDES = ("original", "port")
"""What the two sides are called, and the functions that make their models."""

NEEDED = (*SIDES, "inputs")
OPTIONAL = ("to_port", "call_original", "call_port", "loss", "optimizers", "state", "lengths", "mask", "expected")
OPTIONAL += ("rename", "keras_backends")
"""What a pair file may give beside them."""

KERAS_BACKENDS = ("torch", "jax")
"""On what Keras computes in each side's process, where the pair does not say `keras_backends`."""

FRAMEWORKS = {"torch_impl": "torch", "flax_impl": "jax"}
"""The implementations with a room for any model, and what has been imported where a model is theirs."""

ALIKE = 0.9
"""How alike a name is to one of those above (by difflib) that is taken for a slip of the pen."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where the parts of a pair are: a file, and what a part is called in it where that is not its own name.

    others: of parts that are in other files, by their names: file and name there. whole: whether what `others` does not
    name is looked for in the file.
    """

    file: str
    others: dict[str, tuple[str, str]] = {}
    whole: bool = True
    keras_backends: tuple[str, str] | None = None


class PairGiven(NamedTuple):
    """What one side is made of. inputs: (rng) -> what the model is called with, before `to_port`.

    names: of what is optional, what is given.
    """

    made: Any
    options: PairOptions
    inputs: Callable[[np.random.Generator], Any]
    to_port: Callable[..., Any] | None
    lengths: Any
    mask: Any
    expected: dict[str, str]
    names: tuple[str, ...]
    rename: renaming.Rename | None = None


def read(source: Source, side: int) -> PairGiven:
    """Import the file and make this side's model. Raises UsageError or FrameworkMissing, with one line."""
    modules: dict[str, ModuleType] = {}
    _choose_keras_backend(source, side)

    def part(name: str) -> Any:
        file, called = source.others.get(name, (source.file if source.whole else "", name))
        if not file:
            return None
        if file not in modules:
            modules[file] = _imported(Path(file))
            if source.whole:
                _check_names(modules[file])
        found = modules[file]
        for word in called.split("."):
            found = getattr(found, word, None)
        return found

    own = SIDES[side]
    where = Path(source.file).name
    for name in (own, "inputs"):
        if not callable(part(name)):
            what = f"{name}(rng)" if name == "inputs" else f"{name}() or {name}(seed)"
            raise UsageError(f"{where}: expected a function {what}, got {_kind(part(name))}")
    make, made = made_by(part(own), where, own)
    options = PairOptions(
        make=make,
        call=_function(part(f"call_{own}"), where, f"call_{own}"),
        loss=of_side(part("loss"), side, where, "loss"),
        optimizer=of_side(part("optimizers"), side, where, "optimizers"),
        state=names(part("state"), where, "state"),
    )
    return PairGiven(
        made,
        options,
        _guarded(part("inputs"), where, "inputs"),
        _function(part("to_port"), where, "to_port") and _guarded(part("to_port"), where, "to_port"),
        part("lengths"),
        part("mask"),
        texts(part("expected"), where, "expected"),
        tuple(name for name in OPTIONAL if part(name) is not None),
        renaming.checked(part("rename"), where),
    )


def _choose_keras_backend(source: Source, side: int) -> None:
    """Keras asks for its backend once, when it is imported: so before the pair file is."""
    chosen: Any = source.keras_backends or KERAS_BACKENDS
    if source.whole:
        written = _literal(Path(source.file), "keras_backends")
        chosen = chosen if written is None else written
    os.environ["KERAS_BACKEND"] = keras_backends(chosen, Path(source.file).name)[side]


def keras_backends(value: Any, where: str) -> tuple[str, str]:
    """Of both sides. Raises UsageError for what is not two of those that there are implementations for."""
    known = isinstance(value, tuple | list) and len(value) == 2 and all(one in KERAS_BACKENDS for one in value)
    if not known:
        expected = f"two of {' and '.join(map(repr, KERAS_BACKENDS))}, of {SIDES[0]} and {SIDES[1]}, as literals"
        raise UsageError(f"{where}: keras_backends: expected {expected}, got {value!r}")
    return value[0], value[1]


def _literal(path: Path, name: str) -> Any:
    """What a file assigns to a name at its top, read without running it; None where it does not, or is no Python."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):  # importing it will say so
        return None
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == name for one in node.targets):
            try:
                return ast.literal_eval(node.value)
            except ValueError:
                return ast.unparse(node.value)
    return None


def made_by(factory: Callable[..., Any], where: str, name: str) -> tuple[Callable[[int], Any] | None, Any]:
    """What makes a model by its seed, if that is asked for, and one. Raises UsageError for another factory."""
    seeded = _takes_seed(factory, where, name)
    make = _guarded(factory, where, name)
    _seed_globals()
    return (make, make(0)) if seeded else (None, make())


def implementation_of(made: Any, where: str, name: str) -> str:
    """The implementation whose framework a model is of. Raises UsageError for what is of none."""
    for implementation, framework in FRAMEWORKS.items():
        if framework in sys.modules:
            kinds = importlib.import_module(f"{implementation}.pair.kinds")
            if kinds.recognize(made):
                return implementation
    expected = (
        "a torch.nn.Module, an nnx, Equinox or Keras module, (linen module, variables), (haiku.transform, parameters) "
        "or (function, parameters)"
    )
    raise UsageError(f"{where}: {name}: expected {expected}, got {_kind(made)}{_strange_backend(made)}")


def _strange_backend(made: Any) -> str:
    keras = sys.modules.get("keras")
    if keras is None or not isinstance(made, getattr(keras, "Layer", ())):
        return ""
    return f" on {keras.backend.backend()}, which is none of {' and '.join(KERAS_BACKENDS)}"


def inputs_of(given: PairGiven, state: Mapping[str, Any], where: str) -> tuple[Any, ...] | dict[str, Any]:
    """What `inputs` draws from a generator in that state: positional arguments, or arguments by name."""
    bits = np.random.PCG64()
    bits.state = dict(state)  # pyright: ignore[reportAttributeAccessIssue]
    drawn = given.inputs(np.random.Generator(bits))
    return checked_inputs(drawn, where, "inputs")


def checked_inputs(drawn: Any, where: str, name: str) -> tuple[Any, ...] | dict[str, Any]:
    """As arguments. Raises UsageError for what is none, or has arrays that are not NumPy's."""
    if isinstance(drawn, np.ndarray):
        drawn = (drawn,)
    if not isinstance(drawn, tuple | list | dict):
        raise UsageError(f"{where}: {name}: expected a tuple of NumPy arrays, or a dictionary, got {_kind(drawn)}")
    found = dict(drawn) if isinstance(drawn, dict) else tuple(drawn)
    strange = next(_strangers(found), None)
    if strange is not None:
        raise UsageError(f"{where}: {name}: expected NumPy arrays, got {_kind(strange)}")
    if not any(True for _ in arrays_in(found)):
        raise UsageError(f"{where}: {name}: expected NumPy arrays, got none")
    return found


def _strangers(value: Any) -> Any:
    if isinstance(value, dict | tuple | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strangers(item)
    elif isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            yield value
    elif not (value is None or isinstance(value, bool | int | float | str | np.generic)):
        yield value


def _imported(path: Path) -> ModuleType:
    if not path.exists():
        raise UsageError(f"{path}: expected a pair file, got nothing: no such file")
    if path.is_dir() or path.suffix != ".py":
        raise UsageError(f"{path}: expected a Python file, got {'a directory' if path.is_dir() else path.name!r}")
    check_regular(path)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    known = sys.modules.get(path.stem)
    if known is not None and Path(getattr(known, "__file__", None) or "/").resolve() == path.resolve():
        return known
    # Under a name of its own: a pair file may be called as a package is that it imports.
    name = path.stem if known is None and not _importable(path) else f"pair_file_{path.stem}"
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise FrameworkMissing(f"{_line(error, path)}: expected {error.name} to be installed, got none") from None
    except SyntaxError as error:
        place = f"{Path(error.filename or path).name}, line {error.lineno}"
        raise UsageError(f"{place}: expected Python, got {error.msg}") from None
    except OhlolError:
        raise
    except BaseException as error:
        traceback.print_exc()
        raise UsageError(f"{_line(error, path)}: importing it raised {text.exception(error)}") from None
    return module


def _importable(path: Path) -> bool:
    """Whether another module of that name would be imported, were it asked for elsewhere."""
    found = None
    try:
        found = importlib.util.find_spec(path.stem)
    except (ImportError, ValueError, AttributeError):
        return False
    return found is not None and Path(found.origin or "/").resolve() != path.resolve()


def _check_names(module: ModuleType) -> None:
    known = (*NEEDED, *OPTIONAL)
    for name in vars(module):
        if name in known or name.startswith("_"):
            continue
        for meant in difflib.get_close_matches(name, known, 1, ALIKE):
            if getattr(module, meant, None) is None:
                where = Path(module.__file__ or "").name
                raise UsageError(f"{where}: expected {meant!r}, got {name!r}: rename it, or begin it with _")


def _takes_seed(factory: Any, where: str, name: str) -> bool:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return False
    needed = [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if needed not in ([], ["seed"]):
        raise UsageError(f"{where}: expected {name}() or {name}(seed), got {name}({', '.join(needed)})")
    return any(one.name == "seed" for one in parameters)


def _guarded(function: Callable[..., Any], where: str, name: str) -> Callable[..., Any]:
    """The function; what it raises becomes one line."""

    def guarded(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except OhlolError:
            raise
        except BaseException as error:
            traceback.print_exc()
            raise UsageError(f"{_line(error, Path(where))}: {name}: raised {text.exception(error)}") from None

    return guarded


def _seed_globals() -> None:
    """So that a model that is made without a seed is the same in every run."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def _function(value: Any, where: str, name: str) -> Any:
    if value is not None and not callable(value):
        raise UsageError(f"{where}: {name}: expected a function, got {_kind(value)}")
    return value


def of_side(value: Any, side: int, where: str, name: str) -> Any:
    """One side's of two; a single function is for both."""
    if value is None:
        return None
    if isinstance(value, tuple | list) and not hasattr(value, "update"):
        if len(value) != 2:
            raise UsageError(f"{where}: {name}: expected two, of {SIDES[0]} and {SIDES[1]}, got {len(value)}")
        return value[side]
    if name == "loss" and callable(value):
        return value
    raise UsageError(f"{where}: {name}: expected two, of {SIDES[0]} and {SIDES[1]}, got {_kind(value)}")


def names(value: Any, where: str, name: str) -> tuple[str, ...]:
    """One name, or several."""
    found = (value,) if isinstance(value, str) else value if value is not None else ()
    if not isinstance(found, tuple | list) or not all(isinstance(one, str) for one in found):
        raise UsageError(f"{where}: {name}: expected a text or several, got {_kind(value)}")
    return tuple(found)


def texts(value: Any, where: str, name: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(one, str) for pair in value.items() for one in pair):
        raise UsageError(f"{where}: {name}: expected a dictionary of texts, got {_kind(value)}")
    return dict(value)


def _line(error: BaseException, path: Path) -> str:
    """The file and the innermost line of it that an exception came through."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == path.name
    ]
    return f"{path.name}, line {lines[-1]}" if lines else path.name


def _kind(value: Any) -> str:
    if value is None:
        return "none"
    return f"{type(value).__module__}.{type(value).__qualname__}"
