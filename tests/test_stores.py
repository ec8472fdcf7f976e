"""The stores: first what all of them promise, then what each must survive."""

import asyncio
import errno
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from fcntl import LOCK_EX, flock
from pathlib import Path
from time import time
from typing import Any

import lmdb
import pytest
import redis as redis_client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import InvalidRequest, StoreUnavailable
from app.main import _store
from app.settings import Settings
from app.stores import GONE, TAG, Store
from app.stores.embedded import Embedded
from app.stores.files import advice
from app.stores.memory import Memory
from app.stores.pipeline import Pipeline
from app.stores.redis import Redis
from tests.redis_server import RedisServer, needs_redis, redis_server
from tests.servers import ROOT, free_port
from tests.test_tls import make_certificate

NOW = float(int(time()))  # Redis compares with its own clock, so the tests use the present time
SOON, LATER = NOW + 10, NOW + 100


def tag(number: int) -> bytes:
    return number.to_bytes(TAG, "big")


def record(number: int, body: bytes = b"state") -> bytes:
    return tag(number) + body


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis server for many tests; tests that kill theirs start their own."""
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


def told(server: RedisServer, *command: Any) -> Any:
    """What Redis answers to a command that the store itself does not send."""
    with closing(redis_client.Redis.from_url(server.url)) as client:
        return client.execute_command(*command)


Opened = Callable[[], Store]


@pytest.fixture(params=["memory", "embedded", pytest.param("redis", marks=needs_redis)])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """A function that opens an empty store, for each kind in turn."""
    if request.param == "memory":
        return Memory
    if request.param == "embedded":
        return lambda: Embedded(tmp_path)
    server: RedisServer = request.getfixturevalue("server")
    told(server, "FLUSHALL")
    return lambda: Redis(server.url)


def run(opened: Opened, scenario: Callable[[Any], Awaitable[None]]) -> None:
    """Run the scenario with an open store, and close the store after it."""

    async def whole() -> None:
        store = opened()
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(whole())


# What every store promises.


def test_a_swap_that_expects_nothing_creates_only_where_nothing_is(opened: Opened) -> None:
    async def scenario(store: Store) -> None:
        assert await store.read("a") is None
        assert not await store.swap("a", record(1), expected=tag(9), until=LATER)
        assert await store.read("a") is None
        assert await store.swap("a", record(1), expected=None, until=LATER)
        assert not await store.swap("a", record(2), expected=None, until=LATER)
        assert await store.read("a") == record(1)
        assert await store.read("b") is None

    run(opened, scenario)


def test_a_swap_replaces_only_what_it_expects(opened: Opened) -> None:
    """When two processes work on one chunk, only one of them may succeed."""

    async def scenario(store: Store) -> None:
        await store.swap("a", record(1), expected=None, until=LATER)
        assert await store.swap("a", record(2, b"longer than it was"), expected=tag(1), until=LATER)
        assert not await store.swap("a", record(3), expected=tag(1), until=LATER)
        assert await store.read("a") == record(2, b"longer than it was")
        assert await store.count() == 1

    run(opened, scenario)


def test_a_lost_race_changes_nothing(opened: Opened) -> None:
    """Neither the record nor its expiry changes."""

    async def scenario(store: Store) -> None:
        await store.swap("a", record(1), expected=None, until=SOON)
        assert not await store.swap("a", record(2), expected=tag(7), until=LATER)
        assert not await store.swap("a", record(2), expected=None, until=LATER)
        assert not await store.remove("a", expected=tag(7))
        assert await store.read("a") == record(1)
        assert await store.sweep(SOON + 1, limit=10) == 1

    run(opened, scenario)


def test_of_many_swaps_that_expect_the_same_exactly_one_wins(opened: Opened) -> None:
    async def scenario(store: Store) -> None:
        await store.swap("a", record(0), expected=None, until=LATER)
        swaps = [store.swap("a", record(number), expected=tag(0), until=LATER) for number in range(1, 65)]
        won = await asyncio.gather(*swaps)
        assert won.count(True) == 1
        assert await store.read("a") == record(won.index(True) + 1)

    run(opened, scenario)


def test_each_of_many_writes_at_once_succeeds_or_fails_alone(opened: Opened) -> None:
    """The writes share a transaction or a round trip; one that fails must not fail the others."""

    async def scenario(store: Store) -> None:
        made = [store.swap(f"{key}", record(key), expected=None, until=LATER) for key in range(400)]
        assert all(await asyncio.gather(*made))
        writes = [
            store.remove(f"{key}", expected=tag(key if key % 4 else 9999))
            if key % 2
            else store.swap(f"{key}", record(key + 1000), expected=tag(key if key % 4 else 9999), until=LATER)
            for key in range(400)
        ]
        assert await asyncio.gather(*writes) == [key % 4 != 0 for key in range(400)]
        for key in range(400):
            left = record(key) if key % 4 == 0 else None if key % 2 else record(key + 1000)
            assert await store.read(f"{key}") == left

    run(opened, scenario)


def test_what_was_removed_is_not_remembered_and_can_begin_again(opened: Opened) -> None:
    """A stream that its owner deleted counts as never created; one that expired is reported as expired."""

    async def scenario(store: Store) -> None:
        assert not await store.remove("a", expected=tag(1))
        await store.swap("a", record(1), expected=None, until=SOON)
        assert not await store.remove("a", expected=tag(2))
        assert await store.remove("a", expected=tag(1))
        assert not await store.remove("a", expected=tag(1))
        assert await store.read("a") is None
        assert await store.count() == 0
        assert await store.sweep(LATER, limit=10) == 0
        assert not await store.expired("a")
        assert await store.swap("a", record(3), expected=None, until=LATER + 1)
        assert await store.sweep(LATER, limit=10) == 0

    run(opened, scenario)


def test_what_is_over_stays_until_it_is_swept_and_is_remembered_then(opened: Opened) -> None:
    async def scenario(store: Store) -> None:
        await store.swap("a", record(1), expected=None, until=SOON)
        await store.swap("b", record(2), expected=None, until=LATER)
        assert await store.sweep(SOON - 1, limit=10) == 0
        assert await store.read("a") == record(1)
        assert not await store.expired("a")
        assert await store.sweep(SOON, limit=10) == 1
        assert await store.read("a") is None
        assert await store.expired("a")
        assert not await store.expired("b")
        assert await store.read("b") == record(2)
        assert await store.count() == 1
        assert await store.sweep(SOON, limit=10) == 0

    run(opened, scenario)


def test_a_key_that_is_used_again_did_not_expire(opened: Opened) -> None:
    async def scenario(store: Store) -> None:
        await store.swap("a", record(1), expected=None, until=SOON)
        await store.sweep(SOON, limit=10)
        assert await store.swap("a", record(2), expected=None, until=LATER)
        assert not await store.expired("a")
        assert await store.remove("a", expected=tag(2))
        assert not await store.expired("a")
        assert await store.swap("a", record(3), expected=None, until=LATER)
        assert await store.sweep(LATER, limit=10) == 1
        assert await store.expired("a")

    run(opened, scenario)


@pytest.mark.parametrize("until", [LATER, SOON - 5], ids=["later", "earlier"])
def test_the_last_write_says_when_it_is_over(opened: Opened, until: float) -> None:
    """A stream in use stays alive, however often a sweep looked at it; a shorter time to live takes effect too."""

    async def scenario(store: Store) -> None:
        await store.swap("a", record(1), expected=None, until=SOON)
        await store.swap("a", record(2), expected=tag(1), until=until)
        assert await store.sweep(until - 1, limit=10) == 0
        assert await store.sweep(until - 0.5, limit=10) == 0
        assert await store.read("a") == record(2)
        assert await store.swap("a", record(3), expected=tag(2), until=until)
        assert await store.sweep(until, limit=10) == 1
        assert await store.count() == 0

    run(opened, scenario)


def test_a_sweep_drops_no_more_than_its_limit(opened: Opened) -> None:
    """A long sweep of expired streams must not hold up live ones."""

    async def scenario(store: Store) -> None:
        for key in range(5):
            await store.swap(f"{key}", record(key), expected=None, until=SOON)
        await store.swap("later", record(9), expected=None, until=LATER)
        assert [await store.sweep(SOON, limit=2) for _ in range(4)] == [2, 2, 1, 0]
        assert await store.count() == 1

    run(opened, scenario)


def test_a_sweep_finds_what_is_over_behind_any_number_that_lives_on(opened: Opened) -> None:
    """The index may hold early, outdated expiries of streams in use; skipping these must not use up the limit nor block others."""

    async def scenario(store: Store) -> None:
        for key in range(800):
            await store.swap(f"used {key}", record(key), expected=None, until=SOON)
        await store.swap("over", record(1), expected=None, until=SOON + 1)
        used = [store.swap(f"used {key}", record(key + 1), expected=tag(key), until=LATER) for key in range(800)]
        assert all(await asyncio.gather(*used))
        other = asyncio.create_task(asyncio.sleep(0))
        assert await store.sweep(SOON + 2, limit=1) == 1
        assert other.done()
        assert await store.expired("over")
        assert await store.count() == 800

    run(opened, scenario)


def test_of_two_sweeps_at_once_each_record_is_counted_by_one(opened: Opened) -> None:
    async def scenario(store: Store) -> None:
        made = [store.swap(f"{key}", record(key), expected=None, until=SOON) for key in range(1000)]
        await asyncio.gather(*made)
        assert sum(await asyncio.gather(*[store.sweep(SOON, limit=400) for _ in range(4)])) == 1000

    run(opened, scenario)


def test_pages_come_to_every_key_that_is_there_all_the_while(opened: Opened) -> None:
    """Other keys may come and go between two pages."""

    async def scenario(store: Store) -> None:
        made = [store.swap(f"key {key:04}", record(key), expected=None, until=LATER) for key in range(1000)]
        await asyncio.gather(*made)
        seen: list[str] = []
        cursor, pages = "", 0
        while True:
            keys, cursor = await store.page(cursor, limit=100)
            assert len(keys) <= 200
            seen += keys
            pages += 1
            for number in (3 * pages, 1000 - 3 * pages):
                await store.remove(f"key {number:04}", expected=tag(number))
                await store.swap(f"new {number:04}", record(number), expected=None, until=LATER)
            if not cursor:
                break
        removed = {f"key {number:04}" for page in range(1, pages + 1) for number in (3 * page, 1000 - 3 * page)}
        assert {f"key {key:04}" for key in range(1000)} - removed <= set(seen)
        assert 5 <= pages <= 40
        assert await store.count() == 1000

    run(opened, scenario)


def test_a_page_of_nothing_is_the_last(opened: Opened) -> None:
    async def scenario(store: Store) -> None:
        assert await store.page("", limit=10) == ([], "")
        await store.swap("a", record(1), expected=None, until=LATER)
        assert await store.page("", limit=1) == (["a"], "")

    run(opened, scenario)


def test_a_record_may_hold_any_bytes_and_a_key_128_characters(opened: Opened) -> None:
    async def scenario(store: Store) -> None:
        key = "".join(chr(33 + number % 94) for number in range(128))
        for number, body in enumerate([b"", bytes(range(256)), b"\r\n$-1\r\n", bytes(2**20), b"end"]):
            expected = tag(number) if number else None
            assert await store.swap(key, record(number + 1, body), expected=expected, until=LATER)
            assert await store.read(key) == record(number + 1, body)
        odd = bytes([0, 13, 10, 255] * 4)
        assert await store.swap(key, odd, expected=tag(5), until=LATER)
        assert await store.swap(key, odd[::-1], expected=odd, until=LATER)
        assert await store.page("", limit=10) == ([key], "")

    run(opened, scenario)


def test_a_store_that_can_be_written_proves_it_and_keeps_nothing_of_that(opened: Opened) -> None:
    async def scenario(store: Store) -> None:
        await store.swap("a", record(1), expected=None, until=LATER)
        await asyncio.gather(store.prove(), store.prove())
        assert await store.count() == 1
        assert await store.page("", limit=10) == (["a"], "")
        assert await store.sweep(LATER - 1, limit=10) == 0
        if isinstance(store, Embedded):
            assert databases(store)["gone"] == []

    run(opened, scenario)


def test_a_caller_who_leaves_takes_nobody_along(opened: Opened) -> None:
    """The requests share a transaction or a round trip."""

    async def scenario(store: Store) -> None:
        swaps = [asyncio.ensure_future(store.swap(f"{key}", record(key), expected=None, until=LATER)) for key in range(20)]
        reads = [asyncio.ensure_future(store.read(f"{key}")) for key in range(20)]
        await asyncio.sleep(0)  # all of them are waiting now
        for task in swaps[::2] + reads[::2]:
            task.cancel()
        answers = await asyncio.gather(*swaps, return_exceptions=True)
        await asyncio.gather(*reads, return_exceptions=True)
        assert answers[1::2] == [True] * 10
        for key in range(1, 20, 2):
            assert await store.read(f"{key}") == record(key)
        for key in range(0, 20, 2):  # each was written whole or not at all; the caller that left can find out which
            assert await store.read(f"{key}") in (None, record(key))

    run(opened, scenario)


# Against a reference.


@dataclass(slots=True)
class Reference:
    """A store without an index, which looks at every record."""

    kept: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)

    def swap(self, key: str, written: bytes, expected: bytes | None, until: float) -> bool:
        if (self.kept[key][0][:TAG] if key in self.kept else None) != expected:
            return False
        self.kept[key] = (written, until)
        self.gone.pop(key, None)
        return True

    def remove(self, key: str, expected: bytes) -> bool:
        if key not in self.kept or self.kept[key][0][:TAG] != expected:
            return False
        del self.kept[key]
        return True

    def over(self, now: float) -> set[str]:
        return {key for key, (_, until) in self.kept.items() if until <= now}

    def drop(self, keys: set[str], now: float) -> None:
        for key in keys:
            del self.kept[key]
            self.gone[key] = now


KEYS = st.sampled_from("abcd")
TIMES = st.sampled_from([0.0, 0.25, 1.0, 7.0, 40.0])
STEPS = st.one_of(
    st.tuples(st.just("swap"), KEYS, st.sampled_from(["right", "right", "right", "wrong", "none"]), TIMES),
    st.tuples(st.just("remove"), KEYS, st.sampled_from(["right", "right", "wrong"]), TIMES),
    st.tuples(st.just("sweep"), KEYS, st.sampled_from(["all", "one"]), TIMES),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=40))
def test_every_history_ends_as_in_a_store_that_looks_at_everything(
    opened: Opened, steps: list[tuple[str, str, str, float]]
) -> None:
    """Whatever is written, removed and swept, in whatever order: the index finds the expired records, and only those."""

    async def scenario(store: Store) -> None:
        reference, now = Reference(), NOW
        await empty(store)
        for number, (act, key, how, seconds) in enumerate(steps, start=1):
            right = reference.kept[key][0][:TAG] if key in reference.kept else None
            if act == "swap":
                expected = {"right": right, "wrong": tag(9999), "none": None}[how]
                written = record(number)
                happened = reference.swap(key, written, expected, now + seconds)
                assert await store.swap(key, written, expected=expected, until=now + seconds) == happened
            elif act == "remove":
                named = right or tag(9999) if how == "right" else tag(9999)
                assert await store.remove(key, expected=named) == reference.remove(key, named)
            else:
                now += seconds
                over = reference.over(now)
                dropped = await store.sweep(now, limit=1 if how == "one" else 100)
                assert dropped == (min(1, len(over)) if how == "one" else len(over))
                reference.drop({each for each in over if await store.read(each) is None}, now)
                assert len(reference.over(now)) == len(over) - dropped
            for each in "abcd":
                assert await store.read(each) == reference.kept.get(each, (None, 0.0))[0]
                assert await store.expired(each) == (each in reference.gone)
            assert await store.count() == len(reference.kept)
            assert set((await store.page("", limit=100))[0]) == reference.kept.keys()

    run(opened, scenario)


async def empty(store: Store) -> None:
    """Make the store as good as new, except for its files' size: the examples share them."""
    for key in "abcd":
        if (kept := await store.read(key)) is not None:
            await store.remove(key, expected=kept[:TAG])
        await store.swap(key, record(0), expected=None, until=LATER)  # makes the store forget that the key expired
        await store.remove(key, expected=tag(0))


