"""The files that all workers count into. Their disk space is allocated in advance: they are mapped into memory, and a write on a
full disk would end the process (SIGBUS).

Owns how such a file is made and how it grows. Knows nothing of what is counted.
"""

import logging
import mmap
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead

from app.disk import allot
from app.observed import replaced

log = logging.getLogger(__name__)

LEAST = 4096  # bytes; a file doubles when it is full
NOT_COUNTED = "There is no room for more metrics in %s (%s): some are not counted."
_BEGINNING = 8  # bytes before the first entry
_UNSEEN = 16  # bytes at the end of a file that nobody reads, for the counts that find no room
_BESIDE = 28 + _UNSEEN  # bytes that an entry takes at most beside its name


class Allotted(MmapedDict):
    """Counts by name, as prometheus_client keeps them, in a file without holes. When there is no room for more, new counts go to
    a place that nobody reads: requests are still answered, though not all are counted."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self._is_full = False
        if read_mode or Path(filename).exists() or _made(filename):
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]  # published without types
        else:  # in memory, which others do not see
            self._is_full = True
            self._f = None  # type: ignore[assignment]  # as close() leaves it
            self._fname = filename
            self._m, self._capacity = mmap.mmap(-1, LEAST), LEAST
            self._positions, self._used = {}, _BEGINNING

    def _init_value(self, key: str) -> None:
        needed = self._used + len(key.encode()) + _BESIDE
        while needed > self._capacity and not self._is_full:
            try:
                with Path(self._fname).open("r+b") as file:  # `_f` is in append mode, in which `allot` cannot write at an offset
                    allot(file.fileno(), 2 * self._capacity)
            except OSError as error:
                self._is_full = True  # for good: if the file grew later, the unread place would become an entry's
                log.error(NOT_COUNTED, Path(self._fname).parent, error.strerror)
            else:
                self._capacity *= 2
                self._m = mmap.mmap(self._f.fileno(), self._capacity)
        if needed > self._capacity:
            self._positions[key] = self._capacity - _UNSEEN
        else:
            super()._init_value(key)  # type: ignore[no-untyped-call]  # published without types


def install() -> Callable[[int], None]:
    """Have prometheus_client use `Allotted`, in this process and those that it forks. Returns a function to call with the process
    id of each worker that has ended."""
    values.MmapedDict = Allotted  # type: ignore[attr-defined]  # there is no setting for it
    count = replaced(CollectorRegistry())

    def ended(process: int) -> None:
        mark_process_dead(process)  # type: ignore[no-untyped-call]  # published without types
        count.inc()

    return ended


def _made(filename: str) -> bool:
    """Make the new file, complete before others see it; False if there is no room."""
    new = Path(f"{filename}.new")
    try:
        with new.open("wb") as file:
            allot(file.fileno(), LEAST)
        new.rename(filename)
    except OSError as error:
        new.unlink(missing_ok=True)
        log.error(NOT_COUNTED, new.parent, error.strerror)
        return False
    return True
