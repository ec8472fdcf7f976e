"""Clients of streams for the tests, which send each chunk again until it is answered, and services that tests kill meanwhile.

The clients do not know why an answer did not come: they retry after every temporary failure, and any other fails the test.
"""

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count, takewhile
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from app import manifest
from app.tensors import Array
from tests.servers import Server, free_port, serve
from tests.test_http import children

OCTETS = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}
PATIENCE = 30.0  # seconds for which a client retries; after that, something hangs
PAUSE = 0.2  # seconds between two tries: retries without a pause would keep the service from starting


def steps(length: int, *seed: int) -> Array:
    """Random steps (time, 6): one step too many or too few changes the outputs after it by a hundred tolerances."""
    return np.random.default_rng([*seed, length]).standard_normal((length, 6)).astype(np.float32)


def endless(seed: int, longest: int) -> Iterator[Array]:
    """Chunks of one signal, of 1 to `longest` steps each; the same seed gives the same chunks."""
    lengths = random.Random(seed)
    return (steps(lengths.randint(1, longest), seed, number) for number in count())


def client() -> httpx.AsyncClient:
    """An HTTP client without a limit on connections."""
    return httpx.AsyncClient(timeout=PATIENCE, limits=httpx.Limits(max_connections=None))


async def whole(http: httpx.AsyncClient, url: str, sequence: Array) -> Array:
    """The outputs (time, 3) of a signal in one call."""
    answer = await http.post(f"{url}/predict", content=sequence.tobytes(), headers=OCTETS)
    assert answer.status_code == 200, answer.text
    return outputs(answer.content)


def outputs(answer: bytes) -> Array:
    return np.frombuffer(answer, np.float32).reshape(-1, 3)


