"""Slow and greedy clients: how much they may take of the service, without keeping other clients waiting."""

import json
import re
import resource
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from app.http.connection import SPARE
from app.http.transport import SLOWEST
from app.processes.sockets import FILES, room_for
from scripts.bench import tree
from tests.servers import Server, serve

TIMEOUT, KEEP_ALIVE = 1.0, 1.5
PATIENCE = 30.0  # seconds; after that, something hangs
TRIES = 5  # of checks that a machine can spoil if it stalls for a moment
GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
MOST_HEAD = 2**16  # by default
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = json.dumps({"instances": [[[0.0] * 6]]}).encode()
UPGRADE = (
    b"GET /streams/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with serve(repository, "--workers", "2", "--read-timeout", str(TIMEOUT), "--keep-alive", str(KEEP_ALIVE)) as running:
        yield running


def call(server: Server) -> socket.socket:
    address = httpx.URL(server.url)
    made = socket.create_connection((address.host, address.port or 80), timeout=PATIENCE)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def send(caller: socket.socket, data: bytes) -> bool:
    """Send without waiting; False if the other side takes no more."""
    try:
        caller.sendall(data)
    except ConnectionError:
        return False
    return True


def memory(server: Server) -> int:
    """The peak memory of the server's process, in bytes."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def rest(caller: socket.socket) -> bytes:
    """All bytes until the other side ends the connection."""
    found = b""
    try:
        while data := caller.recv(65536):
            found += data
    except ConnectionResetError:
        pass
    return found


def problem(raw: bytes, status: int) -> dict[str, Any]:
    head, _, body = raw.partition(b"\r\n\r\n")
    line, _, fields = head.partition(b"\r\n")
    assert line.startswith(b"HTTP/1.1 %d " % status), raw[:500]
    headers = BytesHeaderParser().parsebytes(fields)
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert headers["content-length"] == str(len(body))
    found: dict[str, Any] = json.loads(body)
    assert (found["status"], found["instance"]) == (status, headers["x-request-id"])
    return found


def refused(server: Server, reason: str) -> float:
    text = httpx.get(f"{server.url}/metrics").text
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return float(samples.get(f'recurve_refused_total{{reason="{reason}"}}', 0))


def test_a_head_that_does_not_come_in_time_is_a_408(server: Server) -> None:
    before, begin = refused(server, "too-slow"), time.monotonic()
    with call(server) as caller:
        caller.sendall(GET[:-4])
        found = problem(rest(caller), 408)
        assert time.monotonic() - begin >= TIMEOUT
    assert found["detail"] == "The head of the request was not complete after 1 s."
    assert refused(server, "too-slow") == before + 1


def test_a_byte_now_and_then_does_not_keep_a_head_open(server: Server) -> None:
    """Slowloris: two hundred clients send a byte now and then, while everybody else must be served."""
    with ExitStack() as stack:
        callers = waiting = [stack.enter_context(call(server)) for _ in range(200)]
        for caller in callers:
            send(caller, b"GET / HTTP/1.1\r\nX: ")
        until = time.monotonic() + PATIENCE
        while waiting:
            assert time.monotonic() < until
            for caller in waiting:
                send(caller, b"a")
            assert httpx.post(f"{server.url}/predict", content=BODY, headers={"Content-Type": "application/json"}).is_success
            waiting = [caller for caller in waiting if not select.select([caller], [], [], 0)[0]]
        for caller in callers:
            problem(rest(caller), 408)


def test_a_body_that_falls_silent_is_a_408(server: Server) -> None:
    """The problem has the request's id, so that the two can be matched."""
    with call(server) as caller:
        caller.sendall(HEAD + b"X-Request-ID: slow-1\r\nContent-Length: 1000\r\n\r\n" + BODY)
        found = problem(rest(caller), 408)
    assert found["instance"] == "slow-1"
    assert found["detail"] == f"No data arrived for 1 s, after {len(BODY)} bytes of the body."


def test_a_body_that_trickles_is_a_408(server: Server) -> None:
    """A byte now and then is not silence, but a body of 32 MiB would take weeks."""

    def told() -> str:
        until = time.monotonic() + PATIENCE
        with call(server) as caller:
            caller.sendall(CHUNKED)
            while not wait_for_bytes(caller, 0.1):
                assert time.monotonic() < until
                caller.sendall(b"1\r\n \r\n")
            return str(problem(rest(caller), 408)["detail"])

    assert any(f"{SLOWEST} a second are the least" in told() for _ in range(TRIES))


def test_a_slow_but_honest_body_is_taken(server: Server) -> None:
    """It may take longer than the timeout in all, which counts from byte to byte."""
    padding = b" " * (8 * SLOWEST)

    def taken() -> bool:
        with call(server) as caller:
            begin = time.monotonic()
            caller.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (8 * len(padding) + len(BODY)))
            for _ in range(8):
                caller.sendall(padding)
                if wait_for_bytes(caller, TIMEOUT / 3):
                    return False
            assert time.monotonic() - begin > 2 * TIMEOUT
            caller.sendall(BODY)
            return caller.recv(15) == b"HTTP/1.1 200 OK"

    assert any(taken() for _ in range(TRIES))


