"""Requests that come in one piece, and are answered as a whole where the application offers that: given a body, it gives the reply.

Owns when that may be. ASGI's messages, and the events that tell of them, are a good part of what a small request costs in Python.
Knows nothing of what is asked.
"""

from collections.abc import Coroutine
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.connection import Protocol
from app.extensions import Begin, Offer, Reply


class CallingProtocol(Protocol):
    """A connection whose requests are answered as a whole where `offer` says how; the others as ASGI has it."""

    def __init__(self, *arguments: Any, offer: Offer, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._offer = offer
        self._begin: Begin | None = None  # for the request whose body is read
        self._reading = False  # a piece

    def data_received(self, data: bytes) -> None:
        self._reading = True
        super().data_received(data)
        self._reading = False
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
        task = self.loop.create_task(self._answered(cycle, begin(body)))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answered(self, cycle: RequestResponseCycle, replying: Coroutine[Any, Any, Reply]) -> None:
        self._complete(cycle, await replying)
