"""The client of one request: when it disconnects, what it waits for is dropped.

Knows nothing of what was asked.
"""

from collections.abc import Callable
from time import monotonic
from typing import Self

from starlette.requests import ClientDisconnect
from starlette.types import Scope

from app.errors import DeadlineExceeded
from app.http.extensions import ON_DISCONNECT
from app.queue import Ticket


class Caller:
    """The one who sent a request; in a `with` block, told when the connection is lost."""

    __slots__ = ("_leaving", "_ticket", "gone")

    def __init__(self, scope: Scope) -> None:
        self.gone = False
        self._ticket: Ticket | None = None
        extensions = scope.get("extensions")
        self._leaving: set[Callable[[], None]] = extensions[ON_DISCONNECT] if extensions and ON_DISCONNECT in extensions else set()

    def __enter__(self) -> Self:
        self._leaving.add(self._leaves)
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.discard(self._leaves)
        self._ticket = None

    def time_left(self, deadline: float) -> float:
        """Seconds until then, by the monotonic clock; DeadlineExceeded where there are none, ClientDisconnect when it has left."""
        if self.gone:
            raise ClientDisconnect
        left = deadline - monotonic()
        if left <= 0:
            raise DeadlineExceeded("The deadline passed while the request was read; send less at once, or allow more time.")
        return left

    def waits_for(self, ticket: Ticket) -> Ticket:
        """The ticket itself, which now fails when the caller leaves; ClientDisconnect when that has happened already.

        Await what comes back without giving it a name: an error holds the frames that it went through, and must not be held by
        one of them.
        """
        if self.gone:
            ticket.drop()
            raise ClientDisconnect
        self._ticket = ticket
        return ticket

    def _leaves(self) -> None:
        self.gone = True
        if self._ticket is not None:
            self._ticket.fail(ClientDisconnect())
