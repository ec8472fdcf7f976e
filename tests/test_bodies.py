"""Where the work on a body is done: small bodies do not wait behind large ones, and long work does not block the event loop."""

import asyncio
import gzip
import json
import threading
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any, Self

import pytest
from starlette.types import Message

from app.api.bodies import COUNTED, LARGE, SEARCHED, Bodies, ReceivedBody, takes_octets
from app.api.chunks import ChunkDecoder
from app.api.predict import Predict
from app.codecs import json as codec
from app.codecs.plain import Choose
from app.codecs.request import CHUNK_MEMBERS, Limits, PredictRequest
from app.errors import InvalidRequest, TooLarge, TooManyBytes
from app.http.ahead import Room
from app.manifest import ModelSpec
from app.streaming.streams import Chunk
from tests.test_json_codec import SPEC, TOKENS

PACKED = {b"content-encoding": b"gzip"}
LIMIT = 4 * LARGE
LIMITS = Limits(1, LIMIT)


async def beside_large_work(bodies: Bodies, work: Callable[[], Awaitable[Any]]) -> Any:
    """The result of `work` while the thread for large bodies is busy with another."""
    gate = threading.Event()
    other = asyncio.ensure_future(bodies.call(LARGE, gate.wait))
    try:
        return await asyncio.wait_for(work(), 30)
    finally:
        gate.set()
        await other


@pytest.mark.parametrize("body", [b"", Random(0).randbytes(30_000), bytes(LARGE)], ids=["empty", "dense", "zeros"])
def test_a_small_packed_body_does_not_wait_behind_a_large_one(body: bytes) -> None:
    """A compressed body can grow a thousandfold, but seldom does, so a small one is unpacked on the event loop."""
    bodies = Bodies(LIMIT, Room(2 * LIMIT))
    packed = gzip.compress(body)
    assert asyncio.run(beside_large_work(bodies, lambda: bodies.read(ReceivedBody(packed), PACKED))) == body


@pytest.mark.parametrize("limit", [1000, LARGE - 1, LARGE, LARGE + 1, LIMIT])
def test_a_packed_body_is_unpacked_up_to_the_limit_and_no_further(limit: int) -> None:
    """The limit holds on the event loop and in the thread."""
    bodies = Bodies(limit, Room(2 * limit))
    assert len(asyncio.run(bodies.read(ReceivedBody(gzip.compress(bytes(limit))), PACKED))) == limit
    with pytest.raises(TooLarge, match=f"more than {limit} bytes"):
        asyncio.run(bodies.read(ReceivedBody(gzip.compress(bytes(limit + 1))), PACKED))


class Sending:
    """A client that sends pieces of 500 bytes, and the last one once `last` is set."""

    def __init__(self, pieces: int) -> None:
        self.left = pieces
        self.waits, self.last = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> Message:
        self.left -= 1
        if self.left == 0:
            self.waits.set()
            await self.last.wait()
        return {"type": "http.request", "body": bytes(500), "more_body": self.left > 0}


def test_all_bodies_together_have_a_limit_too() -> None:
    """Thousands of bodies at once, each within its own limit, could use up the memory and get the whole service killed."""

    async def scenario() -> None:
        bodies = Bodies(LIMIT, room := Room(3000))
        first, second = Sending(4), Sending(3)
        reads = [asyncio.ensure_future(bodies.read(sender, {})) for sender in (first, second)]
        await asyncio.gather(first.waits.wait(), second.waits.wait())
        assert room.left == 500
        with pytest.raises(TooManyBytes, match="has 0 bytes of room left") as refused:
            await asyncio.create_task(bodies.read(Sending(3), {}))
        assert refused.value.retry_after == 1
        first.last.set()
        assert await reads[0] == bytes(2000)
        assert room.left == 2000
        reads[1].cancel()
        await asyncio.wait(reads)
        assert room.left == 3000

    asyncio.run(scenario())


def test_the_room_of_a_body_that_begins_with_an_empty_piece_is_given_back_once() -> None:
    """Given back twice, it would let more in with every such body, until there is no limit."""

    async def scenario() -> None:
        bodies, pieces = Bodies(LIMIT, room := Room(1000)), [bytes(500), b""]

        async def receive() -> Message:
            return {"type": "http.request", "body": pieces.pop(), "more_body": len(pieces) > 0}

        assert await asyncio.create_task(bodies.read(receive, {})) == bytes(500)
        await asyncio.sleep(0)  # what the task's end calls comes after who waits for it
        assert room.left == 1000

    asyncio.run(scenario())


def test_a_body_that_has_arrived_in_one_piece_counts_until_its_request_is_answered_unless_it_is_small() -> None:
    """The event loop reads up to 256 KiB at once, so that many requests of that size would all go uncounted."""

    async def request(bodies: Bodies, size: int, answered: asyncio.Event) -> int:
        receive = ReceivedBody(bytes(size))
        body = bodies.at_hand(receive, {}) or await bodies.read(receive, {})
        await answered.wait()
        return len(body)

    async def scenario() -> None:
        bodies, answered = Bodies(LIMIT, room := Room(2 * COUNTED)), asyncio.Event()
        under_way = [asyncio.create_task(request(bodies, size, answered)) for size in (COUNTED, COUNTED - 1, 1, 0, COUNTED)]
        await asyncio.sleep(0)
        assert room.left == 0
        with pytest.raises(TooManyBytes, match="has 0 bytes of room left"):
            await asyncio.create_task(request(bodies, COUNTED, answered))
        with pytest.raises(TooLarge):
            await asyncio.create_task(request(bodies, LIMIT + 1, answered))
        answered.set()
        assert await asyncio.gather(*under_way) == [COUNTED, COUNTED - 1, 1, 0, COUNTED]
        assert room.left == 2 * COUNTED

    asyncio.run(scenario())


