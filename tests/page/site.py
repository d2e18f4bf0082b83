"""`make test-site`: opens the lesson's pages in a real browser, see site.mjs. Needs Node.js and a built site.

python tests/page/site.py PACKAGES SITE [SHOTS]: PACKAGES is a folder for what npm installs, SHOTS one for pictures.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import driver  # noqa: E402

PLANTED = """<!DOCTYPE html><title>x</title><img src="http://127.0.0.1:9/x.png"><div style="width:5000px">**x**</div>
<script>console.error("x"); throw new Error("x");</script>"""
"""A page with everything wrong that is looked for."""


def main(packages: Path, site: Path, shots: list[str]) -> int:
    if not (site / "lesson" / "index.html").exists():
        print(f"error: expected a built site in {site}, got none: make docs", file=sys.stderr)
        return 1
    browser = driver.prepared(packages)
    if browser is None:
        return 1
    with tempfile.TemporaryDirectory() as place:
        planted = Path(place, "planted.html")
        planted.write_text(PLANTED)
        drive = ["node", str(HERE / "site.mjs"), str(packages), str(site), str(planted), *shots]
        return subprocess.run(drive, env={**os.environ, "CHROME": browser}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
