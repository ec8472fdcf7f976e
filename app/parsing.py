"""Requests from the bytes of a connection: uvicorn's parser, guarded against what callers could make of it.

Owns how much of the current request has come, how large a head may be, how many requests that were sent ahead are parsed, and what
becomes of trailers and of offers to upgrade. Knows nothing of answers.
"""

import re
from abc import abstractmethod
from typing import Any, Literal

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import MOST_SHOWN, HeadTooLarge, MalformedRequest, RecurveError, UnsupportedTransfer, UpgradeRequired
from app.transport import Flow

SLICE = 2**12  # bytes that are parsed before it is asked whether a request waits behind another
PIECES = 2**10  # of a body that are parsed in one turn of the event loop, about: what is read at once may hold many thousand chunks
# A Host's value (RFC 9110, section 7.2; RFC 3986, section 3.2.2): a name, or an address in brackets, which may name its zone; and a
# port. It may be empty. A comma, which a name may have, is where somebody joined two.
_HOST = re.compile(
    rb"(?:(?:[\w.~!$&'()*+;=-]|%[0-9a-f]{2})*|\[[0-9a-f:.]+(?:%[\w.~-]+)?\]|\[v[0-9a-f]+\.[\w.~!$&'()*+;=:-]+\])(?::[0-9]*)?",
    re.IGNORECASE | re.ASCII,
)

Part = Literal["nothing yet", "head", "body", "all"]


class ParsingProtocol(HttpToolsProtocol):
    """Parses on when no request waits behind another, and others have had their turn: thousands fit in what is read at once.

    An offer to upgrade to anything but a WebSocket, or in HTTP/1.0, is passed over, as RFC 9110 has it (section 7.8), and the
    request answered as if it had not been made. The parser itself would skip the body, and take that for the next request.
    """

    flow: Flow

    def __init__(self, *arguments: Any, max_head_bytes: int, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._most = max_head_bytes
        self._came: Part = "nothing yet"  # of the request that is read; "all" before the next
        self._loose = self._body = 0  # bytes that were parsed since then, and are not of a body; and bytes of it
        self._kept = b""  # what is not parsed yet
        self._pieces = 0  # of a body, in this turn of the event loop

    def data_received(self, data: bytes) -> None:
        self._kept += data
        self._parse_on()

    def _parse_on(self) -> None:
        """Parse what has come, as far as may be; also when a request has been answered."""
        data, self._kept = self._kept, b""
        at = 0
        while at < len(data) and self._pieces < PIECES and not self.pipeline and self._listens():
            end = at + max(SLICE, self._missing())
            self._parse(data[at:end])
            at = end
        if at < len(data) and self._listens():
            self._kept = data[at:]
            if self._pieces >= PIECES and not self.flow.held:
                self.flow.hold()
                self.loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._pieces = 0
        self.flow.let_go()
        self._parse_on()

    def _listens(self) -> bool:
        """Whether anything that comes is still read."""
        return self.parser is not None

    def _missing(self) -> int:
        """Bytes of a body that are known to come: what is so long is no crowd of requests."""
        return int(dict(self.headers).get(b"content-length", 0)) - self._body if self._came == "body" else 0

    @abstractmethod
    def _refuse(self, error: RecurveError) -> None:
        """Read no more, for this reason."""

    def _parse(self, piece: bytes) -> None:
        self._loose += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserError as error:
            if self._listens() and self._loose <= self._most:
                self._refuse(_meant(error))
        except httptools.HttpParserUpgrade as offer:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._decline(piece[offer.args[0] :])
        if self._loose > self._most and self._listens():
            self._refuse(HeadTooLarge(f"The path and headers have more than {self._most} bytes, the most that are accepted."))

    def _should_upgrade(self) -> bool:
        return self.parser.get_http_version() != "1.0" and super()._should_upgrade()

    def _declines(self) -> bool:
        return self.parser.should_upgrade() and not self._should_upgrade()

    def _decline(self, rest: bytes) -> None:
        """Parse the head again, without the offer, and then what follows it."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                value = b",".join(each for each in value.split(b",") if each.strip().lower() != b"upgrade")
            if name != b"upgrade":
                lines.append(name + b": " + value)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        self._loose = 0
        self._parse(b"\r\n".join(lines) + b"\r\n\r\n")
        if rest and self._listens():
            self._parse(rest)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._came, self._pieces = "head", 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._came == "head":  # a trailer is no header: it would count as one, of a key for example
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Raises, so that the parser gives up: of a head that is too large, asks for a tunnel, or may mean two things."""
        if self._loose > self._most:
            size = sum(len(name) + len(value) for name, value in self.headers) + len(self.url)
            if size > self._most:
                raise ValueError(size)
        if self.parser.get_method() == b"CONNECT":
            raise ValueError("CONNECT")
        self._check()
        if not self._declines():
            super().on_headers_complete()
            self._came, self._loose, self._body = "body", 0, 0

    def _check(self) -> None:
        """Take no head that a proxy before the service may read in another way: RFC 9112, sections 3.2 and 6.1."""
        names = [name for name, _ in self.headers]
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            raise MalformedRequest(f"An HTTP/1.1 request must have one Host header, got {len(hosts) or 'none'}.")
        if hosts and not _HOST.fullmatch(hosts[0].strip(b" \t")):
            shown = hosts[0].decode("latin-1")[:MOST_SHOWN]
            raise MalformedRequest(f"The Host header must be a host, with or without a port, got {shown}.")
        chunked = b"transfer-encoding" in names
        if chunked:
            codings = b", ".join(value for name, value in self.headers if name == b"transfer-encoding")
            if codings.strip().lower() != b"chunked":
                shown = codings.decode("latin-1")[:MOST_SHOWN]
                raise UnsupportedTransfer(
                    f"Transfer-Encoding must be chunked, got {shown}; Content-Encoding says how a body is compressed."
                )
        if self.parser.should_upgrade() and self._should_upgrade():
            self._check_handshake(chunked=chunked)

    def _check_handshake(self, *, chunked: bool) -> None:
        """Of a WebSocket: it has no body, is of the one version (RFC 6455, section 4.4), and its target may be a whole address
        (RFC 9112, section 3.2.2).
        """
        headers = dict(self.headers)
        if chunked or headers.get(b"content-length", b"0") != b"0":
            raise MalformedRequest("The handshake of a WebSocket has no body: send its first message when it is open.")
        version = headers.get(b"sec-websocket-version", b"none").strip()
        if version != b"13":
            raise UpgradeRequired(f"Sec-WebSocket-Version must be 13, got {version.decode('latin-1')[:MOST_SHOWN]}.")
        if not self.url.startswith(b"/"):
            target = httptools.parse_url(self.url)
            self.url = b"?".join(part for part in (target.path or b"/", target.query) if part)

    def on_body(self, body: bytes) -> None:
        self._loose = 0
        self._pieces += 1
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._declines():
            super().on_message_complete()
            self._came = "all"


def _meant(error: httptools.HttpParserError) -> RecurveError:
    """What was raised while the parser called back, where that is known to say more."""
    raised = error.__context__
    return raised if isinstance(raised, RecurveError) else MalformedRequest("This is not an HTTP/1.1 request.")
