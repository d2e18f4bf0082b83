"""The JSON Schema of an experiment file, so that an implementation in any language can read and check one.

    python -m spec.schema             print it
    python -m spec.schema --write     rewrite spec/experiment.schema.json

It holds what each key may be; what two keys must be together (heads that divide the hidden size, ...) it cannot say.
"""

import argparse
import inspect
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from spec import files
from spec.experiment import Experiment

FILE = Path(str(resources.files("spec") / "experiment.schema.json"))
"""The exported schema; a test holds it against `schema()`."""


def schema() -> dict[str, Any]:
    """The schema of an experiment's TOML file, which has no name of its own: the file's is the experiment's."""
    exported = msgspec.json.schema(Experiment)
    for definition in exported["$defs"].values():
        if "description" in definition:
            # A docstring as it stands in the source: Python 3.13 takes its indentation away, earlier ones keep it.
            definition["description"] = inspect.cleandoc(definition["description"])
    experiment = exported["$defs"][Experiment.__name__]
    del experiment["properties"]["name"]
    experiment["required"].remove("name")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "ohlol experiment", **exported}


def text() -> str:
    """The schema as it stands in the file."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode() + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Print or write the schema."""
    parser = argparse.ArgumentParser(prog="python -m spec.schema", description="JSON Schema of an experiment file")
    parser.add_argument("--write", action="store_true", help=f"rewrite {FILE.name} instead of printing")
    if parser.parse_args(arguments).write:
        files.write(FILE, text().encode())
    else:
        sys.stdout.write(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
