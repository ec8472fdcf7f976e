"""A request whose head is the same as the one before is served without parsing it again, and its answer does not show it."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import httptools
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from app.http.connection import Protocol
from app.http.extensions import Begin, Reply, Scope
from app.http.heads import LONGEST, Head
from tests.terms import terms

HEAD = b"POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n%s\r\n"


def request(body: bytes = b"", *, path: bytes = b"/whole", early: bytes = b"", late: bytes = b"") -> bytes:
    return HEAD % (path, early, len(body), late) + body


class Sent(asyncio.Transport):
    """A transport that remembers what was written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.sent = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = write_eof = close

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None: ...

    resume_reading = pause_reading

    def get_write_buffer_size(self) -> int:
        return 0

    def set_protocol(self, _: Any) -> None:
        self.closed = True  # the protocol before must not write any more


class Connection:
    """One connection that answers each request with its contents; make it inside a running event loop."""

    def __init__(self, **keeps: int) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            body, more = b"", scope["path"] != "/early"
            while more:
                message = await receive()
                body, more = body + message.get("body", b""), message.get("more_body", False)
            status, headers, content = self._told(scope, body)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": content})

        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, server_header=False)
        config.load()
        self.transport = Sent()
        self.protocol = Protocol(
            config, ServerState(), offer=self._offer, terms=terms(max_head_bytes=LONGEST * 4), lost=lambda: None, leaving=False
        )
        self.protocol.connection_made(self.transport)
        self.calls, self.parser = self.protocol._calls, self.protocol._parser
        for name, value in keeps.items():
            assert hasattr(self.calls, name)
            setattr(self.calls, name, value)
        self.parsed = self.fed = 0  # pieces that went to the parser, and all pieces
        self._begin_again = self.calls.begin_again
        self.calls.begin_again = self._counted  # type: ignore[method-assign]  # wraps the original

    def _counted(self, data: bytes) -> bool:
        begun = self._begin_again(data)
        self.parsed -= begun
        return begun

    def _offer(self, scope: Scope) -> Begin | None:
        return self._begin if scope["path"] == "/whole" else None

    async def _begin(self, scope: Scope, body: bytes) -> Reply:
        if body.startswith(b"slow"):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return self._told(scope, body)

    def _told(self, scope: Scope, body: bytes) -> Reply:
        assert not scope["state"], "no request sees what another has left there"
        scope["state"]["mine"] = True
        told = repr((scope["method"], scope["path"], scope["query_string"], scope["http_version"], scope["headers"], body)).encode()
        return 200, [(b"content-length", b"%d" % len(told))], told

    async def take(self, pieces: Sequence[bytes], *, rounds: int = 8) -> bytes:
        """What is sent in answer to these pieces, with `rounds` turns of the event loop after each."""
        before = len(self.transport.sent)
        for piece in pieces:
            if not self.transport.closed:
                self.fed += 1
                self.parsed += 1
                self.protocol.data_received(piece)
            for _ in range(rounds):
                await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        return self.transport.sent[before:]


async def parsed(*requests: bytes) -> list[int]:
    """How many pieces had been parsed after each of these requests; each is sent when the one before is answered."""
    connection = Connection()
    found = []
    for each in requests:
        answer = await connection.take([each])
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        found.append(connection.parsed)
    return found


@pytest.mark.parametrize("early", [b"", b"Accept: */*\r\n"])
@pytest.mark.parametrize("late", [b"", b"X-More: 1\r\n"])
def test_a_head_that_comes_again_is_not_parsed_again_whatever_the_length_of_the_body(early: bytes, late: bytes) -> None:
    bodies = [b"a", b"bc", b"d" * 1000, b"0\r\n\r\n", b"e"]
    assert asyncio.run(parsed(*[request(body, early=early, late=late) for body in bodies])) == [1] * 5


def test_another_head_is_parsed_and_kept_in_the_place_of_the_one_before() -> None:
    one, other = request(b"a"), request(b"a", late=b"X-Request-ID: 1\r\n")
    assert asyncio.run(parsed(one, one, other, other, one)) == [1, 1, 2, 2, 3]


