"""A real browser for what opens pages: $CHROME, one that is installed, else one out of the npm registry."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""What a browser is called, beside $CHROME."""


def prepared(packages: Path) -> str | None:
    """Installs into a folder what a browser is driven by. Returns the browser's path, empty for that of npm; None, with
    a line that says why, where there is none."""
    browser = os.environ.get("CHROME") or next(filter(None, map(shutil.which, NAMES)), "")
    if missing := [name for name in ("node", "npm") if shutil.which(name) is None]:
        return _fail(f"expected Node.js with npm, got no {missing[0]}")
    packages.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "package.json", packages)
    asked = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *(["--omit=optional"] if browser else [])]
    if subprocess.run(asked, cwd=packages, check=False).returncode:
        return _fail("npm could not install what a browser is driven by")
    if not browser and not (packages / "node_modules" / "@sparticuz").is_dir():
        return _fail(f"expected a browser as $CHROME or one of {', '.join(NAMES)}, got none, and none from npm")
    return browser


def _fail(words: str) -> None:
    print(f"error: {words}", file=sys.stderr)