@dataclass(slots=True)
class Caller:
    """Feeds one stream, chunk after chunk, and records every answer. `heard` is called after every answer and refusal."""

    id: str
    source: Iterator[Array]
    heard: Callable[[], None] = lambda: None
    rest: float = 0.0  # seconds from an answer to the next chunk; over a WebSocket, from all answers to the next few chunks
    chunks: list[Array] = field(default_factory=list)  # sent, or about to be sent
    answers: list[Array] = field(default_factory=list)
    resumed: int = 0  # chunks that were done when the client reconnected for their answers
    closed: list[tuple[int, str]] = field(default_factory=list)  # code and reason of every WebSocket that ended
    refused: list[dict[str, Any]] = field(default_factory=list)  # problems of refusals that were temporary (503)
    _last: str = "nothing"  # what came last in place of an answer

    async def over_http(self, http: httpx.AsyncClient, choose: Callable[[], str], seats: asyncio.Semaphore) -> None:
        """Send one chunk at a time, each try to the address that `choose` gives; JSON and octets in turn."""
        while (chunk := self._chunk(len(self.answers))) is not None:
            deadline = monotonic() + PATIENCE
            while (answer := await self._ask(http, choose(), chunk, seats)) is None:
                await self._pause(deadline)
            self._take(answer)
            await asyncio.sleep(self.rest)

    async def over_websocket(self, choose: Callable[[], str], *, ahead: int) -> None:
        """Send up to `ahead` chunks before their answers; after a lost connection, resume with the first unanswered chunk."""
        deadline = monotonic() + PATIENCE
        while self._chunk(len(self.answers)) is not None:
            answered = len(self.answers)
            await self._connect(choose().replace("http", "ws", 1), ahead)
            if len(self.answers) > answered:
                deadline = monotonic() + PATIENCE
            await self._pause(deadline)

    async def say_unheard(self, http: httpx.AsyncClient, address: str, chunks: Sequence[Array]) -> None:
        """Have these chunks done, and abort before their answers are read: `over_http` sends them again."""
        stream = f"/streams/{self.id}"
        query = f"?seq={len(self.chunks)}"
        self.chunks += chunks
        async with connect(f"{address.replace('http', 'ws')}{stream}/ws{query}", compression=None) as connection:
            for chunk in chunks:
                await connection.send(chunk.tobytes())
            async with asyncio.timeout(PATIENCE):
                while (await http.get(f"{address}{stream}")).json()["seq"] < len(self.chunks):
                    pass
            connection.transport.abort()

    async def _ask(self, http: httpx.AsyncClient, address: str, chunk: Array, seats: asyncio.Semaphore) -> Array | None:
        """Send the chunk; returns its outputs, or None if it is to be sent again."""
        seq, path = len(self.answers), f"{address}/streams/{self.id}/predict"
        try:
            async with seats:
                if seq % 2:
                    answer = await http.post(path, json={"input": chunk.tolist(), "seq": seq})
                else:
                    answer = await http.post(path, content=chunk.tobytes(), params={"seq": seq}, headers=OCTETS)
        except httpx.TransportError as error:
            self._last = repr(error)
            return None
        if answer.status_code != 200:
            self._refuse(answer.text)
            return None
        place = (seq + 1, sum(map(len, self.chunks[: seq + 1])))
        if seq % 2:
            told = answer.json()
            assert (told["seq"], told["steps"]) == place
            return np.array(told["predictions"], np.float32)
        assert (int(answer.headers["recurve-seq"]), int(answer.headers["recurve-steps"])) == place
        return outputs(answer.content)

    async def _connect(self, address: str, ahead: int) -> None:
        """Feed the stream over one connection until it closes."""
        answered = len(self.answers)
        try:
            async with connect(f"{address}/streams/{self.id}/ws?seq={answered}", compression=None) as connection:
                assert connection.response is not None
                if seq := connection.response.headers.get("Recurve-Seq"):  # if missing, a message will say why
                    assert int(seq) >= answered, f"{self.id}: {answered} chunks were answered, and {seq} are done"
                    self.resumed += int(seq) - answered
                await self._pipeline(connection, ahead)
        except ConnectionClosed as error:
            self.closed.append((error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, ""))
            self._last = repr(error)
        except (OSError, EOFError, InvalidHandshake, InvalidMessage) as error:
            self._last = repr(error)

    def _chunk(self, seq: int) -> Array | None:
        if seq == len(self.chunks) and (chunk := next(self.source, None)) is not None:
            self.chunks.append(chunk)
        return self.chunks[seq] if seq < len(self.chunks) else None

    async def _pipeline(self, connection: ClientConnection, ahead: int) -> None:
        sent, open = len(self.answers), True
        while True:
            if sent == len(self.answers):
                await asyncio.sleep(self.rest)
            most = len(self.answers) + ahead if sent == len(self.answers) or not self.rest else sent
            while open and sent < most and (chunk := self._chunk(sent)) is not None:
                try:
                    await connection.send(chunk.tobytes())
                except ConnectionClosed:
                    open = False  # messages received before the close can still be read
                sent += 1
            if sent == len(self.answers):
                return
            async with asyncio.timeout(PATIENCE):
                message = await connection.recv()
            if isinstance(message, str):
                self._refuse(message)
            else:
                self._take(outputs(message))

    def _take(self, answer: Array) -> None:
        assert len(answer) == len(self.chunks[len(self.answers)])
        self.answers.append(answer)
        self.heard()

    def _refuse(self, text: str) -> None:
        self._last = text
        problem = json.loads(text)
        assert problem["status"] == 503, f"{self.id}: {text}"
        self.refused.append(problem)
        self.heard()

    async def _pause(self, deadline: float) -> None:
        if monotonic() > deadline:
            waited = f"{self.id}: no answer to chunk {len(self.answers)} within {PATIENCE:g} s"
            raise AssertionError(f"{waited}; what came last: {self._last}")
        await asyncio.sleep(PAUSE)


