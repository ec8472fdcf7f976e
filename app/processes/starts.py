"""When a supervisor starts workers: at once, or after a pause where the last attempt failed.

Owns the times that are due. Knows nothing of processes, and reads no clock.
"""

import logging
from bisect import insort

log = logging.getLogger(__name__)

PAUSE = 1.0  # seconds before a worker is replaced that was not ready for longer than that, or before one is tried again
PATIENCE = 5.0  # seconds for which the first of all workers is tried


class Starts:
    """What is due, and since when nothing could be started."""

    def __init__(self) -> None:
        self.due: list[float] = []
        self._failing_since: float | None = None

    def take(self, now: float) -> bool:
        """Whether a worker is to be started now; then that is not due any more."""
        if not self.due or self.due[0] > now:
            return False
        self.due.pop(0)
        return True

    def replace(self, ready_at: float | None, now: float) -> None:
        """A worker has ended that was ready since then, if ever: start another, after a pause where this one did not live long."""
        insort(self.due, now if ready_at is not None and now - ready_at > PAUSE else now + PAUSE)

    def failed(self, why: str, now: float) -> bool:
        """One could not be started, and is tried again; True when that has gone on for too long, were there no other worker."""
        if self._failing_since is None:  # said once, however long it goes on
            self._failing_since = now
            log.error("A worker cannot be started (%s): it is tried again every %g s.", why, PAUSE)
        insort(self.due, now + PAUSE)
        return now - self._failing_since >= PATIENCE

    def succeeded(self) -> None:
        self._failing_since = None
