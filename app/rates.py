"""Rate limits: a token bucket for each key, with the tokens of one second, shared by all workers.

Owns the buckets: one number for each key, in memory that is shared with processes forked later. There is no lock, which would cost
more than it is worth: two workers that take a token within the same microsecond may both get the same one.
Knows nothing of keys or HTTP.
"""

from mmap import mmap

EXACT = 1e-9  # seconds; a shorter wait counts as none


class Rates:
    """Token buckets, numbered from 0. Each is filled at the rate, in tokens a second, that `take` is called with.

    A bucket is stored as one time, its theoretical arrival time in the generic cell rate algorithm (ITU-T I.371).
    """

    def __init__(self, buckets: int) -> None:
        self._full_at = memoryview(mmap(-1, 8 * max(1, buckets))).cast("d")

    def take(self, number: int, rate: float, now: float) -> float:
        """Take a token and return 0.0; if there is none, return the seconds until there is one. A rate of 0 is no limit.

        `now` is the monotonic clock's, in seconds.
        """
        if not rate:
            return 0.0
        ahead = max(0.0, rate - 1) / rate  # seconds by which a client may be ahead of the rate: the burst
        every = 1 / rate
        full_at, most = max(self._full_at[number], now), now + ahead + every
        wait = full_at - now - ahead
        if full_at > most:  # left by another key, with a lower rate, that had this number
            self._full_at[number], wait = most, every
        if wait > EXACT:
            return wait
        self._full_at[number] = full_at + every
        return 0.0
