"""The JSON Schemas of report.json and of report-details.json.gz.

python -m crosscheck.report.schema             print the first
python -m crosscheck.report.schema --write     rewrite both files beside this one
"""

import argparse
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from crosscheck.report import data
from spec import files

PLACE = Path(str(resources.files("crosscheck.report")))

FILES = {"report.schema.json": data.ReportFile, "report-details.schema.json": data.DetailsFile}
"""The exported schemas; a test holds them against `schema()`."""


def schema(kind: Any, title: str) -> dict[str, Any]:
    """The schema of a file of that type as it is written: nothing is left out, whatever may be missing when it is
    read."""
    made = msgspec.json.schema(kind)
    for record in made["$defs"].values():
        if "properties" in record:
            record["required"] = list(record["properties"])
            for field in record["properties"].values():
                field.pop("default", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **made}


def text(name: str) -> str:
    """The schema as it stands in the file of that name."""
    title = name.replace(".schema", "")
    return msgspec.json.format(msgspec.json.encode(schema(FILES[name], title)), indent=2).decode() + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Print or write."""
    parser = argparse.ArgumentParser(prog="python -m crosscheck.report.schema", description="JSON Schemas of reports")
    parser.add_argument("--write", action="store_true", help=f"rewrite {' and '.join(FILES)} instead of printing")
    if parser.parse_args(arguments).write:
        for name in FILES:
            files.write(PLACE / name, text(name).encode())
    else:
        sys.stdout.write(text(next(iter(FILES))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
