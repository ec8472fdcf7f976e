"""When a supervisor starts workers: at once, or after a pause if the last attempt failed.

Owns the times of the next starts. Knows nothing of processes, and reads no clock.
"""

import logging
from bisect import insort

log = logging.getLogger(__name__)

PAUSE = 1.0  # seconds before another try, or before a worker is replaced that was ready for no longer than this
PATIENCE = 5.0  # seconds of failed tries to start the very first worker, until the service gives up


class Starts:
    """The times when workers are to be started, and since when starting fails."""

    def __init__(self) -> None:
        self.due: list[float] = []
        self._failing_since: float | None = None

    def take(self, now: float) -> bool:
        """Whether a worker is to be started now; if so, removes that start from the list."""
        if not self.due or self.due[0] > now:
            return False
        self.due.pop(0)
        return True

    def replace(self, ready_at: float | None, now: float) -> None:
        """Replace a worker that has ended: after a pause if it did not live long. `ready_at`: since when it was ready, if ever."""
        insort(self.due, now if ready_at is not None and now - ready_at > PAUSE else now + PAUSE)

    def failed(self, why: str, now: float) -> bool:
        """A worker could not be started: try again after a pause. True: this has gone on too long, if there is no other worker."""
        if self._failing_since is None:  # logged once, however long it goes on
            self._failing_since = now
            log.error("A worker cannot be started (%s): it is tried again every %g s.", why, PAUSE)
        insort(self.due, now + PAUSE)
        return now - self._failing_since >= PATIENCE

    def succeeded(self) -> None:
        self._failing_since = None
