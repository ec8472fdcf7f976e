"""The client of one request: when it disconnects, the work that it waits for is dropped.

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
    """The client that sent a request. Within the `with` block, `gone` becomes true when the connection is lost."""

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
        """Seconds until `deadline`, a time of the monotonic clock. Raises DeadlineExceeded if none are left, ClientDisconnect if
        the client has gone.
        """
        if self.gone:
            raise ClientDisconnect
        left = deadline - monotonic()
        if left <= 0:
            raise DeadlineExceeded("The deadline passed while the request was read; send less at once, or allow more time.")
        return left

    def waits_for(self, ticket: Ticket) -> Ticket:
        """Returns `ticket`, which from now on fails when the client disconnects. Raises ClientDisconnect if it already has.

        Await the result without giving it a name: an error holds the frames that it went through, and a name in one of them would
        hold the error, which makes a reference cycle.
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
