"""Runs the lesson's chapters and keeps what the text shows of them.

python docs/lesson/record.py [--ask-again] [CHAPTER ...]

A chapter is a folder: NAME_torch.py and NAME_flax.py, which print and leave `losses`; measure.py, which prints what the
text says of sizes; pair.py for crosscheck; exercise.toml, a line of one file and what the reader makes of it. Into
its folder `made` go what each of them printed, a picture of the losses, what crosscheck said of the pair and of the
broken pair, and made.json: hashes of the files and the versions that they ran with, so that a test sees when something
is older than its source. What is not older is left as it is. --ask-again asks crosscheck all the same, for when it
prints otherwise than it did.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

LESSON = Path(__file__).parent
ROOT = LESSON.parents[1]
LIBRARIES = ("numpy", "torch", "jax", "flax", "optax")


def chapters() -> list[Path]:
    """Folders of the chapters, in order."""
    return sorted(folder for folder in LESSON.iterdir() if re.match(r"\d\d_", folder.name))


def sources(chapter: Path) -> list[Path]:
    """All that what is made depends on, but for libraries."""
    return sorted([*chapter.glob("*.py"), *chapter.glob("*.toml")])


def sides(chapter: Path) -> tuple[Path, Path]:
    """The chapter's file in PyTorch, and the one in Flax."""
    (first,), (second,) = chapter.glob("*_torch.py"), chapter.glob("*_flax.py")
    return first, second


PARTS = {
    "runs": ("*_torch.py", "*_flax.py", "exercise.toml", "measure.py"),
    "crosscheck": ("*_torch.py", "*_flax.py", "exercise.toml", "pair.py"),
}
"""What is made together, and the files that it is made from."""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def origin(chapter: Path, part: str) -> dict[str, str]:
    """What a part is made from: a hash of each file, and the versions of this environment."""
    files = sorted(path for pattern in PARTS[part] for path in chapter.glob(pattern))
    return {path.name: digest(path) for path in files}


def versions() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES}


def kept(chapter: Path) -> dict[str, Any]:
    """made.json: for each part `files` and `versions`; of crosscheck also its exit codes."""
    path = chapter / "made" / "made.json"
    return json.loads(path.read_text()) if path.exists() else {}


def exercise(chapter: Path) -> dict[str, str]:
    """file: which one to break. line: what stands there, once; broken: what to write in its place. check: which of
    crosscheck's checks is the first to see it."""
    return tomllib.loads((chapter / "exercise.toml").read_text())


def break_line(chapter: Path) -> None:
    """Does the exercise in a copy of a chapter."""
    task = exercise(chapter)
    path = chapter / task["file"]
    text = path.read_text()
    if text.count(task["line"]) != 1:
        raise SystemExit(f"{path}: expected the line of exercise.toml once, got it {text.count(task['line'])} times")
    path.write_text(text.replace(task["line"], task["broken"]))


def run(script: Path) -> tuple[str, dict[str, Any]]:
    """What a script prints when it is run in its own folder, and its names afterwards."""
    printed = io.StringIO()
    known, path = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(script.parent))
    with contextlib.chdir(script.parent), contextlib.redirect_stdout(printed):
        names = runpy.run_path(str(script), run_name="__main__")
    sys.path[:] = path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(script.parent)):
            del sys.modules[name]
    return printed.getvalue(), names


def crosscheck(chapter: Path, out: Path) -> tuple[str, int]:
    """What `python -m crosscheck pair` says of a copy of a chapter in 80 columns, without times, and its exit code."""
    command = [sys.executable, "-m", "crosscheck", "pair", str(chapter / "pair.py"), "--out", str(out)]
    ran = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"COLUMNS": "80"}, capture_output=True, text=True, check=False
    )
    if ran.returncode not in (0, 1):
        raise SystemExit(ran.stdout + ran.stderr)
    return shown(ran.stdout), ran.returncode


def shown(said: str) -> str:
    """Of what crosscheck says what is of the pair: no times, no versions, no place where this ran."""
    elsewhere = ("map:", "report:", "original: ", "port: ")
    lines = "\n".join(line for line in said.splitlines() if not line.startswith(elsewhere))
    lines = re.sub(r"\S*/(?=docs/lesson/\w+/pair\.py)", "", re.sub(r" in \d+ s\b", "", lines))
    return re.sub(r"\n{3,}", "\n\n", lines).strip() + "\n"