class Crowd:
    """Clients that feed many streams at once, half of them over WebSockets, and the number of answers they have.

    `at_once`: how many HTTP requests may be in progress at the same time.
    """

    def __init__(
        self,
        size: int,
        choose: Callable[[], str],
        *,
        longest: int = 12,
        ahead: int = 8,
        websockets: bool = True,
        at_once: int = 100,
        rest: float = 0.2,  # seconds; without a rest, the clients would use more CPU than the service
    ) -> None:
        self.answered = 0
        self._choose = choose
        self._ahead = ahead
        self._websockets = websockets
        self._enough = False
        self._awaited: list[tuple[Callable[[], bool], asyncio.Event]] = []
        self._seats = asyncio.Semaphore(at_once)
        sources = [takewhile(lambda _: not self._enough, endless(number, longest)) for number in range(size)]
        self.callers = [Caller(f"stream-{number}", source, self._hear, rest) for number, source in enumerate(sources)]

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """Create the streams and feed them until the block ends; then wait until every chunk that was sent is answered."""
        async with client() as http:
            for caller in self.callers:
                answer = await http.post(f"{self._choose()}/streams", json={"id": caller.id})
                assert answer.status_code == 201, answer.text
            async with asyncio.TaskGroup() as group:
                for number, caller in enumerate(self.callers):
                    if self._websockets and number % 2:
                        group.create_task(caller.over_websocket(self._choose, ahead=self._ahead))
                    else:
                        group.create_task(caller.over_http(http, self._choose, self._seats))
                yield
                self._enough = True

    async def more(self, answers: int) -> None:
        """Wait for this many more answers."""
        enough = self.answered + answers
        await self.until(lambda: self.answered >= enough)

    async def everyone(self) -> None:
        """Wait until each client has got another answer."""
        before = [len(caller.answers) for caller in self.callers]
        await self.until(lambda: all(len(caller.answers) > seen for caller, seen in zip(self.callers, before, strict=True)))

    async def until(self, so: Callable[[], bool]) -> None:
        """Wait until `so()` is true; it is called after every answer and refusal."""
        came = asyncio.Event()
        self._awaited.append((so, came))
        async with asyncio.timeout(PATIENCE):
            await came.wait()

    async def check(self, url: str, spec: manifest.ModelSpec, callers: Sequence[Caller] | None = None) -> None:
        """Assert that the answers equal those to the whole signal in one call, and that the streams stand at its end."""
        async with client() as http:
            for caller in self.callers if callers is None else callers:
                assert len(caller.answers) == len(caller.chunks) > 0
                signal = np.concatenate(caller.chunks)
                expected = await whole(http, url, signal)
                found = np.concatenate(caller.answers)
                np.testing.assert_allclose(found, expected, rtol=spec.tolerance.rtol, atol=spec.tolerance.atol, err_msg=caller.id)
                stands = (await http.get(f"{url}/streams/{caller.id}")).json()
                assert (stands["seq"], stands["steps"]) == (len(caller.chunks), len(signal)), caller.id

    def _hear(self) -> None:
        self.answered = sum(len(caller.answers) for caller in self.callers)
        for awaited in self._awaited.copy():
            if awaited[0]():
                self._awaited.remove(awaited)
                awaited[1].set()


@dataclass(slots=True)
class Machine:
    """One address at which a service can be killed and started again any number of times; end it with `close`."""

    model_dir: Path
    flags: tuple[str, ...]
    port: int = field(default_factory=free_port)
    log: list[str] = field(default_factory=list)  # of services that have ended
    _running: ExitStack = field(default_factory=ExitStack)
    _server: Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def server(self) -> Server:
        assert self._server is not None
        return self._server

    def start(self) -> None:
        self._server = self._running.enter_context(serve(self.model_dir, "--port", str(self.port), *self.flags))

    def kill(self) -> None:
        """Kill all of its processes at once, without an orderly stop. Returns when they have ended."""
        for pid in (self.server.process.pid, *children(self.server.process.pid)):
            os.kill(pid, signal.SIGKILL)
        self._ended()

    def stop(self) -> int:
        """Stop the service in order; returns its exit code."""
        code = self.server.stop()
        self._ended()
        return code

    def close(self) -> None:
        if self._server is not None:
            self.stop()

    def _ended(self) -> None:
        self._running.close()
        self.log += self.server.log
        self._server = None