def wait_for_bytes(caller: socket.socket, seconds: float) -> bool:
    caller.settimeout(seconds)
    try:
        return bool(caller.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False
    finally:
        caller.settimeout(PATIENCE)


def test_the_deadline_of_a_request_that_names_none_begins_when_it_is_there(repository: Path) -> None:
    """Otherwise a slow link could not send a large body, however long its client would wait."""
    with serve(repository, "--workers", "1", "--request-timeout", "0.3") as server:

        def answered(member: bytes) -> bytes:
            body = BODY[:-1] + member + b"}"
            with call(server) as caller:
                caller.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[:10])
                assert not wait_for_bytes(caller, 0.5)
                caller.sendall(body[10:])
                return caller.recv(12)

        assert any(answered(b"") == b"HTTP/1.1 200" for _ in range(TRIES))
        assert answered(b', "timeout_ms": 300') == b"HTTP/1.1 504"


def test_a_connection_on_which_nothing_is_asked_is_closed(server: Server) -> None:
    """The read timeout holds before the first request, the keep-alive timeout after it, and stray bytes extend neither."""
    for first, noise, after in (
        (b"", b"", TIMEOUT),
        (GET, b"", KEEP_ALIVE),
        (GET, b"\r\n", KEEP_ALIVE),
        (b"\r\n", b"\r\n", TIMEOUT),
    ):
        begin = time.monotonic()
        with call(server) as caller:
            caller.sendall(first)
            if first == GET:
                assert caller.recv(65536).startswith(b"HTTP/1.1 200")
            caller.sendall(noise)
            assert rest(caller) == b""
            assert time.monotonic() - begin >= after


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to see how much memory a process holds")
def test_who_does_not_read_is_cut_off(repository: Path) -> None:
    """Answers that nobody reads would fill the memory."""
    with serve(repository, "--workers", "1", "--keep-alive", "1") as server, call(server) as caller:
        ask = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 64
        begin = time.monotonic()
        before = memory(server)
        while send(caller, ask):  # a client that does not read its answers is not read from either
            pass
        assert time.monotonic() - begin >= 1
        assert memory(server) - before < 100 * 2**20  # if all requests were read, it would be gigabytes


def test_a_caller_who_is_answered_early_may_not_stay_for_ever(server: Server) -> None:
    """The client has its answer, so it gets no 408 after it."""
    with call(server) as caller:
        caller.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n ")
        found = rest(caller)
    assert found.startswith(b"HTTP/1.1 415")
    assert found.count(b"HTTP/1.1") == 1


LARGE = 30_000_000  # bytes: far more than the system buffers before the service reads them


def refused_early(caller: socket.socket, path: bytes, *, version: bytes = b"1.1", close: bool = True) -> bytes:
    """All bytes received by a client that sends a large body to its end before it reads, as most clients do."""
    told = b"Connection: close\r\n" if close else b""
    caller.sendall(b"POST %s HTTP/%s\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n" % (path, version, LARGE, told))
    caller.sendall(bytes(LARGE))
    return rest(caller)


