"""Whether a run is being trained at this moment.

Owns the lock that says so: the system lets go of it when the process ends, however it ends, so a run that was killed is not
taken for one that goes on. Knows nothing of how a run is trained.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE_NAME = ".running"


@contextmanager
def held(run: Path) -> Iterator[None]:
    """The run in this folder is being trained while the block lasts; ValueError when another process is at it already."""
    path = run / FILE_NAME
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{run} is being trained by another process: wait for its end, or stop it first.") from None
        yield


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
