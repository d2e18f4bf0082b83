"""The lesson's text is about what its files do now. What takes a framework runs under `make test-lesson`."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "docs" / "lesson"))
import notebooks  # noqa: E402
import record  # noqa: E402

from crosscheck.report.rows import LABELS  # noqa: E402

CHAPTERS = record.chapters()
NAMES = [chapter.name for chapter in CHAPTERS]
OURS = {"spec", "torch_impl", "flax_impl", "crosscheck"}
MOST_LINES = 40
"""Of a chapter's file, blank ones not counted: what is still read at one sitting."""

LONGER = {
    "embedding_flax.py": (46, "a layer by hand and two of it, where torch has num_layers=2, and five linears to load"),
    "bidirectional_flax.py": (48, "an LSTM by hand, for two directions, and five linears to load"),
    "attention_flax.py": (56, "a GRU by hand, for encoder and decoder, and spelling from its own answers"),
    "transformer_flax.py": (52, "an encoder layer out of its parts, and a packed matrix taken apart"),
}
"""Files with more lines: how many, and what takes them."""

every_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=NAMES)


def made(chapter: Path, name: str) -> str:
    return (chapter / "made" / name).read_text()


def test_the_course_has_ten_chapters() -> None:
    assert [name[:2] for name in NAMES] == [f"{number:02}" for number in range(1, 11)]


