"""A short cut past ASGI: a request that has come in whole is handed to the application in one call, which returns the reply.

Owns when that is possible. ASGI's messages and events are a good part of what a small request costs in Python; so is parsing a head
that is the same as that of the request before. Knows nothing of what is asked.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, NamedTuple

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.connection import Protocol
from app.extensions import Begin, Offer, Reply
from app.heads import Head

TRIES = 8  # heads that a connection keeps, one after the other, of which none comes again: then its caller's are never the same


class _Known(NamedTuple):
    """A head, and what parsing it gave."""

    head: Head
    scope: dict[str, Any]
    length: int  # its place among the headers
    begin: Begin


class CallingProtocol(Protocol):
    """A connection whose requests are answered as a whole where `offer` says how; the others as ASGI has it."""

    def __init__(self, *arguments: Any, offer: Offer, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._offer = offer
        self._begin: Begin | None = None  # for the request whose body is read
        self._reading = False  # a piece
        self._piece = b""  # the same, where nothing of a request came before it
        self._known: _Known | None = None
        self._whole: RequestResponseCycle | None = None  # of the last request with a head that was known
        self._tries = TRIES

    def data_received(self, data: bytes) -> None:
        known, between = self._known, self._came in ("nothing yet", "all")
        if known is not None and between and self._rests() and not self._last and not self.flow.write_paused:
            found = known.head.rest_of(data)
            if found is not None and not self._kept:
                self._again(known, *found)
                return
        self._reading, self._piece = True, data if between else b""
        super().data_received(data)
        self._reading, self._piece = False, b""
        if self._begin is not None:  # there is more to come, and it may be refused before that
            self._begin = None
            super()._start_asgi_task(self.cycle, self.app)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        usual = app is self.config.loaded_app and not self.flow.write_paused  # a caller who does not read has to wait
        begin = self._offer(cycle.scope) if usual else None  # type: ignore[arg-type]  # the same, typed by uvicorn
        if begin is not None and not cycle.more_body:
            self._call(begin, cycle)
        elif begin is not None and self._reading:
            self._begin = begin
        else:  # also one that had to wait, of which no more is read before somebody asks for it
            super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        begin, self._begin = self._begin, None
        if begin is not None:
            self._call(begin, self.cycle)

    def _call(self, begin: Begin, cycle: RequestResponseCycle) -> None:
        body, cycle.body = bytes(cycle.body), bytearray()  # a connection that rests must not keep it
        if self._piece and self._tries and cycle.keep_alive and not self.parser.should_upgrade():
            self._remember(begin, cycle.scope, Head.of(self._piece, body))  # type: ignore[arg-type]  # the same, typed by uvicorn
        self._work_on(cycle, begin(cycle.scope, body))  # type: ignore[arg-type]  # again

    def _remember(self, begin: Begin, scope: dict[str, Any], head: Head | None) -> None:
        if head is not None:
            self._tries -= 1
            length = [name for name, _ in scope["headers"]].index(b"content-length")
            self._known = _Known(head, scope | {"state": None}, length, begin)

    def _again(self, known: _Known, length: bytes, body: bytes) -> None:
        """Begin a request whose head is known: what the parser's callbacks would do."""
        self._tries = TRIES
        self._began = self._heard = self.loop.time()
        self._loose = 0
        cycle = self._whole
        if cycle is None or cycle is not self.cycle:  # else it is done, and nobody else has seen it or its scope
            self.scope = known.scope | {"headers": known.scope["headers"].copy()}  # type: ignore[assignment]  # again
            cycle = self.cycle = self._whole = self._new_cycle()
        scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]  # again
        scope["headers"][known.length] = (b"content-length", length)
        scope["state"] = self.app_state.copy()
        cycle.default_headers = self.server_state.default_headers  # with the date of now
        cycle.response_started = cycle.response_complete = False
        self._work_on(cycle, known.begin(scope, body))

    def _new_cycle(self) -> RequestResponseCycle:
        cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=True,
            on_response=self.on_response_complete,
        )
        cycle.more_body = False
        return cycle

    def _work_on(self, cycle: RequestResponseCycle, replying: Coroutine[Any, Any, Reply]) -> None:
        task = self.loop.create_task(self._answered(cycle, replying))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answered(self, cycle: RequestResponseCycle, replying: Coroutine[Any, Any, Reply]) -> None:
        self._complete(cycle, await replying)

    def _forget(self) -> None:
        super()._forget()
        self._known = self._whole = None  # it holds this connection, too
