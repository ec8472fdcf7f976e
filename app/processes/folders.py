"""Temporary folders that the processes of one service share: in memory, if the system has a place for that.

Owns where they are and who removes them. A service, and each of its workers, holds a lock on its folders while it uses them; a
folder without a lock was left by a killed service. Knows nothing of what is in them.
"""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import gettempdir, mkdtemp

from app.errors import NoRoom

MEMORY = Path("/dev/shm")  # noqa: S108  # writable where the file system of a container is not
PREFIX = "recurve-shared-"
LEAST = 2**16  # bytes


@contextmanager
def shared(name: str, *, room: int = LEAST) -> Iterator[Path]:
    """A folder for the workers that are forked within the block. Raises NoRoom if no place has `room` bytes free."""
    folder, held = _held(name, _place(name, room))
    try:
        yield folder
    finally:
        rmtree(folder, ignore_errors=True)
        os.close(held)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """A lock: of the processes that share this folder, one at a time is within the block. It is released if its process dies."""
    with (folder / "alone.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sweep() -> list[Path]:
    """Remove the folders that dead services of this user have left, and return them."""
    return [folder for root in _roots() for folder in sorted(root.glob(f"{PREFIX}*")) if _swept(folder)]


def _roots() -> list[Path]:
    """The places where a folder can be made, the better one first."""
    roots = [MEMORY] if os.access(MEMORY, os.W_OK) else []
    with suppress(FileNotFoundError):  # there may be no writable one
        roots.append(Path(gettempdir()))
    return roots


def free(folder: Path) -> int:
    """Bytes that can still be written in this folder."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize if found.f_blocks else sys.maxsize  # tmpfs without a limit has no blocks


def _place(name: str, room: int) -> Path:
    roots = _roots()
    for root in roots:
        if free(root) >= room:
            return root
    found = " and ".join(f"{root} has {free(root) / 2**20:.1f} MiB" for root in roots) or "no folder can be written"
    raise NoRoom(
        f"There is no room for {name}: {room / 2**20:.1f} MiB are needed, and {found}. Free some; "
        "docker gives a container more with --shm-size."
    )


def _held(name: str, root: Path) -> tuple[Path, int]:
    """A new folder, and the descriptor that holds its lock."""
    while True:
        folder = Path(mkdtemp(prefix=f"{PREFIX}{name}-", dir=root))
        with suppress(FileNotFoundError):
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(OSError):  # a file system without locks: nothing is swept there
                fcntl.flock(held, fcntl.LOCK_EX)
            if folder.exists():
                return folder, held
            os.close(held)  # a sweep removed it before it was locked


def _swept(folder: Path) -> bool:
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # another user's, or gone
        return False
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until it is removed: its maker waits for the lock, and then sees that
        if os.fstat(held).st_uid != os.geteuid():  # root may open other users' folders
            return False
        rmtree(folder, ignore_errors=True)
        return not folder.exists()
    except OSError:
        return False
    finally:
        os.close(held)