@pytest.mark.parametrize("kind", ["memory", "embedded"])
def test_an_hour_later_it_is_forgotten_that_a_key_expired(kind: str, tmp_path: Path) -> None:
    """Otherwise the keys of all streams that ever existed would be kept."""

    async def scenario(store: Store) -> None:
        for key in "ab":
            await store.swap(key, record(1), expected=None, until=SOON)
            await store.sweep(SOON, limit=10)
        await store.swap("b", record(1), expected=None, until=LATER + GONE)
        await store.sweep(SOON + GONE - 1, limit=10)
        assert await store.expired("a")
        await store.sweep(SOON + GONE, limit=10)
        assert not await store.expired("a")
        assert await store.read("b") == record(1)

    run(Memory if kind == "memory" else lambda: Embedded(tmp_path), scenario)


@pytest.mark.parametrize("kind", ["memory", "embedded"])
def test_pages_of_a_store_that_rests_are_sorted_and_full_and_hold_each_key_once(kind: str, tmp_path: Path) -> None:
    """Redis promises less about scans of large sets."""

    async def scenario(store: Store) -> None:
        for key in "gbdface":
            await store.swap(key, record(1), expected=None, until=LATER)
        assert await store.page("", limit=3) == (["a", "b", "c"], "c")
        assert await store.page("c", limit=3) == (["d", "e", "f"], "f")
        assert await store.page("f", limit=3) == (["g"], "")
        assert await store.page("", limit=7) == (list("abcdefg"), "")

    run(Memory if kind == "memory" else lambda: Embedded(tmp_path), scenario)


