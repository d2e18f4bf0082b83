"""From a module's name or path to an implementation. Only workers load one, since that imports its framework."""

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import cast

from spec import requirements, text
from spec.errors import FrameworkMissing, OhlolError, UsageError
from spec.files import check_regular
from spec.framework import Framework


class CannotStart(OhlolError):
    """An implementation that fails before it is asked to compute anything."""

    exit_code = 3


def load(name: str) -> Framework:
    """Import an implementation: a module's name, or the path of a package's directory or of a .py file.

    Raises UsageError when there is no such module, or when it lacks functions of the contract, FrameworkMissing when
    something that it imports is not installed, and CannotStart when the import fails in another way.
    """
    path, is_path = Path(name), _is_path(name)
    if is_path and not path.is_dir():
        # To read a FIFO would take for ever.
        check_regular(path)
    if not is_path and "/" in name:
        raise UsageError(f"--implementations: expected a module or the path of one, got {name!r}: no such path")
    module_name = path.stem if is_path else name
    if is_path:
        # Ahead of everything, so that a copy stands in for the installed module of the same name.
        sys.path.insert(0, str(path.resolve().parent))
    try:
        module = importlib.import_module(module_name)
        missing = [function for function in ("describe", "open") if not callable(_function(module, function))]
    except ModuleNotFoundError as error:
        if f"{module_name}.".startswith(f"{error.name}."):
            raise UsageError(f"--implementations: expected an importable module, got {name!r}") from None
        raise FrameworkMissing(not_installed(name, error)) from None
    except OhlolError:
        raise
    # Also SystemExit: a framework that is installed but broken may do anything.
    except BaseException as error:
        traceback.print_exc()
        raise CannotStart(f"{name}: import: {text.exception(error)}") from error
    if is_path:
        _check_origin(module, path)
    if missing:
        raise UsageError(f"{name}: expected the functions of spec.framework.Framework, got none named {missing}")
    return cast(Framework, module)


def not_installed(name: str, error: ModuleNotFoundError) -> str:
    """What to install for an implementation."""
    said = f"{name}: expected {error.name} to be installed, got none"
    return f"{said}; {requirements.hint(requirements.EXTRAS[name])}" if name in requirements.EXTRAS else said


def origin(name: str) -> Path | None:
    """The file of that module, by its name or path, without importing it; None where there is none to be found."""
    path = Path(name)
    if _is_path(name):
        return (path / "__init__.py" if path.is_dir() else path).resolve()
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(found.origin).resolve() if found and found.origin else None


def load_afresh(name: str) -> Framework:
    """The same as `load`, but nothing of an implementation of that name that was imported before is kept.

    So a copy stands in for the implementation that the process began with, under the same name, and the framework
    below need not be imported again. What the implementation has cached goes with its modules.
    """
    module_name = Path(name).stem if _is_path(name) else name
    # Of a module inside a package, the package stays: others have taken its classes.
    for imported in [key for key in sys.modules if f"{key}.".startswith(f"{module_name}.")]:
        del sys.modules[imported]
    importlib.invalidate_caches()
    searched = list(sys.path)
    try:
        return load(name)
    finally:
        # Submodules that are imported later are found through their package.
        sys.path[:] = searched


def _is_path(name: str) -> bool:
    path = Path(name)
    return path.exists() and (path.suffix == ".py" or len(path.parts) > 1)


def _function(module: ModuleType, name: str) -> object:
    """The module's function, None where it has none of that name.

    A module may import its framework when it is first asked for a function (PEP 562), and what fails in that is another
    matter, even where it is an AttributeError too.
    """
    try:
        return getattr(module, name)
    except AttributeError as error:
        asked = error.__traceback__ and error.__traceback__.tb_next
        if asked is None or asked.tb_next is None:
            return None
        raise


def _check_origin(module: ModuleType, path: Path) -> None:
    """Raise UsageError when another module of the same name was imported before and stands in the way."""
    origin = Path(module.__file__ or "").resolve()
    found = origin.parent if origin.name == "__init__.py" else origin
    if found != path.resolve():
        raise UsageError(f"--implementations: expected the module in {path}, got the one in {found}")
