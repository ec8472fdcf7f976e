"""What a process and its descendants use, from Linux's /proc: processor time, time spent waiting for a processor, and memory.

Owns the reading of /proc. Knows nothing of what the processes do. Without /proc, every result is None.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def members(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    for text in _read(PROC.glob("[0-9]*/stat")):
        name, _, rest = text.rpartition(")")  # the process's name may hold anything, parentheses too
        children[int(rest.split()[1])].append(int(name.split()[0]))
    found = [pid]
    for member in found:
        found += children[member]
    return found


def cpu_seconds(pid: int) -> float | None:
    """Processor time of all living threads, in nanosecond resolution: one of 10 ms would not show what idling costs."""
    return _scheduled(pid, 0)


def waiting_seconds(pid: int) -> float | None:
    """How long these threads were ready to run, but had no processor."""
    return _scheduled(pid, 1)


def pss(pid: int) -> int | None:
    """Proportional set size in bytes: memory that several processes share counts once."""
    texts = _read(PROC / str(member) / "smaps_rollup" for member in members(pid))
    sizes = [int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("Pss:")]
    return 1024 * sum(sizes) if sizes else None


def _scheduled(pid: int, column: int) -> float | None:
    texts = [text for member in members(pid) for text in _read((PROC / str(member) / "task").glob("*/schedstat"))]
    return sum(int(text.split()[column]) for text in texts) / 1e9 if texts else None


def _read(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        with suppress(OSError):  # it has ended since it was listed
            yield path.read_text()
