"""Who may import whom."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spec.experiment import load, shipped
from spec.models import MODELS

ROOT = Path(__file__).parents[2]
COMMON = {"numpy", "spec"}
MAY_IMPORT = {
    "spec": {"numpy", "spec", "msgspec", "safetensors", "rich", "matplotlib"},
    "torch_impl": COMMON | {"torch_impl", "torch", "jaxtyping"},
    "flax_impl": COMMON | {"flax_impl", "jax", "flax", "optax", "jaxtyping"},
    "crosscheck": COMMON
    | {"crosscheck", "hypothesis", "jinja2", "markupsafe", "msgspec", "scipy", "rich", "matplotlib"},
}

READERS = {
    "spec/weights/hdf5.py": {"h5py"},
    "spec/weights/onnx_graph.py": {"google", "onnx"},
    "flax_impl/weights.py": {"orbax"},
    "spec/command/tensorboard.py": {"tensorboardX"},
}
"""Readers and writers of formats: the one file that may import a package of an extra, when such a file is wanted."""


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
        for other in sorted(imported(source) - MAY_IMPORT[package] - READERS.get(name, set()))
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
        ("spec", "import h5py", "h5py"),
        ("spec", "def late():\n    import onnx", "onnx"),
        ("flax_impl", "import orbax.checkpoint", "orbax"),
    ],
)
def test_a_forbidden_import_is_seen(package: str, line: str, other: str) -> None:
    assert violations(package, {"planted.py": line}) == [f"planted.py imports {other}"]


def early_readers(sources: dict[str, str]) -> list[str]:
    """Where a reader that needs an extra is imported as a file's own statement, and not when such a file comes."""
    needing = {name.removesuffix(".py").replace("/", ".") for name in READERS}
    found = []
    for name, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            asked: list[str] = []
            if isinstance(node, ast.Import):
                asked = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                asked = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            found += [f"{name} imports {one}" for one in asked if one in needing]
    return found


def test_readers_are_imported_when_their_files_come() -> None:
    everything = {str(p.relative_to(ROOT)): p.read_text() for package in MAY_IMPORT for p in files(package)}
    assert early_readers(everything) == []
    assert READERS.keys() <= everything.keys()
    for line in (
        "import spec.weights.hdf5",
        "from spec.weights import onnx_graph",
        "from flax_impl.weights import read",
    ):
        assert early_readers({"planted.py": line})
    extras = (ROOT / "pyproject.toml").read_text().partition("\nweights = [")[2].partition("\nwriters = [")[0]
    # protobuf comes with onnx.
    assert {f'"{name}' in extras for name in set().union(*READERS.values()) - {"google"}} == {True}


def public_twins(package: str, sources: dict[str, str]) -> list[str]:
    """Public classes of one name in two files of a package."""
    places: dict[str, list[str]] = {}
    for name, source in sources.items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(name)
    return [f"{package}: {name} in {', '.join(found)}" for name, found in places.items() if len(found) > 1]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_public_class_has_a_name_of_its_own(package: str) -> None:
    assert public_twins(package, {str(p.relative_to(ROOT)): p.read_text() for p in files(package)}) == []
    assert public_twins(package, {"one.py": "class Plan: pass", "two.py": "class Plan: pass"})


FRAMEWORK = re.compile(r"torch|jax|flax|\bxla\b|\bnnx|optax", re.IGNORECASE)


def frameworks_named(sources: dict[str, str]) -> list[str]:
    """Lines that name a framework, but for where a formula or a number comes from."""
    return [
        f"{name}:{number}: {line.strip()}"
        for name, source in sources.items()
        for number, line in enumerate(source.splitlines(), 1)
        if FRAMEWORK.search(line.partition("Source:")[0])
    ]


def test_the_spec_names_no_framework() -> None:
    texts = {p.name: p.read_text() for p in [*files("spec"), *(ROOT / "spec").rglob("*.toml")]}
    assert frameworks_named(texts) == []
    for line in ('EXTRAS = {"torch_impl": 1}', 'say("JAX compiles")', "# as optax has it"):
        assert frameworks_named({"planted.py": line})
    assert not frameworks_named({"planted.py": "    Source: `torch.nn.LSTM`."})


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
    ("exit_codes", "plain", "comparison", "subject", "request"),
    ("bounds", "statistics", "mapping", "libraries"),
    ("probes",),
    ("checks",),
    ("recording",),
    ("diagnosis",),
    ("explain",),
    ("judging",),
    ("report",),
    ("cli", "explore", "faults", "benchmark", "pair"),
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


