"""Whether a file is there, or why nobody can say: `Path.is_file` says no to both since Python 3.14."""

from pathlib import Path
from stat import S_ISREG


def is_file(path: Path) -> bool:
    """Raises OSError where the system does not tell: its folder may not be looked into, or no file can have such a name."""
    try:
        return S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
