"""Makes crosscheck/libraries/defaults.json and docs/defaults.md by reading signatures: make tables-defaults.

As a command: python tests/tables/defaults.py ENVIRONMENTS, the folder that `make tables-layers` fills.
"""

import json
import os
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from environments import environment

from crosscheck.libraries import defaults, made, pages

SCRIPT = Path(__file__).parent / "layers" / "signatures.py"
ROOT = Path(__file__).parents[2]

LIBRARIES = {
    "torch": ("torch",),
    "flax": ("jax", "flax nnx", "flax linen"),
    "": ("optax",),
    "equinox": ("equinox",),
    "haiku": ("haiku",),
    "keras": ("keras",),
    "mlx": ("mlx",),
}
"""By environment; what runs this has optax in the version of the table of optimizers."""


def main() -> None:
    found: dict[str, dict[str, object]] = {}
    versions: dict[str, str] = {}
    for place, libraries in LIBRARIES.items():
        python = environment(Path(sys.argv[1]), place) if place else Path(sys.executable)
        ran = subprocess.run(
            [python, SCRIPT, *libraries],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        )
        for library, one in json.loads(ran.stdout.splitlines()[-1]).items():
            found[library] = one["defaults"]
            versions[one["package"]] = one["version"]
            print(f"{library} {one['version']}: {len(one['defaults'])} signatures", flush=True)
    table = defaults.Defaults(
        made=made.Made(
            date=date.today().isoformat(),
            python=platform.python_version(),
            machine=f"{platform.system()} {platform.machine()}, CPU",
            versions=versions,
            command="make tables-defaults",
        ),
        libraries=found,
    )
    made.write(table, defaults.PATH)
    (ROOT / "docs" / "defaults.md").write_text(pages.defaults(table))


if __name__ == "__main__":
    main()