@pytest.mark.parametrize(("version", "close"), [(b"1.1", True), (b"1.0", False)], ids=["close", "HTTP/1.0"])
@pytest.mark.parametrize(("path", "status"), [(b"/nope", b"404"), (b"/predict", b"415")], ids=["in messages", "at once"])
def test_who_is_answered_before_he_has_sent_all_gets_the_answer(
    server: Server, path: bytes, status: bytes, version: bytes, *, close: bool
) -> None:
    """Closing a connection with unread body bytes resets it, and the client's system then discards the answer."""
    with call(server) as caller:
        found = refused_early(caller, path, version=version, close=close)
    assert found.startswith(b"HTTP/1.1 %s " % status)
    assert b"\r\nconnection: close\r\n" in found
    assert found.endswith(b"}")


EXPECTING = b" HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize(("path", "status"), [(b"/nope", b"404"), (b"/predict", b"415")], ids=["in messages", "at once"])
def test_who_is_not_asked_for_his_body_is_told_that_the_connection_ends(server: Server, path: bytes, status: bytes) -> None:
    """The client may or may not send the body: its next request would be taken for the body, or the body for a request."""
    with call(server) as caller:
        caller.sendall(b"POST " + path + EXPECTING % len(GET))
        found = rest(caller)
        assert found.startswith(b"HTTP/1.1 %s " % status)
        assert b"\r\nconnection: close\r\n" in found
        send(caller, GET * 2)
        assert rest(caller) == b""


def test_who_is_asked_for_his_body_or_sends_it_unasked_keeps_his_connection(server: Server) -> None:
    with call(server) as caller:
        caller.sendall(HEAD[:-2].replace(b" HTTP/1.1\r\nHost: x", EXPECTING[:-4] % len(BODY)) + b"\r\n\r\n")
        assert caller.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        caller.sendall(BODY)
        assert caller.recv(65536).startswith(b"HTTP/1.1 200 ")
        caller.sendall(b"POST /nope" + EXPECTING % 2 + b"{}")
        found = caller.recv(65536)
        assert found.startswith(b"HTTP/1.1 404 ")
        assert b"connection: close" not in found
        caller.sendall(GET)
        assert caller.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"a" * MOST_HEAD + b"\r\n\r\n", id="one-header"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X: aaaaaaaaaa\r\n" * (MOST_HEAD // 10) + b"\r\n", id="many-headers"),
        pytest.param(b"GET /" + b"a" * MOST_HEAD + b" HTTP/1.1\r\n\r\n", id="path"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000_000, id="endless"),
        pytest.param(UPGRADE + b"X: " + b"a" * MOST_HEAD + b"\r\n\r\n", id="websocket"),
        pytest.param(HEAD + b"Content-Length: 9\r\nX: " + b"a" * MOST_HEAD + b"\r\n\r\n" + b" " * 9, id="with-a-body"),
        pytest.param(CHUNKED + b"1;" + b"a" * 20_000_000, id="about-a-chunk"),
        pytest.param(CHUNKED + b"1\r\n \r\n0\r\nX: " + b"a" * 20_000_000, id="after-the-body"),
    ],
)
def test_a_head_has_its_limit(server: Server, sent: bytes) -> None:
    """The parser has no limit of its own: a header of gigabytes would be kept in memory."""
    with call(server) as caller:
        send(caller, sent)
        found = problem(rest(caller), 431)
    assert str(MOST_HEAD) in found["detail"]


def test_a_head_within_its_limit_is_taken(server: Server) -> None:
    """Headers with tokens and traces may be long."""
    answer = httpx.get(f"{server.url}/health", headers={"X": "a" * (MOST_HEAD - 1000)})
    assert answer.status_code == 200


def test_a_head_has_the_limit_that_is_set(repository: Path) -> None:
    """A service behind a proxy that adds little needs a lower limit, one with long tokens a higher one."""
    with serve(repository, "--workers", "1", "--max-head-bytes", "4096") as server:
        assert httpx.get(f"{server.url}/health", headers={"X": "a" * 3000}).status_code == 200
        answer = httpx.get(f"{server.url}/health", headers={"X": "a" * 5000})
    assert answer.status_code == 431
    assert "more than 4096 bytes" in answer.json()["detail"]


