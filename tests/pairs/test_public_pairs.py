"""Models of other people's libraries: `make test-pairs` installs what they need; elsewhere they are left out."""

import importlib.util
import json
from pathlib import Path

import pytest

from crosscheck.cli import command

FILES = Path(__file__).parent / "public"

PAIRS = {
    # Needs, exit code, and what is found.
    "bert": ("transformers", 0, ["different", "different"]),  # Both expected.
    "equinox_block": ("equinox", 0, []),
    "haiku_lstm": ("haiku", 1, ["cannot train alike"]),
}

pytestmark = pytest.mark.needs("torch", "flax")


@pytest.mark.parametrize("name", PAIRS)
def test_a_public_pair(name: str, tmp_path: Path):
    package, code, kinds = PAIRS[name]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}: make test-pairs")
    file = tmp_path / f"{name}.py"
    file.write_text((FILES / f"{name}.py").read_text())
    assert command.main(["pair", str(file), "--out", str(tmp_path / "out")]) == code
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [one["kind"] for one in report["differences"]] == kinds
    by_check = {cell["check"]: cell["status"] for cell in report["cells"]}
    assert by_check["forward"] == by_check["gradients"] == "same"