def words(text: str) -> list[str]:
    """What is printed but for numbers with a point, each of which is a #."""
    return re.sub(r"-?\d+\.\d+", "#", text).split()


def apart(first: str, second: str) -> float:
    """The largest distance of two numbers at one place of two texts."""
    pairs = zip(re.findall(r"-?\d+\.\d+", first), re.findall(r"-?\d+\.\d+", second), strict=True)
    return max(abs(float(one) - float(other)) for one, other in pairs)


def draw(curves: tuple[list[float], list[float]], path: Path) -> None:
    """Both losses over the epochs, and below how far they are apart. Grey and without a background: it is shown on
    white and on black."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    grey = "#808080"
    style = {
        "svg.hashsalt": "lesson",
        "font.size": 10,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), grey),
    }
    with mpl.rc_context(style):
        figure, (above, below) = plt.subplots(2, 1, figsize=(6, 4.6), sharex=True, layout="constrained")
        epochs = range(1, len(curves[0]) + 1)
        above.plot(epochs, curves[0], color="#e4572e", linewidth=3, label="PyTorch")
        above.plot(epochs, curves[1], color="#3d8fd1", linewidth=1.5, linestyle="--", label="Flax")
        above.set_ylabel("loss")
        above.legend(frameon=False)
        apart = [abs(one - other) for one, other in zip(*curves, strict=True)]
        below.plot(epochs, [max(one, 1e-9) for one in apart], color="#8a6fc0")
        below.set(yscale="log", ylabel="apart", xlabel="epoch")
        for axes in (above, below):
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
        plt.close(figure)


def compute(chapter: Path, made: Path) -> None:
    """What needs the frameworks in this process: both files, their broken twin, what is measured, the picture."""
    copy = made.parent
    curves = []
    for side, script in zip(("torch", "flax"), sides(copy), strict=True):
        text, names = run(script)
        (made / f"{side}.txt").write_text(text)
        curves.append(names["losses"])
    draw((curves[0], curves[1]), made / "curves.svg")
    if (copy / "measure.py").exists():
        (made / "measured.txt").write_text(run(copy / "measure.py")[0])
    break_line(copy)
    script = next(one for one in sides(copy) if one.name == exercise(copy)["file"])
    (made / "broken.txt").write_text(run(script)[0])
    shutil.copy(chapter / script.name, script)


def ask(made: Path, scratch: Path) -> dict[str, int]:
    """What crosscheck says of the pair, and of the pair with the exercise done. Returns its exit codes."""
    copy = made.parent
    codes = {}
    for name, prepare in (("pair", None), ("broken_pair", break_line)):
        if prepare is not None:
            prepare(copy)
        (copy / "pair.map.toml").unlink(missing_ok=True)
        text, codes[name] = crosscheck(copy, scratch / "report")
        (made / f"{name}.txt").write_text(text)
    return codes


def record(chapter: Path, parts: list[str], into: Path) -> dict[str, Any]:
    """Make these parts of a chapter in a copy, write them to a folder, and return what belongs into made.json."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "docs", "lesson", chapter.name)
        (copy / "made").mkdir(parents=True)
        for path in sources(chapter):
            shutil.copy(path, copy)
        for part in parts:
            found[part] = {"files": origin(copy, part), "versions": versions()}
            if part == "runs":
                compute(chapter, copy / "made")
            else:
                found[part]["exit_codes"] = ask(copy / "made", Path(scratch))
        into.mkdir(exist_ok=True)
        for path in (copy / "made").iterdir():
            shutil.copy(path, into)
    return found


VARIANTS = {
    "port": ("PORT", ("First", "Second", "Third")),
    "worse": (
        "CAUSE",
        (
            None,
            "initial law",
            "one bias",
            "a step late",
            "softmax twice",
            "decay in the gradient",
            "large epsilon",
            "kept for dropped",
            "one mask for all steps",
        ),
    ),
}
"""Of pages whose pair is asked about more than once: the name in its file that is set, and to what."""


