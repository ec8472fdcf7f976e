"""A load generator in its own process, for what wrk cannot do: an open loop, with requests at a fixed rate, whatever comes back.

Owns the schedule and the connections. Knows nothing of what is served. A request that finds no free connection waits here,
and its latency counts from the time it was due. Also does a closed loop, if there is no wrk.
Reads a job, prints a report, both JSON: python -m scripts.bench.generator [FILE] < job.json
"""

import asyncio
import gc
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from time import perf_counter, process_time
from urllib.parse import urlsplit

import httptools
import uvloop

from scripts.bench.job import Answer, Job, Own, Report

TICK = 0.001  # seconds; libuv's timers are no finer


class Connection(asyncio.Protocol):
    """Carries one request at a time; calls `answered` when its answer is complete, and `gone` when the connection has ended."""

    def __init__(
        self, own: bytes | None, answered: Callable[["Connection", Answer], None], gone: Callable[["Connection"], None]
    ) -> None:
        self.own = own  # the one request that this connection sends again and again, and no other does; None: the next of the job's
        self.busy = False
        self._answered, self._gone = answered, gone
        self._parser = httptools.HttpResponseParser(self)
        self._retry_after = False
        self._due = self._written = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # a TCP connection's is one

    def send(self, request: bytes, due: float) -> None:
        self.busy, self._retry_after = True, False
        self._due, self._written = due, perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, _: bytes) -> None:
        if name.lower() == b"retry-after":
            self._retry_after = True

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.transport.close()
        self._answered(self, Answer(status, self._retry_after, self._due, self._written, perf_counter()))

    def connection_lost(self, _: Exception | None) -> None:
        self._gone(self)


class Generator:
    """Runs one job, once."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._requests = cycle(job.requests())
        self._open: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._idle: deque[Connection] = deque()  # the one that has been idle longest is next
        self._waiting: deque[float] = deque()  # when the requests that found no free connection were due
        self._under_way = 0
        self._answers: list[Answer] = []
        self._late: list[float] = []
        self._due = self._sent = self._waited = 0
        self._begin = self._counts_from = 0.0
        self._over = False
        self._done = asyncio.Event()

    async def run(self) -> Report:
        """Do the job; OSError if nothing listens."""
        job, loop = self._job, asyncio.get_running_loop()
        await asyncio.gather(*map(self._connect, job.own_requests()))
        self._begin, spent = perf_counter(), process_time()
        self._counts_from = self._begin + job.warm
        if job.rate is None:
            loop.call_later(job.warm + job.seconds, self._stop)
            for _ in range(len(self._idle)):
                self._next(self._idle.popleft())
        else:
            self._tick(job.rate, round(job.rate * (job.warm + job.seconds)))
        try:
            await asyncio.wait_for(self._done.wait(), job.warm + job.seconds + job.patience)
        except TimeoutError:
            self._over = True
        for connection in list(self._open):
            connection.transport.abort()
        cpus = (process_time() - spent) / (perf_counter() - self._begin)
        own = Own(counts_from=self._counts_from, sent=self._sent, late=self._late, waited=self._waited, cpus=cpus)
        return Report.of(job, self._answers, own)

    def _tick(self, rate: float, total: int) -> None:
        """Send the requests that are due by now, or let them wait for a connection."""
        now = perf_counter()
        while self._due < total and (due := self._begin + self._due / rate) <= now:
            self._due += 1
            counts = due >= self._counts_from
            self._sent += counts
            if counts:
                self._late.append(now - due)
            if self._idle:
                self._send(self._idle.popleft(), due)
            else:
                self._waiting.append(due)
                self._waited += counts
        if self._due < total:
            asyncio.get_running_loop().call_later(TICK, self._tick, rate, total)
        else:
            self._stop()

    def _next(self, connection: Connection) -> None:
        """Give a free connection its next request, or let it stay idle."""
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        elif self._job.rate is None and not self._over:
            now = perf_counter()
            self._sent += now >= self._counts_from
            self._send(connection, now)
        else:
            self._idle.append(connection)

    def _send(self, connection: Connection, due: float) -> None:
        self._under_way += 1
        connection.send(connection.own or next(self._requests), due)

    def _answered(self, connection: Connection, answer: Answer) -> None:
        connection.busy = False
        self._under_way -= 1
        self._answers.append(answer)
        if not connection.transport.is_closing():
            self._next(connection)
        self._settle()

    def _stop(self) -> None:
        """No new requests; those that wait and those under way still count."""
        self._over = True
        self._settle()

    def _settle(self) -> None:
        if self._over and not self._under_way and not self._waiting:
            self._done.set()

    async def _connect(self, own: bytes | None) -> None:
        place = urlsplit(self._job.url)
        loop, host, port = asyncio.get_running_loop(), place.hostname or "", place.port or 80
        _, connection = await loop.create_connection(lambda: Connection(own, self._answered, self._gone), host, port)
        self._open.add(connection)
        if self._begin:
            self._next(connection)
        else:
            self._idle.append(connection)

    def _gone(self, connection: Connection) -> None:
        """Open another connection in its place, unless nothing is left to be sent."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._under_way -= connection.busy
        self._settle()
        if not self._done.is_set():
            task = asyncio.get_running_loop().create_task(self._reconnect(connection.own))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _reconnect(self, own: bytes | None) -> None:
        with suppress(OSError):  # the server takes no more connections: its requests are reported as unanswered
            await self._connect(own)


def main(run: Callable[[Job], Coroutine[None, None, Report]]) -> int:
    job = Job.from_json(Path(sys.argv[1]).read_text() if sys.argv[1:] else sys.stdin.read())
    gc.disable()  # a pause for garbage collection would look like the server's latency
    try:
        report = uvloop.run(run(job))
    except OSError as error:
        print(f"{job.url} cannot be reached: {error}", file=sys.stderr)
        return 1
    print(report.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(lambda job: Generator(job).run()))
