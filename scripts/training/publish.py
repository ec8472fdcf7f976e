"""Puts a finished version into a model repository: whole or not at all.

Owns the version number and the rename. Knows nothing of what is in the version. Everything is written to a staging folder
beside the versions, whose name is no version; the rename publishes it. A killed process leaves only its staging folder behind,
which the next publisher of the model removes: each locks its own folder, and the system releases the locks of a process that
has ended.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from errno import EEXIST
from hashlib import file_digest
from pathlib import Path
from tempfile import mkdtemp

from app.manifest import FILE_NAME, VERSION_PATTERN, ModelSpec

HIGHEST = 999_999_999
STAGING = ".staging-"
READABLE = 0o755  # whatever the umask: the service may run as another user, as in a container
_VERSION = re.compile(VERSION_PATTERN)  # other folders are no versions


@contextmanager
def staging(model_dir: Path, name: str) -> Iterator[Path]:
    """An empty folder to build a version of the model `name` in; it is gone afterwards, published or not."""
    model = model_dir / name
    if not model.exists():
        model.mkdir(parents=True, exist_ok=True)
        model.chmod(READABLE)
    with ExitStack() as held:
        with _locked(model, wait=True) as alone:  # else another could sweep the folder before it is locked
            if alone:
                _sweep(model)
            folder = model / Path(mkdtemp(prefix=STAGING, dir=model)).name  # mkdtemp's path is absolute from 3.12 on
            held.enter_context(_locked(folder))
        folder.chmod(READABLE)  # mkdtemp's is for one user
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # not empty, or another publisher's
                model.rmdir()


@contextmanager
def _locked(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Lock the folder for the block; yields False if another process holds the lock, or if the file system has no locks."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        locked = True
    except OSError:
        locked = False
    try:
        yield locked
    finally:
        os.close(handle)


def _sweep(model: Path) -> None:
    """Remove the staging folders of killed publishers."""
    for folder in model.glob(f"{STAGING}*"):
        with suppress(OSError), _locked(folder) as dead:
            if dead:
                shutil.rmtree(folder, ignore_errors=True)


def next_version(model_dir: Path, name: str) -> str:
    """One above the highest version in the model's folder, or "1"; raises FileExistsError if HIGHEST is taken."""
    taken = [int(entry.name) for entry in (model_dir / name).iterdir() if _VERSION.fullmatch(entry.name)]
    if (highest := max(taken, default=0)) == HIGHEST:
        raise FileExistsError(EEXIST, f"its versions end at {HIGHEST}, which is taken")
    return str(highest + 1)


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in the folder but the manifest."""
    sums = {}
    for path in sorted(folder.iterdir()):
        if path.name != FILE_NAME:
            with path.open("rb") as file:
                sums[path.name] = file_digest(file, "sha256").hexdigest()
    return sums


def publish(staged: Path, spec_of: Callable[[str], ModelSpec]) -> Path:
    """Write the manifest and rename the staged folder to the next version; returns the version's folder.

    spec_of gives the manifest for a version number. Two publishers at once get a version each.
    """
    model = staged.parent
    while True:
        version = next_version(model.parent, model.name)
        (staged / FILE_NAME).write_text(spec_of(version).model_dump_json(indent=2) + "\n")
        for file in staged.iterdir():
            file.chmod(READABLE & 0o666)
        target = model / version
        try:
            os.rename(staged, target)
        except OSError:
            if target.exists():  # another publisher was faster
                continue
            raise
        return target
