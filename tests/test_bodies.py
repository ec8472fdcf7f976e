"""Where the work on a body is done: what is little does not wait behind what is much."""

import asyncio
import gzip
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.api.bodies import LARGE, Bodies, Whole
from app.errors import TooLarge

PACKED = {b"content-encoding": b"gzip"}
LIMIT = 4 * LARGE


async def beside_large_work(bodies: Bodies, work: Callable[[], Awaitable[Any]]) -> Any:
    """What comes of work while the thread is taken by another's."""
    gate = threading.Event()
    other = asyncio.ensure_future(bodies.call(LARGE, gate.wait))
    try:
        return await asyncio.wait_for(work(), 30)
    finally:
        gate.set()
        await other


@pytest.mark.parametrize("size", [0, 30_000, LARGE])
def test_a_small_packed_body_does_not_wait_behind_a_large_one(size: int) -> None:
    """What can become a thousand times as large seldom does."""
    bodies = Bodies(LIMIT)
    packed = gzip.compress(bytes(size))
    assert asyncio.run(beside_large_work(bodies, lambda: bodies.read(Whole(packed), PACKED))) == bytes(size)


@pytest.mark.parametrize("limit", [1000, LARGE - 1, LARGE, LARGE + 1, LIMIT])
def test_a_packed_body_is_unpacked_up_to_the_limit_and_no_further(limit: int) -> None:
    """Wherever it is unpacked."""
    bodies = Bodies(limit)
    assert len(asyncio.run(bodies.read(Whole(gzip.compress(bytes(limit))), PACKED))) == limit
    with pytest.raises(TooLarge, match=f"than the {limit} that are taken"):
        asyncio.run(bodies.read(Whole(gzip.compress(bytes(limit + 1))), PACKED))
