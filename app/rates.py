"""How often each key may ask: a token bucket for each, of one second's worth, counted by all workers together.

Owns the count: one number for each key, in memory that is shared with processes forked later. It is taken and put back without a
lock, which would cost more than it is worth: two workers that ask within the same microsecond may both be let through on one token.
Knows nothing of keys or HTTP.
"""

from mmap import mmap

EXACT = 1e-9  # seconds; what is nearer is now


class Rates:
    """So many buckets, by their number, each filled with as many tokens a second as the rate says that is asked for it.

    A bucket is kept as the time at which it will be full again but for one: the generic cell rate algorithm (ITU-T I.371).
    """

    def __init__(self, buckets: int) -> None:
        self._full_at = memoryview(mmap(-1, 8 * max(1, buckets))).cast("d")

    def take(self, number: int, rate: float, now: float) -> float:
        """Take a token: 0.0; or, where there is none, the seconds until there is one. A rate of 0: there always is one.

        `now` is the monotonic clock's, in seconds.
        """
        if not rate:
            return 0.0
        ahead = max(0.0, rate - 1) / rate  # seconds that a caller may be ahead of them
        every = 1 / rate
        full_at, most = max(self._full_at[number], now), now + ahead + every
        wait = full_at - now - ahead
        if full_at > most:  # it was another's, who had them slower
            self._full_at[number], wait = most, every
        if wait > EXACT:
            return wait
        self._full_at[number] = full_at + every
        return 0.0