LONGEST = 8192 - len(b"X: \r\n")  # bytes of a header's value in a handshake, which may have 128 headers: `UPGRADE` has five


@pytest.mark.parametrize(
    ("head", "says"),
    [
        pytest.param(b"X: " + b"a" * (LONGEST + 1), "and 8193 bytes", id="long"),
        pytest.param(b"\r\n".join([b"X: a"] * 124), "got 129 headers", id="many"),
    ],
)
def test_a_websocket_whose_head_is_too_large_for_its_library_is_told(server: Server, head: bytes, says: str) -> None:
    """The library would answer such a client in its own words or not at all."""
    with call(server) as caller:
        caller.sendall(UPGRADE + head + b"\r\n\r\n")
        assert says in problem(rest(caller), 431)["detail"]


@pytest.mark.parametrize("head", [b"X: " + b"a" * LONGEST, b"\r\n".join([b"X: a"] * 123)], ids=["long", "many"])
def test_a_websocket_whose_head_is_as_large_as_allowed_is_taken(server: Server, head: bytes) -> None:
    with call(server) as caller:
        caller.sendall(UPGRADE + head + b"\r\n\r\n")
        assert caller.recv(65536).startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    "body", [b"Content-Length: 2\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"], ids=["whole", "in chunks"]
)
def test_a_websocket_with_a_body_is_told_what_is_wrong(server: Server, body: bytes) -> None:
    """The library refuses a body without a reason, so it would be reported as a head that is too large."""
    with call(server) as caller:
        caller.sendall(UPGRADE + body)
        assert "has no body" in problem(rest(caller), 400)["detail"]


@pytest.mark.parametrize("version", [b"8", b"13, 8", b"", b"13\r\nSec-WebSocket-Version: 13"])
def test_a_websocket_of_another_version_is_told_which_is_spoken(server: Server, version: bytes) -> None:
    """RFC 6455 (section 4.4) requires it; a client that speaks several versions retries with that one."""
    with call(server) as caller:
        caller.sendall(UPGRADE.replace(b"Version: 13", b"Version: " + version) + b"\r\n")
        found = rest(caller)
    assert found.startswith(b"HTTP/1.1 426 ")
    for header in (b"sec-websocket-version: 13", b"upgrade: websocket", b"content-type: application/problem+json"):
        assert b"\r\n%s\r\n" % header in found
    assert b"got %s." % version.replace(b"\r\nSec-WebSocket-Version:", b",") in found


def test_who_sends_a_message_that_is_too_large_is_not_reset_before_he_has_the_reason(server: Server) -> None:
    """Closing with unread bytes resets the connection: a client that writes and reads in turns would lose the close code."""
    size = 2**26
    with call(server) as caller:
        caller.sendall(UPGRADE + b"\r\n")
        caller.recv(65536)
        caller.sendall(b"\x82\xff" + size.to_bytes(8, "big") + bytes(4))
        told = caller.recv(65536)
        assert told[:4] == b"\x88" + bytes([len(told) - 2]) + (1009).to_bytes(2, "big")
        caller.sendall(bytes(size))
        caller.sendall(b"\x88\x82" + bytes(4) + told[2:4])  # the client answers the close frame, so that nobody waits for it
        assert caller.recv(1) == b""


