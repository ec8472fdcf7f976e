"""Writes a file whole or not at all. Knows nothing of what is in it."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write the file; an old one stands until the new one is whole.

    Raises OSError if it cannot be written; then nothing of the new one is left.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
