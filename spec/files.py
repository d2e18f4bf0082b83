"""Files that are written whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spec.errors import UsageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Hand out a temporary path beside `path`; rename it to `path` if the block ends well, remove it if not.

    Raises UsageError where the file cannot be written.
    """
    # Not tempfile.mkstemp: its files are readable for their owner alone, and would stay so after the rename.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises UsageError where it cannot be written."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