@every_chapter
def test_files_are_plain_and_short(chapter: Path) -> None:
    for path in record.sides(chapter):
        tree = ast.parse(path.read_text())
        imported = {
            alias.name.partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        imported |= {
            (node.module or "").partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
        }
        assert not imported & OURS
        assert path.stem not in {*imported, *sys.stdlib_module_names}
        most, _ = LONGER.get(path.name, (MOST_LINES, ""))
        lines = sum(bool(line.strip()) for line in path.read_text().splitlines())
        assert 15 <= lines <= most
        assert path.name not in LONGER or lines == most, "LONGER says how many there are"


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints" / "3.11.txt").read_text().splitlines()
    known = dict(line.split("==") for line in lines if not line.startswith("#"))
    return {name: known[name] for name in record.LIBRARIES}


def stale(chapter: Path, kept: dict[str, Any]) -> list[str]:
    """Parts of what is shown that were made from other files, or with other versions than those that are pinned."""
    found = []
    for part in record.PARTS:
        was = kept.get(part, {})
        if was.get("files") != record.origin(chapter, part):
            found.append(f"{part}: files")
        if {name: one.partition("+")[0] for name, one in was.get("versions", {}).items()} != pinned():
            found.append(f"{part}: versions")
    return found


@every_chapter
def test_what_is_shown_is_of_these_files_and_versions(chapter: Path) -> None:
    assert stale(chapter, record.kept(chapter)) == [], "make lesson-outputs"


def test_a_change_makes_stale_what_depends_on_it(tmp_path: Path) -> None:
    chapter = shutil.copytree(CHAPTERS[0], tmp_path / CHAPTERS[0].name)
    kept = record.kept(chapter)
    assert stale(chapter, kept) == []
    with (chapter / "measure.py").open("a") as file:
        file.write("\n")
    assert stale(chapter, kept) == ["runs: files"]
    first, _ = record.sides(chapter)
    first.write_text(first.read_text().replace("0.05", "0.04"))
    assert stale(chapter, kept) == ["runs: files", "crosscheck: files"]
    kept["runs"]["versions"]["jax"] = "0.0.1"
    assert "runs: versions" in stale(chapter, kept)


@every_chapter
def test_both_sides_print_the_same_and_learn_it(chapter: Path) -> None:
    first, second = made(chapter, "torch.txt"), made(chapter, "flax.txt")
    assert first == second
    assert first.splitlines()[-1].endswith("ohlol")


@every_chapter
def test_the_broken_one_learns_it_and_crosscheck_tells_them_apart(chapter: Path) -> None:
    task = record.exercise(chapter)
    assert made(chapter, "broken.txt").splitlines()[-1].endswith("ohlol")
    assert record.kept(chapter)["crosscheck"]["exit_codes"] == {"pair": 0, "broken_pair": 1}
    assert failed(chapter, "broken_pair")[0] == task["check"]
    assert failed(chapter, "pair") == []
    text = (chapter / "index.md").read_text()
    assert task["broken"] in text


NUMBER = re.compile(r"(?<![\w.])\d+\.\d+(?:e-?\d+)?|(?<![\w.])\d+e-?\d+")


def unfounded(chapter: Path, text: str) -> list[str]:
    """Numbers with a point or an exponent in a chapter's prose that no run and no file of the chapter shows."""
    prose = re.sub(r"^```.*?^```|`[^`\n]+`", "", text, flags=re.MULTILINE | re.DOTALL)
    shown = "".join(made(chapter, path.name) for path in (chapter / "made").glob("*.txt"))
    shown += "".join(path.read_text() for path in record.sources(chapter))
    known = set(NUMBER.findall(shown)) | {number.rstrip("0") for number in NUMBER.findall(shown)}
    return [number for number in NUMBER.findall(prose) if number not in known]


@every_chapter
def test_numbers_in_the_text_come_from_runs(chapter: Path) -> None:
    assert unfounded(chapter, (chapter / "index.md").read_text()) == []


def test_a_number_from_nowhere_is_seen() -> None:
    assert unfounded(CHAPTERS[0], "apart by 0.8231, or 3e-77") == ["0.8231", "3e-77"]


@every_chapter
def test_a_page_shows_all_that_was_made(chapter: Path) -> None:
    text = (chapter / "index.md").read_text()
    for path in (chapter / "made").iterdir():
        assert path.name == "made.json" or f"made/{path.name}" in text, path.name
    for path in record.sides(chapter):
        assert text.count(f"{{literalinclude}} {path.name}") >= 2


PAGES = [record.LESSON / name for name in record.VARIANTS]
every_page = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


@every_page
def test_what_a_page_of_variants_shows_is_of_these_files_and_versions(page: Path) -> None:
    kept = record.kept(page)
    assert kept["files"] == {path.name: record.digest(path) for path in page.glob("*.py")}, "make lesson-outputs"
    assert {name: one.partition("+")[0] for name, one in kept["versions"].items()} == pinned()


def test_what_the_page_of_the_spec_shows_is_of_these_files_and_versions() -> None:
    page = record.LESSON / "spec"
    files = [record.sides(record.LESSON / "05_gru")[0], ROOT / "spec" / "experiments" / "hello-gru.toml"]
    kept = record.kept(page)
    assert kept["files"] == {path.name: record.digest(path) for path in files}, "make lesson-outputs"
    assert {name: one.partition("+")[0] for name, one in kept["versions"].items()} == pinned()
    losses = re.findall(r"epoch (20|40|60)[/:].*loss (\S+)", made(page, "torch_impl.txt") + made(page, "flax_impl.txt"))
    told = re.findall(r"epoch (20|40|60): loss (\S+),", made(record.LESSON / "05_gru", "torch.txt"))
    assert losses == [*told, *told]


def failed(page: Path, variant: str) -> list[str]:
    return differing(made(page, f"{variant.replace(' ', '_')}.txt"))


def differing(said: str) -> list[str]:
    """The checks that differ, or of which the port cannot do what it would have to, in their order."""
    verdict = r"^  (?:FAIL|NOT REPRESENTABLE|CANNOT TRAIN ALIKE) +([a-z ]+?)(?:  |$)"
    return re.findall(verdict, said, re.MULTILINE)


def test_each_cause_is_found_by_the_check_that_is_named() -> None:
    page = record.LESSON / "worse"
    (causes,) = (
        ast.literal_eval(node.value)
        for node in ast.parse((page / "speller_jax.py").read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CAUSES"
    )
    assert record.VARIANTS["worse"][1] == (None, *causes)
    assert record.kept(page)["exit_codes"] == {"None": 0, **dict.fromkeys(causes, 1)}
    assert failed(page, "None") == []
    assert {cause: failed(page, cause)[0] for cause in causes} == causes
    text = (page / "index.md").read_text()
    for cause, check in causes.items():
        assert re.search(rf"^\| {cause} \|.*\| {check} \|$", text, re.MULTILINE)


def rows(said: str) -> list[tuple[str, str]]:
    """The lines of a report's table: what became of a check, and which one it is."""
    return re.findall(r"^  (\S+(?: \S+)*) {2,}([a-z]+(?: [a-z]+)?) {2,}\S", said, re.MULTILINE)


@pytest.mark.parametrize("page", [*NAMES, *record.VARIANTS])
def test_what_crosscheck_is_shown_to_say_is_in_words_that_it_has_now(page: str) -> None:
    words = {label.word for label in LABELS.values()}
    for path in (record.LESSON / page / "made").glob("*.txt"):
        said = path.read_text()
        if "comparisons of" in said:
            assert len(rows(said)) > 8
            assert {word for word, _ in rows(said)} <= words, path


def test_words_that_crosscheck_has_no_more_are_seen() -> None:
    assert rows("  not checked  loss            it builds on\n  ok           train mode      0.05 of") == [
        ("not checked", "loss"),
        ("ok", "train mode"),
    ]
    assert "not checked" not in {label.word for label in LABELS.values()}


def test_the_ports_come_nearer() -> None:
    page = record.LESSON / "port"
    assert record.kept(page)["exit_codes"] == {"First": 1, "Second": 1, "Third": 0}
    assert "structure" in failed(page, "First")
    assert failed(page, "Second") == ["forward", "initialization"]


def code(chapter: Path) -> list[str]:
    cells = notebooks.notebook(chapter)["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_a_notebook_s_first_cell_asks_for_the_versions_of_the_project() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    bounds = {one for one in extras["torch"] + extras["flax"] if not one.startswith("jaxtyping")}
    assert set(re.findall(r'"([^"]+)"', notebooks.FIRST)) == bounds


@every_chapter
def test_a_notebook_is_text_and_both_files(chapter: Path) -> None:
    first, *cells = code(chapter)
    assert first == notebooks.FIRST
    for path, text in zip(record.sides(chapter), cells, strict=False):
        assert path.read_text().strip() in text
    texts = [cell for cell in notebooks.notebook(chapter)["cells"] if cell["cell_type"] == "markdown"]
    assert not re.search(r":::|\{\w+\}`|```\{", "".join("".join(cell["source"]) for cell in texts))
    assert made(chapter, "measured.txt").splitlines()[0] in "".join("".join(cell["source"]) for cell in texts)


@pytest.mark.lesson
@pytest.mark.needs("torch", "flax")
@every_chapter
def test_a_notebook_runs_from_top_to_bottom(
    chapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for text in code(chapter)[1:]:
        exec(text, names)
    printed = capsys.readouterr().out
    assert printed.startswith(made(chapter, "torch.txt").splitlines()[0])
    assert float(printed.split()[-1]) < 1e-3


@pytest.mark.lesson
@pytest.mark.needs("torch", "flax")
@every_chapter
def test_it_prints_that_again(chapter: Path, tmp_path: Path) -> None:
    """To two units of the last printed digit: another processor rounds otherwise."""
    record.record(chapter, ["runs"], tmp_path)
    for name in ("torch.txt", "flax.txt", "broken.txt"):
        again = (tmp_path / name).read_text()
        assert record.words(again) == record.words(made(chapter, name))
        assert record.apart(again, made(chapter, name)) < 2.5e-4


@pytest.mark.lesson
@pytest.mark.needs("torch", "flax")
@every_chapter
def test_crosscheck_says_that_again(chapter: Path, tmp_path: Path) -> None:
    codes = record.record(chapter, ["crosscheck"], tmp_path)["crosscheck"]["exit_codes"]
    assert codes == {"pair": 0, "broken_pair": 1}
    assert differing((tmp_path / "broken_pair.txt").read_text())[0] == record.exercise(chapter)["check"]


EXPERIMENTS = {
    "01_rnn_cell": "hello-rnn-cell",
    "02_rnn": "hello-rnn",
    "03_embedding": "hello-embedding-rnn",
    "04_lstm": "hello-lstm",
    "05_gru": "hello-gru",
    "06_bidirectional": "hello-bidirectional-lstm",
}
"""Chapters whose model, recipe and names are those of a shipped experiment."""


@pytest.mark.lesson
@pytest.mark.needs("torch", "flax")
@pytest.mark.parametrize("side", ["torch_impl", "flax_impl"])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_our_implementations_train_as_the_chapter_does(name: str, side: str, tmp_path: Path) -> None:
    """From the chapter's own start, handed over as it wrote it."""
    first, _ = record.sides(record.LESSON / name)
    shutil.copy(first, tmp_path)
    _, names = record.run(tmp_path / first.name)
    (start,) = tmp_path.glob("*.npz")
    command = [sys.executable, "-m", f"{side}.train", EXPERIMENTS[name], "--init-weights", start.name, "--out", "out"]
    subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=True)
    events = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    losses = [event["loss"] for event in events if event["event"] == "epoch"]
    assert losses == pytest.approx(names["losses"], abs=5e-4)
