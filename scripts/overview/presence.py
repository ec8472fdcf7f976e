"""Whether a run is being trained at this moment.

Owns the lock that says so: the system lets go of it when the process ends, however it ends, so a run that was killed is not
taken for one that goes on. Knows nothing of how a run is trained.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

FILE_NAME = ".running"


@contextmanager
def held(run: Path) -> Iterator[None]:
    """The run in this folder is being trained while the block lasts; it is made where there is none.

    ValueError when another process is at it already, or when nothing can be written there.
    """
    made(run)
    with (run / FILE_NAME).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{run} is being trained by another process: wait for its end, or stop it first.") from None
        yield


def made(folder: Path) -> None:
    """The folder, made where there is none; ValueError where nothing can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()  # what a database says of a folder that is read-only is no help
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be written: {error.strerror or error}. Make its folder writable, or name another."
        ) from error


def is_held(run: Path) -> bool:
    """Whether a process trains the run in this folder. Shared, so that two who look do not see each other."""
    try:
        with (run / FILE_NAME).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file: nobody has trained here, or a system without locks
        return False
    return False