# The memory of one process.


def test_memory_keeps_no_index_entries_of_streams_that_ended() -> None:
    """Streams that are closed after a second may have a time to live of days."""

    async def scenario(store: Memory) -> None:
        for number in range(20_000):
            await store.swap(f"{number}", record(number), expected=None, until=LATER)
            await store.remove(f"{number}", expected=tag(number))
        assert re.fullmatch(r"Memory\(0 kept, \d{1,4} due, 0 gone\)", repr(store))

    run(Memory, scenario)


def test_memory_index_has_one_entry_for_a_record_however_often_it_is_used() -> None:
    async def scenario(store: Memory) -> None:
        await store.swap("a", record(0), expected=None, until=SOON)
        for number in range(100):
            await store.swap("a", record(number + 1), expected=tag(number), until=SOON + number)
        assert repr(store) == "Memory(1 kept, 1 due, 0 gone)"
        assert await store.sweep(SOON + 98, limit=10) == 0
        assert repr(store) == "Memory(1 kept, 1 due, 0 gone)"

    run(Memory, scenario)


def test_memory_index_sheds_what_a_shorter_time_left_behind() -> None:
    """Each leftover entry would stay in the index for ever, as one more entry of the same record."""

    async def scenario(store: Memory) -> None:
        await store.swap("a", record(0), expected=None, until=SOON + 1)
        await store.swap("a", record(1), expected=tag(0), until=SOON)
        await store.swap("a", record(2), expected=tag(1), until=LATER)
        assert repr(store) == "Memory(1 kept, 2 due, 0 gone)"
        assert await store.sweep(SOON + 1, limit=10) == 0
        assert repr(store) == "Memory(1 kept, 1 due, 0 gone)"

    run(Memory, scenario)


def test_memory_remembers_a_bounded_number_of_keys_and_forgets_the_oldest() -> None:
    async def scenario(store: Memory) -> None:
        for number in range(5):
            await store.swap(f"{number}", record(number), expected=None, until=SOON + number)
        assert await store.sweep(LATER, limit=10) == 5
        assert [await store.expired(f"{number}") for number in range(5)] == [False, False, True, True, True]

    run(lambda: Memory(most_gone=3), scenario)


# The embedded store.


def databases(store: Embedded) -> dict[str, list[tuple[bytes, bytes]]]:
    """All key-value pairs in its files, by database."""
    files = store._files
    assert files is not None
    with files.env.begin() as txn:
        return {name: list(txn.cursor(getattr(files, name))) for name in ("records", "due", "gone")}


def test_embedded_records_and_what_expired_outlive_the_process(tmp_path: Path) -> None:
    async def before(store: Embedded) -> None:
        await store.swap("a", record(1), expected=None, until=SOON)
        await store.swap("b", record(2), expected=None, until=LATER)
        await store.sweep(SOON, limit=10)

    async def after(store: Embedded) -> None:
        assert await store.expired("a")
        assert await store.read("b") == record(2)
        assert await store.sweep(LATER, limit=10) == 1

    run(lambda: Embedded(tmp_path), before)
    run(lambda: Embedded(tmp_path), after)


def test_embedded_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    """A state tells something about what was measured."""

    async def scenario() -> None:
        store = Embedded(tmp_path / "data")
        await store.swap("a", record(1), expected=None, until=LATER)
        await store.close()

    asyncio.run(scenario())
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "data", tmp_path / "data" / "data.mdb")} == {0}


def test_embedded_swap_of_an_existing_key_writes_one_database(tmp_path: Path) -> None:
    """Every chunk of every stream costs this write."""

    async def scenario(store: Embedded) -> None:
        await store.swap("a", record(1), expected=None, until=SOON)
        before = databases(store)
        await store.swap("a", record(2), expected=tag(1), until=LATER)
        after = databases(store)
        assert before.pop("records") != after.pop("records")
        assert before == after

    run(lambda: Embedded(tmp_path), scenario)


def test_embedded_index_holds_nothing_of_what_is_gone_for_good(tmp_path: Path) -> None:
    """A file that only grows fills the disk in the end."""

    async def scenario(store: Embedded) -> None:
        for number in range(50):
            await store.swap(f"{number}", record(number), expected=None, until=SOON + number % 7)
            if number % 3 == 0:
                await store.swap(f"{number}", record(number), expected=tag(number), until=SOON - 1)
            if number % 2:
                await store.remove(f"{number}", expected=tag(number))
        await store.sweep(SOON + 3, limit=1000)
        for number in range(0, 50, 4):
            await store.swap(f"{number}", record(number), expected=None, until=SOON)
        assert await store.sweep(LATER, limit=1000) > 0
        assert len(databases(store)["due"]) == len(databases(store)["gone"])
        await store.sweep(LATER + GONE, limit=1000)
        assert databases(store) == {"records": [], "due": [], "gone": []}

    run(lambda: Embedded(tmp_path), scenario)


