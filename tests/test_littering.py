"""Whatever clients do, requests leave no reference cycles: the garbage collector runs seldom, and cycles would fill the memory."""

import json
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import sleep

import httpx
import pytest

from tests.servers import Server, serve
from tests.test_tls import make_certificate

TIMES = 5
STEP = [0.5, -1.0, 2.0, 0.25, -0.5, 1.0]
GOOD = json.dumps({"instances": [[STEP] * 3]}).encode()
LONG = json.dumps({"instances": [[STEP] * 9000] * 4}).encode()
CHUNK = json.dumps({"input": [STEP]}).encode()
CHUNKS = json.dumps(
    {"chunks": [{"id": id, "input": [STEP], "seq": seq} for id in ("many", "none", "a") for seq in (0, 9999)]}
).encode()
UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
INFER = b"/v2/models/gyro-denoiser/infer"


def request(body: bytes, path: bytes = b"/predict", *, kind: bytes = b"application/json") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (path, kind, len(body)) + body


def frame(payload: bytes) -> bytes:
    """A message of at most 125 bytes, masked with zeros."""
    return bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload


PINGS = bytes((0x89, 0x80, 0, 0, 0, 0)) * 2000


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    flags = ("--workers", "1", "--stream-store", "memory", "--max-body-bytes", "4000000")
    with serve(repository, *flags, module="tests.littering") as running:
        for id in ("a", "b", "many"):
            assert httpx.post(f"{running.url}/streams", json={"id": id}).status_code == 201
        yield running


def connected(server: Server) -> socket.socket:
    address = httpx.URL(server.url)
    return socket.create_connection((address.host, address.port or 80), timeout=30)


def reset(caller: socket.socket) -> None:
    """Make the connection reset, not end, when it is closed."""
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def left_by(server: Server, visit: Callable[[], None]) -> str:
    """What some visits leave behind, after a first one has made what is made only once."""
    for times in (1, TIMES):
        for _ in range(times):
            visit()
        sleep(0.2)  # for the service to notice the end
        said = "".join(server.log).count("Left: ")
        server.process.send_signal(signal.SIGUSR1)
        server.wait_for("Left: ", times=said + 1)
    return [line.strip() for line in server.log if "Left: " in line][-1]


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        pytest.param(request(GOOD), b"200", id="good"),
        pytest.param(request(GOOD) * 3, b"200", id="several at once"),
        pytest.param(request(LONG), b"200", id="in several parts"),
        pytest.param(request(b"{"), b"400", id="malformed"),
        pytest.param(request(b'{"instances": [[[1, 2]]]}'), b"422", id="invalid"),
        pytest.param(request(b'{"instances": [[[NaN]]]}'), b"422", id="not a number"),
        pytest.param(request(json.dumps({"instances": [[[3.4e38] * 6]]}).encode()), b"422", id="not finite"),
        pytest.param(request(b'{"instances": [[[1, 2, 3, 4, 5, 6]]], "model": "other"}'), b"404", id="no such model"),
        pytest.param(request(LONG[:-1] + b', "timeout_ms": 1}'), b"504", id="too late"),
        pytest.param(request(b" " * 5_000_000), b"413", id="too large"),
        pytest.param(request(GOOD, kind=b"text/plain"), b"415", id="another media type"),
        pytest.param(request(bytes(24), kind=b"application/octet-stream"), b"200", id="octets"),
        pytest.param(request(bytes(23), kind=b"application/octet-stream"), b"400", id="octets, malformed"),
        pytest.param(request(b"{}", INFER), b"400", id="V2, invalid"),
        pytest.param(request(CHUNK, b"/streams/a/predict"), b"200", id="chunk"),
        pytest.param(request(CHUNK[:-1] + b', "seq": 9999}', b"/streams/a/predict"), b"409", id="chunk, conflict"),
        pytest.param(request(CHUNK, b"/streams/none/predict"), b"404", id="chunk, no such stream"),
        pytest.param(request(CHUNKS, b"/streams/predict"), b"200", id="chunks, good and bad"),
        pytest.param(request(CHUNKS.replace(b"0.25", b"NaN"), b"/streams/predict"), b"200", id="chunks, not a number"),
        pytest.param(request(CHUNKS.replace(b'"a"', b"1"), b"/streams/predict"), b"422", id="chunks, no id"),
        pytest.param(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"200", id="health"),
        pytest.param(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", b"404", id="no such page"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", b"400", id="no host"),
        pytest.param(b"no HTTP\r\n\r\n", b"400", id="no HTTP"),
        pytest.param(UPGRADE % b"/streams/b/ws", b"101", id="WebSocket"),
        pytest.param(UPGRADE % b"/streams/none/ws", b"101", id="WebSocket, no such stream"),
        pytest.param(UPGRADE.replace(b"13", b"12") % b"/streams/b/ws", b"4", id="WebSocket, wrong version"),
        pytest.param(UPGRADE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"a") % b"/streams/b/ws", b"4", id="WebSocket, bad key"),
        pytest.param(UPGRADE.replace(b"Host: x", b"Host: x\r\nContent-Length: 1") % b"/streams/b/ws", b"400", id="WebSocket, body"),
        pytest.param(b"", b"", id="nothing"),
        pytest.param(request(GOOD)[:-9], b"", id="a part"),
        pytest.param(request(LONG)[:-9], b"", id="a large part"),
    ],
)
@pytest.mark.parametrize("leaves", ["in order", "after the answer", "at once"])
def test_nothing_is_left_to_the_garbage_collector(server: Server, sent: bytes, answer: bytes, leaves: str) -> None:
    """Neither when the client gets the answer, nor when the connection breaks before."""

    def visit() -> None:
        with connected(server) as caller:
            caller.sendall(sent)
            if answer and leaves != "at once":
                assert caller.recv(65536).split()[1].startswith(answer)
            if leaves != "in order":
                reset(caller)

    assert left_by(server, visit) == "Left: []."


@pytest.mark.parametrize(
    "sent",
    [frame(CHUNK), frame(b"{"), frame(b"x" * 125), frame(b"\xff"), PINGS],
    ids=["good", "malformed", "no JSON", "no text", "pings"],
)
@pytest.mark.parametrize("leaves", ["in order", "after the answer", "at once"])
def test_nothing_is_left_by_messages_of_a_websocket(server: Server, sent: bytes, leaves: str) -> None:
    def visit() -> None:
        with connected(server) as caller:
            caller.sendall(UPGRADE % b"/streams/b/ws")
            assert b" 101 " in caller.recv(65536)
            caller.sendall(sent)
            if leaves != "at once":
                assert caller.recv(65536)
            if leaves != "in order":
                reset(caller)

    assert left_by(server, visit) == "Left: []."


def test_nothing_is_left_by_what_speaks_no_tls(repository: Path, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    flags = ("--workers", "1", "--stream-store", "memory", "--tls-cert", str(certificate), "--tls-key", str(key))
    with serve(repository, *flags, module="tests.littering") as server:

        def visit() -> None:
            with connected(server) as caller:
                caller.sendall(request(GOOD))
                with suppress(ConnectionResetError):
                    caller.recv(65536)

        assert left_by(server, visit) == "Left: []."
