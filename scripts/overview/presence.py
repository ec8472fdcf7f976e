"""Whether a run is being trained at this moment.

Owns the lock that says so. The system releases it when the process ends, however it ends, so a run that was killed is not
taken for a running one. Knows nothing of how a run is trained.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

FILE_NAME = ".running"


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Lock the run in this folder for the block, in which it is trained. The folder is made if there is none.

    Raises ValueError if another process trains the run already, or if nothing can be written in the folder.
    """
    made(run)
    with (run / FILE_NAME).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{run} is being trained by another process: wait for its end, or stop it first.") from None
        yield


def made(folder: Path) -> None:
    """Make the folder if there is none; raises ValueError if nothing can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()  # a database's own error about a read-only folder is no help
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be written: {error.strerror or error}. Make its folder writable, or name another."
        ) from error


def is_held(run: Path) -> bool:
    """Whether a process trains the run in this folder. The lock tried is a shared one: two processes that look may both get it."""
    try:
        with (run / FILE_NAME).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, as nobody has trained here, or a system without locks
        return False
    return False
