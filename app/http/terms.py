"""The limits that hold for all connections, and the objects that they share.

Knows nothing of how a connection keeps to them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import ASGIApp

from app.api.request_id import RequestIds
from app.http.ahead import Room
from app.http.transport import Departures


@dataclass(frozen=True, slots=True)
class Terms:
    """What connections are held to, and what they share. Durations in seconds."""

    max_head_bytes: int  # of a request; and of what surrounds the bytes of a body in chunks
    read_timeout: float
    keep_alive: float
    max_connections: int  # of this process
    full: ASGIApp  # answers those beyond
    watch: ASGIApp  # answers on the port for metrics
    watch_port: int | None  # which that is
    refused: Callable[[str], None]  # is told why
    room: Room  # for what they have sent
    ids: RequestIds = field(default_factory=RequestIds)
    departures: Departures = field(default_factory=Departures)
