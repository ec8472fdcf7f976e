"""What clients could do to a parser: requests inside bodies, headers behind them, floods of requests, and lost answers."""

import asyncio
import re
from typing import Any

import pytest

from app.errors import RecurveError
from app.http.parsing import PIECES, SLICE, Parser
from tests.test_heads import Connection, request

SMUGGLED = b"POST /smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
OFFERS = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    b"Connection: upgrade\r\nUpgrade: HTTP/2.0\r\n",
    b"Upgrade: websocket, h2c\r\nConnection: keep-alive\r\nConnection: Upgrade\r\n",
]
HANDSHAKE = (
    b"GET /streams/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def answers(*pieces: bytes, rounds: int = 8) -> tuple[list[bytes], bytes, bool]:
    """What a connection sends for these pieces: the statuses, all bytes, and whether it is closed then."""

    async def run() -> tuple[list[bytes], bytes, bool]:
        troubles: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: troubles.append(told))
        connection = Connection()
        sent = await connection.take(pieces, rounds=rounds)
        assert troubles == []
        return re.findall(rb"HTTP/1.1 (\d+) ", sent), sent, connection.transport.closed

    return asyncio.run(run())


class Told:
    """Stands in for `Calls` and only records."""

    waiting = ()

    def __init__(self) -> None:
        self.requests: list[list[Any]] = []

    def add(self, *head: Any, keep_alive: bool) -> None:
        self.requests.append([*head, keep_alive, b""])

    def add_body(self, data: bytes) -> None:
        self.requests[-1][-1] += data

    def end(self) -> None:
        self.requests[-1].append("all")


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_a_parser_tells_the_same_of_what_comes_in_any_pieces(size: int) -> None:
    """A parser needs no connection for this."""
    told = Told()
    parser = Parser(told, 1000, now=0.0)  # type: ignore[arg-type]  # `Told` stands in
    sent = request(b"abc", early=OFFERS[0]) + request(b"") + request(b"d", late=b"Connection: close\r\n")[:-1]
    for at in range(0, len(sent), size):
        assert parser.parse(sent[at : at + size]) == b""
    assert [(each[1], each[4], each[5:]) for each in told.requests] == [
        (b"/whole", True, [b"abc", "all"]),
        (b"/whole", True, [b"", "all"]),
        (b"/whole", False, [b""]),
    ]
    assert {name for each in told.requests for name, _ in each[3]} == {b"host", b"content-length", b"http2-settings", b"connection"}
    assert (parser.came, parser.body) == ("body", 0)
    assert "No data arrived for 60 s, after 0 bytes" in str(parser.too_slow(61.0, 60.0))


def test_a_parser_says_what_is_wrong_and_tells_of_no_such_request() -> None:
    told = Told()
    with pytest.raises(RecurveError, match="one Host header"):
        Parser(told, 1000, now=0.0).parse(b"GET / HTTP/1.1\r\n\r\n")  # type: ignore[arg-type]  # `Told` stands in
    assert told.requests == []


def test_a_value_is_told_without_the_blanks_around_it() -> None:
    """RFC 9110, section 5.5; otherwise `Upgrade: websocket ` would be an unknown protocol."""
    told = Told()
    parser = Parser(told, 1000, now=0.0)  # type: ignore[arg-type]  # `Told` stands in
    parser.parse(request(early=b"X: \t a b \t\r\nEmpty: \r\n"))
    assert dict(told.requests[0][3]) == {b"host": b"x", b"x": b"a b", b"empty": b"", b"content-length": b"0"}
    parser.parse(HANDSHAKE.replace(b"websocket\r\n", b"websocket \r\n"))
    assert b"upgrade: websocket\r\n" in parser.handshake


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("path", [b"/whole", b"/parts"])
@pytest.mark.parametrize("cut", [None, -1, -len(SMUGGLED), 20])
def test_a_body_is_a_body_whatever_else_its_sender_offers_to_speak(offer: bytes, path: bytes, cut: int | None) -> None:
    """The parser library would skip the body and take it for the next request, of which a proxy in between knows nothing."""
    sent = request(SMUGGLED, path=path, early=offer)
    pieces = [sent] if cut is None else [sent[:cut], sent[cut:]]
    statuses, told, closed = answers(*pieces, request(b"the next", path=path))
    assert statuses == [b"200", b"200"]
    assert repr(SMUGGLED).encode() in told
    assert b"'/smuggled'" not in told
    assert b"the next" in told
    assert not closed


