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

    max_head_bytes: int  # of a request; and of the framing around the bytes of a chunked body
    read_timeout: float
    keep_alive: float
    max_connections: int  # of this process
    full: ASGIApp  # answers the connections beyond that
    watch: ASGIApp  # answers on the port for metrics
    watch_port: int | None  # the port for metrics
    refused: Callable[[str], None]  # is called with the error's code
    room: Room  # for the bodies and messages that clients have sent
    ids: RequestIds = field(default_factory=RequestIds)
    departures: Departures = field(default_factory=Departures)
