"""`make test-page`: opens pages in a real browser, see browse.mjs. Needs Node.js; fails where no browser is to be had.

python tests/page/browser.py PACKAGES [SHOTS]: PACKAGES is a folder for what npm installs, SHOTS one for pictures.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE.parent), str(HERE)]

import driver  # noqa: E402
from hostile import HOSTILE  # noqa: E402
from page import made_reports  # noqa: E402

from crosscheck.report.page.render import render  # noqa: E402

PLANTED = b"""<!DOCTYPE html><title>x</title><img src="http://127.0.0.1:9/x.png"><div style="width:5000px">x</div>
<script>console.error("x"); alert("x");</script>"""
"""A page with everything wrong that is looked for."""

COLOURS = 256
"""Of a picture in docs/."""


def main(packages: Path, shots: Path | None) -> int:
    """The exit code."""
    browser = driver.prepared(packages)
    if browser is None:
        return 1
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        for name, made in made_reports.PAGES.items():
            (place / f"{name}.html").write_bytes(render(made()))
        text = " ".join(HOSTILE.values())
        (place / "hostile.html").write_bytes(render(made_reports.everywhere(text)))
        (place / "planted.html").write_bytes(PLANTED)
        _run(place)
        drive = ["node", str(HERE / "browse.mjs"), str(packages), str(place), *([str(shots)] if shots else [])]
        given = {**os.environ, "CHROME": browser, "TMPDIR": temporary}
        code = subprocess.run(drive, env=given, check=False).returncode
    for picture in shots.glob("page-*.png") if shots else ():
        _shrink(picture)
    return code


def _shrink(picture: Path) -> None:
    from PIL import Image

    with Image.open(picture) as image:
        # Other methods go by how often colours occur, and a small swatch would lose its own.
        few = image.convert("RGB").quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.save(picture, optimize=True)


FAULT = "flax_impl/gru-update-gate-negated"

RUNS = {
    "passing": (["hello-gru", "hello-lstm-attention", "hello-rnn-cell"], 0),
    "failing": (["hello-gru", "hello-bidirectional-gru", "hello-lstm-attention", "hello-rnn-cell"], 1),
}
"""Experiments, and the exit code that they end with; the failing ones are compared with a copy that has the fault."""


def _run(place: Path) -> None:
    """Reports of real runs: of experiments, and of a pair."""
    from crosscheck.faults import plant
    from crosscheck.faults.table import FAULTS

    (fault,) = plant.choose(FAULTS, [FAULT])
    faulty = plant.plant(fault, ROOT / fault.implementation, place / "faulty")
    for name, (experiments, code) in RUNS.items():
        sides = ["--implementations", "torch_impl", str(faulty.relative_to(place))] if code else []
        _crosscheck([*experiments, *sides], place / f"run-{name}.html", code)
    shutil.copy(HERE.parent / "pairs" / "files" / "perceptron.py", place)
    _crosscheck(["pair", "perceptron.py"], place / "run-pair.html", 0)


def _crosscheck(words: list[str], page: Path, code: int) -> None:
    """Where the pages are, so that they name places as a user's would."""
    out = page.with_suffix("")
    ran = subprocess.run(
        [sys.executable, "-m", "crosscheck", *words, "--html", "--out", str(out)],
        cwd=page.parent, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ran.returncode != code:
        raise SystemExit(
            f"{' '.join(words)}: expected exit code {code}, got {ran.returncode}: {ran.stdout}{ran.stderr}"
        )
    shutil.copy(out / "report.html", page)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