def test_embedded_writes_what_waits_when_it_is_closed(tmp_path: Path) -> None:
    async def before(store: Embedded) -> None:
        swap = asyncio.ensure_future(store.swap("a", record(1), expected=None, until=SOON))
        await asyncio.sleep(0)
        await store.close()
        assert await swap
        with pytest.raises(StoreUnavailable, match="is closed"):
            await store.read("a")

    async def after(store: Embedded) -> None:
        assert await store.read("a") == record(1)

    run(lambda: Embedded(tmp_path), before)
    run(lambda: Embedded(tmp_path), after)


COUNTER = """
import asyncio, os, random, sys
from pathlib import Path
from app.stores import TAG
from app.stores.embedded import Embedded

async def count(folder, seed, increments):
    store, chance = Embedded(Path(folder)), random.Random(seed)
    while increments:
        key = f"counter {chance.randrange(4)}"
        old = await store.read(key)
        value = int.from_bytes(old[TAG : TAG + 8], "big") + 1 if old else 1
        new = os.urandom(TAG) + value.to_bytes(8, "big") * chance.randrange(1, 1000)
        if await store.swap(key, new, expected=old[:TAG] if old else None, until=2e9):
            os.write(1, f"{key}\\n".encode())
            increments -= 1
        if not increments % 50:
            await store.sweep(1e9, limit=10)
    await store.close()

asyncio.run(count(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


def python(source: str, *arguments: str, stderr: int | None = None) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", source, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True)


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_embedded_loses_nothing_when_processes_that_write_are_killed(tmp_path: Path) -> None:
    """Every acknowledged write is there. Of the others, at most one for each killed process may be there."""
    chance = random.Random(1)
    acknowledged: dict[str, int] = {}
    kills = 0

    def take(process: "subprocess.Popen[str]", lines: int) -> None:
        for _ in range(lines):
            if not (key := line_of(process)):
                break
            acknowledged[key] = acknowledged.get(key, 0) + 1

    for _ in range(5):
        running = [python(COUNTER, str(tmp_path), str(chance.random()).removeprefix("0."), "1000000") for _ in range(3)]
        for process in running:
            take(process, chance.randrange(1, 400))
        for process in running:
            process.kill()
            kills += 1
        for process in running:
            take(process, 10**9)
            process.communicate()
            assert process.returncode == -signal.SIGKILL
    last = [python(COUNTER, str(tmp_path), str(seed), "200") for seed in range(2)]
    for process in last:
        take(process, 10**9)
        process.communicate()
        assert process.returncode == 0

    async def scenario(store: Embedded) -> None:
        excess = 0
        for key, times in acknowledged.items():
            kept = await store.read(key)
            assert kept is not None
            counted = int.from_bytes(kept[TAG : TAG + 8], "big")
            assert kept[TAG:] == counted.to_bytes(8, "big") * (len(kept[TAG:]) // 8)  # the record is whole
            assert counted >= times
            excess += counted - times
        assert excess <= kills
        assert await store.count() == len(acknowledged) == 4
        assert len(databases(store)["due"]) == 4

    run(lambda: Embedded(tmp_path), scenario)
    assert sum(acknowledged.values()) > 1000


async def fill(store: Store, size: int, *, most: int = 100_000) -> tuple[int, str]:
    """How many records of this size the store takes, and the error that it then gives."""
    for number in range(most):
        try:
            assert await store.swap(f"{number}", record(number, bytes(size)), expected=None, until=SOON)
        except StoreUnavailable as error:
            return number, error.detail
    return most, ""


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[], None]]:
    """A file system of 3 MiB, half of which is taken until the function that it yields is called."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        (folder / "ballast").write_bytes(bytes(2**20 * 3 // 2))
        yield (folder / "ballast").unlink
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def small_files(folder: Path) -> Iterator[Callable[[], None]]:
    """No file of this process may grow beyond 1.5 MiB until the function that it yields is called."""
    folder.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20 * 3 // 2, before[1]))
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fails_is_not_taken_for_one_that_is_full() -> None:
    """LMDB reports both with the same error."""
    assert "the disk fails" in advice(OSError(errno.EIO, ""))
    assert "the disk fails" not in advice(OSError(errno.ENOSPC, ""))


@pytest.mark.parametrize("confined", [small_disk, small_files])
@pytest.mark.parametrize("size", [300, 30_000], ids=["small", "large"])
def test_embedded_goes_on_when_a_full_disk_has_space_again(confined: Callable[[Path], Any], size: int, tmp_path: Path) -> None:
    """A full disk gives an error that says so, never a signal, and no stored record is lost."""

    async def scenario(store: Embedded, relief: Callable[[], None]) -> None:
        kept, error = await fill(store, size)
        assert re.search(r"cannot be used: .*\. Free space on its disk; nothing in it was lost\.", error)
        assert str(tmp_path) in error
        assert kept > 10
        assert await store.count() == kept
        for key in range(kept):
            assert await store.read(f"{key}") == record(key, bytes(size))
        assert await store.read(f"{kept}") is None
        with pytest.raises(StoreUnavailable, match="Free space on its disk"):
            await store.prove()  # still reports the trouble, though pages that were used before can be written
        relief()
        await store.prove()
        assert await store.swap(f"{kept}", record(kept, bytes(size)), expected=None, until=SOON)
        assert await store.swap("0", record(7), expected=tag(0), until=LATER)
        assert await store.sweep(SOON, limit=100_000) == kept

    with confined(tmp_path / "disk") as relief:
        run(lambda: Embedded(tmp_path / "disk"), lambda store: scenario(store, relief))
        run(lambda: Embedded(tmp_path / "disk"), lambda store: store.read("0"))


def test_embedded_store_that_finds_no_space_to_begin_with_says_so(tmp_path: Path) -> None:
    """LMDB maps its table of readers before the disk has space for it: that would raise SIGBUS."""
    with small_disk(tmp_path / "disk") as relief:
        with suppress(OSError), (tmp_path / "disk" / "rest").open("wb") as rest:
            rest.write(bytes(2**22))
        process = python(OPEN, str(tmp_path / "disk"), "a", stderr=subprocess.PIPE)
        _, trouble = process.communicate("open\n", timeout=30)
        assert process.returncode == 1
        assert "StoreUnavailable: Streams cannot be kept in" in trouble
        assert "No space left on device" in trouble
        relief()
        process = python(OPEN, str(tmp_path / "disk"), "a")
        process.communicate("open\n", timeout=30)
        assert process.returncode == 0


def test_embedded_store_that_could_not_begin_can_do_so_later(tmp_path: Path) -> None:
    """LMDB opens a file only once in a process, so a failed opening must release the file."""
    with lmdb.open(str(tmp_path)) as env, env.begin(write=True) as txn:
        txn.put(b"due", b"somebody else's")
    with pytest.raises(StoreUnavailable, match=r"Streams cannot be kept in .*MDB_INCOMPATIBLE") as raised:
        Embedded(tmp_path)
    with lmdb.open(str(tmp_path)) as env, env.begin(write=True) as txn:
        txn.delete(b"due")
    run(lambda: Embedded(tmp_path), lambda store: store.read("a"))
    assert raised.value.__traceback__  # held until here, with all that it refers to


LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from app.stores.embedded import Embedded

async def main():
    with open("/proc/self/statm") as statm:
        taken = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[2]), resource.RLIM_INFINITY))
    store = Embedded(Path(sys.argv[1]))
    assert await store.swap("a", bytes(5000), expected=None, until=2e9)
    await store.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("left", [2**30, 2**23], ids=["much", "nothing"])
