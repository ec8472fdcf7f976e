"""A request gets the same answer whether it arrives in one piece, which is the short cut through the service, or in many."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import Server, serve

STEP = [0.5, -1.0, 2.0, 0.25, -0.5, 1.0]
HEAD = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n"


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with serve(repository, "--workers", "1", "--stream-store", "memory") as running:
        yield running


@pytest.fixture
def caller(server: Server) -> Iterator[socket.socket]:
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port or 80), timeout=30) as made:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield made


def sequences(*lengths: int) -> bytes:
    return json.dumps(
        {"instances": [[[number + value for value in STEP] for number in range(length)] for length in lengths]}
    ).encode()


def request(body: bytes, *, path: str = "/predict", headers: bytes = b"") -> bytes:
    return HEAD % (path.encode(), len(body), headers) + body


def answers(caller: socket.socket, count: int) -> list[tuple[int, Any]]:
    """The status and content of the next `count` answers."""
    found = []
    with caller.makefile("rb") as stream:
        for _ in range(count):
            status = int(stream.readline().split()[1])
            fields = dict(line.lower().rstrip().split(b": ", 1) for line in iter(stream.readline, b"\r\n"))
            found.append((status, json.loads(stream.read(int(fields[b"content-length"])))))
    return found


def expected(server: Server, body: bytes) -> Any:
    """The answer that an independent client, httpx, gets."""
    answer = httpx.post(f"{server.url}/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    return answer.json()["predictions"]


@pytest.mark.parametrize("lengths", [(1,), (3, 1), (200,), (1500,), (9000,)], ids=str)  # the largest are more than one read takes
@pytest.mark.parametrize("pieces", [1, 2, 3, 7])
def test_the_answer_is_the_same_in_however_many_pieces_a_request_comes(
    server: Server, caller: socket.socket, lengths: tuple[int, ...], pieces: int
) -> None:
    body = sequences(*lengths)
    raw = request(body)
    size = -(-len(raw) // pieces)
    for begin in range(0, len(raw), size):
        caller.sendall(raw[begin : begin + size])
    ((status, content),) = answers(caller, 1)
    assert status == 200
    assert content["predictions"] == expected(server, body)


def test_requests_that_come_together_are_answered_in_their_order_good_or_bad(server: Server, caller: socket.socket) -> None:
    bodies = [sequences(2), b"{", sequences(5), b'{"instances": [[[1, 2]]]}', sequences(1), b"{}", sequences(4)]
    caller.sendall(b"".join(request(body) for body in bodies))
    found = answers(caller, len(bodies))
    assert [status for status, _ in found] == [200, 400, 200, 422, 200, 422, 200]
    for body, (status, content) in zip(bodies, found, strict=True):
        if status == 200:
            assert content["predictions"] == expected(server, body)


@pytest.mark.parametrize("cut", [10, 200, 300])
@pytest.mark.parametrize("waits", [True, False])
def test_one_that_has_come_in_part_before_the_other_is_answered_is_answered_too(
    server: Server, caller: socket.socket, cut: int, waits: bool
) -> None:
    first, second = sequences(200), sequences(7)
    whole = request(second)
    assert len(whole) - len(second) < 200, "two of the cuts are in the body"
    caller.sendall(request(first) + whole[:cut])
    found = answers(caller, 1) if waits else []
    caller.sendall(whole[cut:])
    found += answers(caller, 2 - len(found))
    assert [content["predictions"] for _, content in found] == [expected(server, first), expected(server, second)]


def test_many_bad_requests_at_once_are_all_refused_and_nothing_else_suffers(server: Server, caller: socket.socket) -> None:
    caller.sendall(request(b"{}") * 500)
    assert httpx.get(f"{server.url}/health").json()["status"] == "ok"
    assert [status for status, _ in answers(caller, 500)] == [422] * 500


def test_who_waits_for_a_word_before_sending_the_body_gets_it(server: Server, caller: socket.socket) -> None:
    body = sequences(3)
    raw = request(body, headers=b"Expect: 100-continue\r\n")
    head = len(raw) - len(body)
    caller.sendall(raw[:head])
    assert caller.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    caller.sendall(raw[head:])
    ((status, content),) = answers(caller, 1)
    assert (status, content["predictions"]) == (200, expected(server, body))


def test_who_sends_the_body_without_waiting_for_the_word_is_answered(server: Server, caller: socket.socket) -> None:
    body = sequences(3)
    caller.sendall(request(body, headers=b"Expect: 100-continue\r\n"))
    ((status, content),) = answers(caller, 1)
    assert (status, content["predictions"]) == (200, expected(server, body))


def test_what_is_too_large_or_no_json_is_refused_in_one_piece_as_well(repository: Path) -> None:
    with serve(repository, "--max-body-bytes", "1000", "--workers", "1") as server:
        address = httpx.URL(server.url)
        with socket.create_connection((address.host, address.port or 80), timeout=30) as caller:
            caller.sendall(request(b" " * 1001))
            ((status, content),) = answers(caller, 1)
            assert (status, "at most 1000" in content["detail"]) == (413, True)
            caller.sendall(request(b"x").replace(b"application/json", b"text/plain"))
            ((status, _),) = answers(caller, 1)
            assert status == 415


def test_a_key_is_asked_for_in_one_piece_as_well(repository: Path) -> None:
    with serve(repository, "--workers", "1", RECURVE_API_KEYS="one:predict:a-long-enough-secret") as server:
        address = httpx.URL(server.url)
        with socket.create_connection((address.host, address.port or 80), timeout=30) as caller:
            caller.sendall(request(sequences(1)))
            caller.sendall(request(sequences(1), headers=b"X-API-Key: a-long-enough-secret\r\n"))
            assert [status for status, _ in answers(caller, 2)] == [401, 200]


def test_a_stream_goes_on_in_one_piece_as_well(server: Server, caller: socket.socket) -> None:
    id = httpx.post(f"{server.url}/streams").json()["id"]
    chunk = json.dumps({"input": [STEP]}).encode()
    caller.sendall(request(chunk, path=f"/streams/{id}/predict") * 3)
    assert [content["steps"] for _, content in answers(caller, 3)] == [1, 2, 3]


def test_the_open_inference_protocol_is_answered_in_one_piece_as_well(server: Server, caller: socket.socket) -> None:
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 1, 6], "data": STEP}
    asked = json.dumps({"inputs": [tensor]}).encode()
    path = "/v2/models/gyro-denoiser/infer"
    caller.sendall(request(asked, path=path))
    ((status, content),) = answers(caller, 1)
    assert status == 200
    answer = httpx.post(f"{server.url}{path}", json={"inputs": [tensor]})
    assert content["outputs"] == answer.json()["outputs"]
