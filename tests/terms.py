"""Limits and timeouts of connections, for tests of single connections."""

from typing import Any

from app.http.ahead import Room
from app.http.terms import Terms


async def _nobody(*_: Any) -> None:
    raise AssertionError


def terms(*, max_head_bytes: int = 2**16, room: int = 2**30) -> Terms:
    """Limits that no test reaches, except the ones given here."""
    return Terms(
        max_head_bytes=max_head_bytes,
        read_timeout=60,
        keep_alive=60,
        max_connections=10,
        full=_nobody,
        watch=_nobody,
        watch_port=None,
        refused=lambda _: None,
        room=Room(room),
    )