def test_who_never_sends_the_same_head_twice_does_not_pay_for_it_for_ever() -> None:
    requests = [request(b"a", late=b"X-Request-ID: %d\r\n" % number) for number in range(20)]
    assert asyncio.run(parsed(*requests, requests[-1])) == [*range(1, 22)]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(request(b"a", path=b"/parts"), id="another route"),
        pytest.param(request(b"a", late=b"X-Long: %s\r\n" % (b"x" * LONGEST)), id="a long head"),
        pytest.param(request(b"a") + request(b"b"), id="two together"),
        pytest.param(b"POST /whole HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", id="chunks"),
        pytest.param(b"POST /whole HTTP/1.1\r\nHost: x\r\n\r\n", id="no body"),
    ],
)
def test_what_is_not_kept_is_parsed_each_time(other: bytes) -> None:
    assert asyncio.run(parsed(other, other, other)) == [1, 2, 3]


def test_nothing_is_kept_of_a_connection_that_has_ended() -> None:
    async def run() -> None:
        connection = Connection()
        await connection.take([request(b"a")])
        assert connection.calls._known is not None
        connection.protocol.connection_lost(None)
        assert connection.calls._known is None

    asyncio.run(run())


def test_the_last_answer_says_so_though_the_head_is_known() -> None:
    async def run() -> bytes:
        connection = Connection()
        await connection.take([request(b"a")] * 2)
        connection.protocol.leave()
        return await connection.take([request(b"a")])

    assert b"\r\nconnection: close\r\n" in asyncio.run(run())


def test_what_follows_the_rest_of_a_refused_body_is_not_taken_for_a_head() -> None:
    """Otherwise, on a connection that a proxy shares between clients, one could make another's request part of its own."""

    async def run() -> None:
        connection = Connection()
        rest = b"POST /whole HTTP/1.1\r\nHost: x\r\n"
        assert b"/early" in await connection.take([request(rest, path=b"/early")[: -len(rest)]])
        assert b"/whole" in await connection.take([rest + request(b"a")])
        assert connection.calls._known is None

    asyncio.run(run())


def test_a_body_that_looks_like_a_request_is_still_a_body() -> None:
    async def run() -> None:
        connection = Connection()
        known = request(b"a")
        await connection.take([known])
        outer = request(known, path=b"/early")
        assert b"/early" in await connection.take([outer[: -len(known)]])
        assert await connection.take([known]) == b"", "it is the rest of the one that was answered already"
        assert b"/whole" in await connection.take([known])

    asyncio.run(run())


def test_a_connection_does_not_end_while_it_works_on_a_request_whose_head_is_known() -> None:
    async def run() -> None:
        connection = Connection()
        await connection.take([request(b"a")])
        later = asyncio.get_running_loop().time() + 61
        connection.protocol.data_received(request(b"slow"))
        connection.protocol.check(later)
        assert b"slow" in await connection.take([])
        assert not connection.transport.closed
        connection.protocol.check(later)
        assert connection.transport.closed

    asyncio.run(run())


@pytest.mark.parametrize("more", [b"", b"X-Request-ID: 1\r\n"], ids=["known", "parsed"])
def test_every_request_renews_the_time_that_a_connection_may_rest(more: bytes) -> None:
    async def run() -> None:
        connection = Connection()
        await connection.take([request(b"a")])
        connection.parser.ended -= 59
        await connection.take([request(b"slow", late=more)])
        connection.protocol.check(asyncio.get_running_loop().time() + 30)
        assert not connection.transport.closed

    asyncio.run(run())


def test_who_was_refused_early_may_rest_for_as_long_after_the_end_of_his_request() -> None:
    async def run() -> None:
        connection = Connection()
        refused = request(b"abc", path=b"/early")
        await connection.take([refused[:-1]])
        connection.parser.ended -= 59
        await connection.take([refused[-1:]])
        connection.protocol.check(asyncio.get_running_loop().time() + 30)
        assert not connection.transport.closed

    asyncio.run(run())