def test_an_offer_is_passed_over_in_chunks_and_in_company_too() -> None:
    chunked = b"POST /parts HTTP/1.1\r\nHost: x\r\n" + OFFERS[0] + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    statuses, told, _ = answers(chunked + request(b"d", early=OFFERS[1]) + chunked)
    assert statuses == [b"200"] * 3
    assert told.count(b"b'abc'") == 2
    assert b"b'upgrade'" not in told


@pytest.mark.parametrize(
    "head",
    [b"GET http:///a HTTP/1.1", b"CONNECT x:443 HTTP/1.1", b"GET http://[/a HTTP/1.1", b"nonsense"],
    ids=lambda head: head[:16],
)
def test_a_head_that_means_nothing_is_told_so_and_harms_nobody_before_it(head: bytes) -> None:
    broken = head + b"\r\nHost: x\r\n\r\n"
    statuses, _, closed = answers(broken)
    assert (statuses, closed) == ([b"400"], True)
    for before in (request(b"slow"), request(b"slow", path=b"/parts"), request(b"slow") * 3):
        statuses, told, closed = answers(before + broken)
        assert statuses == [b"200"] * before.count(b"POST")
        assert told.count(b"b'slow'") == len(statuses)
        assert closed
        statuses, _, closed = answers(request(b"a"), request(b"slow"), broken, rounds=1)
        assert (statuses, closed) == ([b"200", b"200"], True)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /parts HTTP/1.1\r\n", b"400"),
        (b"GET /parts HTTP/1.1\r\nHost: x\r\nhost: y\r\n", b"400"),
        (b"GET /parts HTTP/1.0\r\nHost: x\r\nHost: x\r\n", b"400"),
        (HANDSHAKE.replace(b"Host: x\r\n", b"")[:-2], b"400"),
        (b"GET /parts HTTP/1.1\r\n" + OFFERS[0], b"400"),
        (b"GET /parts HTTP/1.0\r\n", b"200"),
        (b"GET /parts HTTP/1.1\r\nHost:\r\n", b"200"),
        (b"GET /parts\r\n", b"400"),
        (b"GET /parts HTTP/0.9\r\n", b"400"),
        (b"GET /parts HTTP/2.0\r\nHost: x\r\n", b"400"),
        (b"POST /parts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n", b"501"),
        (b"POST /parts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", b"501"),
        (b"POST /parts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked \r\n", b"200"),
    ],
    ids=[
        *("no host", "two", "two, long ago", "a websocket", "an offer", "none, long ago", "an empty one"),
        *("no version", "before 1.0", "another HTTP", "gzip", "apart", "chunks"),
    ],
)
def test_a_head_that_may_mean_something_else_to_a_proxy_is_refused(head: bytes, status: bytes) -> None:
    """A proxy must not read the host or the end of the body differently than the service does."""
    chunk = b"0\r\n\r\n" if b"Transfer" in head else b""
    statuses, told, closed = answers(head + b"\r\n" + chunk)
    assert (statuses, closed) == ([status], status != b"200" or b"1.0" in head)
    assert b"is not an HTTP/1.1 request" not in told  # the message names the header
    refused = status != b"200"
    statuses, _, closed = answers(request(b"slow") + head + b"\r\n" + chunk)
    assert (statuses, closed) == ([b"200"] if refused else [b"200"] * 2, refused or b"1.0" in head)


@pytest.mark.parametrize(
    "host",
    [b"a b", b"a,b", b"user@host", b"host/path", b"a:b:c", b"a:80:80", b"[::1", b"::1", b"[::1]x", b"[]", b"\xff", b"%zz", b"a?b"],
)
def test_a_host_that_is_none_is_refused(host: bytes) -> None:
    """A proxy and a service that read it differently choose different hosts for it; RFC 9112, section 3.2, asks for a 400."""
    for version in (b"1.1", b"1.0"):
        statuses, told, closed = answers(b"GET /parts HTTP/%s\r\nHost: %s\r\n\r\n" % (version, host))
        assert (statuses, closed) == ([b"400"], True)
        assert b"The Host header" in told


@pytest.mark.parametrize(
    "host",
    [
        *(b"", b":80", b"x", b"X.Example.", b"a_b-c.d~e:8000", b"127.0.0.1:", b"%C3%A4.example", b"xn--4ca.example", b"!$&'()*+;="),
        *(b"[::1]", b"[2001:DB8::1]:443", b"[::ffff:1.2.3.4]", b"[fe80::1%25eth0]:80", b"[fe80::1%eth0]", b"[v1.fe:1]", b"x \t"),
    ],
)
def test_a_host_is_a_host_in_every_form(host: bytes) -> None:
    statuses, _, closed = answers(b"GET /parts HTTP/1.1\r\nHost: %s\r\n\r\n" % host)
    assert (statuses, closed) == ([b"200"], False)


