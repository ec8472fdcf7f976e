"""How often each key may ask: a token bucket for each, of one second's worth, counted by all workers together.

Owns the count: one number for each key, in memory that is shared with processes forked later. It is taken and put back without a
lock, which would cost more than it is worth: two workers that ask within the same microsecond may both be let through on one token.
Knows nothing of keys or HTTP.
"""

from collections.abc import Sequence
from mmap import mmap

EXACT = 1e-9  # seconds; what is nearer is now


class Rates:
    """Buckets by their number, each filled with as many tokens a second as its rate says; 0: never empty.

    A bucket is kept as the time at which it will be full again but for one: the generic cell rate algorithm (ITU-T I.371).
    """

    def __init__(self, rates: Sequence[float]) -> None:
        self._full_at = memoryview(mmap(-1, 8 * max(1, len(rates)))).cast("d")
        # seconds that a token takes to come, and how far ahead of them a caller may be
        self._terms = [(1 / rate, max(0.0, rate - 1) / rate) if rate else None for rate in rates]

    def take(self, number: int, now: float) -> float:
        """Take a token: 0.0; or, where there is none, the seconds until there is one. `now` is the monotonic clock's."""
        terms = self._terms[number]
        if terms is None:
            return 0.0
        every, ahead = terms
        full_at = max(self._full_at[number], now)
        wait = full_at - now - ahead
        if wait > EXACT:
            return wait
        self._full_at[number] = full_at + every
        return 0.0
