"""A service that stops under load: during RECURVE_DRAIN_DELAY it is not ready but still answers, then it ends in order."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic, sleep

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app.api.direct import Direct
from app.api.guard import Guard
from app.api.problems import Answer
from app.http.extensions import Reply
from app.keys import Keys
from app.metrics import Metrics
from tests.hanging import HANGING
from tests.servers import Server, serve
from tests.test_http import HEAVY, STEP, children

DELAY = 1.0
WORKERS = pytest.mark.parametrize("workers", ["1", "2"])
BODY = json.dumps({"instances": [[STEP] * 20]}).encode()
REQUEST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


@dataclass(slots=True)
class Caller:
    """A client that sends requests, on one connection while it is open or each on a new one, until it is refused."""

    keeps: bool
    answered: list[float] = field(default_factory=list)  # when each request began
    told_to_leave: int = 0  # answers with "Connection: close"
    failed: list[tuple[float, str]] = field(default_factory=list)  # when the request began, and its outcome
    refused: float | None = None  # when it noticed that it was no longer accepted

    async def call(self, host: str, port: int) -> None:
        while self.refused is None:
            began = monotonic()
            try:
                reader, writer = await asyncio.open_connection(host, port)
            except OSError:
                self.refused = monotonic()
                return
            try:
                await self._ask(reader, writer, began)
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, began: float) -> None:
        last = False
        first = True
        while not last:
            try:
                writer.write(REQUEST)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
            except (OSError, asyncio.IncompleteReadError) as error:
                if first:
                    self.refused = monotonic()  # connected by the system, but never accepted by the service
                else:
                    self.failed.append((began, repr(error)))
                return
            if not head.startswith(b"http/1.1 200"):
                self.failed.append((began, head.decode()))
            self.answered.append(began)
            last = b"connection: close" in head
            self.told_to_leave += last
            if not self.keeps:
                return
            first, began = False, monotonic()


@asynccontextmanager
async def load(server: Server, callers: list[Caller]) -> AsyncIterator[None]:
    """All clients send requests until they are refused."""
    address = httpx.URL(server.url)
    async with asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(caller.call(address.host, address.port or 80))
        yield


async def until(callers: list[Caller], *, since: float) -> None:
    """Wait until each client has got an answer to a request that began after `since`."""
    async with asyncio.timeout(30):
        while not all(caller.answered and caller.answered[-1] > since for caller in callers):  # noqa: ASYNC110  # clients act
            await asyncio.sleep(0.01)


@WORKERS
def test_nobody_is_refused_within_the_delay_and_no_request_fails(repository: Path, workers: str) -> None:
    """Load balancers go on sending requests for seconds after a service was told to stop, on new and old connections."""
    callers = [Caller(keeps=number % 2 == 0) for number in range(16)]

    async def scenario(server: Server) -> float:
        async with load(server, callers):
            await until(callers, since=monotonic())
            asked = monotonic()
            server.process.send_signal(signal.SIGTERM)
        return asked

    with serve(repository, "--workers", workers, "--drain-delay", str(DELAY)) as server:
        asked = asyncio.run(scenario(server))
        assert server.process.wait(timeout=30) == 0
    assert [failure for caller in callers for failure in caller.failed] == []
    for caller in callers:
        assert caller.refused is not None
        assert caller.refused >= asked + DELAY
        assert caller.told_to_leave or not caller.keeps  # so that the client moves to another service before this one ends
    assert "everything that was accepted has been answered" in "".join(server.log)


def test_a_batch_that_does_not_end_is_told_by_probes_and_left_at_the_end(repository: Path) -> None:
    """If a driver hangs, other requests are answered, probes fail so that the service is replaced, and a signal ends it."""

    def body(steps: int, **options: int) -> dict[str, object]:
        return {"instances": [[STEP] * steps], **options}

    flags = ("--workers", "1", "--lanes", "2", "--drain-timeout", "1")
    with serve(repository, *flags, module="tests.hanging") as server, httpx.Client(base_url=server.url) as http:
        assert http.get("/health/live").status_code == 200
        assert http.post("/predict", json=body(HANGING, timeout_ms=300)).status_code == 504
        assert http.post("/predict", json=body(HANGING + 1)).status_code == 200
        while (live := http.get("/health/live")).status_code == 200:
            sleep(0.05)  # nothing announces when a batch counts as hung
        assert (live.status_code, live.json()["type"]) == (503, "urn:recurve:problem:hanging")
        assert http.get("/v2/health/live").status_code == 503
        assert http.post("/predict", json=body(HANGING + 1)).status_code == 200
        assert server.stop() == 1
    assert "has not ended after 0.1 s: it is left." in "".join(server.log)


async def begin(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a long request; when this returns, the service has read its head, and the next bytes are the answer."""
    address = httpx.URL(server.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    body = json.dumps(HEAVY).encode()
    head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: "
    writer.write(f"{head}{len(body)}\r\n\r\n".encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    return reader, writer


@WORKERS
def test_a_second_signal_ends_the_delay_and_refuses_nothing_that_waits(repository: Path, workers: str) -> None:
    async def scenario(server: Server) -> list[int]:
        waiting = [await begin(server) for _ in range(8)]
        server.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(server.wait_for, "Not ready any more", times=int(workers))
        waiting += [await begin(server) for _ in range(4)]
        server.process.send_signal(signal.SIGTERM)
        statuses = []
        for answer, caller in waiting:
            statuses.append(int((await answer.readuntil(b"\r\n")).split()[1]))
            caller.close()
        return statuses

    with serve(repository, "--workers", workers, "--lanes", "1", "--drain-delay", "3600") as server:
        assert asyncio.run(scenario(server)) == [200] * 12
        assert server.process.wait(timeout=30) == 0


@WORKERS
def test_within_the_delay_probes_fail_and_streams_go_on_until_they_are_closed_with_a_reason(repository: Path, workers: str) -> None:
    chunk = json.dumps({"input": [STEP]})

    async def scenario(server: Server) -> None:
        async with (
            httpx.AsyncClient(base_url=server.url) as http,
            connect(server.url.replace("http", "ws") + "/streams/ws") as old,
        ):
            server.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(server.wait_for, "Not ready any more", times=int(workers))
            server.process.send_signal(signal.SIGHUP)  # as a closing terminal sends: it does not end the delay
            for _ in range(4):  # in any worker, on an open connection or a new one
                assert (await http.get("/health/ready")).status_code == 503
                health = await http.get("/health")
                assert (health.status_code, health.json()["status"]) == (503, "draining")
                assert (await http.get("/health/live")).status_code == 200
            async with connect(server.url.replace("http", "ws") + "/streams/ws") as new:
                for each in (old, new):
                    await each.send(chunk)
                    assert len(json.loads(await each.recv())["predictions"]) == 1
                server.process.send_signal(signal.SIGTERM)
                for each in (old, new):
                    with pytest.raises(ConnectionClosed) as closed:
                        await each.recv()
                    assert closed.value.rcvd is not None
                    assert closed.value.rcvd.code == 1012
                    assert "reconnect" in closed.value.rcvd.reason

    with serve(repository, "--workers", workers, "--drain-delay", "3600") as server:
        asyncio.run(scenario(server))
        assert server.process.wait(timeout=30) == 0


def test_who_is_refused_while_he_sends_hears_of_it_and_does_not_keep_the_service_from_stopping(repository: Path) -> None:
    """The service must not close before the client has read its last answer, and must not wait for the client for ever."""
    with serve(repository, "--workers", "1", "--drain-delay", "3600") as server, ExitStack() as stack:
        host, port = server.url.removeprefix("http://").split(":")
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("Not ready any more")
        sends, stays = [stack.enter_context(socket.create_connection((host, int(port)), timeout=20)) for _ in range(2)]
        for caller in (sends, stays):
            caller.sendall(b"POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n")
        sends.sendall(bytes(30_000_000))
        for caller in (sends, stays):
            answer = read_all(caller)
            assert answer.startswith(b"HTTP/1.1 404")
            assert b"connection: close" in answer
        assert server.stop() == 0


def test_a_worker_that_is_stopped_alone_ends_after_the_delay_and_is_replaced(repository: Path) -> None:
    """The supervisor did not begin this worker's delay, so it must not end it."""
    with serve(repository, "--workers", "2", "--drain-delay", "0.2") as server:
        os.kill(min(children(server.process.pid)), signal.SIGTERM)
        server.wait_for("is replaced")
        server.wait_for("Loaded", times=3)
        assert httpx.post(f"{server.url}/predict", json={"instances": [[STEP]]}).status_code == 200
        assert server.stop() == 0


@WORKERS
def test_who_has_connected_when_the_delay_ends_is_heard(repository: Path, workers: str) -> None:
    """The service may have had no time to accept them earlier: a CPU limit stalls it for moments."""
    with serve(repository, "--workers", workers, "--drain-delay", "3600") as server, ExitStack() as stack:
        host, port = server.url.removeprefix("http://").split(":")
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("Not ready any more", times=int(workers))
        server.process.send_signal(signal.SIGSTOP)
        callers = [stack.enter_context(socket.create_connection((host, int(port)), timeout=20)) for _ in range(100)]
        for caller in callers:
            caller.sendall(REQUEST)
        server.process.send_signal(signal.SIGTERM)  # ends the delay, as its timeout would, as soon as the service gets a CPU
        server.process.send_signal(signal.SIGCONT)
        for caller in callers:
            answer = b"".join(iter(partial(caller.recv, 4096), b""))
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in answer.lower()
        assert server.process.wait(timeout=30) == 0


UPGRADE = b"GET /streams/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
HANDSHAKE = UPGRADE + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"


@WORKERS
def test_a_request_that_is_on_its_way_when_the_service_stops_is_answered(repository: Path, workers: str) -> None:
    """Every accepted connection gets its answer, but no new stream connection begins."""
    with serve(repository, "--workers", workers, "--log-level", "debug") as server, ExitStack() as stack:
        host, port = server.url.removeprefix("http://").split(":")
        callers = [stack.enter_context(socket.create_connection((host, int(port)), timeout=20)) for _ in range(4)]
        for caller in callers:
            caller.sendall(REQUEST[:20])
        upgrading = stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
        upgrading.sendall(HANDSHAKE[:20])
        for _ in range(4):  # an answer to a new connection shows that the earlier ones are accepted
            assert httpx.get(f"{server.url}/health").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("Stopping", times=int(workers))
        for caller in callers:
            caller.sendall(REQUEST[20:])
        upgrading.sendall(HANDSHAKE[20:])
        answers = [read_all(caller) for caller in (*callers, upgrading)]
        assert server.process.wait(timeout=30) == 0
    assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * 4 + [b"HTTP/1.1 503"]
    assert all(b"connection: close" in answer for answer in answers)


def read_all(caller: socket.socket) -> bytes:
    said = b""
    while part := caller.recv(65536):
        said += part
    return said


@pytest.mark.parametrize("whole", [True, False])
def test_who_is_cut_off_in_the_middle_is_told_to_come_back(whole: bool) -> None:
    """When the time is up, the server cancels the rest, such as a body that is still being read; the client may simply retry."""
    sent: list[Message] = []

    async def endless(scope: Scope, receive: Receive) -> Answer:  # noqa: ARG001  # it reads nothing
        return await asyncio.get_running_loop().create_future()

    async def send(message: Message) -> None:
        sent.append(message)

    async def nothing() -> Message:
        return {"type": "http.request"}

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError(scope["path"], receive, send)

    async def scenario() -> Reply:
        guard = Guard(None, lambda: Keys.parse(""))
        app = Direct(refuse, {"/predict": endless}, live=refuse, guard=guard, metrics=Metrics())
        scope: Scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [], "state": {}}
        begin = app.offer(scope)
        assert begin is not None
        task: asyncio.Task[Reply | None] = asyncio.create_task(begin(scope, b"") if whole else app(scope, nothing, send))
        await asyncio.sleep(0)  # until the request waits
        task.cancel()
        reply = await task
        if reply is None:
            start, body = sent
            return start["status"], start["headers"], body["body"]
        return reply

    status, headers, body = asyncio.run(scenario())
    assert status == 503
    assert dict(headers)[b"retry-after"]
    assert json.loads(body)["type"] == "urn:recurve:problem:draining"