def test_embedded_store_takes_a_part_of_an_address_space_that_is_limited(left: int, tmp_path: Path) -> None:
    """Containers and shells limit it (ulimit -v); the error must not blame a folder that cannot be written."""
    process = python(LIMITED, str(tmp_path), str(left), stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=30)
    assert "The address space is limited (ulimit -v): streams may take" in said
    assert process.returncode == (0 if left == 2**30 else 1)
    assert (left == 2**23) == ("Cannot allocate memory. It needs more address space than this process may have" in said)


def test_embedded_write_that_does_not_fit_fails_alone(tmp_path: Path) -> None:
    """Other writes in the same transaction succeed."""

    async def scenario(store: Embedded) -> None:
        swaps = [
            store.swap(f"{key}", record(key, bytes(2**23 if key == 3 else 100)), expected=None, until=SOON) for key in range(8)
        ]
        answers = await asyncio.gather(*swaps, return_exceptions=True)
        assert isinstance(answers.pop(3), StoreUnavailable)
        assert answers == [True] * 7
        assert await store.count() == 7
        assert await store.read("3") is None

    run(lambda: Embedded(tmp_path, map_size=2**21), scenario)


def test_embedded_store_that_has_reached_its_size_says_so_and_goes_on_when_streams_end(tmp_path: Path) -> None:
    async def scenario(store: Embedded) -> None:
        files = store._files
        kept, error = await fill(store, 5000)
        assert "MDB_MAP_FULL" in error
        assert store._files is files  # else the files would be checked again at each refused write
        assert "It may take 1 MiB" in error
        assert await store.remove("1", expected=tag(1))
        assert await store.sweep(SOON, limit=10_000) == kept - 1
        assert await store.swap("new", record(1, bytes(5000)), expected=None, until=SOON)

    run(lambda: Embedded(tmp_path, map_size=2**20), scenario)


@dataclass(slots=True)
class Failing:
    """An LMDB environment whose disk failed in the middle of a commit, or whose file was damaged: it only raises errors."""

    env: lmdb.Environment
    error: type[lmdb.Error]

    def begin(self, *_: Any) -> Any:
        error = self.error("mdb_txn_begin")
        error.code = -30795  # type: ignore[misc]  # normally only LMDB itself sets it
        raise error

    def close(self) -> None:
        self.env.close()


async def given_up(store: Embedded, error: type[lmdb.Error] = lmdb.CorruptedError) -> None:
    """Make LMDB raise an error after which the environment may fail for ever."""
    files = store._files
    assert files is not None
    store._files = replace(files, env=Failing(files.env, error))  # type: ignore[arg-type]  # a stand-in
    with pytest.raises(StoreUnavailable, match="cannot be used: mdb_txn_begin"):
        await store.read("a")


@pytest.mark.parametrize("error", [lmdb.PanicError, lmdb.BadTxnError, lmdb.MapResizedError, lmdb.CorruptedError])
def test_embedded_opens_its_files_again_after_lmdb_has_given_up(error: type[lmdb.Error], tmp_path: Path) -> None:
    """The environment only fails from then on; without a reopening, the service would have to be restarted."""

    async def scenario(store: Embedded) -> None:
        await store.swap("a", record(1), expected=None, until=SOON)
        await given_up(store, error)
        assert await store.read("a") == record(1)
        assert await store.swap("a", record(2), expected=tag(1), until=SOON)

    run(lambda: Embedded(tmp_path), scenario)


