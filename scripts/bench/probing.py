"""A prober in its own process: how soon the service answers /health/live, compared with a process that is otherwise idle.

Owns the schedule and its figures. The idle process is probed as often and in the same way: if it is late, the machine was
busy, not the service. Every probe has its own connection, as an orchestrator's has, and none waits for the one before.
Runs until its input ends, then prints its report: python -m scripts.bench.probing PORT
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import perf_counter

import numpy as np
import uvloop

EVERY = 0.02  # seconds from one probe to the next, of the service and of the idle process alike
SOON = 0.05  # seconds; a later answer counts as late
PATIENCE = 10.0
PROBE = b"GET /health/live HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of many probes; in seconds, NaN if none was answered."""

    asked: int
    failed: int  # no answer, or another than 200
    late: int  # of those answered
    p50: float
    p99: float
    p999: float
    slowest: float

    @classmethod
    def of(cls, seconds: Sequence[float], failed: int) -> "Figures":
        quantiles = np.quantile(seconds, (0.5, 0.99, 0.999, 1.0)).tolist() if seconds else [float("nan")] * 4
        return cls(len(seconds) + failed, failed, sum(each > SOON for each in seconds), *quantiles)

    @property
    def late_share(self) -> float:
        """Share of all probes; one that failed counts as late."""
        return (self.late + self.failed) / self.asked if self.asked else 1.0


class Prober:
    """Probes one port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._seconds: list[float] = []
        self._failed = 0
        self._under_way: set[asyncio.Task[None]] = set()

    def ask(self) -> None:
        task = asyncio.get_running_loop().create_task(self._ask())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def figures(self) -> Figures:
        await asyncio.gather(*self._under_way)
        return Figures.of(self._seconds, self._failed)

    async def _ask(self) -> None:
        begin = perf_counter()
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(PROBE)
                status = await reader.readline()
                writer.transport.abort()
                await writer.wait_closed()
        except (OSError, TimeoutError):
            status = b""
        if status.split()[1:2] == [b"200"]:
            self._seconds.append(perf_counter() - begin)
        else:
            self._failed += 1


async def probe(port: int) -> dict[str, Figures]:
    """Probe the service and the idle process until the input ends."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, over.set)
    idle = await asyncio.create_subprocess_exec(sys.executable, "-m", __spec__.name, "idle", stdout=asyncio.subprocess.PIPE)
    assert idle.stdout is not None
    try:
        probers = {"service": Prober(port), "idle": Prober(int(await idle.stdout.readline()))}
        due = loop.time()
        while not over.is_set():
            for number, prober in enumerate(probers.values()):
                loop.call_at(due + number * EVERY / len(probers), prober.ask)
            due += EVERY
            await asyncio.sleep(due - loop.time())
        return {name: await prober.figures() for name, prober in probers.items()}
    finally:
        idle.terminate()
        await idle.wait()


async def answer() -> None:
    """The idle process: answer every probe with 200."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(ANSWER)
        writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "idle":
        uvloop.run(answer())
    else:
        print(json.dumps({name: asdict(found) for name, found in uvloop.run(probe(int(sys.argv[1]))).items()}))
