"""A place on the disk for what a file will hold, taken before it is written through memory: there a full disk ends the process.

Knows nothing of whose file it is.
"""

import os
from pathlib import Path
from tempfile import TemporaryFile


def allot(file: int, size: int) -> None:
    """Have the first `size` bytes of the file on the disk, zeros where there is nothing yet; OSError where there is no room."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    while (end := os.fstat(file).st_size) < size:  # macOS has no such function
        os.pwrite(file, bytes(size - end), end)


def prove(folder: Path, *, room: int) -> None:
    """OSError where the folder cannot be made or written, or has no room for so many bytes."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryFile(dir=folder) as probe:
        if room:
            allot(probe.fileno(), room)
