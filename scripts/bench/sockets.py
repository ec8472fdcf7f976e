"""A load generator of messages on many WebSockets, in its own process: an open loop at a fixed rate, or a closed loop.

Owns the sockets and whose turn it is. Knows nothing of what is served: every binary message counts as a right answer, with
status 200. A socket that ends too early counts as one more failed message, with the close code as its status; its messages
under way are unanswered. In an open loop a message is sent when it is due, whatever is under way on its socket.
Reads a job, prints a report, both JSON: python -m scripts.bench.sockets [FILE] < job.json
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from itertools import cycle
from time import perf_counter, process_time
from urllib.parse import urlsplit

from scripts.bench import generator
from scripts.bench.frames import BINARY, CLOSE, HANDSHAKE, PING, PONG, Frames, frame
from scripts.bench.job import Answer, Job, Own, Report

UNEXPECTED, NO_CODE, BROKEN = 1003, 1005, 1006  # RFC 6455's codes: not understood, closed without a code, lost without a close


class Socket(asyncio.Protocol):
    """One WebSocket; calls `answered` for each answered message, and `ended` with a close code and a reason at its end."""

    def __init__(self, answered: Callable[["Socket", Answer], None], ended: Callable[["Socket", int, str], None]) -> None:
        self.under_way: deque[tuple[float, float]] = deque()  # when each message was due, and when it was written
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answered, self._ended = answered, ended
        self._head = b""
        self._frames = Frames()
        self._code, self._reason = BROKEN, ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # a TCP connection's is one

    def send(self, message: bytes, due: float) -> None:
        self.under_way.append((due, perf_counter()))
        self.transport.write(message)

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            self._head, end, data = (self._head + data).partition(b"\r\n\r\n")
            if not end:
                return
            status, *_ = self._head.split(b"\r\n")
            if status.split()[1:2] != [b"101"]:
                self.opened.set_exception(ConnectionError(f"it answered {status.decode(errors='replace')}"))
                return
            self.opened.set_result(None)
        for first, payload in self._frames.feed(data):
            if first == BINARY and self.under_way:
                self._answered(self, Answer(200, False, *self.under_way.popleft(), perf_counter()))
            elif first == PING:
                self.transport.write(frame(payload, PONG))
            elif first == CLOSE:
                self._end(int.from_bytes(payload[:2], "big") or NO_CODE, payload[2:])
            else:
                self._end(UNEXPECTED, payload)

    def connection_lost(self, _: Exception | None) -> None:
        if self.opened.done():
            self._ended(self, self._code, self._reason)
        else:
            self.opened.set_exception(ConnectionError("it hung up before it answered the handshake"))

    def _end(self, code: int, reason: bytes) -> None:
        if not self.transport.is_closing():  # the first reason for its end counts
            self._code, self._reason = code, reason.decode(errors="replace")
            self.transport.abort()


class Messages:
    """Runs one job, once. In an open loop, messages are spread evenly over the sockets."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._messages = cycle([frame(body) for body in job.bodies])
        self._sockets: list[Socket] = []
        self._answers: list[Answer] = []
        self._late: list[float] = []
        self._due = self._sent = self._under_way = 0
        self._begin = self._counts_from = 0.0
        self._over = False
        self._done = asyncio.Event()

    async def run(self) -> Report:
        """Do the job; OSError if nothing listens, or no WebSocket can be opened."""
        job, loop = self._job, asyncio.get_running_loop()
        self._sockets += await asyncio.gather(*(self._open() for _ in range(job.connections)))
        self._begin, spent = perf_counter(), process_time()
        self._counts_from = self._begin + job.warm
        if job.rate is None:
            loop.call_later(job.warm + job.seconds, self._stop)
            for socket in self._sockets:
                self._next(socket)
        else:
            self._tick(job.rate, round(job.rate * (job.warm + job.seconds)))
        try:
            await asyncio.wait_for(self._done.wait(), job.warm + job.seconds + job.patience)
        except TimeoutError:
            self._over = True
        self._done.set()
        cpus = (process_time() - spent) / (perf_counter() - self._begin)
        for socket in self._sockets:
            socket.transport.abort()
        own = Own(counts_from=self._counts_from, sent=self._sent, late=self._late, waited=0, cpus=cpus)
        return Report.of(job, self._answers, own)

    async def _open(self) -> Socket:
        place = urlsplit(self._job.url)
        loop, host, port = asyncio.get_running_loop(), place.hostname or "", place.port or 80
        _, socket = await loop.create_connection(lambda: Socket(self._answered, self._ended), host, port)
        fields = [f"Host: {place.netloc}", *HANDSHAKE, *(f"{name}: {value}" for name, value in self._job.headers.items())]
        socket.transport.write("\r\n".join([f"GET {place.path} HTTP/1.1", *fields, "", ""]).encode())
        await socket.opened
        return socket

    def _tick(self, rate: float, total: int) -> None:
        """Send the messages that are due by now, each on the next socket."""
        now = perf_counter()
        while self._due < total and (due := self._begin + self._due / rate) <= now:
            if due >= self._counts_from:
                self._sent += 1
                self._late.append(now - due)
            self._send(self._sockets[self._due % len(self._sockets)], due)
            self._due += 1
        if self._due < total:
            asyncio.get_running_loop().call_later(generator.TICK, self._tick, rate, total)
        else:
            self._stop()

    def _next(self, socket: Socket) -> None:
        """Send the next message of a socket in a closed loop."""
        now = perf_counter()
        self._sent += now >= self._counts_from
        self._send(socket, now)

    def _send(self, socket: Socket, due: float) -> None:
        if not socket.transport.is_closing():
            self._under_way += 1
            socket.send(next(self._messages), due)

    def _answered(self, socket: Socket, answer: Answer) -> None:
        self._under_way -= 1
        self._answers.append(answer)
        if self._job.rate is None and not self._over:
            self._next(socket)
        self._settle()

    def _ended(self, socket: Socket, code: int, reason: str) -> None:
        if self._done.is_set():
            return
        if all(answer.status == 200 for answer in self._answers):  # the first reason is enough
            print(f"A WebSocket ended with {code}: {reason[:300] or 'no reason given'}", file=sys.stderr)
        now = perf_counter()
        self._sent += 1
        self._answers.append(Answer(code, False, max(now, self._counts_from), now, now))
        self._under_way -= len(socket.under_way)
        self._settle()

    def _stop(self) -> None:
        """No new messages; those under way still count."""
        self._over = True
        self._settle()

    def _settle(self) -> None:
        if self._over and not self._under_way:
            self._done.set()


if __name__ == "__main__":
    sys.exit(generator.main(lambda job: Messages(job).run()))
