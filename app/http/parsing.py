"""Parses requests from the bytes of a connection: httptools' parser, guarded against what clients could do with it.

Owns how much of the current request has arrived and since when, how large a head may be, how much is parsed in one turn of the
event loop, and what happens to trailers and to offers to upgrade. Knows nothing of connections or answers.
"""

import re
from typing import Literal

import httptools
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS

from app.errors import MOST_SHOWN, HeadTooLarge, MalformedRequest, RecurveError, TooSlow, UnsupportedTransfer, UpgradeRequired
from app.http.calls import Calls
from app.http.extensions import Header
from app.http.transport import SLOWEST

SLICE = 2**12  # bytes that are parsed between two checks whether a request waits behind another
PIECES = 2**10  # of a body that are parsed in one turn of the event loop, about: one read may hold many thousand chunks
# A Host's value (RFC 9110, section 7.2; RFC 3986, section 3.2.2): a name, or an address in brackets, which may name its zone; then
# a port, if any. It may be empty. A comma is refused, though a name may have one: it is a sign that two headers were joined.
_HOST = re.compile(
    rb"(?:(?:[\w.~!$&'()*+;=-]|%[0-9a-f]{2})*|\[[0-9a-f:.]+(?:%[\w.~-]+)?\]|\[v[0-9a-f]+\.[\w.~!$&'()*+;=:-]+\])(?::[0-9]*)?",
    re.IGNORECASE | re.ASCII,
)

_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")  # of a WebSocket's handshake: 16 bytes in base64

Part = Literal["nothing yet", "head", "body", "all"]


