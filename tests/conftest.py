"""What holds for every test, and which tests need which side: `pytest --side flax` runs where torch is not installed.

Without --side every test runs, and a framework that is missing is an error. With it, what needs the other side is left
out, as found in the tests' own sources and parameters before anything runs. A test that reaches the other side by
another way, such as a process that it starts, says so: `@pytest.mark.needs("torch")`.

Where a test has many cases that take seconds each, `@pytest.mark.by_default("ragged-*", "whole")` says which ids stand
for the others; these are `long`, and `make test-long` runs them.
"""

import ast
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from spec import cache
from spec.machine import THREADS

# For what tests of several packages share.
sys.path.append(str(Path(__file__).parent))

# Before anything imports torch: tests already run in as many processes as there are cores, and threads of several
# processes that wait for each other's cores take ten times as long as none.
for variable in THREADS:
    os.environ.setdefault(variable, "1")

# With it every run would draw a page, which takes a second: tests of that set it.
os.environ.pop("CI", None)

PACKAGES = {
    "torch": {"torch", "torch_impl"},
    "flax": {"jax", "jaxlib", "flax", "optax", "flax_impl"},
}
"""What a side consists of: its framework, and the implementation in it."""

WITHOUT_FRAMEWORK = {"torch_impl", "flax_impl"}
"""What imports its framework only when it is first asked to compute."""


class Needs(NamedTuple):
    """Which sides a test file needs to be imported at all, and which its tests need, by their functions' names."""

    file: set[str]
    tests: dict[str, set[str]]


def needs(source: str) -> Needs:
    """Found in a test file's source: what it imports, and which of its names lead there, helpers and fixtures too."""
    tree = ast.parse(source)
    file: set[str] = set()
    leads: dict[str, set[str]] = {}
    for node in tree.body:
        for module, name in imported(node):
            sides = sides_of(module)
            leads[name] = leads.get(name, set()) | sides
            if module not in WITHOUT_FRAMEWORK:
                file |= sides
    definitions = {name: node for node in tree.body for name in defined(node)}
    before: dict[str, set[str]] | None = None
    while before != leads:
        before = dict(leads)
        for name, node in definitions.items():
            leads[name] = leads.get(name, set()).union(*(leads.get(word, set()) for word in words(node)))
            leads[name] |= {
                side for inner in ast.walk(node) for module, _ in imported(inner) for side in sides_of(module)
            }
    # An autouse fixture is every test's.
    for name, node in definitions.items():
        if "autouse=True" in "".join(map(ast.unparse, getattr(node, "decorator_list", []))):
            file |= leads[name]
    return Needs(file, {name: leads[name] for name in definitions if name.startswith("test")})


def needed_by(path: Path) -> set[str]:
    """Which sides a test file needs to be imported, by itself and by the helpers beside it or in tests/."""
    found, seen, left = set[str](), set[Path](), [path]
    while left:
        source = left.pop()
        seen.add(source)
        text = source.read_text()
        found |= needs(text).file
        modules = {module.partition(".")[0] for node in ast.parse(text).body for module, _ in imported(node)}
        helpers = {place / f"{module}.py" for module in modules for place in (source.parent, Path(__file__).parent)}
        left += [helper for helper in helpers - seen if helper.exists()]
    return found


def sides_of(module: str) -> set[str]:
    return {side for side, packages in PACKAGES.items() if module.partition(".")[0] in packages}


