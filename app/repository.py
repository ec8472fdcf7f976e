"""The model repository: which models and versions there are under a folder.

Owns the layout <root>/<name>/<version>/. Knows nothing of what is in a version or of what is loaded.
A version is published by renaming a finished folder into place, so a folder whose name is a version is complete.
"""

import re
from pathlib import Path

from app.errors import BadArtifact
from app.manifest import NAME_PATTERN

_NAME = re.compile(NAME_PATTERN)
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class Repository:
    """Models and versions under `root`, as they are on disk now; BadArtifact where they may not be seen."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Models with one version or more, sorted."""
        named = (folder.name for folder in _folders(self.root) if _NAME.fullmatch(folder.name))
        return sorted(name for name in named if self.versions(name))

    def versions(self, name: str) -> list[str]:
        """Versions of a model, newest first."""
        found = (folder.name for folder in _folders(self.root / name) if _VERSION.fullmatch(folder.name))
        return sorted(found, key=int, reverse=True)

    def folder(self, name: str, version: str) -> Path:
        return self.root / name / version


def _folders(parent: Path) -> list[Path]:
    """The folders in `parent`, none where there is no such folder; BadArtifact where they may not be seen."""
    try:
        return [entry for entry in parent.iterdir() if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise BadArtifact(f"{parent} cannot be read: {error.strerror}.") from error
