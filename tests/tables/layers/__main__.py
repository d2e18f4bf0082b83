"""Makes crosscheck/libraries/layers.json and docs/layers.md by running eight libraries: make tables-layers.

As a command: python tests/tables/layers ENVIRONMENTS [LIBRARY ...]. Each library runs in an environment of its own
below that folder, which is made of `requirements/` where it is not there. With names, only these are run, and what was
found takes the place of what the table has of them.
"""

import platform
import sys
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from environments import environment
from judge import FEATURES, HIDDEN, INPUTS, AttentionJudge, Library, RecurrentJudge, random

from crosscheck.libraries import layers, made, pages

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SCRIPTS = {
    "torch": ("torch", "torch_layers.py"),
    "flax nnx": ("flax", "flax_layers.py", "nnx"),
    "flax linen": ("flax", "flax_layers.py", "linen"),
    "equinox": ("equinox", "equinox_layers.py"),
    "haiku": ("haiku", "haiku_layers.py"),
    "keras on jax": ("keras", "keras_layers.py", "jax"),
    "keras on torch": ("keras", "keras_layers.py", "torch"),
    "mlx": ("mlx", "mlx_layers.py"),
    "onnxruntime": ("onnxruntime", "onnxruntime_layers.py"),
}
"""By library: its environment and its script. torch comes first: the others are held against it."""

TORCH = {"rnn": "nn.RNN", "gru": "nn.GRU", "lstm": "nn.LSTM", "attention": "nn.MultiheadAttention"}


RELU = "nn.RNN, nonlinearity='relu'"


def drawn(shapes: dict[str, Any]) -> dict[str, np.ndarray]:
    """Values for torch's tensors that no symmetry hides, of a size at which what comes out is near 1."""
    return {name: random(9, n).standard_normal(np.shape(one)) / 2 for n, (name, one) in enumerate(shapes.items())}


def main() -> None:
    folder = Path(sys.argv[1])
    chosen = sys.argv[2:] or list(SCRIPTS)
    torch = Library(environment(folder, "torch"), HERE / "torch_layers.py")
    rows: list[Any] = []
    versions: dict[str, dict[str, str]] = {}
    for library in chosen:
        place, script, *arguments = SCRIPTS[library]
        asked = Library(environment(folder, place), HERE / script, *arguments)
        versions[library] = asked.described["versions"]
        for layer, described in asked.described["layers"].items():
            print(f"{library}: {layer}", flush=True)
            rows.append(judged(asked, library, layer, described, torch))
        asked.close()
    torch.close()
    if sys.argv[2:]:
        before = layers.table()
        kept = [one for one in (*before.recurrent, *before.attention) if one.library not in versions]
        places = list(SCRIPTS)
        rows = sorted(kept + rows, key=lambda one: places.index(one.library))
        versions = {name: (before.versions | versions)[name] for name in places}
    table = layers.Layers(
        made=made.Made(
            date=date.today().isoformat(),
            python=platform.python_version(),
            machine=f"{platform.system()} {platform.machine()}, CPU",
            versions={name: version for one in versions.values() for name, version in one.items()},
            command="make tables-layers",
        ),
        versions=versions,
        recurrent=tuple(row for row in rows if isinstance(row, layers.Recurrent)),
        attention=tuple(row for row in rows if isinstance(row, layers.Attention)),
    )
    made.write(table, layers.PATH)
    (ROOT / "docs" / "layers.md").write_text(pages.layers(table))


def judged(asked: Library, library: str, layer: str, described: dict[str, Any], torch: Library) -> Any:
    def ask(function: str, *arguments: Any) -> Any:
        return asked.ask(layer, function, *arguments)

    reference = TORCH[described["kind"]]
    precision = asked.described["precision"]
    if described["kind"] == "attention":
        judge = AttentionJudge(ask, described, precision)
        weights = drawn(torch.ask(reference, "initial", 0, FEATURES, 2))

        return judge.row(library, layer, weights, lambda given: torch.ask(reference, "run", given, *judge.given, None))
    judge = RecurrentJudge(ask, described, precision)
    weights = drawn(torch.ask(reference, "initial", 0, INPUTS, HIDDEN))

    def theirs(given: dict[str, np.ndarray]) -> Any:
        relu = judge.convention.activation == "relu"
        return torch.ask(RELU if relu else reference, "run", given, judge.x, judge.states, None)

    return judge.row(library, layer, weights, theirs)


if __name__ == "__main__":
    main()