class Parser:
    """Passes the requests in the bytes that arrive to `calls`; raises a `RecurveError` if there is something wrong with them.

    An offer to upgrade to anything but a WebSocket, in HTTP/1.0, or by another method than GET, is ignored, as RFC 9110 says
    (section 7.8): the request is answered as if there were no offer. Httptools alone would skip the body, and take it for the
    next request.
    """

    def __init__(self, calls: Calls, max_head_bytes: int, now: float) -> None:
        self._calls = calls
        self._most = max_head_bytes
        self.came: Part = "nothing yet"  # of the current request; "all" until the next begins
        self.began = self.heard = now  # the loop's time: when this part began, and when bytes last arrived
        self.ended = now  # when the last request had arrived whole, or was answered
        self.loose = self.body = 0  # bytes parsed since the last byte of a body, that belong to none; and bytes of this body
        self.pieces = 0  # of a body, in this turn of the event loop
        self.handshake = b""  # the head of the request that makes this connection a WebSocket
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # what follows the last request is no error

    def close(self) -> None:
        """Break the reference cycle: else this stays in memory until the garbage collector runs."""
        del self._parser

    def parse(self, data: bytes) -> bytes:
        """Parse until a request waits behind another, or this turn's share is used up: thousands of requests fit in one read.

        Returns the bytes that are left.
        """
        at = 0
        while at < len(data) and self.pieces < PIECES and not self._calls.waiting and not self.handshake:
            end = at + max(SLICE, self._missing())
            self._parse(data[at:end])
            at = end
        return data[at:]

    def too_slow(self, now: float, timeout: float) -> TooSlow | None:
        """The error for a request that has arrived in part and comes too slowly, else None; `timeout` in seconds."""
        taken = now - self.began
        if self.came == "head":
            return TooSlow(f"The head of the request was not complete after {timeout:g} s.") if taken > timeout else None
        if now - self.heard > timeout:
            return TooSlow(f"No data arrived for {timeout:g} s, after {self.body} bytes of the body.")
        if taken <= timeout + self.body / SLOWEST:
            return None
        few = f"{self.body} bytes in {taken:.0f} s, where {SLOWEST} a second are the least"
        return TooSlow(f"The body arrived too slowly: {few}.")

    def _missing(self) -> int:
        """Bytes of the body that are still to come, if known: they hold no other request and can be parsed as one slice."""
        return int(dict(self._headers).get(b"content-length", 0)) - self.body if self.came == "body" else 0

    def _parse(self, piece: bytes) -> None:
        self.loose += len(piece)
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserError as error:
            if self.loose <= self._most:
                raise _meant(error) from None
        except httptools.HttpParserUpgrade as offer:
            if self._declined:
                self._decline(piece[offer.args[0] :])
            else:
                self.handshake = self._packed("1.1", self._headers)
        if self.loose > self._most:
            raise HeadTooLarge(f"The path and headers have more than {self._most} bytes, the most that are accepted.")

    def _decline(self, rest: bytes) -> None:
        """Parse the head again, without the offer to upgrade, and then what follows it."""
        headers = []
        for name, value in self._headers:
            if name == b"connection":
                value = b",".join(each for each in value.split(b",") if each.strip().lower() != b"upgrade")
            if name != b"upgrade":
                headers.append((name, value))
        packed = self._packed(self._parser.get_http_version(), headers)
        self._begin_anew()
        self.loose = 0
        self._parse(packed)
        if rest:
            self._parse(rest)

    def _packed(self, version: str, headers: list[Header]) -> bytes:
        begin = b"%b %b HTTP/%b\r\n" % (self._parser.get_method(), self._url, version.encode())
        return begin + b"".join([b"%b: %b\r\n" % header for header in headers]) + b"\r\n"

    def on_message_begin(self) -> None:
        self.came, self.began, self.pieces = "head", self.heard, 0
        self._url, self._headers = b"", list[Header]()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.came == "head":  # not a trailer, which must not pass for a header, such as one with a key
            self._headers.append((name.lower(), value.strip(b" \t")))  # httptools only strips the blanks before the value

    def on_headers_complete(self) -> None:
        """Check the head, and pass the request on.

        Raises, so that httptools gives up, if the head is too large, asks for a tunnel, or is ambiguous.
        """
        if self.loose > self._most:
            size = sum(len(name) + len(value) for name, value in self._headers) + len(self._url)
            if size > self._most:
                raise ValueError(size)
        parser, version = self._parser, self._parser.get_http_version()
        method = parser.get_method().decode("ascii")
        if method == "CONNECT":
            raise ValueError(method)
        self._check(version)
        websocket = parser.should_upgrade() and version != "1.0" and method == "GET" and self._offers_websocket()
        self._declined = parser.should_upgrade() and not websocket
        if websocket:
            self._check_handshake()
        elif not self._declined:
            keep_alive = version != "1.0" and parser.should_keep_alive()
            self._calls.add(method, self._url, version, self._headers, keep_alive=keep_alive)
        if not self._declined:
            self.came, self.began, self.loose, self.body = "body", self.heard, 0, 0

    def _check(self, version: str) -> None:
        """Refuse a head that a proxy in front of the service may read in another way: RFC 9112, sections 2.3, 3.2 and 6.1."""
        if version not in ("1.0", "1.1"):  # httptools also takes 0.9 and 2.0, which are written in other ways
            raise MalformedRequest(f"The request must be HTTP/1.1 or HTTP/1.0, got HTTP/{version}.")
        hosts = [value for name, value in self._headers if name == b"host"]
        if len(hosts) > 1 or (not hosts and version == "1.1"):
            raise MalformedRequest(f"An HTTP/1.1 request must have one Host header, got {len(hosts) or 'none'}.")
        if hosts and not _HOST.fullmatch(hosts[0]):
            shown = hosts[0].decode("latin-1")[:MOST_SHOWN]
            raise MalformedRequest(f"The Host header must be a host, with or without a port, got {shown}.")
        codings = self._all(b"transfer-encoding")
        if codings and codings.lower() != b"chunked":
            shown = codings.decode("latin-1")[:MOST_SHOWN]
            raise UnsupportedTransfer(
                f"Transfer-Encoding must be chunked, got {shown}; Content-Encoding says how a body is compressed."
            )

    def _all(self, name: bytes) -> bytes | None:
        """The values of all headers of this name as one list (RFC 9110, section 5.3)."""
        values = [value for each, value in self._headers if each == name]
        return b", ".join(values) if values else None

    def _offers_websocket(self) -> bool:
        offered = [token.strip() for token in (self._all(b"connection") or b"").lower().split(b",")]
        return b"upgrade" in offered and (self._all(b"upgrade") or b"").lower() == b"websocket"

    def _check_handshake(self) -> None:
        """Refuse a handshake that has a body, is not of version 13 or does not have one key (RFC 6455, sections 4.2.1 and 4.4), or
        is too large for the library that answers it; keep only the path and query of a target that is a whole URL (RFC 9112,
        section 3.2.2).
        """
        if self._all(b"transfer-encoding") is not None or self._all(b"content-length") not in (None, b"0"):
            raise MalformedRequest("The handshake of a WebSocket has no body: send its first message when it is open.")
        version, key = (self._all(b"sec-websocket-" + name) for name in (b"version", b"key"))
        if version != b"13":
            shown = "none" if version is None else version.decode("latin-1")[:MOST_SHOWN]
            raise UpgradeRequired(f"Sec-WebSocket-Version must be 13, got {shown}.")
        if key is None or not _KEY.fullmatch(key):
            shown = "none" if key is None else key.decode("latin-1")[:MOST_SHOWN]
            raise MalformedRequest(f"A handshake must have one Sec-WebSocket-Key, 16 bytes in base64, got {shown}.")
        if not self._url.startswith(b"/"):
            target = httptools.parse_url(self._url)
            self._url = b"?".join(part for part in (target.path or b"/", target.query) if part)
        longest = max(map(len, self._packed("1.1", self._headers).splitlines(keepends=True)))
        if len(self._headers) > MAX_NUM_HEADERS or longest > MAX_LINE_LENGTH:
            raise HeadTooLarge(
                f"The handshake of a WebSocket may have {MAX_NUM_HEADERS} headers and {MAX_LINE_LENGTH} bytes in a line, got "
                f"{len(self._headers)} headers and {longest} bytes."
            )

    def on_body(self, body: bytes) -> None:
        self.loose = 0
        self.pieces += 1
        self.body += len(body)
        self._calls.add_body(body)

    def on_message_complete(self) -> None:
        if not self._declined:
            self.came, self.ended = "all", self.heard
            if not self._parser.should_upgrade():
                self._calls.end()


def _meant(error: httptools.HttpParserError) -> RecurveError:
    """The `RecurveError` that was raised in a callback of the parser, if there is one; else a general error."""
    raised = error.__context__
    return raised if isinstance(raised, RecurveError) else MalformedRequest("This is not an HTTP/1.1 request.")
