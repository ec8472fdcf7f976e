"""The life of streams, against a plain reference: a list of steps for each, and the float64 equations."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from prometheus_client import CollectorRegistry

from app.catalog import Catalog
from app.errors import (
    DeadlineExceeded,
    InvalidRequest,
    MalformedBody,
    NotFinite,
    NotReady,
    RecurveError,
    StoreUnavailable,
    StreamConflict,
    StreamExpired,
    StreamNotFound,
    TooManyStreams,
)
from app.lifecycle import Model
from app.manifest import ModelSpec
from app.metrics import StreamMetrics
from app.queue import Ticket
from app.service import Service
from app.stores import TAG, Store
from app.stores.embedded import Embedded
from app.stores.memory import Memory
from app.streaming.bookmark import MOST_REMEMBERED, Bookmark
from app.streaming.keeper import FORGIVEN, PROOF, Keeper, Origin
from app.streaming.pins import Pins
from app.streaming.service import StreamService
from app.streaming.streams import MOST_ANSWERS, Chunk, ChunkAnswer, Stream, StreamLimits, new_tag
from app.tensors import Array
from tests import artifacts
from tests.services import service_over

LIMITS = StreamLimits(ttl=100.0, max_streams=50, timeout=30.0)
ORIGIN = Origin("m", "1", "w")
ZERO = np.zeros((2, 8))
NETWORK = artifacts.network()


class Patient:
    """A client that stays until it is answered."""

    def waits_for(self, ticket: Ticket) -> Ticket:
        return ticket


class Clock:
    """A clock that a test sets forward."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def chunk(length: int, seed: int) -> Array:
    return (np.random.default_rng([seed, length]).standard_normal((length, 6)) * 50).astype(np.float32)


def decoding(steps: Array, seq: int | None = None) -> Any:
    async def decode(_: ModelSpec) -> Chunk:
        return Chunk(steps, seq)

    return decode


def streams_of(
    service: Service,
    store: Store,
    clock: Callable[[], float] = lambda: 1_000_000.0,
    limits: StreamLimits = LIMITS,
    drain: float = 0.0,
) -> StreamService:
    keeper = Keeper(store, limits, StreamMetrics(CollectorRegistry()), clock=clock)
    return StreamService(service.catalog, Pins(service.catalog, drain=drain), keeper)


async def predict(streams: StreamService, id: str, steps: Array, seq: int | None = None, **more: Any) -> ChunkAnswer:
    ((answer, _),), _ = await streams.predict(id, (decoding(steps, seq),), Patient(), **more)
    return answer


@dataclass
class Reference:
    """The expected state of one stream."""

    ttl: float
    expires: float
    state: Any = field(default_factory=ZERO.copy)
    chunks: list[tuple[Array, Array]] = field(default_factory=list)  # each with its expected outputs
    kept: int = 0  # answers of the last chunks: only one after a chunk without a number

    @property
    def steps(self) -> int:
        return sum(len(steps) for steps, _ in self.chunks)

    def done(self, steps: Array, now: float, *, numbered: bool) -> Array:
        outputs, (self.state,) = NETWORK.equations(steps.astype(np.float64), [self.state])
        self.kept = min(self.kept + 1, MOST_ANSWERS) if numbered else 1
        self.chunks.append((steps, outputs))
        self.expires = now + self.ttl
        return outputs


