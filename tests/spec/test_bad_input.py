"""What a user gets wrong at a train command: one clear line, the right exit code, nothing changed on the disk."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from bad_input import check_message, limited, limited_memory, snapshot
from bad_train_changes import GRU, Row
from bad_train_input import FRESH, ROWS

from spec import parameters
from spec.command import ensemble, main, session
from spec.experiment import load
from spec.parameters import draw

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def shown(row: Row) -> str:
    """A row's name in the list of tests."""
    return "".join(c if c.isalnum() or c in "-_. " else "?" for c in f"{row.arguments[:40]} {row.message[:60]}")


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the rows start from: a finished run, one that was stopped, an ensemble that was, and some files."""
    place = tmp_path_factory.mktemp("playground")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        patch.chdir(place)
        patch.setattr(session, "loss_plot", lambda *_: b"a plot")
        import fake_impl

        patch.setattr(fake_impl, "behaviour", fake_impl.Behaviour())
        assert main("fake_impl", [GRU, "--out", "done"]) == 0
        fake_impl.behaviour.interrupted_at_step = 32
        assert main("fake_impl", [GRU, "--epochs", "61", "--seed", "5", "--out", "stopped"]) == 130
        fake_impl.behaviour.interrupted_at_step = 4
        patch.setattr(ensemble, "chunk_size", lambda *_: 2)
        initialize, asked = fake_impl.initialize, []

        def interrupt(*arguments: Any) -> Any:
            asked.append(arguments)
            if len(asked) > 3:
                raise KeyboardInterrupt
            fake_impl.behaviour.interrupted_at_step = None
            return initialize(*arguments)

        patch.setattr(fake_impl, "initialize", interrupt)
        arguments = [GRU, "--epochs", "4", "--seed", "3", "--seeds", "5", "--out", "many"]
        assert main("fake_impl", arguments) == 130
        assert (place / "many/chunks/0.safetensors").exists()
    parameters.save(place / "gru", draw(load(GRU).model.parameters(), 0, "float32"))
    (place / "file").write_text("a file")
    (place / "full").mkdir()
    (place / "full/file").touch()
    return place


def test_there_are_enough_rows() -> None:
    assert len(ROWS) >= 170
    assert len({shown(row) for row in ROWS}) > 170


@pytest.mark.parametrize("row", ROWS, ids=shown)
def test_bad_input(row: Row, run: Callable[..., Any], fake: ModuleType, playground: Path) -> None:
    place = Path.cwd()
    shutil.copytree(playground, place, dirs_exist_ok=True)
    if row.change is not None:
        row.change(place)
    before = snapshot(place)
    with limited_memory():
        outcome = run(*(row.arguments.split(" ") if row.arguments else [""]))
    check_message(outcome.err, row.message)
    assert outcome.code == row.code
    assert outcome.out == ""
    assert not [call for call in fake.calls if call[0] == "train"]
    assert snapshot(place) == before


@pytest.mark.parametrize("row", FRESH, ids=shown)
def test_bad_input_in_a_process_of_its_own(row: Row, playground: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    shutil.copytree(playground, place)
    if row.change is not None:
        row.change(place)
    before = snapshot(place)
    program = "import sys; from spec.command import main; sys.exit(main('fake_impl'))"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{HERE}", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        limited([sys.executable, "-c", program, *row.arguments.split(" ")]),
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    check_message(done.stderr, row.message)
    assert (done.returncode, done.stdout) == (row.code, "")
    assert snapshot(place) == before


def test_a_change_on_the_disk_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "link").symlink_to("a")
    before = snapshot(tmp_path)
    for change in (
        lambda: (tmp_path / "a").write_text("b"),
        lambda: (tmp_path / "a").chmod(0o600),
        lambda: ((tmp_path / "link").unlink(), (tmp_path / "link").symlink_to("b")),
        lambda: (tmp_path / ".lock").touch(),
    ):
        change()
        after = snapshot(tmp_path)
        assert after != before
        before = after