@pytest.mark.parametrize(
    ("asked", "path", "query"),
    [
        (b"GET http://x", "/", b""),
        (b"GET http://x?a=b", "/", b"a=b"),
        (b"GET http://x:80/parts?a", "/parts", b"a"),
        (b"OPTIONS http://x", "*", b""),
        (b"OPTIONS http://x?a", "/", b"a"),
        (b"OPTIONS *", "*", b""),
    ],
)
def test_a_whole_address_is_taken_even_without_a_path(asked: bytes, path: str, query: bytes) -> None:
    """RFC 9112, section 3.2.2, requires that every server accepts it; section 3.2.4 says what it means for OPTIONS."""
    statuses, told, closed = answers(asked + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (statuses, closed) == ([b"200"], False)
    assert repr((asked.split()[0].decode(), path, query))[:-1].encode() in told


def test_headers_of_one_name_count_together_for_a_handshake() -> None:
    """RFC 9110, section 5.3. The library that answers takes `Upgrade` only once."""
    told = Told()
    for more, taken in ((b"Connection: keep-alive\r\n", True), (b"Upgrade: websocket\r\n", False)):
        parser = Parser(told, 1000, now=0.0)  # type: ignore[arg-type]  # `Told` stands in
        parser.parse(HANDSHAKE[:-2] + more + b"\r\n")
        assert bool(parser.handshake) == taken


@pytest.mark.parametrize("method", [b"POST", b"HEAD"])
def test_a_handshake_is_a_get_and_otherwise_a_request_like_others(method: bytes) -> None:
    """RFC 6455, section 4.1. Whoever sends a body and offers a WebSocket gets an answer to the body."""
    body = b"abc" if method == b"POST" else b""
    asked = HANDSHAKE.replace(b"GET /streams/ws", method + b" /parts")[:-2] + b"Content-Length: %d\r\n\r\n" % len(body) + body
    statuses, told, closed = answers(asked + request(b"next"))
    assert (statuses, closed) == ([b"200", b"200"], False)
    assert b"b'next'" in told


KEY = b"A" * 22 + b"=="


@pytest.mark.parametrize("key", [b"", b"abc=", b"!" * 22 + b"==", b"A" * 24, KEY + b"\r\nSec-WebSocket-Key: " + KEY])
def test_a_handshake_without_one_good_key_is_told_so(key: bytes) -> None:
    """As by every other refusal, and not in the library's plain text."""
    statuses, told, closed = answers(HANDSHAKE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", key))
    assert (statuses, closed) == ([b"400"], True)
    assert b"application/problem+json" in told
    assert b"one Sec-WebSocket-Key, 16 bytes in base64" in told


def test_a_body_that_breaks_off_harms_nobody_before_it() -> None:
    broken = b"POST /parts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n"
    statuses, told, closed = answers(request(b"slow") + broken)
    assert (statuses, closed) == ([b"200"], True)
    assert b"b'slow'" in told


def test_a_websocket_does_not_overtake_a_request() -> None:
    """The handshake's first bytes would be taken for the earlier request's answer."""
    for before in ([request(b"slow")], [request(b"a"), request(b"slow")]):
        statuses, _, closed = answers(*before, HANDSHAKE, rounds=1)
        assert (statuses, closed) == ([b"200"] * len(before), True)


@pytest.mark.parametrize("path", [b"/whole", b"/parts"])
@pytest.mark.parametrize(("version", "told"), [(b"1.1", [b"100", b"200"]), (b"1.0", [b"200"])], ids=["HTTP/1.1", "HTTP/1.0"])
def test_who_speaks_an_older_http_is_not_asked_for_his_body(path: bytes, version: bytes, told: list[bytes]) -> None:
    """RFC 9110, section 10.1.1: an HTTP/1.0 client knows no interim answer, and would take it for the final one."""
    sent = request(b"abc", path=path, early=b"Expect: 100-Continue \r\n").replace(b"HTTP/1.1", b"HTTP/" + version)
    assert answers(sent[:-3], sent[-3:])[0] == told


@pytest.mark.parametrize("coming", [b"Content-Length: 100000\r\n", b"Transfer-Encoding: chunked\r\n"], ids=["length", "chunks"])
def test_who_is_answered_with_a_large_body_still_to_come_is_told_that_the_connection_ends(coming: bytes) -> None:
    """A proxy that leaves out the rest of the body may send another client's request next, which would be taken for that rest."""
    statuses, told, _ = answers(b"POST /early HTTP/1.1\r\nHost: x\r\n" + coming + b"\r\n", request(b"next"))
    assert statuses == [b"200"]
    assert b"\r\nconnection: close\r\n" in told


def test_who_is_answered_with_a_little_still_to_come_keeps_his_connection() -> None:
    first = request(b"abc", path=b"/early")
    statuses, told, closed = answers(first[:-3], b"abc" + request(b"next"))
    assert (statuses, closed) == ([b"200", b"200"], False)
    assert b"connection: close" not in told


@pytest.mark.parametrize("apart", [False, True])
def test_a_trailer_is_no_header(apart: bool) -> None:
    """A key in a trailer must not count: it comes after a proxy has checked the head."""
    head = b"POST /whole HTTP/1.1\r\nHost: x\r\nX-API-Key: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    trailer = b"X-API-Key: b\r\n\r\n"
    statuses, told, _ = answers(head, trailer) if apart else answers(head + trailer)
    assert statuses == [b"200"]
    assert b"(b'x-api-key', b'a')" in told
    assert b"b'b'" not in told


def test_of_a_crowd_that_is_sent_ahead_only_the_next_become_requests() -> None:
    """Thousands fit in one read, and each takes a hundred times its size in memory; all are answered, in order."""

    async def run() -> None:
        connection = Connection()
        sent = [request(b"%d" % number) for number in range(4_000)]
        connection.protocol.data_received(b"".join(sent))
        most = SLICE // min(map(len, sent)) + 1
        told = b""
        while told.count(b"HTTP/1.1 200 OK") < len(sent):
            assert len(connection.calls.waiting) <= most
            await asyncio.sleep(0)
            told = connection.transport.sent
        assert [int(number) for number in re.findall(rb"b'(\d+)'\)(?!\])(?:HTTP|$)", told)] == [*range(len(sent))]

    asyncio.run(asyncio.wait_for(run(), 60))


CRUMBS = PIECES * 8
CRUMBLED = b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * CRUMBS + b"0\r\n\r\n"
MOST_AT_ONCE = PIECES + SLICE // 6 + 1  # the slice that reaches PIECES may hold this many more


@pytest.mark.parametrize("path", [b"/whole", b"/parts"])
def test_a_body_in_crumbs_leaves_others_their_turn(path: bytes) -> None:
    """Each tiny chunk costs microseconds and a megabyte holds many: other clients would wait while one sends them."""

    async def run() -> None:
        connection = Connection()
        protocol, parser, flow = connection.protocol, connection.parser, connection.calls.flow
        protocol.data_received(CRUMBLED % path)
        assert parser.body <= MOST_AT_ONCE
        protocol.data_received(request(b"next"))  # in the same turn of the loop
        parsed = 0
        while parser.came != "all":
            assert 0 < parser.body - parsed <= MOST_AT_ONCE
            assert flow.held
            protocol.check(asyncio.get_running_loop().time() + 61)  # the client must not be closed as too slow
            parsed = parser.body
            await asyncio.sleep(0)
        told = await connection.take([request(b"known")])
        bodies = [b"x" * CRUMBS, b"next", b"known"]
        assert re.findall(rb"b'(\w*)'\)(?=HTTP|$)", connection.transport.sent) == bodies
        assert told.endswith(b"b'known')")
        assert not flow.held
        assert not flow.read_paused
        assert not connection.transport.closed

    asyncio.run(run())


def test_a_caller_who_leaves_in_the_middle_of_his_crumbs_leaves_nothing_behind() -> None:
    async def run() -> None:
        troubles: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: troubles.append(told))
        connection = Connection()
        connection.protocol.data_received(CRUMBLED % b"/parts")
        connection.protocol.connection_lost(None)
        assert await connection.take([]) == b""
        assert connection.protocol._kept == b""
        assert troubles == []

    asyncio.run(run())


def test_a_body_that_breaks_off_among_crumbs_is_told_so() -> None:
    statuses, _, closed = answers((CRUMBLED % b"/parts")[:-5] + b"no number\r\n", rounds=20)
    assert (statuses, closed) == ([b"400"], True)


def test_every_answer_has_the_date_of_now() -> None:
    """The objects of a request are reused for the next one with the same head, but the date must be new."""

    async def run() -> None:
        connection = Connection()
        for day in range(3):
            connection.protocol._state.default_headers = [(b"date", b"day %d" % day)]
            assert b"date: day %d\r\n" % day in await connection.take([request(b"a")])

    asyncio.run(run())