def test_what_stands_between_requests_does_not_add_up() -> None:
    async def run() -> None:
        connection = Connection()
        for _ in range(LONGEST * 3):
            await connection.take([request(b"a"), b"\r\n"], rounds=1)
        assert connection.parsed == LONGEST * 3 + 1, "one request, and what stands between them"
        assert b" 431 " not in connection.transport.sent

    asyncio.run(run())


def test_a_caller_who_does_not_read_has_to_wait_though_his_head_is_known() -> None:
    async def run() -> None:
        connection = Connection()
        await connection.take([request(b"a")])
        connection.protocol.pause_writing()
        assert await connection.take([request(b"a")]) == b""
        connection.protocol.resume_writing()
        assert b"/whole" in await connection.take([])

    asyncio.run(run())


PATHS = st.sampled_from([b"/whole", b"/whole", b"/whole", b"/whole?a=1", b"/parts", b"/early", b"/wh%6Fle", b"whole"])
MORE = st.sampled_from(
    [
        b"",
        b"",
        b"X-More: 1\r\n",
        b"Content-Length: 1\r\n",
        b"Expect: 100-continue\r\n",
        b"Connection: close\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    ]
)
ODD = [
    b"\r\n",
    b"\r\n\r\n",
    b"GET /whole HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /whole HTTP/1.0\r\nContent-Length: 1\r\n\r\na",
    b"POST /whole HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    b"POST /whole HTTP/1.1\r\nHost: x\r\nContent-Length:  007\r\n\r\nseven b",
    b"POST /whole HTTP/1.1\r\nHost: x\r\nContent-Length: 1 \r\n\r\na",
    b"POST /whole HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
    b"POST /whole HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\na",
    b"POST /whole HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\na",
    b"nonsense",
]
BODIES = st.sampled_from([b"a", b"bcd", b"slow", b"", b"\r\n\r\n", b"1\r\n\r\n" + request(b"a"), b"x" * 300])
REQUESTS = st.one_of(
    st.builds(lambda body, path, late: request(body, path=path, late=late), BODIES, PATHS, MORE), st.sampled_from(ODD)
)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """What a client sends, in pieces; most requests are one piece."""
    whole = draw(st.lists(REQUESTS, min_size=1, max_size=8))
    pieces: list[bytes] = []
    rest = b""
    for each in whole:
        cut = draw(st.sampled_from([None, None, None, -1, 0, 1, 30, 60, 90]))
        if cut is None:
            pieces.append(rest + each)
            rest = b""
        else:
            pieces.append(rest + each[:cut])
            rest = each[cut:]
    return [piece for piece in [*pieces, rest] if piece]


@given(streams(), st.integers(0, 8))
def test_the_answers_are_those_of_a_connection_that_parses_all(pieces: list[bytes], rounds: int) -> None:
    async def answers(**keeps: int) -> tuple[bytes, bool]:
        connection = Connection(**keeps)
        sent = await connection.take(pieces, rounds=rounds)
        assert not keeps or connection.parsed == connection.fed
        return re.sub(rb"[0-9a-f]{32}", b"an id", sent), connection.transport.closed

    assert asyncio.run(answers()) == asyncio.run(answers(_tries=0))


class Parts:
    """Collects what a parser finds."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.body, self.ended = b"", 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ended += 1


@given(st.data())
def test_what_is_taken_for_the_same_head_is_what_a_parser_finds(data: st.DataObject) -> None:
    body = data.draw(BODIES.filter(bool))
    first = request(body, late=data.draw(MORE.filter(lambda more: b"Length" not in more and b"Upgrade" not in more)))
    head = Head.of(first, body)
    assert head is not None
    assert head.rest_of(first) == (b"%d" % len(body), body)
    other = bytearray(first)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(other)))
        other[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b"0", b"1", b"3", b"+", b" ", b"\r\n", b"a"])
        )
    found = head.rest_of(bytes(other))
    if found is not None:
        parts = Parts()
        httptools.HttpRequestParser(parts).feed_data(bytes(other))
        assert (dict(parts.headers)[b"Content-Length"], parts.body, parts.ended) == (*found, 1)
