"""The requests of one connection, answered one after the other: through ASGI, or in one call, which takes less time.

Owns which request is answered, which wait, which is the last, and when the short cut past ASGI is possible: for a request that has
arrived whole. ASGI's messages and events are a good part of what a small request costs in Python; so is parsing a head that is the
same as the previous request's. Knows nothing of what is asked.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from itertools import chain
from typing import Any, NamedTuple
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from app.http.extensions import ANSWER, ON_DISCONNECT, Begin, Header, Offer, Reply, Scope
from app.http.heads import Head
from app.http.transport import Flow
from app.http.wire import packed

TRIES = 8  # heads in a row that are remembered and do not come again; then no more are remembered: this client's always differ
ASGI = {"version": "3.0", "spec_version": "2.3"}
REST = 2**16  # bytes of a body that are mostly on their way before the client has read an early answer
log = logging.getLogger("uvicorn.error")


class _Known(NamedTuple):
    """A head, and the result of parsing it."""

    head: Head
    scope: Scope
    length: int  # the index of content-length among the headers
    begin: Begin


class Cycle(RequestResponseCycle):
    """A request and its answer; the answer is the last if the client still waits for "100 Continue" (RFC 9110, section 10.1.1).

    The client may then send the body or not, so nobody can tell whether the next bytes are that body or a new request. The same
    holds while a large body is coming: some proxies and clients leave out the rest of it and send the next request in its place.
    """

    async def send(self, message: Any) -> None:
        self.end_unasked()
        await super().send(message)

    def end_unasked(self) -> None:
        if self.more_body and (self.waiting_for_100_continue or self._large()):  # uvicorn clears the former when the answer begins
            self.keep_alive = False

    def _large(self) -> bool:
        length = dict(self.scope["headers"]).get(b"content-length")
        return length is None or int(length) > REST


class Calls:
    """Has `app` answer each request, in one call if `offer` gives one; then calls `answered`. `leaving`: the next is the last."""

    def __init__(
        self, transport: Any, state: ServerState, app: Any, offer: Offer, *, answered: Callable[[], None], leaving: bool
    ) -> None:
        self._transport = transport
        self._state = state
        self.app = app
        self._offer = offer
        self._answered = answered
        self._loop = asyncio.get_running_loop()
        self._leaving = leaving
        self.cycle: Cycle | None = None  # of the newest request, which may have arrived only in part
        self._next: Cycle | None = None  # the request to begin next
        self.waiting: deque[Cycle] = deque()  # requests that wait for earlier ones, the newest on the left
        self.flow = Flow(transport, self.waiting)
        self._on_disconnect: set[Callable[[], None]] = set()
        self.piece: bytes | None = None  # the bytes that just arrived; empty if a part of their request came before them
        self._known: _Known | None = None
        self._whole: Cycle | None = None  # of the last request whose head was known
        self._tries = TRIES
        places = {"server": get_local_addr(transport), "client": get_remote_addr(transport)}
        scheme = "https" if is_ssl(transport) else "http"
        self._scope = {"type": "http", "asgi": ASGI, "scheme": scheme, "root_path": "", **places}

    @property
    def rest(self) -> bool:
        """Whether all requests have been answered."""
        return self.cycle is None or self.cycle.response_complete

    def add(self, method: str, url: bytes, version: str, headers: list[Header], *, keep_alive: bool) -> None:
        """Take a request whose head has arrived."""
        target = httptools.parse_url(url)
        empty = b"/" if method != "OPTIONS" or target.query else b"*"  # for a whole URL without a path: RFC 9112, section 3.2.4
        raw = target.path or empty
        path = raw.decode("ascii")
        scope = self._scope | {
            "http_version": version,
            "method": method,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw,
            "query_string": target.query or b"",
            "headers": headers,
            "state": {},
            "extensions": {ON_DISCONNECT: self._on_disconnect, ANSWER: self._answer},
        }
        rest, before = self.rest, self.cycle
        self.cycle = cycle = self._new_cycle(scope, keep_alive=keep_alive and not self._leaving)
        asks = any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)
        cycle.waiting_for_100_continue = asks and version != "1.0"  # HTTP/1.0 has no interim answers
        if self._leaving and before is not None and not before.response_started:
            before.keep_alive = True  # it is not the last, after all
        if not rest:
            self.flow.pause_reading()
            self.waiting.appendleft(cycle)
            return
        self._next = cycle
        if self.piece is None:  # its bytes had to wait, and no more of it is read until the application asks
            self.begin()

    def add_body(self, data: bytes) -> None:
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.body += data
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def end(self) -> None:
        """The newest request has arrived whole."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()
        self.flow.resume_reading()  # paused for a large body; while paused, a client's leaving goes unnoticed
        self.begin()

    def begin(self) -> None:
        """Begin the next request, if there is one: in one call if it has arrived whole."""
        cycle, self._next = self._next, None
        if cycle is None:
            return
        scope: Any = cycle.scope
        whole = not cycle.more_body and not self.flow.write_paused  # a client that does not read has to wait
        begin = self._offer(scope) if whole else None
        if begin is None:
            self._work_on(cycle.run_asgi(self.app))
            return
        body, cycle.body = bytes(cycle.body), bytearray()  # an idle connection must not keep it
        if self.piece and self._tries and cycle.keep_alive:
            head = Head.of(self.piece, body)
            if head is not None:
                self._tries -= 1
                length = [name for name, _ in scope["headers"]].index(b"content-length")
                self._known = _Known(head, {**scope, "state": None}, length, begin)
        self._work_on(self._reply(cycle, begin(scope, body)))

    def begin_again(self, data: bytes) -> bool:
        """Begin the request in `data` without parsing it. False: its head is not known, or an earlier request is in the way."""
        known = self._known
        if known is None or self._leaving or self.flow.write_paused or not self.rest:
            return False
        found = known.head.rest_of(data)
        if found is None:
            return False
        length, body = found
        self._tries = TRIES
        cycle = self._whole
        if cycle is None or cycle is not self.cycle:  # else it is used again: it is done, and nobody else has seen it or its scope
            new = {**known.scope, "headers": known.scope["headers"].copy()}
            cycle = self.cycle = self._whole = self._new_cycle(new, keep_alive=True)
            cycle.more_body = False
        scope: Any = cycle.scope
        scope["headers"][known.length] = (b"content-length", length)
        scope["state"] = {}
        cycle.default_headers = self._state.default_headers  # with the current date
        cycle.response_started = cycle.response_complete = False
        self._work_on(self._reply(cycle, known.begin(scope, body)))
        return True

    def begin_waiting(self) -> None:
        self._next = self.waiting.pop()
        self.begin()

    def leave(self) -> None:
        """Mark the next answer as the connection's last."""
        self._leaving = True
        if self.cycle is not None:
            self.cycle.keep_alive = False  # no effect on a request that is already answered

    def lose(self) -> None:
        """Tell the application that the client has gone."""
        if self.cycle is not None:
            self.cycle.disconnected = not self.cycle.response_complete
            self.cycle.message_event.set()
        for tell in [*self._on_disconnect]:
            tell()

    def forget(self) -> None:
        """Break the reference cycles: else all of it stays in memory until the garbage collector runs."""
        self.cycle = self._next = self._known = self._whole = None
        self.waiting.clear()
        self._answered = lambda: None

    def _new_cycle(self, scope: Any, *, keep_alive: bool) -> Cycle:
        return Cycle(
            scope=scope,
            transport=self._transport,
            flow=self.flow,
            logger=log,
            access_logger=log,
            access_log=False,
            default_headers=self._state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=self._answered,
        )

    def _work_on(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    async def _reply(self, cycle: Cycle, replying: Coroutine[Any, Any, Reply]) -> None:
        self._complete(cycle, await replying)

    def _answer(self, scope: Scope, reply: Reply) -> bool:
        """Send an answer at once. False if that is not possible: another request waits behind it, or the client does not read."""
        cycle = self.cycle  # None when the connection is lost
        if cycle is None or cycle.scope is not scope or cycle.response_started or self.flow.write_paused:
            return False
        self._complete(cycle, reply)
        return True

    def _complete(self, cycle: Cycle, reply: Reply) -> None:
        """Send the whole answer to a request: the same as `cycle.send` with two messages, in a fraction of the time."""
        if cycle.disconnected:
            return
        status, headers, body = reply
        cycle.end_unasked()
        cycle.response_started, cycle.response_complete, cycle.waiting_for_100_continue = True, True, False
        together = len(self._state.tasks) > 1 and status < 400  # a lone answer, or an error, does not wait for others
        write = self._transport.write if together else self._transport.write_at_once
        write(packed(status, chain(cycle.default_headers, headers), body, last=not cycle.keep_alive))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
