"""What files hold, read again when they change: a renewed certificate, or a key that is taken away, needs no restart.

Knows nothing of what that is.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
Marks = tuple[tuple[int, int, int] | None, ...]  # what tells the files from others: None where there is none


class Watched(Generic[T]):
    """What `read` makes of the files, as they were last when they were good; at first its ValueError says what is wrong with them.

    `changed` is told in the log when they have; `kept`, with what is wrong, where what was read before stays; and what `doubts` has
    to say of what is found. A process that was forked goes on from what its parent has read last.
    """

    def __init__(
        self,
        files: Sequence[Path],
        read: Callable[[], T],
        *,
        changed: str,
        kept: str,
        doubts: Callable[[T], str | None] = lambda _: None,
    ) -> None:
        self._files = files
        self._read = read
        self._told = (changed, kept)
        self._doubts = doubts
        self._marks = self._marked()
        self._doubtful: Marks = ()
        self.found = read()
        self._warn()

    def look(self) -> None:
        """Whether the files have changed: to be called about once a second, for what is right for a moment only may be missed."""
        marks = self._marked()
        if marks == self._marks:
            return
        changed, kept = self._told
        try:
            self.found = self._read()
        except (OSError, ValueError) as error:  # it may be gone from one moment to the next
            if marks != self._doubtful:  # one may have been exchanged, or written in part, and the rest not yet
                self._doubtful = marks
                return
            log.error("%s: %s.", kept, error)
        else:
            log.info("%s.", changed)
            self._warn()
        self._marks = marks

    def _warn(self) -> None:
        if doubt := self._doubts(self.found):
            log.warning("%s.", doubt)

    def _marked(self) -> Marks:
        return tuple(map(_mark, self._files))


def _mark(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