class Machine(RuleBasedStateMachine):
    """Everything that can be done with streams, in any order, by two services that share a store."""

    repository: Path
    store: Callable[["Machine"], Store]
    ids = Bundle("ids")

    @initialize()
    def start(self) -> None:
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.reference: dict[str, Reference] = {}
        self.gone: set[str] = set()  # expired
        self.bookmarks: dict[tuple[int, str], Bookmark] = defaultdict(Bookmark)
        self.made = 0
        self.folder = TemporaryDirectory()
        self.open()

    def open(self) -> None:
        """Open two services, like two processes: each has its own turns, and the store decides between them."""

        async def make() -> None:
            self.service = await service_over(self.repository)
            self.kept = self.store()
            self.services = [streams_of(self.service, self.kept, self.clock) for _ in range(2)]

        self.runner.run(make())

    def close(self) -> None:
        async def stop() -> None:
            await self.service.close()
            await self.kept.close()

        self.runner.run(stop())

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.close()
            self.runner.close()
            self.folder.cleanup()

    def alive(self, id: str) -> Reference | None:
        """The reference of a stream, if it is alive; otherwise asserts that each operation fails with the right error."""
        known = self.reference.get(id)
        if known is not None and known.expires > self.clock.now:
            return known
        expected = StreamExpired if known is not None or id in self.gone else StreamNotFound
        for work in (self.first.find(id), self.ask(0, id, chunk(1, 0)), self.first.fork(id), self.first.delete(id)):
            with pytest.raises(expected):
                self.runner.run(work)
        return None

    def ask(self, process: int, id: str, steps: Array, seq: int | None = None, **more: Any) -> Coroutine[Any, Any, ChunkAnswer]:
        """Send a chunk as the one client that a stream has in each process; the client keeps a bookmark."""
        return predict(self.services[process], id, steps, seq, bookmark=self.bookmarks[process, id], **more)

    @property
    def first(self) -> StreamService:
        return self.services[0]

    def check(self, answer: ChunkAnswer, outputs: Array, *, seq: int, steps: int) -> None:
        assert (answer.seq, answer.steps) == (seq, steps)
        np.testing.assert_allclose(answer.output, outputs, rtol=1e-4, atol=1e-3)

    @rule(target=ids, ttl=st.sampled_from([5.0, 100.0]), given=st.booleans())
    def begin(self, ttl: float, given: bool) -> str:
        self.made += 1
        model = self.service.model().spec
        begun = self.runner.run(self.first.create(model, id=f"s{self.made}" if given else None, ttl=ttl))
        self.reference[begun.id] = Reference(ttl, self.clock.now + ttl)
        return begun.id

    @rule(id=ids)
    def begin_again(self, id: str) -> None:
        """An id that is alive cannot be taken; one that expired or ended can."""
        known = self.reference.get(id)
        again = self.services[1].create(self.service.model().spec, id=id)
        if known is not None and known.expires > self.clock.now:
            with pytest.raises(StreamConflict, match=f"a stream {id} already"):
                self.runner.run(again)
        else:
            self.runner.run(again)
            self.reference[id] = Reference(LIMITS.ttl, self.clock.now + LIMITS.ttl)
            self.gone.discard(id)

    @rule(id=ids, length=st.integers(1, 9), seed=st.integers(0, 99), numbered=st.booleans(), process=st.integers(0, 1))
    def next_chunk(self, id: str, length: int, seed: int, numbered: bool, process: int) -> None:
        if known := self.alive(id):
            steps, seq = chunk(length, seed), len(known.chunks)
            answer = self.runner.run(self.ask(process, id, steps, seq if numbered else None))
            self.check(answer, known.done(steps, self.clock.now, numbered=numbered), seq=seq + 1, steps=known.steps)

    @rule(id=ids, back=st.integers(1, 4), process=st.integers(0, 1))
    def chunk_again(self, id: str, back: int, process: int) -> None:
        if (known := self.alive(id)) and back <= known.kept:
            seq = len(known.chunks) - back
            steps, outputs = known.chunks[seq]
            answer = self.runner.run(self.ask(process, id, steps, seq))
            self.check(answer, outputs, seq=seq + 1, steps=sum(len(each) for each, _ in known.chunks[: seq + 1]))

    @rule(id=ids, ahead=st.integers(1, 5))
    def gap(self, id: str, ahead: int) -> None:
        if known := self.alive(id):
            with pytest.raises(StreamConflict) as refused:
                self.runner.run(self.ask(0, id, chunk(3, 3), len(known.chunks) + ahead))
            assert refused.value.expected == len(known.chunks)

    @rule(id=ids)
    def other_steps(self, id: str) -> None:
        if (known := self.alive(id)) and known.chunks:
            with pytest.raises(StreamConflict, match="other steps"):
                self.runner.run(self.ask(0, id, chunk(2, 1000), len(known.chunks) - 1))

    @rule(id=ids, lengths=st.lists(st.integers(1, 6), min_size=2, max_size=6), seed=st.integers(0, 99))
    def at_once(self, id: str, lengths: list[int], seed: int) -> None:
        """Unnumbered chunks in both processes at once: each is done once, and those of one process in their order."""
        if (known := self.alive(id)) is None:
            return
        given = [chunk(length, seed + number) for number, length in enumerate(lengths)]

        async def send() -> list[ChunkAnswer]:
            return await asyncio.gather(*(predict(self.services[i % 2], id, steps) for i, steps in enumerate(given)))

        answers = self.runner.run(send())
        before = len(known.chunks)
        order = sorted(range(len(given)), key=lambda i: answers[i].seq)
        assert [answers[i].seq for i in order] == list(range(before + 1, before + 1 + len(given)))
        for process in (0, 1):
            mine = [i for i in order if i % 2 == process]
            assert mine == sorted(mine)
        for i in order:
            outputs = known.done(given[i], self.clock.now, numbered=False)
            self.check(answers[i], outputs, seq=answers[i].seq, steps=known.steps)

    @rule(id=ids, lengths=st.lists(st.integers(1, 100), min_size=2, max_size=6), seed=st.integers(0, 99), back=st.integers(0, 2))
    def sent_ahead(self, id: str, lengths: list[int], seed: int, back: int) -> None:
        """Several chunks over one connection, some of which were done before the previous connection was lost."""
        if (known := self.alive(id)) is None:
            return
        again = known.chunks[len(known.chunks) - back :] if 0 < back <= known.kept else []
        given = [steps for steps, _ in again] + [chunk(length, seed + number) for number, length in enumerate(lengths)]
        begin, got = len(known.chunks) - len(again), []
        while len(got) < len(given):
            decoders = [decoding(steps, begin + number) for number, steps in enumerate(given)][len(got) :]
            answers, _ = self.runner.run(self.first.predict(id, decoders, Patient(), bookmark=self.bookmarks[0, id]))
            got += [answer for answer, _ in answers]
        for number, (steps, answer) in enumerate(zip(given, got, strict=True)):
            outputs = again[number][1] if number < len(again) else known.done(steps, self.clock.now, numbered=True)
            total = sum(len(each) for each, _ in known.chunks[: begin + number + 1])
            self.check(answer, outputs, seq=begin + number + 1, steps=total)

    @rule(id=ids, length=st.integers(1, 6), seed=st.integers(0, 99))
    def twice_at_once(self, id: str, length: int, seed: int) -> None:
        """A retry that overtakes its own first attempt, in another process: one answer, one step of the stream."""
        if known := self.alive(id):
            steps, seq = chunk(length, seed), len(known.chunks)

            async def send() -> list[ChunkAnswer]:
                return await asyncio.gather(*(predict(each, id, steps, seq) for each in [*self.services, *self.services]))

            answers = self.runner.run(send())
            outputs = known.done(steps, self.clock.now, numbered=True)
            for answer in answers:
                self.check(answer, outputs, seq=seq + 1, steps=known.steps)

    @rule(id=ids, length=st.integers(1, 6), seed=st.integers(0, 99), process=st.integers(0, 1), end=st.booleans())
    def start_over(self, id: str, length: int, seed: int, process: int, end: bool) -> None:
        """The first chunk replaces whatever is there: a live stream, an expired one or none. With `end` it is also the last."""
        steps, fresh = chunk(length, seed), Reference(LIMITS.ttl, self.clock.now + LIMITS.ttl)
        answer = self.runner.run(self.ask(process, id, steps, begin=self.service.model(), end=end))
        self.check(answer, fresh.done(steps, self.clock.now, numbered=False), seq=1, steps=length)
        self.reference.pop(id, None)
        if not end:
            self.gone.discard(id)
            self.reference[id] = fresh

    @rule(id=ids, more=st.integers(1, 5), seed=st.integers(0, 99))
    def starts_at_once(self, id: str, more: int, seed: int) -> None:
        """Starts in both processes at once: each is answered as if it were the only one, and exactly one of them stays, whole."""
        given = [chunk(length, seed) for length in range(1, more + 2)]

        async def send() -> list[ChunkAnswer]:
            model = self.service.model()
            return await asyncio.gather(*(predict(self.services[i % 2], id, steps, begin=model) for i, steps in enumerate(given)))

        begun = []
        for steps, answer in zip(given, self.runner.run(send()), strict=True):
            begun.append(Reference(LIMITS.ttl, self.clock.now + LIMITS.ttl))
            self.check(answer, begun[-1].done(steps, self.clock.now, numbered=False), seq=1, steps=len(steps))
        stands = self.runner.run(self.first.find(id))
        self.reference[id] = begun[stands.steps - 1]
        self.gone.discard(id)

    @rule(id=ids, length=st.integers(1, 6), seed=st.integers(0, 99), process=st.integers(0, 1))
    def last_chunk(self, id: str, length: int, seed: int, process: int) -> None:
        if known := self.alive(id):
            steps = chunk(length, seed)
            answer = self.runner.run(self.ask(process, id, steps, end=True))
            self.check(answer, known.done(steps, self.clock.now, numbered=False), seq=len(known.chunks), steps=known.steps)
            del self.reference[id]
            assert self.alive(id) is None

    @rule(target=ids, id=ids)
    def fork(self, id: str) -> str:
        if known := self.alive(id):
            forked = self.runner.run(self.services[1].fork(id))
            assert (forked.seq, forked.steps, forked.ttl) == (0, 0, known.ttl)
            self.reference[forked.id] = Reference(known.ttl, self.clock.now + known.ttl, state=known.state)
            return forked.id
        return id

    @rule(id=consumes(ids))
    def end(self, id: str) -> None:
        if self.alive(id):
            self.runner.run(self.services[1].delete(id))
            del self.reference[id]
            assert self.alive(id) is None

    @rule(seconds=st.sampled_from([1.0, 4.0, 90.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def sweep(self) -> None:
        """Expired streams are dropped, once no request that came in time can still be waiting for them."""
        due = {id for id, known in self.reference.items() if known.expires + LIMITS.timeout <= self.clock.now}

        async def sweep() -> int:
            return sum([await self.first.keeper.drop_expired() for _ in range(2)])

        assert self.runner.run(sweep()) == len(due)
        for id in due:
            del self.reference[id]
        self.gone |= due

    @precondition(lambda self: isinstance(self.kept, Embedded))
    @rule()
    def restart(self) -> None:
        self.close()
        self.open()

    @invariant()
    def everything_is_counted(self) -> None:
        if hasattr(self, "services"):
            assert self.runner.run(self.services[1].keeper.count()) == len(self.reference)

    @rule(id=ids)
    def look(self, id: str) -> None:
        if known := self.alive(id):
            stream = self.runner.run(self.first.find(id))
            assert (stream.seq, stream.steps, stream.expires) == (len(known.chunks), known.steps, known.expires)
            (state,), _ = self.runner.run(self.first.state(stream))
            np.testing.assert_allclose(state, known.state, rtol=1e-4, atol=1e-4)


QUICK = settings(max_examples=25, stateful_step_count=30, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("kind", ["memory", "embedded"])
def test_streams_do_what_the_reference_does_whatever_comes(kind: str, repository: Path) -> None:
    """Start, chunk, duplicate, gap, concurrent, expire, fork, delete, restart, in every order that hypothesis finds."""

    class Chosen(Machine):
        def store(self) -> Store:
            if kind == "embedded":
                return Embedded(Path(self.folder.name))
            return Memory()

    Chosen.repository = repository
    run_state_machine_as_test(Chosen, settings=QUICK)


class Leaver:
    """A client that leaves as soon as its chunk waits."""

    def waits_for(self, ticket: Ticket) -> Ticket:
        ticket.fail(ConnectionResetError())
        return ticket


class Slowly(Memory):
    """A store in which every write of a chunk waits at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()

    async def swap(self, key: str, record: bytes, *, expected: bytes | None, until: float) -> bool:
        if expected is not None:
            self.entered.set()
            await self.gate.wait()
        return await super().swap(key, record, expected=expected, until=until)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


def test_a_chunk_whose_caller_left_is_not_done(runner: asyncio.Runner, repository: Path) -> None:
    """The stream does not move, and the next chunk is not held up."""

    async def main() -> None:
        streams = streams_of(served := await service_over(repository), Memory())
        id = (await streams.create(served.model().spec)).id
        with pytest.raises(ConnectionResetError):
            await streams.predict(id, (decoding(chunk(3, 1)),), Leaver())
        assert (await streams.find(id)).seq == 0
        assert (await predict(streams, id, chunk(3, 2), 0)).seq == 1
        await served.close()

    runner.run(main())


def test_a_chunk_that_is_cancelled_while_it_is_stored_does_not_keep_its_turn(runner: asyncio.Runner, repository: Path) -> None:
    """The next chunk sees what is stored, even if it is a retry of the same chunk."""

    async def main() -> None:
        streams = streams_of(served := await service_over(repository), store := Slowly())
        id = (await streams.create(served.model().spec)).id
        first = asyncio.create_task(predict(streams, id, chunk(3, 1), 0))
        await store.entered.wait()
        first.cancel()
        store.gate.set()
        again = await predict(streams, id, chunk(3, 1), 0)
        assert (again.seq, again.steps) == (1, 3)
        assert (await streams.find(id)).seq == 1
        await served.close()

    runner.run(main())


def test_a_chunk_that_fails_leaves_the_stream_where_it_was(runner: asyncio.Runner, repository: Path) -> None:
    """Two failures: an answer that overflows float32, and a deadline that passed before the chunk's turn came."""

    async def main() -> None:
        streams = streams_of(served := await service_over(repository), store := Slowly())
        id = (await streams.create(served.model().spec)).id
        with pytest.raises(RecurveError, match="overflows float32"):
            await predict(streams, id, np.full((2, 6), 3.4e38, np.float32))
        first = asyncio.create_task(predict(streams, id, chunk(3, 1)))
        await store.entered.wait()
        streams.keeper.limits = replace(LIMITS, timeout=0.01)
        with pytest.raises(DeadlineExceeded):  # while the chunk before it is still being stored
            await predict(streams, id, chunk(3, 2))
        store.gate.set()
        assert (await first).seq == 1
        assert (await streams.find(id)).seq == 1
        await served.close()

    runner.run(main())


def test_one_bad_chunk_among_those_that_were_sent_ahead_harms_no_other(runner: asyncio.Runner, repository: Path) -> None:
    """The chunks before the bad one are answered; its error is reported when it is the first."""

    async def main() -> None:
        streams = streams_of(served := await service_over(repository), Memory())

        async def refuse(_: ModelSpec) -> Chunk:
            raise MalformedBody("no chunk at all")

        async def send(id: str, decoders: list[Any]) -> int:
            answers, _ = await streams.predict(id, decoders, Patient())
            return len(answers)

        for bad, error in ((refuse, MalformedBody), (decoding(np.full((2, 6), 3.4e38, np.float32)), NotFinite)):
            id = (await streams.create(served.model().spec)).id
            decoders = [decoding(chunk(2, 1)), decoding(chunk(3, 2)), bad, decoding(chunk(4, 3))]
            done = await send(id, decoders)
            if done < 2:  # the two first ran together with the bad one, and then one by one
                done += await send(id, decoders[done:])
            with pytest.raises(error):
                await send(id, decoders[done:])
            assert (done, (await streams.find(id)).steps) == (2, 5)
        await served.close()

    runner.run(main())


def test_a_stream_that_has_work_waiting_does_not_expire(runner: asyncio.Runner, repository: Path) -> None:
    """A chunk that came in time must not fail because others were before it; one that comes too late gets an error that says so."""

    async def main() -> None:
        clock = Clock()
        streams = streams_of(served := await service_over(repository), store := Slowly(), clock)
        id = (await streams.create(served.model().spec, ttl=10)).id
        first, second = (asyncio.create_task(predict(streams, id, chunk(3, seed))) for seed in (1, 2))
        await store.entered.wait()
        clock.now += 25
        assert await streams.keeper.drop_expired() == 0
        store.gate.set()
        assert [(await each).seq for each in (first, second)] == [1, 2]
        clock.now += 11
        with pytest.raises(StreamExpired, match="idle for more than 10 s"):
            await predict(streams, id, chunk(1, 1))
        clock.now += LIMITS.timeout
        assert await streams.keeper.drop_expired() == 1
        with pytest.raises(StreamExpired, match="time to live"):  # so the client begins anew, not looking for a mistake in the id
            await predict(streams, id, chunk(1, 1))
        await served.close()

    runner.run(main())


def test_there_are_so_many_streams_and_no_more(runner: asyncio.Runner, repository: Path) -> None:
    async def main() -> None:
        streams = streams_of(
            served := await service_over(repository), Memory(), limits=StreamLimits(ttl=100, max_streams=2, timeout=30)
        )
        made = [(await streams.create(served.model().spec)).id for _ in range(2)]
        for attempt in (streams.create(served.model().spec), streams.fork(made[0])):
            with pytest.raises(TooManyStreams, match="at most 2"):
                await attempt
        await streams.delete(made[0])
        await streams.create(served.model().spec)
        await served.close()

    runner.run(main())


def test_a_stream_goes_on_with_the_version_it_began_with(runner: asyncio.Runner, tmp_path: Path) -> None:
    """When a newer version comes, streams of the older one have `drain` seconds to end; new streams begin with the newer."""

    async def main() -> None:
        store = Memory()
        artifacts.build(tmp_path, seed=0)
        first = await service_over(tmp_path)
        streams = streams_of(first, store)
        id = (await streams.create(first.model().spec)).id
        await predict(streams, id, chunk(5, 1))
        await first.close()

        artifacts.build(tmp_path, seed=1)  # published, and the service is restarted
        second = await service_over(tmp_path)
        streams = streams_of(second, store, drain=1000.0)
        assert second.model().spec.version == "2"
        answer = await predict(streams, id, chunk(5, 2))
        whole, _ = NETWORK.equations(np.concatenate([chunk(5, 1), chunk(5, 2)]).astype(np.float64), [ZERO])
        np.testing.assert_allclose(answer.output, whole[5:], rtol=1e-4, atol=1e-3)
        assert (await streams.create(second.model().spec)).version == "2"
        assert len(second.catalog.loaded) == 2

        streams = streams_of(second, store, drain=0.0)  # the time to drain is over
        with pytest.raises(StreamConflict, match=r"began with version 1 .* begin a new stream"):
            await predict(streams, id, chunk(1, 3))
        before = await store.count()
        with pytest.raises(StreamConflict, match=r"began with version 1 .* begin a new stream"):
            await streams.fork(id)
        assert await store.count() == before
        streams._pins.retire()
        assert [str(model.spec) for model in second.catalog.loaded] == ["gyro-denoiser version 2"]
        assert (await streams.find(id)).seq == 2
        await second.close()

    runner.run(main())


def test_a_stream_of_a_version_that_only_another_replica_has_is_told_to_come_back(runner: asyncio.Runner, tmp_path: Path) -> None:
    """During a rolling update, a client may reach a replica that is older than its stream."""

    async def main() -> None:
        store = Memory()
        artifacts.build(tmp_path / "old", seed=0)
        for seed in (0, 1):
            artifacts.build(tmp_path / "new", seed=seed)
        old, new = await service_over(tmp_path / "old"), await service_over(tmp_path / "new")
        id = (await streams_of(new, store).create(new.model().spec)).id
        with pytest.raises(NotReady, match="version 1 is the newest here"):
            await predict(streams_of(old, store), id, chunk(1, 1))
        assert (await predict(streams_of(new, store), id, chunk(1, 1))).seq == 1
        for served in (old, new):
            await served.close()

    runner.run(main())


def test_a_stream_whose_version_is_broken_says_how(runner: asyncio.Runner, tmp_path: Path) -> None:
    async def main() -> None:
        store = Memory()
        folder = artifacts.build(tmp_path, seed=0)
        first = await service_over(tmp_path)
        id = (await streams_of(first, store).create(first.model().spec)).id
        artifacts.build(tmp_path, seed=1)
        (folder / "model.onnx").write_bytes(b"broken")
        second = await service_over(tmp_path)
        with pytest.raises(StreamConflict, match=r"version 1 of gyro-denoiser, which cannot be served: .*SHA-256"):
            await predict(streams_of(second, store, drain=1000.0), id, chunk(1, 1))
        for served in (first, second):
            await served.close()

    runner.run(main())


class Unreached(Memory):
    """A store that knows the time only after it was reached; it records that it was closed."""

    reached = closed = False

    def now(self) -> float:
        if not self.reached:
            raise StoreUnavailable("It has not been reached yet.")
        return 1_000_000.0

    async def count(self) -> int:
        self.reached = True
        return await super().count()

    async def close(self) -> None:
        self.closed = True


def test_a_store_is_reached_before_anything_is_called_over(runner: asyncio.Runner, repository: Path) -> None:
    """By a wrong clock, all streams would have expired."""

    async def main() -> None:
        served = await service_over(repository)
        store, metrics = Unreached(), StreamMetrics(CollectorRegistry())
        swept, reached = Keeper(Unreached(), LIMITS, metrics), Keeper(store, LIMITS, metrics)
        await swept.sweep()
        assert swept.trouble is None
        service = StreamService(served.catalog, Pins(served.catalog, drain=0.0), reached)
        await service.start()
        assert (await service.create(served.model().spec)).created == 1_000_000.0
        await service.close()
        assert store.closed
        await served.close()

    runner.run(main())


class Full(Memory):
    """A store that can be read but, while `full`, not written."""

    full = False
    proofs = 0

    async def swap(self, key: str, record: bytes, *, expected: bytes | None, until: float) -> bool:
        if self.full:
            raise StoreUnavailable("The disk is full.")
        return await super().swap(key, record, expected=expected, until=until)

    async def prove(self) -> None:
        self.proofs += 1
        if self.full:
            raise StoreUnavailable("The disk is full.")


def test_a_store_that_cannot_be_written_is_known_before_the_first_chunk_and_until_it_can(
    runner: asyncio.Runner, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Operators look at /health of an idle service, too, and successful reads do not show that writes work."""
    clock = Clock()
    monkeypatch.setattr("app.streaming.keeper.monotonic", clock)

    async def main() -> None:
        keeper = (streams := streams_of(served := await service_over(repository), store := Full())).keeper
        await keeper.sweep()
        assert (keeper.trouble, store.proofs) == (None, 1)
        store.full = True
        clock.now += PROOF + 1
        for proofs in (2, 3, 4):
            await keeper.sweep()
            assert (keeper.trouble, store.proofs) == ("The disk is full.", proofs)
            clock.now += FORGIVEN + 1
        with pytest.raises(StoreUnavailable):
            await streams.create(served.model().spec)
        store.full = False
        await streams.create(served.model().spec)
        assert keeper.trouble == "The disk is full."  # this write had room, but it may be smaller than others
        store.full = True
        with pytest.raises(StoreUnavailable):
            await streams.create(served.model().spec)
        store.full = False
        await keeper.sweep()
        assert keeper.trouble == "The disk is full."  # the proof had room, but it may be smaller than a chunk
        clock.now += FORGIVEN + 1
        await keeper.sweep()
        assert keeper.trouble is None
        await served.close()

    runner.run(main())


def test_a_store_that_is_written_has_nothing_to_prove(
    runner: asyncio.Runner, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("app.streaming.keeper.monotonic", clock)

    async def main() -> None:
        streams = streams_of(served := await service_over(repository), store := Full())
        for _ in range(3):
            await streams.create(served.model().spec)
            clock.now += PROOF
            await streams.keeper.sweep()
        assert store.proofs == 0
        clock.now += 1
        await streams.keeper.sweep()
        assert store.proofs == 1
        assert streams.keeper.metrics.alive._value.get() == 3
        await served.close()

    runner.run(main())


def test_a_store_that_cannot_be_written_is_known_until_it_can(runner: asyncio.Runner, repository: Path) -> None:
    """Operators look at /health, which must not say ok while every chunk is refused."""

    async def main() -> None:
        streams = streams_of(served := await service_over(repository), store := Full())
        id = (await streams.create(served.model().spec)).id
        assert streams.keeper.trouble is None
        store.full = True
        with pytest.raises(StoreUnavailable):
            await predict(streams, id, chunk(1, 1), 0)
        assert streams.keeper.trouble == "The disk is full."
        store.full = False
        assert (await predict(streams, id, chunk(1, 1), 0)).seq == 1
        assert streams.keeper.trouble is None
        await served.close()

    runner.run(main())


class Gated(Memory):
    """A store in which each write waits at a gate before it changes anything."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = asyncio.Event()

    async def swap(self, key: str, record: bytes, *, expected: bytes | None, until: float) -> bool:
        await self._pass()
        return await super().swap(key, record, expected=expected, until=until)

    async def remove(self, key: str, *, expected: bytes) -> bool:
        await self._pass()
        return await super().remove(key, expected=expected)

    async def _pass(self) -> None:
        self.waiting.set()
        await self.open.wait()


def counted(streams: StreamService) -> dict[str, float]:
    """How many streams of this service began, and how they ended."""
    metrics = streams.keeper.metrics
    samples = [sample for metric in (*metrics.opened.collect(), *metrics.ended.collect()) for sample in metric.samples]
    return {each.labels.get("reason", "opened"): each.value for each in samples if each.name.endswith("_total")}


def test_a_stream_that_cannot_start_over_leaves_the_one_before_it(runner: asyncio.Runner, repository: Path) -> None:
    """If the first chunk fails for any reason, the old stream continues as before; if there was none, there is still none."""

    async def main() -> None:
        streams = streams_of(served := await service_over(repository), store := Full())
        model = served.model()
        id = (await streams.create(model.spec)).id
        await predict(streams, id, chunk(3, 1))
        before = await streams.find(id)
        overflows = np.full((2, 6), 3.4e38, np.float32)
        with pytest.raises(NotFinite):
            await predict(streams, id, overflows, begin=model)
        with pytest.raises(ConnectionResetError):
            await streams.predict(id, (decoding(chunk(3, 2)),), Leaver(), begin=model)
        with pytest.raises(DeadlineExceeded):
            await predict(streams, id, chunk(3, 2), begin=model, timeout=-1.0)
        store.full = True
        with pytest.raises(StoreUnavailable):
            await predict(streams, id, chunk(3, 2), begin=model)
        store.full = False
        assert await streams.find(id) == before
        assert counted(streams) == {"opened": 1}
        with pytest.raises(NotFinite):
            await predict(streams, "new", overflows, begin=model)
        with pytest.raises(StreamNotFound):
            await streams.find("new")
        await served.close()

    runner.run(main())


def test_what_another_release_keeps_can_be_ended_and_is_not_taken_over_unasked(runner: asyncio.Runner, repository: Path) -> None:
    """Otherwise the owner could do nothing but wait until the stream expires."""

    async def main() -> None:
        streams = streams_of(served := await service_over(repository), store := Memory())
        model = served.model()

        async def keep() -> None:
            kept = await store.read((await streams.create(model.spec, id="s")).id)
            assert kept is not None
            await store.swap("s", bytes(TAG) + bytes([99]) + kept[TAG + 1 :], expected=kept[:TAG], until=2_000_000.0)
            with pytest.raises(StreamConflict, match="another release"):
                await predict(streams, "s", chunk(1, 1))

        await keep()
        await streams.delete("s")
        with pytest.raises(StreamNotFound):
            await streams.find("s")
        await keep()
        with pytest.raises(StreamConflict, match="already, kept by another release: DELETE ends it"):
            await streams.create(model.spec, id="s")
        assert (await predict(streams, "s", chunk(1, 1), begin=model)).seq == 1
        assert counted(streams) == {"opened": 3, "deleted": 2}
        await served.close()

    runner.run(main())


def test_a_last_chunk_ends_nothing_that_it_has_not_seen(runner: asyncio.Runner, repository: Path) -> None:
    """If another process starts over meanwhile, the end continues from the new stream's state or does not happen at all."""

    async def main() -> None:
        served, store = await service_over(repository), Gated()
        one = streams_of(served, store)
        await predict(one, "s", chunk(2, 1), begin=served.model())
        store.waiting.clear()
        store.open.clear()
        ending = asyncio.create_task(predict(one, "s", chunk(3, 2), end=True))
        await store.waiting.wait()
        started = await predict(streams_of(served, beside := Memory()), "s", chunk(4, 3), begin=served.model())
        assert (started.seq, started.steps) == (1, 4)
        store._kept["s"] = beside._kept["s"]  # as if another process had put it there
        store.open.set()
        ended = await ending
        whole, _ = NETWORK.equations(np.concatenate([chunk(4, 3), chunk(3, 2)]).astype(np.float64), [ZERO])
        np.testing.assert_allclose(ended.output, whole[4:], rtol=1e-4, atol=1e-3)
        assert (ended.seq, ended.steps, await store.count()) == (2, 7, 0)
        await served.close()

    runner.run(main())


def test_no_more_streams_are_begun_at_once_than_there_is_room_for() -> None:
    """All requests count the streams in one round trip, before the first new stream exists."""

    class Far(Memory):
        async def count(self) -> int:
            await asyncio.sleep(0)
            return await super().count()

    async def main() -> None:
        keeper = Keeper(Far(), StreamLimits(ttl=10, max_streams=20, timeout=30), StreamMetrics(CollectorRegistry()))
        begun = await asyncio.gather(*(keeper.begin(None, ORIGIN, b"", None) for _ in range(200)), return_exceptions=True)
        assert len([each for each in begun if isinstance(each, Stream)]) == await keeper.count() == 20
        assert {type(each) for each in begun} == {Stream, TooManyStreams}

    asyncio.run(main())


def test_what_expired_is_counted_once_though_two_begin_in_its_place() -> None:
    """Two processes share one store; a distant store takes a while for each answer."""

    class Far(Memory):
        async def read(self, key: str) -> bytes | None:
            await asyncio.sleep(0)
            return await super().read(key)

    async def main() -> None:
        clock, store, metrics = Clock(), Far(), StreamMetrics(CollectorRegistry())
        one, other = (Keeper(store, StreamLimits(ttl=10, max_streams=9, timeout=30), metrics, clock=clock) for _ in range(2))
        await one.begin("s", ORIGIN, b"", None)
        clock.now += 11
        results = await asyncio.gather(*(each.begin("s", ORIGIN, b"", None) for each in (one, other)), return_exceptions=True)
        assert sorted(type(each).__name__ for each in results) == ["Stream", "StreamConflict"]
        assert metrics.ended.labels("expired")._value.get() == 1

    asyncio.run(main())


def test_starting_over_is_counted_and_needs_no_more_room(runner: asyncio.Runner, repository: Path) -> None:
    """Each start over counts one stream as begun and one as ended or expired; only a new id takes more room."""

    async def main() -> None:
        clock = Clock()
        streams = streams_of(
            served := await service_over(repository),
            store := Memory(),
            clock,
            limits=StreamLimits(ttl=10, max_streams=1, timeout=30),
        )
        model = served.model()
        await predict(streams, "s", chunk(1, 1), begin=model)
        await predict(streams, "s", chunk(1, 1), begin=model)
        with pytest.raises(TooManyStreams, match="at most 1"):
            await predict(streams, "t", chunk(1, 1), begin=model)
        clock.now += 11
        await predict(streams, "s", chunk(1, 1), begin=model)
        assert counted(streams) == {"opened": 3, "deleted": 1, "expired": 1}
        await predict(streams, "s", chunk(1, 1), end=True)
        await predict(streams, "s", chunk(1, 1), begin=model, end=True)
        assert counted(streams) == {"opened": 4, "deleted": 3, "expired": 1}
        assert await store.count() == 0
        await served.close()

    runner.run(main())


def test_a_stream_starts_over_what_another_release_kept(runner: asyncio.Runner, repository: Path) -> None:
    """Nobody can continue that stream, so nobody else would free its place."""

    async def main() -> None:
        streams = streams_of(served := await service_over(repository), store := Memory())
        await store.swap("s", new_tag() + b"\xff" + bytes(80), expected=None, until=2_000_000.0)
        with pytest.raises(StreamConflict, match="another release"):
            await predict(streams, "s", chunk(1, 1))
        assert (await predict(streams, "s", chunk(1, 1), begin=served.model())).seq == 1
        await served.close()

    runner.run(main())


def test_a_model_that_needs_whole_sequences_starts_no_stream(runner: asyncio.Runner, repository: Path) -> None:
    async def main() -> None:
        streams = streams_of(served := await service_over(repository), Memory())
        model = served.model()
        acausal = replace(model, spec=model.spec.model_copy(update={"causal": False}))
        with pytest.raises(InvalidRequest, match="whole sequences only"):
            await predict(streams, "s", chunk(1, 1), begin=acausal)
        await served.close()

    runner.run(main())


def test_a_chunk_is_read_again_when_its_stream_became_one_of_another_model(runner: asyncio.Runner, tmp_path: Path) -> None:
    """Another process may have replaced the stream meanwhile: the new model may not accept what the first one accepted."""

    async def main() -> None:
        for name in ("gyro-denoiser", "other"):
            artifacts.build(tmp_path, name=name)
        served, store = await service_over(tmp_path), Gated()
        one = streams_of(served, store)
        seen: list[str] = []

        async def decode(spec: ModelSpec) -> Chunk:
            seen.append(spec.name)
            return Chunk(chunk(2, len(seen)))

        await predict(one, "s", chunk(3, 1), begin=served.model())
        store.waiting.clear()
        store.open.clear()
        going_on = asyncio.create_task(one.predict("s", (decode,), Patient()))
        await store.waiting.wait()
        record = await store.read("s")
        assert record is not None
        assert await Memory.remove(store, "s", expected=record[:TAG])
        begun = Stream.unpack("s", record)._replace(model="other", weights=served.model("other").spec.weights, tag=new_tag())
        begun = begun._replace(seq=0, steps=0, state=b"", answers=b"", sizes=())
        assert await Memory.swap(store, "s", begun.pack(), expected=None, until=2_000_000.0)
        store.open.set()
        ((answer, done),), model = await going_on
        assert (seen, model.spec.name, answer.seq) == (["gyro-denoiser", "other"], "other", 1)
        np.testing.assert_array_equal(done.steps, chunk(2, 2))
        await served.close()

    runner.run(main())


def test_who_keeps_a_bookmark_goes_on_with_the_one_that_took_its_place(runner: asyncio.Runner, tmp_path: Path) -> None:
    """The id then names another model's stream, then none: an outdated bookmark must not decide anything, errors least of all."""

    async def main() -> None:
        for name in ("gyro-denoiser", "other"):
            artifacts.build(tmp_path, name=name)
        served, caller, bookmark = await service_over(tmp_path), Patient(), Bookmark()
        streams = streams_of(served, Memory())
        taken: list[str] = []

        async def decode(spec: ModelSpec) -> Chunk:
            taken.append(spec.name)
            if spec.name == "gyro-denoiser" and len(taken) > 1:
                raise InvalidRequest.at("", "it is for the other model")
            return Chunk(chunk(2, 1))

        other = served.model("other")
        await streams.create(served.model().spec, id="s")
        await streams.predict("s", (decode,), caller, bookmark=bookmark)
        assert bookmark.last is not None
        await streams.delete("s")
        await streams.create(other.spec, id="s")
        ((answer, _),), model = await streams.predict("s", (decode,), caller, bookmark=bookmark)
        assert (taken, model, answer.seq) == (["gyro-denoiser"] * 2 + ["other"], other, 1)
        await streams.delete("s")
        with pytest.raises(StreamNotFound):
            await predict(streams, "s", chunk(1, 1), bookmark=bookmark)
        await served.close()

    runner.run(main())


def test_who_is_not_alone_with_a_stream_keeps_no_bookmark(runner: asyncio.Runner, repository: Path) -> None:
    """Otherwise every chunk that comes after another client's would be computed twice."""

    async def main() -> None:
        served, bookmarks = await service_over(repository), (Bookmark(), Bookmark())
        streams = streams_of(served, Memory())
        await streams.create(served.model().spec, id="s")
        given = [chunk(3, seed) for seed in range(8)]
        got = [await predict(streams, "s", steps, bookmark=bookmarks[index % 2]) for index, steps in enumerate(given)]
        whole, _ = NETWORK.equations(np.concatenate(given).astype(np.float64), [ZERO])
        np.testing.assert_allclose(np.concatenate([answer.output for answer in got]), whole, rtol=1e-4, atol=1e-3)
        assert [(bookmark.used, bookmark.last) for bookmark in bookmarks] == [(False, None)] * 2
        await served.close()

    runner.run(main())


def test_a_stream_that_takes_much_memory_has_no_bookmark(runner: asyncio.Runner, repository: Path) -> None:
    async def main() -> None:
        served, bookmark = await service_over(repository), Bookmark()
        streams = streams_of(served, Memory())
        await streams.create(served.model().spec, id="s")
        await predict(streams, "s", chunk(2, 1), bookmark=bookmark)
        assert bookmark.last is not None
        await predict(streams, "s", chunk(MOST_REMEMBERED, 1), bookmark=bookmark)
        assert (bookmark.last, bookmark.used) == (None, True)
        await served.close()

    runner.run(main())


class Loading(Pins):
    """Pins that are loading every version until the gate opens."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog, drain=1000.0)
        self.gate = asyncio.Event()
        self.asked = 0

    async def model(self, name: str, version: str) -> Model:
        self.asked += 1
        await self.gate.wait()
        return await super().model(name, version)


def test_a_chunk_does_not_wait_for_its_model_beyond_its_deadline(
    runner: asyncio.Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next chunk must not wait for the turn of one that has given up."""
    monkeypatch.setattr("app.streaming.service.monotonic", lambda: 0.0)  # no time passes before it waits for the model

    async def main() -> None:
        artifacts.build(tmp_path, seed=0)
        first = await service_over(tmp_path)
        store = Memory()
        await predict(streams_of(first, store), "s", chunk(3, 1), begin=first.model())
        await first.close()
        artifacts.build(tmp_path, seed=1)
        second = await service_over(tmp_path)
        pins = Loading(second.catalog)
        keeper = Keeper(store, LIMITS, StreamMetrics(CollectorRegistry()), clock=lambda: 1_000_000.0)
        streams = StreamService(second.catalog, pins, keeper)
        with pytest.raises(DeadlineExceeded, match="version 1 of gyro-denoiser was loaded"):
            await predict(streams, "s", chunk(3, 2), timeout=0.01)
        pins.gate.set()
        assert ((await predict(streams, "s", chunk(3, 2))).seq, pins.asked) == (2, 2)
        await second.close()

    runner.run(main())
