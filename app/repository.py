"""The model repository: which models and versions there are in a folder.

Owns the layout <root>/<name>/<version>/, how a changed version is detected, and what is reported of a version. Knows nothing of
what a version holds. A version is published by renaming a finished folder, so a folder whose name is a version is complete.
"""

import re
from collections import Counter, UserDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.errors import BadArtifact
from app.manifest import FILE_NAME, NAME_PATTERN, VERSION_PATTERN

_NAME = re.compile(NAME_PATTERN)
_VERSION = re.compile(VERSION_PATTERN)

Mark = frozenset[tuple[str | int, ...]]


def mark_of(folder: Path) -> Mark | None:
    """A value that changes when a file of the version in `folder`, its owner or its mode changes; None: there is no manifest."""
    try:
        found = {file.name: file.stat() for file in folder.iterdir() if file.exists()}  # a link may be broken
    except OSError:
        return None
    if FILE_NAME not in found:
        return None
    return frozenset(
        (name, each.st_ino, each.st_mtime_ns, each.st_size, each.st_mode, each.st_uid, each.st_gid) for name, each in found.items()
    )


@dataclass(frozen=True, slots=True)
class Refused:
    """A version on disk that must not be served, and why."""

    name: str
    version: str
    reason: str
    mark: Mark | None  # of its files


class Refusals(UserDict[tuple[str, str], Refused]):
    """The refused versions, by name and version. `told` is called with their number for each model whenever it changes."""

    def __init__(self, told: Callable[[Mapping[str, int]], None] = lambda _: None) -> None:
        super().__init__()
        self._told = told

    def __setitem__(self, key: tuple[str, str], refused: Refused) -> None:
        super().__setitem__(key, refused)
        self._told(self._counts())

    def __delitem__(self, key: tuple[str, str]) -> None:
        super().__delitem__(key)
        self._told(self._counts())

    def of(self, name: str) -> str:
        """The refused versions of a model, and why; empty if there are none."""
        return " ".join(f"version {each.version}: {each.reason}" for each in self.values() if each.name == name)

    def _counts(self) -> Mapping[str, int]:
        return Counter(name for name, _ in self)


@dataclass(frozen=True, slots=True)
class VersionState:
    """A version in the repository: whether it is served, and if not, why."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str = ""


class Repository:
    """Models and versions under `root`, as they are on disk now; raises BadArtifact when a folder cannot be read."""

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

    def holds(self, name: str, version: str | None = None) -> bool:
        """Whether this version, or any version of this model, is there; False if its folder cannot be read. Reads one folder."""
        try:
            versions = self.versions(name) if _NAME.fullmatch(name) else []
        except BadArtifact:
            return False
        return bool(versions) if version is None else version in versions

    def folder(self, name: str, version: str) -> Path:
        return self.root / name / version


def _folders(parent: Path) -> list[Path]:
    """The folders in `parent`; empty if there is no such folder. Raises BadArtifact when it cannot be read."""
    try:
        return [entry for entry in parent.iterdir() if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise BadArtifact(f"{parent} cannot be read: {error.strerror}.") from error