JUDGES = ("checks", "probes", "bounds", "statistics", "judging", "diagnosis")
"""Rooms of crosscheck that know what they compare as a `Subject` alone."""

MODEL_FIELDS = {field for model in MODELS.values() for field in model.__struct_fields__} | {"gates", "states"}
"""What the spec's models are described by."""

SAID_BY_A_SUBJECT = {"classes", "inputs", "dropout"}
"""Of these, what a subject, a batch or an implementation's function has too."""


def _modules(name: str) -> set[str]:
    """Of a tensor's name, the modules whose names are no ordinary words ("head"): of two words, or in others."""
    path = name.split(".")[:-1]
    return {part for part in path if "_" in part or (part[-1].isdigit() and len(part) > 1)} | (
        {".".join(path[:2])} if path[1:] else set()
    )


MODULES = {part for name in shipped() for p in load(name).parameters() for part in _modules(p.name)}

TENSOR = re.compile("|".join([r"(^|[._])(weight|bias)([._]|$)", *map(re.escape, sorted(MODULES))]))
"""Names of the spec's tensors and modules, or what they end in."""


def knowledge(sources: dict[str, str]) -> list[str]:
    """What the judging rooms say of the spec's own models: classes, their fields, experiments, names of tensors."""
    found = []
    for module, source in sources.items():
        if room_of(module) not in JUDGES:
            continue
        tree = ast.parse(source)
        told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(
                ("spec.models.", "spec.observed_masks.")
            ):
                found.append(f"{module} imports {node.module}")
            elif isinstance(node, ast.Name) and node.id in {*MODELS, "Embedding", "Features", "Recurrent"}:
                found.append(f"{module} names {node.id}")
            elif (
                isinstance(node, ast.Attribute)
                and node.attr in {*MODEL_FIELDS, "model", "models", "task"} - SAID_BY_A_SUBJECT
            ):
                found.append(f"{module} asks for {node.attr}")
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
                said = TENSOR.search(node.value) or any(name in node.value for name in shipped())
                found += [f"{module} says {node.value!r}"] if said else []
    return found


def test_judges_know_a_subject_alone() -> None:
    assert knowledge(crosscheck_sources()) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("from spec.models import Embedding", "imports spec.models"),
        ("from spec.models.recurrent import Recurrent", "imports spec.models.recurrent"),
        ("def f(m): return isinstance(m, spec.models.GRU)", "asks for models"),
        ("def f(m): return isinstance(m, LSTM)", "names LSTM"),
        ("DEEP = ('hello-gru',)", "says 'hello-gru'"),
        ("def f(e): return e.model.hidden_size", "asks for hidden_size"),
        ("def f(n): return n.endswith('.bias_ih')", "says '.bias_ih'"),
        ("def f(n): return n == 'embedding.weight'", "says 'embedding.weight'"),
        ("def f(n): return n.startswith('encoder.layers.0')", "says 'encoder.layers.0'"),
    ],
)
def test_knowledge_of_a_model_is_seen(line: str, said: str) -> None:
    assert f"crosscheck.probes.planted {said}" in knowledge({"crosscheck.probes.planted": line})
    # Where knowledge of the spec belongs, nobody minds.
    assert knowledge({"crosscheck.faults.planted": line}) == []


def parsed_prose(sources: dict[str, str]) -> list[str]:
    """Where a note's words decide something: they are asked for a beginning, cut, or compared."""
    found = []
    for module, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            asked = []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                asked = [node.func.value]
            elif isinstance(node, ast.Compare):
                asked = [node.left, *node.comparators]
            elif isinstance(node, ast.Subscript):
                asked = [node.value]
            if any(isinstance(each, ast.Attribute) and each.attr == "note" for each in asked):
                found.append(f"{module} reads {ast.unparse(node)}")
    return found


def test_nobody_reads_prose() -> None:
    assert parsed_prose(crosscheck_sources()) == []
    for line in ('c.note.startswith("missing ")', 'c.note == "expected 3"', '"dead" in c.note', "c.note[:3]"):
        assert parsed_prose({"crosscheck.diagnosis.planted": line})