def variants(page: Path, name: str, values: Sequence[str | None], again: bool) -> None:
    """What crosscheck says of each variant of a page's pair, and what its measure.py prints and draws."""
    kept = page / "made" / "made.json"
    files = sorted(page.glob("*.py"))
    now: dict[str, Any] = {
        "files": {path.name: digest(path) for path in files},
        "versions": versions(),
    }
    known = json.loads(kept.read_text()) if kept.exists() else {}
    fresh = {key: known.get(key) for key in now} == now
    if fresh and not again:
        return
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "docs", "lesson", page.name)
        copy.mkdir(parents=True)
        for path in files:
            shutil.copy(path, copy)
        made = copy / "made"
        made.mkdir()
        if (copy / "measure.py").exists() and not fresh:
            (made / "measured.txt").write_text(run(copy / "measure.py")[0])
            for picture in copy.glob("*.svg"):
                picture.rename(made / picture.name)
        pair, told, now["exit_codes"] = (page / "pair.py").read_text(), [], {}
        for value in values:
            text = re.sub(
                rf"^{name} = .*$", f"{name} = {json.dumps(value) if value else value}", pair, flags=re.MULTILINE
            )
            (copy / "pair.py").write_text(text)
            (copy / "pair.map.toml").unlink(missing_ok=True)
            said, now["exit_codes"][str(value)] = crosscheck(copy, Path(scratch, "report"))
            (made / f"{str(value).replace(' ', '_')}.txt").write_text(said)
            told.append(summary(f"{name} = {value}", said))
            print(f"{page.name}: {value}: {now['exit_codes'][str(value)]}", flush=True)
        if "made/found.txt" in (page / "index.md").read_text():
            (made / "found.txt").write_text("\n".join(told))
        shutil.copytree(made, page / "made", dirs_exist_ok=True)
    kept.write_text(json.dumps(now, indent=2) + "\n")


def commands() -> None:
    """What "From my script to a spec" shows: both train commands, from a chapter's start."""
    page, chapter = LESSON / "spec", LESSON / "05_gru"
    experiment = ROOT / "spec" / "experiments" / "hello-gru.toml"
    first, _ = sides(chapter)
    now = {"files": {path.name: digest(path) for path in (first, experiment)}, "versions": versions()}
    if {key: kept(page).get(key) for key in now} == now:
        return
    (page / "made").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copy(first, scratch)
        run(Path(scratch, first.name))
        for side in ("torch_impl", "flax_impl"):
            command = ["-m", f"{side}.train", "hello-gru", "--init-weights", "gru.npz", "--out", side]
            environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"}
            ran = subprocess.run(
                [sys.executable, *command], cwd=scratch, env=environment, capture_output=True, text=True, check=True
            )
            said = [line for line in ran.stdout.splitlines() if re.match(r"hello-gru|Predicted|Reached", line)]
            (page / "made" / f"{side}.txt").write_text("\n".join([f"$ python {' '.join(command)}", *said]) + "\n")
    (page / "made" / "made.json").write_text(json.dumps(now, indent=2) + "\n")


def summary(what: str, said: str) -> str:
    """The verdict, and what the first difference is."""
    verdict = said.splitlines()[-1]
    found = re.search(r"^1\. .*?(?=\n\n)", said, re.MULTILINE | re.DOTALL)
    first, about, *rest = found[0].splitlines() if found else ("", "")
    told = [first, about, *(line for line in rest if line.startswith("  looks like"))]
    return "\n".join([f"{what}: {verdict}", *(f"  {line.strip()}" for line in told if line)]) + "\n"


def main(wanted: list[str], again: bool) -> None:
    for chapter in chapters():
        if wanted and chapter.name[:2] not in wanted:
            continue
        known = kept(chapter)
        for part in PARTS:
            now = {"files": origin(chapter, part), "versions": versions()}
            fresh = {key: known.get(part, {}).get(key) for key in now} == now
            if fresh and not (again and part == "crosscheck"):
                continue
            known |= record(chapter, [part], chapter / "made")
            (chapter / "made" / "made.json").write_text(json.dumps(known, indent=2) + "\n")
            print(f"{chapter.name}: {part}", *known[part].get("exit_codes", {}).items(), flush=True)
    for page, (name, values) in VARIANTS.items():
        if not wanted or page in wanted:
            variants(LESSON / page, name, values, again)
    if not wanted or "spec" in wanted:
        commands()


if __name__ == "__main__":
    main([word for word in sys.argv[1:] if word != "--ask-again"], again="--ask-again" in sys.argv)
