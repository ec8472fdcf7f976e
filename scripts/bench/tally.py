"""The results of many visits, and the trend of the service's memory meanwhile.

Owns the counts, the table and the trend. Knows nothing of what is visited.
"""

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from scripts.bench.peer import NoAnswer
from scripts.bench.visits import Client, Refused, Wrong

Visit = Callable[[Client], Awaitable[None]]


@dataclass(slots=True)
class Tally:
    """Counts the results of visits, and keeps their durations, by the name of the visit."""

    verdicts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    async def visit(self, name: str, visit: Visit, client: Client) -> None:
        begin = perf_counter()
        try:
            await visit(client)
            verdict = "right"
        except Refused:
            verdict = "refused"
        except (Wrong, NoAnswer) as error:
            verdict = f"{type(error).__name__}: {error}"
        self.verdicts[name][verdict] += 1
        self.seconds[name].append(perf_counter() - begin)

    @property
    def wrong(self) -> dict[str, int]:
        """Each result that must not occur, and how often it did."""
        return {
            f"{name}: {verdict}": times
            for name, verdicts in self.verdicts.items()
            for verdict, times in verdicts.items()
            if verdict not in ("right", "refused")
        }

    def lines(self) -> list[str]:
        found = ["| Visits | Made | Right | 503 | Wrong | p50 | p99 |", "|---|---|---|---|---|---|---|"]
        for name, verdicts in self.verdicts.items():
            right, refused = verdicts["right"], verdicts["refused"]
            p50, p99 = 1e3 * np.quantile(self.seconds[name], (0.5, 0.99))
            wrong = verdicts.total() - right - refused
            found.append(f"| {name} | {verdicts.total():,} | {right:,} | {refused:,} | {wrong:,} | {p50:,.0f} ms | {p99:,.0f} ms |")
        return found


@dataclass(frozen=True, slots=True)
class Trend:
    """Memory over time: the straight line through the last two thirds."""

    megabytes: float  # at its beginning
    growth: float  # from there to its end, as a share
    hourly: float  # megabytes per hour

    @classmethod
    def of(cls, seconds: Sequence[float], megabytes: Sequence[float]) -> "Trend":
        begin = len(seconds) // 3
        slope, at_zero = np.polyfit(seconds[begin:], megabytes[begin:], 1).tolist()
        first = at_zero + slope * seconds[begin]
        return cls(first, slope * (seconds[-1] - seconds[begin]) / first, 3600 * slope)