def imported(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Every module that a statement imports, with the name that it gives to it or to what comes from it."""
    match node:
        case ast.Import(names=names):
            yield from ((name.name, name.asname or name.name.partition(".")[0]) for name in names)
        case ast.ImportFrom(module=str(module), names=names, level=0):
            for name in names:
                yield f"{module}.{name.name}", name.asname or name.name


def defined(node: ast.AST) -> list[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [word for target in targets for word in words(target)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def words(node: ast.AST) -> set[str]:
    """Names that are read, and arguments: of a test and of a fixture, they are fixtures."""
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)} | {
        inner.arg for inner in ast.walk(node) if isinstance(inner, ast.arg)
    }


def named(value: object) -> set[str]:
    """The sides that a test's parameter names."""
    match value:
        case str() | ModuleType():
            return sides_of(value if isinstance(value, str) else value.__name__)
        case tuple() | list():
            return set().union(*map(named, value))
    return set()


def pytest_configure(config: pytest.Config) -> None:
    """Keep what is compiled for the other tests of this run, in a directory of its own.

    Tests leave nothing in the cache directory of who runs them, and take nothing from there. What one of them has
    compiled, in this process or another, no other compiles again. Tests that are about keeping, or not keeping, have
    directories of their own.
    """
    if hasattr(config, "workerinput") or not cache.wanted():
        keep_bytecode()
        return  # xdist's own processes have this one's environment.
    place = tempfile.mkdtemp(prefix="ohlol-tests-")
    config.add_cleanup(lambda: shutil.rmtree(place, ignore_errors=True))
    os.environ.pop(cache.VARIABLE, None)
    os.environ["XDG_CACHE_HOME"] = place
    # Read by implementations when they are imported.
    os.environ.update(cache.variables())
    if not config.getoption("numprocesses", None):
        keep_bytecode()


def keep_bytecode() -> None:
    """Where Python is told to write none, have the processes that tests start write it into this run's directory.

    Else each of them would compile every file of ours anew, which is half of what a command takes that is refused.
    """
    place = os.environ.get("XDG_CACHE_HOME")
    if sys.dont_write_bytecode and place and cache.wanted():
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(place) / "bytecode")


def pytest_collection_finish() -> None:
    """Leave what stays, frameworks and tests, out of the search for garbage, which tracing starts time and again."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--side", choices=list(PACKAGES), help="only tests that need no framework, or this side's alone")


def pytest_report_header(config: pytest.Config) -> str:
    side = config.getoption("side")
    return f"side: {side} alone; tests that need the other are left out" if side else "side: both"


def others(config: pytest.Config) -> set[str]:
    side = config.getoption("side")
    return PACKAGES.keys() - {side} if side else set()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if not others(config) or collection_path.suffix != ".py":
        return None
    return True if needed_by(collection_path) & others(config) else None


# Before pytest selects by marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Whoever names a case has collected no other.
    mark_long(items, whole=not any("::" in argument for argument in config.args))
    if not (lacking := others(config)):
        return
    by_file: dict[Path, Needs] = {}
    kept, left_out = [], []
    for item in items:
        if item.path not in by_file:
            by_file[item.path] = needs(item.path.read_text())
        wanted = set(by_file[item.path].tests.get(getattr(item, "originalname", item.name), set()))
        wanted |= {side for mark in item.iter_markers("needs") for side in mark.args}
        wanted |= set().union(*map(named, getattr(getattr(item, "callspec", None), "params", {}).values()))
        (left_out if wanted & lacking else kept).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def mark_long(items: list[pytest.Item], whole: bool) -> None:
    """Mark the cases that others stand for. whole: whether all cases of each test are there.

    Where an id stands for none of them, it may have been another one yesterday: all are run then, and fail for it.
    """
    by_test: dict[str, list[tuple[pytest.Item, str]]] = {}
    for item in items:
        if item.get_closest_marker("by_default"):
            name, _, case = item.nodeid.removesuffix("]").partition("[")
            by_test.setdefault(name, []).append((item, case))
    for cases in by_test.values():
        mark = cases[0][0].get_closest_marker("by_default")
        patterns = mark.args if mark else ()
        unknown = [one for one in patterns if not any(fnmatchcase(case, one) for _, case in cases)]
        for item, case in cases:
            if whole and unknown:
                item.add_marker(pytest.mark.no_such_case(*unknown))
            elif not any(fnmatchcase(case, pattern) for pattern in patterns):
                item.add_marker("long")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if mark := item.get_closest_marker("no_such_case"):
        pytest.fail(f"by_default: expected ids of this test's cases, got {', '.join(mark.args)}", pytrace=False)
