"""Tells a missing file from one that cannot be looked up: since Python 3.14 `Path.is_file` returns False for both."""

from pathlib import Path
from stat import S_ISREG


def is_file(path: Path) -> bool:
    """Whether it is a file; OSError if the system cannot tell: its folder is not accessible, or its name is impossible."""
    try:
        return S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
