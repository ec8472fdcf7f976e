"""Allocates disk space for a file before it is written through a memory map, where a full disk would kill the process.

Knows nothing of what the file is for.
"""

import os
from pathlib import Path
from tempfile import TemporaryFile


def allot(file: int, size: int) -> None:
    """Allocate the first `size` bytes of the file; new bytes are zeros. Raises OSError when the disk is full."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    while (end := os.fstat(file).st_size) < size:  # macOS has no such function
        os.pwrite(file, bytes(size - end), end)


def prove(folder: Path, *, room: int) -> None:
    """Raises OSError when the folder cannot be made or written, or has no room for so many bytes."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryFile(dir=folder) as probe:
        if room:
            allot(probe.fileno(), room)
