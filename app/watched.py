"""Reads files again when they change: a renewed certificate, or a key that is taken away, needs no restart.

Knows nothing of what is in the files.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
Marks = tuple[tuple[int, int, int] | None, ...]  # a file that changes gets another mark; None: there is no file


class Watched(Generic[T]):
    """Holds in `found` what `read` returned when the files were valid last. The constructor raises what `read` raises.

    Logs `changed` when new contents are in use; `kept`, with the error, when new contents are not valid and the old stay in use;
    and what `doubts` says of the contents. A forked process goes on from what its parent has read last.
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
        """Read the files again if they have changed. Call this about once a second: what is valid for less may be missed."""
        marks = self._marked()
        if marks == self._marks:
            return
        changed, kept = self._told
        try:
            self.found = self._read()
        except (OSError, ValueError) as error:  # OSError: the file may be gone at any moment
            if marks != self._doubtful:  # wait for the next look: maybe only a part of the files is written so far
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