@pytest.mark.parametrize("limit", [1, COUNTED - 1, COUNTED, COUNTED + 1])
def test_a_body_that_has_arrived_has_the_same_limit_whether_it_counts_or_not(limit: int) -> None:
    bodies = Bodies(limit, Room(2 * limit))
    for size in (limit, limit + 1):
        receive = ReceivedBody(bytes(size))
        if (body := bodies.at_hand(receive, {})) is None and size > limit:
            with pytest.raises(TooLarge, match=f"has {size} bytes; at most {limit} "):
                asyncio.run(bodies.read(receive, {}))
        else:
            assert len(asyncio.run(bodies.read(receive, {})) if body is None else body) == size <= limit


def test_what_becomes_of_a_packed_body_counts() -> None:
    bodies = Bodies(LIMIT, Room(999))
    with pytest.raises(TooManyBytes):
        asyncio.run(bodies.read(ReceivedBody(gzip.compress(bytes(1000))), PACKED))


@pytest.mark.parametrize(
    ("accepted", "octets"),
    [
        ("application/octet-stream", True),
        ("Application/Octet-Stream", True),
        ("application/octet-stream;q=0.5", True),
        ("application/octet-stream , application/json", True),
        ("application/json;q=0.5, application/octet-stream;q=0.5", True),
        ("application/json;charset=utf-8;q=0.1, application/octet-stream ; q=0.2", True),
        ("*/*;q=0.1, application/octet-stream;q=0.2", True),
        ("*/*, application/json;q=0.1, application/octet-stream;q=0.2", True),
        ("text/html, application/*;q=0, application/octet-stream;q=0.001", True),
        ("", False),
        ("*/*", False),
        ("application/*", False),
        ("application/json", False),
        ("application/json, application/octet-stream;q=0", False),
        ("application/octet-stream;q=0.000", False),
        ("application/octet-stream;Q=0", False),
        ("application/json, application/octet-stream;q=0.9", False),
        ("*/*, application/octet-stream;q=0.9", False),
        ("*/*;q=0.1, application/*, application/octet-stream;q=0.9", False),
        ("application/octet-stream;q=much", False),
        ("application/octet-stream-like", False),
        ("x-application/octet-stream, text/html", False),
        ("application/octet-stream;q=, ,;", False),
    ],
)
def test_the_answer_is_octets_if_they_are_named_and_json_is_not_preferred(accepted: str, octets: bool) -> None:
    """RFC 9110, 12.5.1. A wildcard, which most clients send without thinking, asks for nothing but JSON."""
    assert takes_octets({b"accept": accepted.encode()}) is octets
    assert not takes_octets({})


class Noting(codec.Decoder):
    """A decoder that records the threads in which it searches for errors."""

    def __init__(self, threads: list[threading.Thread]) -> None:
        super().__init__(LIMITS, TOKENS)
        self._threads = threads

    def exact(self, body: bytes, choose: Choose) -> PredictRequest:
        self._threads.append(threading.current_thread())
        return super().exact(body, choose)

    def exact_chunk(self, body: bytes, spec: ModelSpec, known: Sequence[str] = CHUNK_MEMBERS) -> Chunk:
        self._threads.append(threading.current_thread())
        return super().exact_chunk(body, spec, known)


class Idle:
    """As much of a service and its model as a refused request needs."""

    spec = SPEC

    def model(self, *_: object) -> Self:
        return self

    def hold(self) -> Self:
        return self

    def release(self) -> None:
        pass

    def backlog(self) -> float:
        return 0.0


SIZES = pytest.mark.parametrize("steps", [1, SEARCHED // 8, LARGE // 8], ids=["small", "middling", "large"])


@SIZES
def test_what_is_wrong_with_a_chunk_is_searched_for_where_that_holds_nobody_up(steps: int) -> None:
    """To find what is wrong takes many times as long as to read a good chunk, which is done on the event loop."""
    threads: list[threading.Thread] = []
    bodies = Bodies(LIMIT, Room(2 * LIMIT))
    decoder = ChunkDecoder(bodies, LIMITS, lambda: Noting(threads))
    good = json.dumps({"input": [[1, 2]] * steps}).encode()
    if len(good) < LARGE:
        assert len(asyncio.run(beside_large_work(bodies, lambda: decoder.from_json(good, SPEC))).steps) == steps
    assert threads == []
    with pytest.raises(InvalidRequest, match=f"/input/{steps}/1"):
        asyncio.run(decoder.from_json(good[:-2] + b', [3, "x"]]}', SPEC))
    assert [each is threading.main_thread() for each in threads] == [steps == 1]


@SIZES
def test_so_is_what_is_wrong_with_a_request(steps: int) -> None:
    threads: list[threading.Thread] = []
    service: Any = Idle()
    predict = Predict(
        service, Bodies(LIMIT, Room(2 * LIMIT)), limits=LIMITS, timeout=1, tokens=TOKENS, new_parser=lambda: Noting(threads)
    )
    body = json.dumps({"instances": [[[1, 2]] * steps + [[3, "x"]]]}).encode()
    scope = {"headers": [(b"content-type", b"application/json")], "query_string": b"", "state": {}}
    with pytest.raises(InvalidRequest, match=f"/instances/0/{steps}/1"):
        asyncio.run(predict(scope, ReceivedBody(body)))
    assert [each is threading.main_thread() for each in threads] == [steps == 1]
