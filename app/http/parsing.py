"""Requests from the bytes of a connection: httptools' parser, guarded against what callers could make of it.

Owns how much of the current request has come and since when, how large a head may be, how much is parsed in one turn, and what
becomes of trailers and of offers to upgrade. Knows nothing of connections or answers.
"""

import re
from typing import Literal

import httptools

from app.errors import MOST_SHOWN, HeadTooLarge, MalformedRequest, RecurveError, TooSlow, UnsupportedTransfer, UpgradeRequired
from app.http.calls import Calls
from app.http.extensions import Header
from app.http.transport import SLOWEST

SLICE = 2**12  # bytes that are parsed before it is asked whether a request waits behind another
PIECES = 2**10  # of a body that are parsed in one turn of the event loop, about: what is read at once may hold many thousand chunks
# A Host's value (RFC 9110, section 7.2; RFC 3986, section 3.2.2): a name, or an address in brackets, which may name its zone; and a
# port. It may be empty. A comma, which a name may have, is where somebody joined two.
_HOST = re.compile(
    rb"(?:(?:[\w.~!$&'()*+;=-]|%[0-9a-f]{2})*|\[[0-9a-f:.]+(?:%[\w.~-]+)?\]|\[v[0-9a-f]+\.[\w.~!$&'()*+;=:-]+\])(?::[0-9]*)?",
    re.IGNORECASE | re.ASCII,
)

Part = Literal["nothing yet", "head", "body", "all"]


class Parser:
    """Gives `calls` the requests in what comes; a `RecurveError` says what is wrong with it.

    An offer to upgrade to anything but a WebSocket, or in HTTP/1.0, is passed over, as RFC 9110 has it (section 7.8), and the
    request answered as if it had not been made. Httptools would skip the body, and take that for the next request.
    """

    def __init__(self, calls: Calls, max_head_bytes: int, now: float) -> None:
        self._calls = calls
        self._most = max_head_bytes
        self.came: Part = "nothing yet"  # of the request that is read; "all" before the next
        self.began = self.heard = now  # the loop's time: of this part, and when something came last
        self.ended = now  # when the last request had come in whole, or was answered
        self.loose = self.body = 0  # bytes that were parsed since the last of a body, and are of none; and bytes of this one
        self.pieces = 0  # of a body, in this turn of the event loop
        self.handshake = b""  # of the WebSocket that this connection becomes
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # what follows the last request is no error

    def close(self) -> None:
        """Let go of what holds this in turn: else it stays until garbage is collected."""
        del self._parser

    def parse(self, data: bytes) -> bytes:
        """Parse on when no request waits behind another, and others have had their turn: thousands fit in what is read at once.

        Gives back the rest.
        """
        at = 0
        while at < len(data) and self.pieces < PIECES and not self._calls.waiting and not self.handshake:
            end = at + max(SLICE, self._missing())
            self._parse(data[at:end])
            at = end
        return data[at:]

    def too_slow(self, now: float, timeout: float) -> TooSlow | None:
        """What is wrong with how fast a request comes that has come in part."""
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
        """Bytes of a body that are known to come: what is so long is no crowd of requests."""
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
        """Parse the head again, without the offer, and then what follows it."""
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
        if self.came == "head":  # a trailer is no header: it would count as one, of a key for example
            self._headers.append((name.lower(), value.strip(b" \t")))  # of blanks the parser drops those before it only

    def on_headers_complete(self) -> None:
        """Raises, so that httptools gives up: of a head that is too large, asks for a tunnel, or may mean two things."""
        if self.loose > self._most:
            size = sum(len(name) + len(value) for name, value in self._headers) + len(self._url)
            if size > self._most:
                raise ValueError(size)
        parser, version = self._parser, self._parser.get_http_version()
        method = parser.get_method().decode("ascii")
        if method == "CONNECT":
            raise ValueError(method)
        self._check(version)
        websocket = parser.should_upgrade() and version != "1.0" and self._offers_websocket()
        self._declined = parser.should_upgrade() and not websocket
        if websocket:
            self._check_handshake()
        elif not self._declined:
            keep_alive = version != "1.0" and parser.should_keep_alive()
            self._calls.add(method, self._url, version, self._headers, keep_alive=keep_alive)
        if not self._declined:
            self.came, self.began, self.loose, self.body = "body", self.heard, 0, 0

    def _check(self, version: str) -> None:
        """Take no head that a proxy before the service may read in another way: RFC 9112, sections 3.2 and 6.1."""
        hosts = [value for name, value in self._headers if name == b"host"]
        if len(hosts) > 1 or (not hosts and version == "1.1"):
            raise MalformedRequest(f"An HTTP/1.1 request must have one Host header, got {len(hosts) or 'none'}.")
        if hosts and not _HOST.fullmatch(hosts[0]):
            shown = hosts[0].decode("latin-1")[:MOST_SHOWN]
            raise MalformedRequest(f"The Host header must be a host, with or without a port, got {shown}.")
        codings = [value for name, value in self._headers if name == b"transfer-encoding"]
        if codings and b", ".join(codings).lower() != b"chunked":
            shown = b", ".join(codings).decode("latin-1")[:MOST_SHOWN]
            raise UnsupportedTransfer(
                f"Transfer-Encoding must be chunked, got {shown}; Content-Encoding says how a body is compressed."
            )

    def _offers_websocket(self) -> bool:
        headers = dict(self._headers)  # of several, the last counts
        offered = [token.strip() for token in headers.get(b"connection", b"").lower().split(b",")]
        return b"upgrade" in offered and headers.get(b"upgrade", b"").lower() == b"websocket"

    def _check_handshake(self) -> None:
        """Of a WebSocket: it has no body, is of the one version (RFC 6455, section 4.4), and its target may be a whole address
        (RFC 9112, section 3.2.2).
        """
        headers = dict(self._headers)
        if b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0":
            raise MalformedRequest("The handshake of a WebSocket has no body: send its first message when it is open.")
        version = headers.get(b"sec-websocket-version", b"none")
        if version != b"13":
            raise UpgradeRequired(f"Sec-WebSocket-Version must be 13, got {version.decode('latin-1')[:MOST_SHOWN]}.")
        if not self._url.startswith(b"/"):
            target = httptools.parse_url(self._url)
            self._url = b"?".join(part for part in (target.path or b"/", target.query) if part)

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
    """What was raised while the parser called back, where that is known to say more."""
    raised = error.__context__
    return raised if isinstance(raised, RecurveError) else MalformedRequest("This is not an HTTP/1.1 request.")