def test_embedded_files_that_are_damaged_while_they_are_in_use_are_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The process that gets LMDB's error sets them aside; other processes that have them open notice this and switch too."""
    run(lambda: Embedded(tmp_path), lambda store: fill(store, 3000, most=50))
    other = python(FOLLOW, str(tmp_path))
    assert line_of(other) == "50"

    async def scenario(store: Embedded) -> None:
        with (tmp_path / "data.mdb").open("r+b") as file:
            file.seek((tmp_path / "data.mdb").stat().st_size // 2)
            file.write(bytes(4096))
        await given_up(store)
        assert await store.count() == 0
        assert await store.swap("a", record(1), expected=None, until=SOON)
        assert other.communicate("count\n")[0] == "1\n"

    run(lambda: Embedded(tmp_path), scenario)
    (aside,) = tmp_path.glob("data.mdb.damaged-*")
    (message,) = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert aside.name in message


def test_embedded_goes_on_when_what_its_files_begin_with_is_overwritten(tmp_path: Path) -> None:
    """If one process failed for ever while another had begun new files, one service would have two stores."""

    async def scenario(store: Embedded) -> None:
        await store.swap("a", record(1), expected=None, until=SOON)
        with (tmp_path / "data.mdb").open("r+b") as file:
            file.write(b"\xff" * 8192)
        with pytest.raises(StoreUnavailable, match="MDB_"):
            await store.count()
        assert await store.swap("a", record(2), expected=None, until=SOON)
        assert await store.count() == 1

    run(lambda: Embedded(tmp_path), scenario)


@pytest.mark.parametrize("happens", ["removed", "moved", "replaced", "unlocked"])
def test_embedded_files_that_are_not_there_any_more_are_opened_anew(
    happens: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise the next process would begin files of its own, and one id would be two streams."""
    folder = tmp_path / "data"
    run(lambda: Embedded(tmp_path / "copy"), lambda store: fill(store, 10, most=1))

    async def scenario(store: Embedded) -> None:
        await store.swap("a", record(1), expected=None, until=LATER)
        assert await store.read("a") == record(1)
        if happens == "removed":
            shutil.rmtree(folder)
        elif happens == "moved":
            folder.rename(tmp_path / "elsewhere")
        elif happens == "replaced":
            (tmp_path / "copy" / "data.mdb").replace(folder / "data.mdb")
        else:
            (folder / "lock.mdb").unlink()
        kept = 1 if happens in ("replaced", "unlocked") else 0
        assert not await store.swap("a", record(2), expected=tag(1 if happens != "unlocked" else 9), until=LATER)
        assert await store.count() == kept
        assert await store.swap("b", record(3), expected=None, until=LATER)
        process = python(OPEN, str(folder), "c")
        assert (await asyncio.to_thread(process.communicate, "open\n"))[0] == f"here\n{kept + 2}\n"
        assert await store.count() == kept + 2

    run(lambda: Embedded(folder, look=0.0), scenario)
    (message,) = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert message.startswith(f"The files in {folder} were removed or replaced while they were in use: streams begin anew")


def test_embedded_folder_that_is_gone_for_good_is_an_error_until_it_can_be_made(tmp_path: Path) -> None:
    folder = tmp_path / "mounted" / "data"

    async def scenario(store: Embedded) -> None:
        await store.swap("a", record(1), expected=None, until=LATER)
        shutil.rmtree(tmp_path / "mounted")
        (tmp_path / "mounted").touch()
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="Streams cannot be kept in"):
                await store.swap("a", record(2), expected=tag(1), until=LATER)
        (tmp_path / "mounted").unlink()
        assert await store.swap("a", record(1), expected=None, until=LATER)

    run(lambda: Embedded(folder, look=0.0), scenario)


@pytest.mark.parametrize("content", [b"no database at all " * 1000, b"short", b"", None], ids=["other", "short", "zeros", "cut"])
def test_embedded_files_that_cannot_be_read_are_set_aside(
    content: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A service that does not start helps nobody; the damaged files are kept for inspection."""
    run(lambda: Embedded(tmp_path), lambda store: fill(store, 3000, most=500))
    if content is None:
        content = (tmp_path / "data.mdb").read_bytes()[:8192]
    content = content.ljust(2**22, b"\0")  # else LMDB would touch pages beyond the end of the file
    (tmp_path / "data.mdb").write_bytes(content)

    async def scenario(store: Embedded) -> None:
        assert await store.count() == 0
        assert await store.swap("a", record(1), expected=None, until=SOON)

    run(lambda: Embedded(tmp_path), scenario)
    (aside,) = tmp_path.glob("data.mdb.damaged-*")
    assert aside.read_bytes() == content
    (message,) = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert str(tmp_path) in message
    assert aside.name in message


OPEN = """
import asyncio, sys
from pathlib import Path
from app.stores.embedded import Embedded

async def main():
    print("here", flush=True)
    sys.stdin.readline()
    store = Embedded(Path(sys.argv[1]))
    assert await store.swap(sys.argv[2], bytes(16), expected=None, until=2e9)
    print(await store.count())
    await store.close()

asyncio.run(main())
"""
FOLLOW = """
import asyncio, sys
from pathlib import Path
from app.stores.embedded import Embedded

async def main():
    store = Embedded(Path(sys.argv[1]), look=0.0)
    print(await store.count(), flush=True)
    sys.stdin.readline()
    print(await store.count())

asyncio.run(main())
"""
HOLD = """
import sys
from pathlib import Path
from app.stores.embedded import Embedded

store = Embedded(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.readline()
"""


def test_embedded_files_are_looked_through_by_who_opens_them_first(tmp_path: Path) -> None:
    """A power cut, a full disk or a restored copy can leave files that crash every process in which LMDB opens them."""
    run(lambda: Embedded(tmp_path), lambda store: fill(store, 3000, most=500))
    whole = (tmp_path / "data.mdb").read_bytes()
    half = len(whole) // 2
    stale = whole[:half] + whole[half - 4096 : half] + whole[half + 4096 :]
    for content in (whole, whole[:8192], whole[:half], whole[:-4096], stale):
        (tmp_path / "data.mdb").write_bytes(content)  # beside the other files that the last process left
        process = python(OPEN, str(tmp_path), "new")
        answer, _ = process.communicate("open\n", timeout=30)
        assert process.returncode == 0
        assert int(answer.removeprefix("here")) == (501 if content is whole else 1)
        damaged = list(tmp_path.glob("data.mdb.damaged-*"))
        assert len(damaged) == (0 if content is whole else 1)
        for file in damaged:
            file.unlink()


def test_embedded_files_that_another_process_has_open_are_not_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process still writes, so the files would seem damaged. Once it is killed, the next process to open is the first."""
    looked: list[str] = []

    def problems(folder: str) -> list[str]:
        looked.append(folder)
        return []

    monkeypatch.setattr("app.stores.files._problems", problems)
    other = python(HOLD, str(tmp_path))
    assert line_of(other) == "open"
    for _ in range(2):  # the other's lock outlives those of processes that come and go
        run(lambda: Embedded(tmp_path), lambda store: store.count())
        assert looked == []
    other.kill()
    other.communicate()
    run(lambda: Embedded(tmp_path), lambda store: store.count())
    assert looked == [str(tmp_path)]


def test_embedded_folder_that_was_removed_while_a_process_waited_for_it_is_made_anew(tmp_path: Path) -> None:
    """A process that waited for the lock of a deleted file has locked nothing that other processes can see."""
    folder = tmp_path / "data"
    folder.mkdir()
    with (folder / "opened").open("ab") as gate:
        flock(gate, LOCK_EX)
        process = python(OPEN, str(folder), "a")
        assert line_of(process) == "here"
        assert process.stdin is not None
        process.stdin.write("open\n")
        process.stdin.flush()
        while not any("->" in lock and f" {process.pid} " in lock for lock in Path("/proc/locks").read_text().splitlines()):
            assert process.poll() is None
        shutil.rmtree(folder)
    process.communicate(timeout=30)
    assert process.returncode == 0
    run(lambda: Embedded(folder), lambda store: fill(store, 10, most=1))
    assert (folder / "data.mdb").exists()


def test_embedded_files_are_set_aside_by_one_of_the_processes_that_open_them(tmp_path: Path) -> None:
    """A second process would set aside the files that the first has begun, and the two would then serve different streams."""
    run(lambda: Embedded(tmp_path), lambda store: fill(store, 500, most=5000))  # checking these takes a while
    with (tmp_path / "data.mdb").open("r+b") as file:
        file.truncate((tmp_path / "data.mdb").stat().st_size - 4096)
    processes = [python(OPEN, str(tmp_path), key) for key in "abcd"]
    for process in processes:
        assert line_of(process) == "here"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("open\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=30)
        assert process.returncode == 0
    assert len(list(tmp_path.glob("data.mdb.damaged-*"))) == 1

    async def scenario(store: Embedded) -> None:
        assert (await store.page("", limit=10))[0] == ["a", "b", "c", "d"]

    run(lambda: Embedded(tmp_path), scenario)


def test_embedded_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match=rf"Streams cannot be kept in {re.escape(str(tmp_path))}/file/below"):
        Embedded(tmp_path / "file" / "below")


# Redis.


@needs_redis
@pytest.mark.parametrize("address", ["tcp", "socket", "valkey"])
def test_redis_is_found_by_each_kind_of_address(address: str, server: RedisServer) -> None:
    told(server, "FLUSHALL")
    url = {"tcp": server.url, "socket": server.socket, "valkey": server.url.replace("redis", "valkey")}[address]

    async def scenario(store: Redis) -> None:
        assert await store.swap("a", record(1), expected=None, until=LATER)
        assert await store.read("a") == record(1)

    run(lambda: Redis(url), scenario)


@needs_redis
@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl on the PATH")
def test_redis_over_tls_is_used_only_where_its_certificate_is_trusted(tmp_path: Path) -> None:
    """A large record takes many TLS packets, and operations that come together still share round trips."""
    certificate, key = make_certificate(tmp_path)
    port = free_port()
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate))
    url = f"rediss://127.0.0.1:{port}/0"
    large = record(1, b"x" * 2**20)

    async def trusted(store: Redis) -> None:
        swaps = [store.swap(f"{number}", large, expected=None, until=LATER) for number in range(20)]
        assert all(await asyncio.gather(*swaps))
        assert await asyncio.gather(*[store.read(f"{number}") for number in range(20)]) == [large] * 20

    async def unknown(store: Redis) -> None:
        with pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await store.read("0")

    with redis_server(tmp_path, "--tls-port", str(port), *files):  # this Redis requires client certificates, too
        run(lambda: Redis(f"{url}?ssl_ca_certs={certificate}&ssl_certfile={certificate}&ssl_keyfile={key}"), trusted)
        run(lambda: Redis(url.replace("rediss", "valkeys")), unknown)


@needs_redis
def test_redis_frees_everything_by_itself_when_no_service_is_left(server: RedisServer) -> None:
    """Otherwise its memory would stay full of the streams of a service that was taken down."""
    told(server, "FLUSHALL")

    async def scenario(store: Redis) -> None:
        await store.swap("kept", record(1), expected=None, until=LATER)
        await store.swap("gone", record(1), expected=None, until=SOON)
        await store.sweep(SOON, limit=10)
        assert told(server, "PEXPIRETIME", "{recurve}:stream:kept") == int((LATER + GONE) * 1000)
        assert GONE - 60 < told(server, "TTL", "{recurve}:gone:gone") <= GONE
        assert {key.decode().split(":")[0] for key in told(server, "KEYS", "*")} == {"{recurve}"}  # all on one node of a cluster

    run(lambda: Redis(server.url), scenario)


@needs_redis
def test_redis_counts_what_it_freed_by_itself_once(server: RedisServer) -> None:
    """The index still holds a record that Redis expired."""
    told(server, "FLUSHALL")

    async def scenario(store: Redis) -> None:
        await store.swap("a", record(1), expected=None, until=NOW - 2 * GONE)
        assert await store.read("a") is None
        assert await store.swap("a", record(2), expected=None, until=SOON)
        await store.swap("b", record(1), expected=None, until=NOW - 2 * GONE)
        assert [await store.sweep(NOW, limit=10), await store.sweep(SOON, limit=10)] == [1, 1]

    run(lambda: Redis(server.url), scenario)


class CountedPipeline(Pipeline):
    """Counts its round trips, and sets `begun` when one begins."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.trips = 0
        self.begun = asyncio.Event()

    async def _round_trip(self, asked: Any, end: float) -> None:
        self.trips += bool(asked)
        self.begun.set()
        await super()._round_trip(asked, end)


class Counted(Redis):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._redis = self.counted = CountedPipeline(url)


@needs_redis
def test_redis_operations_that_come_together_share_round_trips(server: RedisServer) -> None:
    """Otherwise the time of a round trip would limit how many chunks a service handles in a second."""
    told(server, "FLUSHALL")

    async def scenario(store: Counted) -> None:
        swaps = [store.swap(f"{key}", record(key), expected=None, until=LATER) for key in range(600)]
        assert all(await asyncio.gather(*swaps))
        assert store.counted.trips == 3
        first = asyncio.ensure_future(store.read("0"))
        store.counted.begun.clear()
        await store.counted.begun.wait()
        assert await asyncio.gather(*[store.read(f"{key}") for key in range(200)]) == [record(key) for key in range(200)]
        assert await first == record(0)
        assert store.counted.trips == 5

    run(lambda: Counted(server.url), scenario)


@needs_redis
def test_redis_caller_who_leaves_during_the_round_trip_takes_nobody_along(server: RedisServer) -> None:
    """The reply to a cancelled request must still be read, or the next request would get it."""
    told(server, "FLUSHALL")

    async def scenario(store: Counted) -> None:
        await store.swap("a", record(1), expected=None, until=LATER)
        reads = [asyncio.ensure_future(store.read(key)) for key in "abab"]
        store.counted.begun.clear()
        await store.counted.begun.wait()
        reads[0].cancel()
        answers = await asyncio.gather(*reads, return_exceptions=True)
        assert answers[1:] == [None, record(1), None]
        assert await store.count() == 1

    run(lambda: Counted(server.url), scenario)


@needs_redis
def test_redis_that_forgot_the_scripts_is_told_them_again(server: RedisServer) -> None:
    """Redis forgets its scripts when it is restarted."""
    told(server, "FLUSHALL")

    async def scenario(store: Redis) -> None:
        assert await store.swap("a", record(1), expected=None, until=SOON)
        told(server, "SCRIPT", "FLUSH")
        assert await store.swap("a", record(2), expected=tag(1), until=SOON)
        told(server, "SCRIPT", "FLUSH")
        swaps = [store.swap("a", record(3), expected=tag(2), until=SOON), store.swap("b", record(1), expected=None, until=SOON)]
        assert await asyncio.gather(*swaps, store.sweep(NOW, limit=1)) == [True, True, 0]

    run(lambda: Redis(server.url), scenario)


@needs_redis
def test_redis_can_be_killed_and_come_back(tmp_path: Path) -> None:
    """While Redis is down, every operation fails at once; when it is back, everything works again."""

    async def scenario(store: Redis, server: RedisServer) -> None:
        for key in "ab":
            assert await store.swap(key, record(1), expected=None, until=SOON)
        server.kill()
        asked = [
            store.swap("a", record(2), expected=tag(1), until=LATER),
            store.read("a"),
            store.count(),
            store.sweep(LATER, limit=1),
        ]
        for error in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(error, StoreUnavailable)
            assert f"Redis at 127.0.0.1:{server.port} cannot be used" in error.detail
        server.start()
        assert await store.read("a") == record(1)
        assert await store.swap("a", record(2), expected=tag(1), until=LATER)
        server.kill()
        server.start()  # nothing was requested meanwhile
        assert await store.read("a") == record(2)
        assert await store.count() == 2

    with redis_server(tmp_path) as server:
        run(lambda: Redis(server.url), lambda store: scenario(store, server))


@needs_redis
def test_redis_that_stands_still_fails_in_time_and_does_nothing_late(server: RedisServer) -> None:
    """The connection is open but silent. A client that is told of a failure retries: a late write as well would count twice."""
    told(server, "FLUSHALL")

    async def scenario(store: Counted) -> None:
        assert await store.swap("a", record(1), expected=None, until=LATER)
        server.signal(signal.SIGSTOP)
        try:
            before = store.counted.trips
            asked = asyncio.gather(
                store.swap("a", record(2), expected=tag(1), until=LATER), store.read("a"), return_exceptions=True
            )
            store.counted.begun.clear()
            await store.counted.begun.wait()
            behind = asyncio.gather(*[store.read("a") for _ in range(300)], return_exceptions=True)
            unknown, *errors = [*await asked, *await behind]
            assert store.counted.trips == before + 2  # the second looks whether the write was made; the 300 reads had none
            assert {str(error) for error in errors} == {f"Redis at 127.0.0.1:{server.port} did not answer in time."}
            assert str(unknown) == f"{errors[0]} Whether it was done is not known: with a number a chunk can be sent again."
            removed = store.remove("a", expected=tag(1))
            with pytest.raises(StoreUnavailable):
                await removed
        finally:
            server.signal(signal.SIGCONT)
        assert await store.read("a") == record(1)
        assert await store.swap("a", record(3), expected=tag(1), until=LATER)
        assert told(server, "GET", "{recurve}:stream:a") == record(3)

    run(lambda: Counted(server.url), scenario)


def test_redis_that_is_not_there_is_named_without_its_password() -> None:
    port = free_port()

    async def scenario(store: Redis) -> None:
        with pytest.raises(StoreUnavailable) as raised:
            await store.swap("a", record(1), expected=None, until=LATER)
        assert f"127.0.0.1:{port}" in raised.value.detail
        assert "hidden" not in raised.value.detail

    run(lambda: Redis(f"redis://somebody:hidden@127.0.0.1:{port}/0"), scenario)


def test_redis_cursor_that_no_page_gave_is_the_callers_mistake() -> None:
    """It is not a fault of Redis, which would be worth a retry."""

    async def scenario() -> None:
        store = Redis("redis://localhost:1")
        with pytest.raises(InvalidRequest, match="/cursor"):
            await store.page("no cursor", limit=10)
        await store.close()

    asyncio.run(scenario())


def test_redis_address_that_is_none_is_told_without_its_password() -> None:
    """A password that has a slash, or no @ behind it, is parsed as a port."""
    with pytest.raises(StoreUnavailable, match="not an address of Redis: redis://user:password@host") as told:
        _store(Settings(stream_store="redis://somebody:hidden/0"), None)
    assert "hidden" not in str(told.value)


def test_redis_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="schemes"):
        Redis("http://127.0.0.1")


@needs_redis
@pytest.mark.parametrize(
    ("trouble", "relief", "said"),
    [
        (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"], "OOM .*maxmemory"),
        (["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"], "READONLY"),
        (["CONFIG", "SET", "min-replicas-to-write", "1"], ["CONFIG", "SET", "min-replicas-to-write", "0"], "NOREPLICAS"),
    ],
    ids=["full", "replica", "alone"],
)
def test_redis_that_takes_no_writes_says_why_and_goes_on_when_it_does(
    trouble: list[str], relief: list[str], said: str, server: RedisServer
) -> None:
    """Nothing has changed then, so the client can be told to retry."""
    told(server, "FLUSHALL")

    async def scenario(store: Redis) -> None:
        assert await store.swap("a", record(1), expected=None, until=LATER)
        told(server, *trouble)
        try:
            asked = [store.swap("a", record(2), expected=tag(1), until=LATER), store.read("a"), store.count()]
            error, *others = await asyncio.gather(*asked, return_exceptions=True)
            assert isinstance(error, StoreUnavailable)
            assert re.search(said, error.detail)
            assert others == [record(1), 1]
            assert store._redis._connection.is_connected == (said != "READONLY")  # READONLY: reconnects, maybe to a new primary
            with pytest.raises(StoreUnavailable, match=said):
                await store.prove()
        finally:
            told(server, *relief)
        await store.prove()
        assert await store.swap("a", record(2), expected=tag(1), until=LATER)

    run(lambda: Redis(server.url), scenario)


@needs_redis
def test_redis_that_is_full_can_be_swept(server: RedisServer) -> None:
    """The sweep is what makes room."""
    told(server, "FLUSHALL")

    async def scenario(store: Redis) -> None:
        assert await store.swap("a", record(1), expected=None, until=SOON)
        told(server, "CONFIG", "SET", "maxmemory", "1")
        try:
            assert await store.sweep(SOON, limit=10) == 1
            assert await store.read("a") is None
            assert await store.expired("a")
            assert await store.count() == 0
        finally:
            told(server, "CONFIG", "SET", "maxmemory", "0")

    run(lambda: Redis(server.url), scenario)


@asynccontextmanager
async def listening(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """The address of a server that handles each connection with `serve`."""

    connections: list[asyncio.Task[None]] = []

    async def and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await serve(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.ensure_future(and_close(reader, writer)))

    served = await asyncio.start_server(begin, "127.0.0.1", 0)
    async with served:
        yield f"redis://127.0.0.1:{served.sockets[0].getsockname()[1]}"
        await asyncio.gather(*connections)


@dataclass(slots=True)
class Proxy:
    """Forwards between the store and Redis, and cuts connections where a test wants it."""

    port: int
    cut: str = "never"  # once, "before" the next request reaches Redis, or "after" it did; "always": every connection

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, ahead = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            while self.cut != "always" and (request := await reader.read(2**16)):
                cut, self.cut = self.cut, "never"
                if cut == "before":
                    return
                ahead.write(request)
                reply = await behind.read(2**16)
                if cut != "never":
                    self.cut = "always" if cut == "after, for good" else "never"
                    return
                writer.write(reply)
        finally:
            ahead.close()
            await ahead.wait_closed()


@needs_redis
@pytest.mark.parametrize(
    ("cut", "happens", "is_known"),
    [("after", True, True), ("before", False, True), ("after, for good", True, False)],
    ids=["after", "before", "for good"],
)
def test_redis_swap_whose_answer_was_lost_is_looked_up(cut: str, happens: bool, is_known: bool, server: RedisServer) -> None:
    """Reported as failed, a write that was made is computed again; reported as made, one that was not is lost."""
    told(server, "FLUSHALL")

    async def scenario() -> None:
        proxy = Proxy(server.port)
        async with listening(proxy) as url:
            store = Redis(url)
            assert await store.swap("a", record(1), expected=None, until=LATER)
            proxy.cut = cut
            if happens and is_known:
                assert await store.swap("a", record(2), expected=tag(1), until=LATER)
            else:
                with pytest.raises(StoreUnavailable, match="cannot be used"):
                    await store.swap("a", record(2), expected=tag(1), until=LATER)
            proxy.cut = "never"
            assert await store.read("a") == record(2 if happens else 1)
            assert await store.swap("a", record(3), expected=tag(2 if happens else 1), until=LATER)
            await store.close()

    asyncio.run(scenario())


@needs_redis
@pytest.mark.parametrize(("cut", "happens"), [("after", True), ("before", False)])
def test_redis_removal_whose_answer_was_lost_is_looked_up(cut: str, happens: bool, server: RedisServer) -> None:
    """Otherwise the last answer of a sequence is lost: a retry would be told that there is no such sequence."""
    told(server, "FLUSHALL")

    async def scenario() -> None:
        proxy = Proxy(server.port)
        async with listening(proxy) as url:
            store = Redis(url)
            assert await store.swap("a", record(1), expected=None, until=LATER)
            assert not await store.remove("a", expected=tag(9))  # now Redis has cached the script
            proxy.cut = cut
            if happens:
                assert await store.remove("a", expected=tag(1))
            else:
                with pytest.raises(StoreUnavailable):
                    await store.remove("a", expected=tag(1))
            assert await store.read("a") == (None if happens else record(1))
            await store.close()

    asyncio.run(scenario())


@needs_redis
def test_redis_has_the_time_for_all(server: RedisServer) -> None:
    """A service whose clock is wrong would drop live streams of others as expired, or have Redis drop its own at once."""
    told(server, "FLUSHALL")

    async def scenario(store: Redis) -> None:
        with pytest.raises(StoreUnavailable, match="not been reached yet"):
            store.now()
        await store.count()
        assert time() - 60 < store.now() <= time()
        for seconds in (3600, 0.5):  # as if Redis's clock had been set back: it would take late requests for timely ones
            assert store._redis._ahead is not None
            store._redis._ahead += seconds
            assert await store.sweep(NOW, limit=1) == 0
            assert time() - 60 < store.now() <= time()

    run(lambda: Redis(server.url), scenario)


@needs_redis
@pytest.mark.parametrize(
    ("policy", "most", "warned"), [("allkeys-lru", "100mb", True), ("noeviction", "100mb", False), ("allkeys-lru", "0", False)]
)
def test_redis_that_would_drop_streams_is_told_of(
    policy: str, most: str, warned: bool, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    told(server, "CONFIG", "SET", "maxmemory-policy", policy, "maxmemory", most)

    async def scenario(store: Redis) -> None:
        await store.count()

    try:
        run(lambda: Redis(server.url), scenario)
    finally:
        told(server, "CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "0")
    assert ("set noeviction" in caplog.text) == warned


@needs_redis
def test_redis_swap_whose_answer_was_lost_and_after_which_another_came_is_no_success(server: RedisServer) -> None:
    """Nobody can tell whether the write was made."""
    told(server, "FLUSHALL")

    async def scenario() -> None:
        proxy = Proxy(server.port)
        async with listening(proxy) as url:
            store = Redis(url)
            assert await store.swap("a", record(1), expected=None, until=LATER)
            proxy.cut = "before"
            other = Redis(server.url)
            assert await other.swap("a", record(9), expected=tag(1), until=LATER)
            with pytest.raises(StoreUnavailable, match="is not known"):
                await store.swap("a", record(2), expected=tag(1), until=LATER)
            assert await store.read("a") == record(9)
            await other.close()
            await store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "said",
    [
        "LOADING Redis is loading the dataset in memory",
        "MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist on disk",
        "NOAUTH Authentication required.",
        "MASTERDOWN Link with MASTER is down",
        "ERR max number of clients reached",
    ],
)
def test_redis_that_refuses_is_quoted(said: str) -> None:
    """The operator has to know what to do."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(2**16):
            writer.write(f"-{said}\r\n".encode())

    async def scenario() -> None:
        async with listening(refuse) as url:
            store = Redis(url)
            for asked in (store.swap("a", record(1), expected=None, until=LATER), store.read("a")):
                with pytest.raises(StoreUnavailable, match=re.escape(said.removeprefix("ERR ").rstrip("."))):
                    await asked
            await store.close()

    asyncio.run(scenario())
