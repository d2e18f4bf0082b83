"""Which ways of reading an implementation's own sources name that Python's audit events do not show."""

import ast
from pathlib import Path

UNSEEN = frozenset(
    {
        *("cffi", "ctypes", "_ctypes", "dbm", "multiprocessing", "shelve", "sqlite3"),
        *("_multiprocessing", "_posixshmem", "_posixsubprocess", "_sqlite3", "nt", "posix"),
    }
)
"""Modules of Python that read by themselves, or let others read: native libraries, databases, other processes.

`posix` has what `os` has, and is not watched.
"""

SEEN = frozenset(
    {
        *("beartype", "chex", "einops", "equinox", "flax", "haiku", "jax", "jaxlib", "jaxtyping", "ml_dtypes"),
        *("msgspec", "numpy", "opt_einsum", "optax", "scipy", "torch", "typing_extensions"),
    }
)
"""Installed packages that read files by Python's own open, or not at all, but for NATIVE."""

NATIVE = frozenset(
    {
        *("LoadLibrary", "ProcessPoolExecutor", "PyTorchFileReader", "cpp_extension", "ctypeslib", "from_file"),
        *("import_ir_module", "load_inline", "load_library", "shared_memory"),
    }
)
"""Names in those packages, and in Python's own, of what opens files or starts processes in native code."""

NATIVE_LOADS = frozenset({"jit", "export", "package"})
"""Parts of torch whose `load` does so."""


def reads_unseen(path: str, installed: set[str]) -> str:
    """What the source does that cannot be vouched for, in words; empty where there is nothing.

    installed: the names of installed packages that the process has imported, for whatever reason.
    """
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return "cannot be read"
    return next((reason for node in ast.walk(tree) if (reason := _reason(node, installed - SEEN))), "")


def _reason(node: ast.AST, unknown: set[str]) -> str:
    names: list[str] = []
    match node:
        case ast.Import(names=aliases):
            names = [alias.name for alias in aliases]
        case ast.ImportFrom(module=str(module), level=0, names=aliases):
            names = [module, *(f"{module}.{alias.name}" for alias in aliases)]
        case ast.Attribute(attr=name):
            owner = _last(node.value)
            if name in NATIVE or (name == "load" and owner in NATIVE_LOADS) or (name == "_data" and "environ" in owner):
                return f"names {ast.unparse(node)[:100]}"
        case ast.Name(id=name):
            if name in NATIVE:
                return f"names {name}"
        case ast.keyword(arg="dir_fd"):
            # No event tells which folder that is.
            return "opens by a handle of a folder (dir_fd)"
        case ast.Constant(value=str(text)):
            # A module's name may be handed to who imports it.
            if text.replace(".", "").isidentifier() and text.partition(".")[0] in unknown | UNSEEN:
                return f"names {text}"
    for name in names:
        top, *rest = name.split(".")
        if top in UNSEEN or top in unknown:
            return f"imports {top}"
        if found := NATIVE & set(rest):
            return f"imports {min(found)}"
        if top == "torch" and len(rest) > 1 and rest[-1] == "load" and rest[-2] in NATIVE_LOADS:
            return f"imports {name}"
    return ""


def _last(node: ast.AST) -> str:
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""