def test_messages_and_bodies_have_a_limit_together(repository: Path) -> None:
    """Thousands of them at once, each within its own limit, could use up the memory and get the whole service killed."""
    size = 900_000
    part = b"\x82\xff" + (2**20).to_bytes(8, "big") + bytes(size)

    def begin() -> socket.socket:
        caller = call(server)
        caller.sendall(UPGRADE + b"\r\n")
        caller.recv(65536)
        caller.sendall(part)
        return caller

    def post() -> httpx.Response:
        return httpx.post(f"{server.url}/predict", content=bytes(size), headers={"Content-Type": "application/octet-stream"})

    with serve(repository, "--workers", "1", "--max-body-bytes", str(2**20), "--max-bodies-bytes", str(2**20)) as server:
        kept = [begin(), begin()]
        with begin() as refused:
            told = refused.recv(65536)
        assert told[:4] == b"\x88" + bytes([len(told) - 2]) + (1013).to_bytes(2, "big")
        assert b"no room" in told
        assert post().json()["type"] == "urn:recurve:problem:too-many-bytes"
        assert 'recurve_refused_total{reason="too-many-bytes"} 2.0' in httpx.get(f"{server.url}/metrics").text
        for caller in kept:
            caller.close()
        end = time.monotonic() + PATIENCE
        while post().status_code == 503 and time.monotonic() < end:
            pass  # the service may not have noticed the closed connections yet
        with begin() as taken:
            taken.sendall(bytes(2**20 + 4 - size))  # not a whole number of steps, but the message is received to its end
            assert b"The body has 1048576 bytes" in taken.recv(65536)


def test_there_is_no_websocket_in_an_older_http(server: Server) -> None:
    """RFC 9110 (section 7.8) requires that an upgrade in an HTTP/1.0 request is ignored."""
    with call(server) as caller:
        caller.sendall(UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n")
        assert rest(caller).startswith(b"HTTP/1.1 426 ")
    with call(server) as caller:
        caller.sendall(UPGRADE.replace(b"/streams/ws HTTP/1.1", b"/health/live HTTP/1.0") + b"\r\n")
        assert rest(caller).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("target", [b"http://x/streams/ws", b"http://x/streams/ws?ttl_seconds=9", b"/streams/ws"])
def test_a_websocket_may_ask_by_a_whole_address(server: Server, target: bytes) -> None:
    """Proxies are asked with whole addresses, and RFC 9112 (section 3.2.2) requires every server to accept them."""
    with call(server) as caller:
        caller.sendall(UPGRADE.replace(b"/streams/ws", target) + b"Content-Length: 0\r\n\r\n")
        found = caller.recv(65536)
        assert found.startswith(b"HTTP/1.1 101 ")
        assert b"recurve-stream: " in found
    with call(server) as caller:
        caller.sendall(UPGRADE.replace(b"/streams/ws", b"http://x?a") + b"\r\n")
        assert caller.recv(65536).startswith(b"HTTP/1.1 404 ")


def test_what_is_no_http_is_a_problem_too(server: Server) -> None:
    with call(server) as caller:
        caller.sendall(b"nonsense\r\n\r\n")
        assert "HTTP/1.1" in problem(rest(caller), 400)["detail"]


@pytest.mark.parametrize("path", ["/predict", "/streams", "/streams/nested/predict", "/v2/models/gyro-denoiser/infer"])
@pytest.mark.parametrize("opening", [b"[", b'{"instances":', b'{"inputs":[{"data":'], ids=["array", "instances", "inputs"])
def test_a_megabyte_of_brackets_is_refused_at_once(server: Server, path: str, opening: bytes) -> None:
    """Deep nesting costs a parser without a limit its stack, or its time."""
    httpx.post(f"{server.url}/streams", json={"id": "nested"})
    headers = {"Content-Type": "application/json"}
    with httpx.Client(base_url=server.url, headers=headers) as client:
        assert client.post(path, content=b"[").status_code == 400
        for nested in (opening + b"[" * 2**20, opening * (2**20 // len(opening))):
            begin = tree.cpu_seconds(server.process.pid) or 0.0
            assert client.post(path, content=nested).status_code == 400
            assert (tree.cpu_seconds(server.process.pid) or 0.0) - begin < 0.5  # it takes a few milliseconds


def test_of_too_many_connections_only_probes_are_answered(repository: Path) -> None:
    """The limit counts all workers' connections, WebSockets included, and a closed connection makes room."""
    flags = ("--workers", "2", "--max-connections", "8")
    with serve(repository, *flags) as server, ExitStack() as stack:
        url = server.url.replace("http", "ws")
        live = [stack.enter_context(connect(f"{url}/streams/ws")) for _ in range(4)]
        callers = [stack.enter_context(call(server)) for _ in range(4)]
        for caller in callers:
            caller.sendall(GET)
            assert caller.recv(65536).startswith(b"HTTP/1.1 200")
        for _ in range(4):  # new connections, to reach both workers
            answer = httpx.post(f"{server.url}/predict", content=BODY, headers={"Content-Type": "application/json"})
            assert (answer.status_code, answer.headers["connection"]) == (503, "close")
            assert answer.json()["type"] == "urn:recurve:problem:too-many-connections"
            assert int(answer.headers["retry-after"]) >= 1
            assert httpx.get(f"{server.url}/health/live").status_code == 200
        with pytest.raises(InvalidStatus, match="503"), connect(f"{url}/streams/ws"):
            pass
        with call(server) as caller:
            assert refused_early(caller, b"/predict", close=False).startswith(b"HTTP/1.1 503")
        assert refused(server, "too-many-connections") == 6
        for socket_ in live:
            socket_.send(bytes(24))
            assert len(socket_.recv()) == 12
        for caller in callers:
            caller.close()
        for _ in range(50):  # until both workers have noticed
            answer = httpx.post(f"{server.url}/predict", content=BODY, headers={"Content-Type": "application/json"})
            if answer.is_success:
                break
        assert answer.is_success


def test_who_comes_after_too_many_is_not_let_in_and_does_not_stay(repository: Path) -> None:
    """Idle connections must not take up the room that is kept for probes."""
    with serve(repository, "--workers", "1", "--max-connections", "1") as server, ExitStack() as stack:
        callers = [stack.enter_context(call(server)) for _ in range(1 + SPARE + 10)]
        for caller in callers[1:]:
            assert rest(caller) == b""
        callers[0].sendall(GET)
        assert callers[0].recv(65536).startswith(b"HTTP/1.1 200")


def test_room_is_made_for_connections_as_far_as_the_system_allows() -> None:
    """The usual limit of 1024 files is made for shells, not for servers."""

    def within(hard: int, wanted: int) -> tuple[int, int]:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), before[1]))
        try:
            return room_for(wanted), resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert within(hard, 100) == (100, 512)
    assert within(hard, 1000) == (1000, 1000 + FILES)
    if hard != resource.RLIM_INFINITY:
        assert within(hard, hard) == (hard - FILES, hard)


