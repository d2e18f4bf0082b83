"""`make test-notebooks`: executes every chapter's notebook from top to bottom, in the Python that runs this.

That Python has Jupyter's kernel and client, and nothing that a notebook needs: their first cell installs it. What the
cells print has to be what the chapter shows, to two units of its last digit, since other versions and processors
round otherwise. Prints a line for each notebook; the exit code is 1 where one fails.

python tests/lesson/execute_notebooks.py [CHAPTER ...]
"""

import json
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "lesson"))
import nbformat  # noqa: E402
import notebooks  # noqa: E402
import record  # noqa: E402
from nbclient import NotebookClient  # noqa: E402
from nbclient.exceptions import CellExecutionError  # noqa: E402

PACKAGES = ("torch", "jax", "flax", "optax")


def installed() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def outputs(notebook: nbformat.NotebookNode) -> list[str]:
    """What each cell of code printed."""
    return [
        "".join(one.get("text", "") for one in cell.outputs if one.get("name") == "stdout")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def wrong(chapter: Path, folder: Path) -> str:
    """What is wrong with a chapter's notebook, executed in an empty folder; nothing where all is well."""
    notebook = nbformat.reads(json.dumps(notebooks.notebook(chapter)), as_version=4)
    nbformat.validate(notebook)
    client = NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(folder)}})
    try:
        client.execute()
    except CellExecutionError as error:
        return str(error).strip().splitlines()[-1]
    _, first, second, last = outputs(notebook)
    for name, printed in (("torch.txt", first), ("flax.txt", second)):
        shown = (chapter / "made" / name).read_text()
        if record.words(printed) != record.words(shown):
            return f"expected what made/{name} has, got {printed.strip().splitlines()[-1:]}"
        if not (distance := record.apart(printed, shown)) < 2.5e-4:
            return f"made/{name}: expected the same numbers to 2.5e-4, got {distance:.1e} apart"
    if not float(last.split()[-1]) < 1e-3:
        return f"expected losses apart by less than 1e-3, got {last.strip()}"
    return ""


def main(wanted: list[str]) -> int:
    if found := installed():
        print(f"error: expected an environment without what notebooks install, got {found}", file=sys.stderr)
        return 2
    failed = 0
    for chapter in record.chapters():
        if wanted and chapter.name[:2] not in wanted:
            continue
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            said = wrong(chapter, Path(folder))
        failed += bool(said)
        print(f"{notebooks.name_of(chapter)}: {said or 'ok'}, {time.monotonic() - begun:.0f} s", flush=True)
    print("Python", sys.version.split()[0], *(f"{name} {one}" for name, one in installed().items()))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
