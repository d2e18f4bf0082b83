"""Who may import whom."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMON = {"numpy", "spec"}
MAY_IMPORT = {
    "spec": {"numpy", "spec", "msgspec", "safetensors", "rich", "matplotlib"},
    "torch_impl": COMMON | {"torch_impl", "torch", "jaxtyping"},
    "flax_impl": COMMON | {"flax_impl", "jax", "flax", "optax", "jaxtyping"},
    "crosscheck": COMMON | {"crosscheck", "msgspec", "scipy", "rich", "matplotlib"},
}


def imported(source: str) -> set[str]:
    """Top-level packages that a file imports, wherever in it; relative imports stay inside by definition."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names)


def files(package: str) -> Iterator[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, package
    yield from found


def violations(package: str, sources: dict[str, str]) -> list[str]:
    return [
        f"{name} imports {other}"
        for name, source in sources.items()
        for other in sorted(imported(source) - MAY_IMPORT[package])
    ]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_are_allowed(package: str) -> None:
    assert violations(package, {str(p.relative_to(ROOT)): p.read_text() for p in files(package)}) == []


@pytest.mark.parametrize(
    ("package", "line", "other"),
    [
        ("spec", "import torch", "torch"),
        ("spec", "def late():\n    from jax import numpy", "jax"),
        ("torch_impl", "import flax_impl.gru", "flax_impl"),
        ("flax_impl", "from torch import nn", "torch"),
        ("crosscheck", "import torch_impl", "torch_impl"),
    ],
)
def test_a_forbidden_import_is_seen(package: str, line: str, other: str) -> None:
    assert violations(package, {"planted.py": line}) == [f"planted.py imports {other}"]


def strangers_to_the_room(sources: dict[str, str]) -> list[str]:
    """What flax_impl/fast imports of flax_impl beside itself: it is handed what it speeds up, and knows no model."""
    return [
        f"{name} imports {node.module}"
        for name, source in sources.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module is not None
        if node.module.startswith("flax_impl") and not node.module.startswith("flax_impl.fast")
    ]


def test_the_fast_room_knows_nothing_of_the_models() -> None:
    assert strangers_to_the_room({p.name: p.read_text() for p in files("flax_impl/fast")}) == []
    for line in ("from flax_impl.gru import GRUCell", "from flax_impl import gru"):
        assert strangers_to_the_room({"planted.py": line})


FLOORS: tuple[tuple[str, ...], ...] = (
    ("exit_codes", "plain", "comparison", "request"),
    ("bounds", "statistics", "mapping"),
    ("probes",),
    ("checks",),
    ("recording",),
    ("diagnosis",),
    ("judging",),
    ("report",),
    ("cli", "faults", "benchmark"),
    ("__main__",),
)
"""crosscheck's rooms, from the ground up: each imports from its own floor and from those below."""


def room_of(module: str) -> str:
    """The room of a module of crosscheck, by its dotted name; of the package itself, which holds none, nothing."""
    return module.split(".")[1] if module.count(".") else ""


def upwards(sources: dict[str, str]) -> list[str]:
    """What crosscheck imports from a floor above, wherever in a file; and rooms that stand on no floor."""
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    known = set(sources)
    found = []
    for module, source in sources.items():
        room = room_of(module)
        if room and room not in floor:
            found.append(f"{module} is on no floor")
            continue
        for node in ast.walk(ast.parse(source)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name if name in known else node.module for name in inner]
            for name in names:
                above = room_of(name) if name.startswith("crosscheck.") else ""
                if above and floor.get(above, len(FLOORS)) > floor.get(room, -1):
                    found.append(f"{module} imports {name}")
    return sorted(set(found))


def crosscheck_sources() -> dict[str, str]:
    """The sources by the modules' dotted names."""
    found = {}
    for path in files("crosscheck"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = path.read_text()
    return found


def test_nothing_in_crosscheck_imports_upwards() -> None:
    assert upwards(crosscheck_sources()) == []


@pytest.mark.parametrize(
    ("module", "line", "said"),
    [
        ("crosscheck.recording.planted", "from crosscheck.judging import verdict", "crosscheck.judging.verdict"),
        (
            "crosscheck.checks.planted",
            "def late():\n    from crosscheck.recording.worker import Job",
            "recording.worker",
        ),
        ("crosscheck.comparison", "import crosscheck.probes.witness", "crosscheck.probes.witness"),
        ("crosscheck.attic.planted", "import numpy", "is on no floor"),
    ],
)
def test_an_import_upwards_is_seen(module: str, line: str, said: str) -> None:
    (found,) = upwards({**crosscheck_sources(), module: line})
    assert found.startswith(module)
    assert said in found