def test_macos_is_asked_for_no_more_files_than_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS reports no limit, but refuses values above the limit that it has."""
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: given.append(limits))
    assert [room_for(1000), room_for(10_000)] == [1000, 10_240 - FILES]
    assert given == [(1000 + FILES, resource.RLIM_INFINITY), (10_240, resource.RLIM_INFINITY)]


def test_a_thousand_who_come_together_are_all_let_in(repository: Path) -> None:
    """They are more than a supervisor can hand to its workers at once, so they must wait and not be refused."""
    if room_for(1500) < 1500:
        pytest.skip("the system does not allow so many open files")
    with serve(repository, "--workers", "2") as server, ExitStack() as stack:
        callers = [stack.enter_context(call(server)) for _ in range(1500)]
        for caller in callers:
            caller.sendall(GET)
        for caller in callers:
            assert caller.recv(65536).startswith(b"HTTP/1.1 200")


def test_callers_who_slam_the_door_leave_nothing_behind(server: Server) -> None:
    """In whatever state clients leave, the metrics must go back to one connection, which asks for them, and no WebSocket."""

    def slam(sent: bytes) -> None:
        with call(server) as caller:
            caller.sendall(sent)
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(slam, [GET, GET[:9], HEAD, CHUNKED, UPGRADE + b"\r\n", b"nonsense\r\n\r\n", b"\r\n", CHUNKED + b"zz"] * 8))
    with httpx.Client(base_url=server.url) as client:
        for _ in range(100):
            left = re.findall(r"^recurve_(?:stream_)?connections (\S+)", client.get("/metrics").text, re.MULTILINE)
            if sum(map(float, left)) <= 1:
                break
            time.sleep(0.1)  # the gauge is set about once a second
        assert len(left) == 2
        assert sum(map(float, left)) <= 1
    assert "Traceback" not in "".join(server.log)
