"""The model repository: which models and versions there are under a folder.

Owns the layout <root>/<name>/<version>/. Knows nothing of what is in a version or of what is loaded.
A version is published by renaming a finished folder into place, so a folder whose name is a version is complete.
"""

import re
from pathlib import Path

_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class Repository:
    """Models and versions under `root`, as they are on disk now."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Models with one version or more, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(folder.name for folder in self.root.iterdir() if folder.is_dir() and self.versions(folder.name))

    def versions(self, name: str) -> list[str]:
        """Versions of a model, newest first."""
        folder = self.root / name
        if not folder.is_dir():
            return []
        found = (entry.name for entry in folder.iterdir() if entry.is_dir() and _VERSION.fullmatch(entry.name))
        return sorted(found, key=int, reverse=True)

    def folder(self, name: str, version: str) -> Path:
        return self.root / name / version
