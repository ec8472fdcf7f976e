"""The batcher: every request is answered exactly once, and the limits decide which instances run together."""

import asyncio
import gc
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from app import batcher, loop_time
from app.api.caller import Caller
from app.batcher import Batcher
from app.cost import CostModel, Pace, Padding
from app.errors import DeadlineExceeded, Draining, NotFinite, Overloaded, QueueFull
from app.experience import TYPICAL
from app.http.extensions import ON_DISCONNECT
from app.queue import BatchLimits, Entry, Queue, Ticket
from app.tensors import Instance, Prediction

LIMITS = BatchLimits(max_batch_size=8, max_batch_steps=400, max_padding_waste=0.25, max_queue_size=64)
POISON = 13.0


@pytest.fixture(autouse=True)
def _nothing_fails_unheard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The event loop only logs an exception in a callback and goes on, so a test must look into the log."""
    yield
    assert [record for record in caplog.get_records("call") if record.msg.startswith("Exception in callback")] == []


def instance(length: int, value: float = 1.0) -> Instance:
    return Instance(steps=np.full((length, 1), value, dtype=np.float32))


class Doubler:
    """An engine that doubles its input and remembers its batches; a POISON value makes the whole batch fail."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, instances: Sequence[Instance]) -> list[Prediction]:
        self.batches.append(len(instances))
        if any((each.steps == POISON).any() for each in instances):
            raise ValueError("poison")
        return [Prediction(outputs=(2 * each.steps,), state=()) for each in instances]


class Gated(Doubler):
    """A Doubler whose every batch waits at a gate, so that a test decides when it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def __call__(self, instances: Sequence[Instance]) -> list[Prediction]:
        self.entered.release()
        assert self.gate.acquire(timeout=30), "a test that failed must not hang"
        return super().__call__(instances)

    async def wait_until_busy(self) -> None:
        await asyncio.to_thread(self.entered.acquire)

    def open(self, batches: int = 1000) -> None:
        self.gate.release(batches)


def ask(batcher: Batcher, instances: Sequence[Instance], timeout: float = 60.0) -> Ticket:
    return batcher.predict(instances, timeout=timeout)


def costing(seconds: float, *, size: int) -> CostModel:
    """A cost of `seconds` for each step of waiting work, in batches of `size` instances."""
    return CostModel(per_step={(size - 1).bit_length(): seconds * size * Pace.weight(TYPICAL) / TYPICAL})


def ticket(loop: asyncio.AbstractEventLoop, *, size: int = 1, deadline: float = 60.0) -> Ticket:
    return Ticket(size, loop.create_future(), arrived=0.0, deadline=deadline)


def queue_of(lengths: Sequence[int], limits: BatchLimits = LIMITS) -> Queue:
    queue = Queue(replace(limits, max_queue_size=max(1, len(lengths))))
    loop = asyncio.new_event_loop()
    for length in lengths:
        queue.put([instance(length)], ticket(loop))
    loop.close()
    return queue


def lengths_of(entries: Sequence[Entry]) -> list[int]:
    return [len(entry.instance) for entry in entries]


@given(st.lists(st.integers(1, 600), max_size=40), st.integers(1, 10), st.floats(0, 0.9))
def test_every_batch_keeps_the_limits_and_nothing_is_lost(lengths: list[int], size: int, waste: float) -> None:
    """Padded steps decide what a batch costs, so they are limited; and no entry may be lost between two batches."""
    limits = replace(LIMITS, max_batch_size=size, max_padding_waste=waste)
    queue = queue_of(lengths, limits)
    taken: list[int] = []
    while len(queue):
        waiting = list(queue)
        batch = queue.take()
        assert batch[0] is waiting[0], "the oldest is always served"
        taken_now = set(map(id, batch))
        assert [*map(id, queue)] == [id(entry) for entry in waiting if id(entry) not in taken_now], "the others keep their places"
        found = lengths_of(batch)
        padded = len(found) * max(found)
        assert len(found) <= size
        assert len(found) == 1 or padded <= limits.max_batch_steps
        assert 1 - sum(found) / padded <= waste + 1e-9
        taken += found
    assert sorted(taken) == sorted(lengths)


class Ruled(Queue):
    """A queue without the shortcut for equal lengths: it always uses the rules for mixed lengths."""

    def _alike(self) -> list[Entry]:
        return []


@given(st.lists(st.tuples(st.sampled_from([40, 40, 40, 41, 500]), st.booleans()), max_size=40), st.integers(1, 10))
def test_what_is_of_one_length_is_taken_as_the_rules_say(waiting: list[tuple[int, bool]], size: int) -> None:
    """The shortcut for equal lengths must take the same entries as the general rules, also when some clients have left."""
    lengths = [length for length, _ in waiting]
    quick = queue_of(lengths, replace(LIMITS, max_batch_size=size))
    for entry, (_, gone) in zip(quick, waiting, strict=True):
        if gone:
            entry.ticket.fail(DeadlineExceeded("too late"))
            entry.ticket._future.exception()
    ruled = Ruled(quick.limits, quick.weight, list(quick))
    while len(ruled):
        assert [*map(id, quick.take())] == [*map(id, ruled.take())]
        assert quick.weight == sum(entry.weight for entry in quick)
    assert quick.take() == []
    assert (len(quick), quick.weight) == (0, 0)


@given(
    st.lists(st.tuples(st.lists(st.integers(1, 50), min_size=1, max_size=9), st.floats(1, 9)), max_size=9),
    st.floats(0, 9),
    st.integers(0, 3),
)
def test_the_work_that_is_due_before_is_counted(requests: list[tuple[list[int], float]], due: float, batches: int) -> None:
    """Requests of several instances come with deadlines in any order, and some batches have been taken already."""
    queue = Queue(replace(LIMITS, max_queue_size=100))
    loop = asyncio.new_event_loop()
    for lengths, deadline in requests:
        queue.put([*map(instance, lengths)], ticket(loop, size=len(lengths), deadline=deadline), per_step=0.01)
    for _ in range(batches):
        queue.take()
    loop.close()
    assert queue.before(due) == sum(entry.weight for entry in queue if entry.due <= due)


def test_lengths_far_apart_go_in_separate_batches() -> None:
    """One long sequence must not make ten short ones pay for its length."""
    queue = queue_of([100, 1, 1, 95, 1])
    assert lengths_of(queue.take()) == [100, 95]
    assert lengths_of(queue.take()) == [1, 1, 1]
    assert queue.take() == []


@pytest.mark.parametrize(
    ("padding", "batches"),
    [(Padding(), [[100, 60, 95, 90]]), (Padding(1500, 150), [[100, 60, 95, 90]]), (Padding(21, 0.2), [[100, 95, 90], [60]])],
    ids=["anything", "much", "little"],
)
def test_padding_is_taken_where_it_costs_less_than_another_batch(padding: Padding, batches: list[list[int]]) -> None:
    """A CPU computes a padded step as slowly as any other; for a GPU it is next to nothing. The budget holds for both."""
    queue = queue_of([100, 60, 95, 90], replace(LIMITS, padding=padding))
    assert [lengths_of(queue.take()) for _ in batches] == batches


def test_an_instance_longer_than_a_batch_runs_alone() -> None:
    """The limit of a batch bounds how many instances share it, not what a client may send."""
    queue = queue_of([1000, 1000])
    assert lengths_of(queue.take()) == [1000]


def test_answers_come_back_in_order_and_to_their_callers() -> None:
    """64 clients with different payloads of mixed lengths must each get their own answer."""

    async def scenario() -> None:
        batcher = Batcher(Doubler(), LIMITS, lanes=2)
        rng = np.random.default_rng(0)

        async def call(caller: int) -> None:
            mine = [instance(int(length), 100.0 * caller + index) for index, length in enumerate(rng.integers(1, 50, 3))]
            for asked, answer in zip(mine, await ask(batcher, mine), strict=True):
                np.testing.assert_array_equal(answer.output, 2 * asked.steps)

        limits = asyncio.Semaphore(16)

        async def patient(caller: int) -> None:
            async with limits:
                await call(caller)

        await asyncio.gather(*(patient(caller) for caller in range(64)))
        await batcher.close()

    asyncio.run(scenario())


def test_what_waits_while_a_lane_is_busy_runs_together() -> None:
    """Batching pays here: no request waits for others to arrive, but requests that wait anyway share a batch."""

    async def scenario() -> None:
        engine = Gated()
        batcher = Batcher(engine, LIMITS, lanes=1)
        first = asyncio.ensure_future(ask(batcher, [instance(5)]))
        await engine.wait_until_busy()
        rest = [asyncio.ensure_future(ask(batcher, [instance(5)])) for _ in range(4)]
        await asyncio.sleep(0)
        engine.open()
        await asyncio.gather(first, *rest)
        assert engine.batches == [1, 4]
        await batcher.close()

    asyncio.run(scenario())


def test_one_bad_instance_harms_no_neighbour(caplog: pytest.LogCaptureFixture) -> None:
    """A failed batch runs again one by one: only the bad instance's client gets an error, and the log says whose and where."""

    async def scenario() -> None:
        engine = Gated()
        batcher = Batcher(engine, LIMITS, lanes=1, name="gru version 3")
        blocker = asyncio.ensure_future(ask(batcher, [instance(5)]))
        await engine.wait_until_busy()
        calls = [asyncio.ensure_future(ask(batcher, [instance(5, value)])) for value in (1.0, POISON, 3.0)]
        await asyncio.sleep(0)
        engine.open()
        await blocker
        good, bad, other = await asyncio.gather(*calls, return_exceptions=True)
        assert engine.batches == [1, 3, 1, 1, 1]
        assert isinstance(bad, ValueError)
        for answer, value in ((good, 2.0), (other, 6.0)):
            assert isinstance(answer, list)
            assert answer[0].output[0, 0] == value
        await batcher.close()

    asyncio.run(scenario())
    assert "gru version 3: a batch of 3 failed" in caplog.text
    assert "gru version 3: an instance of 5 steps failed." in caplog.text
    assert caplog.text.count('raise ValueError("poison")') == 1


def test_a_full_queue_refuses_at_once_and_keeps_what_it_has() -> None:
    """To let clients wait for a place in a full queue would be another queue, without a limit."""

    async def scenario() -> None:
        engine = Gated()
        batcher = Batcher(engine, replace(LIMITS, max_queue_size=2), lanes=1)
        running = asyncio.ensure_future(ask(batcher, [instance(5)]))
        await engine.wait_until_busy()
        waiting = [ask(batcher, [instance(5)]) for _ in range(2)]
        with pytest.raises(QueueFull, match="limit of 2"):
            await ask(batcher, [instance(5)])
        waiting.pop().drop()
        waiting.append(ask(batcher, [instance(5)]))  # the request that was cancelled has made room
        engine.open()
        assert len(await asyncio.gather(running, *waiting)) == 3
        await batcher.close()

    asyncio.run(scenario())


def test_a_late_or_cancelled_caller_is_dropped_before_it_reaches_a_lane() -> None:
    """Work that nobody waits for would take time from work that somebody waits for."""

    async def scenario() -> None:
        engine = Gated()
        batcher = Batcher(engine, LIMITS, lanes=1)
        running = asyncio.ensure_future(ask(batcher, [instance(5)]))
        await engine.wait_until_busy()
        gone = asyncio.ensure_future(ask(batcher, [instance(5)]))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(DeadlineExceeded):
            await ask(batcher, [instance(5)], timeout=0)
        stays = asyncio.ensure_future(ask(batcher, [instance(5)]))
        await asyncio.sleep(0)
        engine.open()
        await asyncio.gather(running, stays)
        assert engine.batches == [1, 1]
        assert gone.cancelled()
        await batcher.close()

    asyncio.run(scenario())


def test_a_caller_who_leaves_while_his_batch_runs_harms_no_neighbour() -> None:
    """The batch cannot be stopped; the others in it still want their answers."""

    async def scenario() -> None:
        engine = Gated()
        batcher = Batcher(engine, LIMITS, lanes=1)
        leaves, stays = (ask(batcher, [instance(5)], timeout=5) for _ in range(2))
        await engine.wait_until_busy()
        leaves.drop()
        engine.open()
        assert len(await stays) == 1
        assert engine.batches == [2]
        await batcher.close()

    asyncio.run(scenario())


def test_a_running_request_is_told_at_its_deadline() -> None:
    """A client must get its error at the deadline, not when the lane is done."""

    async def scenario() -> None:
        engine = Gated()
        batcher = Batcher(engine, LIMITS, lanes=1)
        for _ in range(2):  # in the second round, the timer stands at a patient request's deadline
            running = asyncio.ensure_future(ask(batcher, [instance(5)], timeout=0.01))
            waiting = asyncio.ensure_future(ask(batcher, [instance(5)], timeout=0.05))
            patient = ask(batcher, [instance(5)])
            for late in (running, waiting):
                with pytest.raises(DeadlineExceeded):
                    await asyncio.wait_for(late, 10)
        engine.open()
        assert len(await patient) == 1
        await batcher.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(("hung", "told"), [((0.0, 0.0), True), ((900.0, 0.0), False), ((0.0, 900.0), False)])
def test_a_batch_that_does_not_end_is_told(hung: tuple[float, float], told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hung batch keeps its lane from all later requests, so it must be reported; a long batch must not be taken for hung."""
    monkeypatch.setattr("app.batcher.HUNG", hung)
    cost = CostModel()
    cost.learn(1, 5, 1.0)

    async def scenario() -> None:
        engine = Gated()
        batcher = Batcher(engine, LIMITS, lanes=2, cost=cost)
        assert not batcher.hangs
        running = asyncio.ensure_future(ask(batcher, [instance(5)]))
        await engine.wait_until_busy()
        assert batcher.hangs == told
        engine.open()
        await running
        assert not batcher.hangs
        await batcher.close()

    asyncio.run(scenario())


def test_a_deadline_that_cannot_be_kept_is_refused_at_once() -> None:
    """A client that is refused at once can go elsewhere; at the deadline, its time and the service's work would be lost."""

    async def scenario() -> None:
        engine = Gated()
        batcher = Batcher(engine, LIMITS, lanes=1, cost=costing(0.01, size=8))
        running = asyncio.ensure_future(ask(batcher, [instance(5)]))
        await engine.wait_until_busy()
        waiting = asyncio.ensure_future(ask(batcher, [instance(300)], timeout=4))  # 332 steps of work: 3.32 s
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match=r"about 3\.32 s, more than 30% of its timeout of 5 s") as refused:
            ask(batcher, [instance(5)], timeout=5)
        assert refused.value.retry_after == 4
        patient = asyncio.ensure_future(ask(batcher, [instance(5)], timeout=50))
        engine.open()
        await asyncio.gather(running, waiting, patient)
        await batcher.close()

    asyncio.run(scenario())


def test_the_pace_is_that_of_all_lanes_and_time_without_work_does_not_count() -> None:
    """A service that was idle for an hour is as fast as before."""

    async def scenario() -> None:
        batcher = Batcher(Doubler(), LIMITS, lanes=2, cost=costing(0.01, size=8))
        for _ in range(4):
            assert batcher._experience.per_step == pytest.approx(0.01 / 2)
            await ask(batcher, [instance(5)])
        await batcher.close()

    asyncio.run(scenario())


def test_what_is_urgent_is_not_refused_for_what_can_wait() -> None:
    """Only work that is due earlier delays a request."""

    async def scenario() -> None:
        engine = Gated()
        batcher = Batcher(engine, replace(LIMITS, max_batch_size=1), lanes=1, cost=costing(0.01, size=1))
        running = asyncio.ensure_future(ask(batcher, [instance(5)]))
        await engine.wait_until_busy()
        slow = asyncio.ensure_future(ask(batcher, [instance(300)], timeout=600))
        urgent = asyncio.ensure_future(ask(batcher, [instance(7)], timeout=3))
        await asyncio.sleep(0)
        engine.open(2)
        await asyncio.gather(running, urgent)
        assert not slow.done()
        engine.open()
        await slow
        await batcher.close()

    asyncio.run(scenario())


def test_a_large_request_gives_way_to_a_small_one_that_comes_later() -> None:
    """A thousand instances in one request must not block everyone else."""
    loop = asyncio.new_event_loop()
    queue = Queue(LIMITS)
    large, small = ticket(loop, size=40, deadline=60.0), ticket(loop, deadline=61.0)
    loop.close()
    queue.put([instance(100)] * 40, large, per_step=0.001)
    assert all(entry.ticket is large for entry in queue.take())
    queue.put([instance(10)], small, per_step=0.001)
    order = []
    while batch := queue.take():
        order.append({entry.ticket for entry in batch})
    assert {small} in order[:4]
    assert order[-1] == {large}, "and nothing of the large one is lost"


def test_accepted_work_is_not_starved_by_the_more_urgent() -> None:
    """Every accepted request is answered, however many more urgent ones come after it."""
    loop = asyncio.new_event_loop()
    queue = Queue(replace(LIMITS, max_batch_size=1))
    patient = ticket(loop, size=1, deadline=30.0)
    queue.put([instance(5)], patient)
    for second in range(14):
        queue.put([instance(5)], Ticket(1, loop.create_future(), arrived=second, deadline=second + 2.0))
    assert [entry.ticket.deadline for entry in queue] == [*range(2, 16), 30], "the urgent go first"
    queue.put([instance(5)], Ticket(1, loop.create_future(), arrived=15.0, deadline=17.0))
    assert [*queue][-1].ticket.deadline == 17, "until half of the time is over"
    loop.close()


def test_nobody_waits_for_company_until_it_is_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The delay that makes batches larger must not make a request miss its deadline, even if later requests could wait."""
    now, later = 100.0, list[tuple[float, Callable[[], None]]]()
    monkeypatch.setattr(batcher, "monotonic", lambda: now)

    async def scenario() -> None:
        nonlocal now
        loop, engine = asyncio.get_running_loop(), Doubler()
        made = Batcher(engine, replace(LIMITS, max_queue_delay=10.0), lanes=1)

        def call_later(seconds: float, look: Callable[[], None]) -> asyncio.Handle:
            later.append((seconds, look))
            return asyncio.Handle(look, (), loop)

        with monkeypatch.context() as patch:
            patch.setattr(loop, "call_later", call_later)
            hurried, patient = ask(made, [instance(5)], timeout=0.5), ask(made, [instance(5)])
            for _ in range(5):
                await asyncio.sleep(0)
        assert engine.batches == []
        seconds, look = later[-1]
        assert seconds == pytest.approx(0.25)
        now += 0.26
        look()
        assert len(await hurried) == len(await patient) == 1
        await made.close()

    asyncio.run(scenario())


def test_an_error_in_place_of_an_answer_reaches_its_caller_alone() -> None:
    """An engine that knows which instance is at fault spares the others a second run."""

    async def scenario() -> None:
        def predict(instances: Sequence[Instance]) -> list[Prediction | Exception]:
            return [
                NotFinite("too large") if (each.steps == POISON).any() else Prediction(outputs=(each.steps,), state=())
                for each in instances
            ]

        batcher = Batcher(predict, LIMITS, lanes=1)
        good, bad = await asyncio.gather(
            ask(batcher, [instance(5)]), ask(batcher, [instance(5), instance(5, POISON)]), return_exceptions=True
        )
        assert isinstance(good, list)
        assert str(bad) == "Instance 1: too large"
        await batcher.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("inline", [-1.0, math.inf], ids=["lane", "event loop"])
@pytest.mark.parametrize("together", [1, 2])
def test_what_fails_is_not_kept(inline: float, together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error keeps its frames, whose entries keep the tickets, which keep the error: a cycle that must be broken."""

    async def scenario() -> None:
        made = Batcher(Doubler(), LIMITS, lanes=1, inline=lambda *_: inline, cost=CostModel({0: 0.0}, {0: 0.0}))
        with pytest.raises(ValueError, match="poison"):
            await made.predict([instance(5, POISON)] * together, timeout=10)
        await made.close()

    monkeypatch.setattr(batcher.log, "propagate", False)  # pytest would keep the logged errors and their frames
    gc.collect()
    gc.disable()
    try:
        asyncio.run(scenario())
        assert not [each for each in gc.get_objects() if type(each) in (Entry, Ticket)]
    finally:
        gc.enable()


def test_a_batch_that_is_not_full_waits_for_company_if_it_is_to() -> None:
    """If a batch costs the same at any size, a short wait may pay; by default no batch waits."""

    async def scenario() -> None:
        engine = Doubler()
        batcher = Batcher(engine, replace(LIMITS, max_batch_size=3, max_queue_delay=10.0), lanes=1)
        calls = [asyncio.ensure_future(ask(batcher, [instance(5)])) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert engine.batches == []
        calls.append(asyncio.ensure_future(ask(batcher, [instance(5)])))
        await asyncio.gather(*calls)
        assert engine.batches == [3]
        last = asyncio.ensure_future(ask(batcher, [instance(5)]))
        await asyncio.sleep(0)
        await batcher.close()  # nothing else will arrive
        assert len(await last) == 1

    asyncio.run(scenario())


@settings(max_examples=40)
@given(st.data())
def test_every_caller_is_answered_exactly_once_whatever_happens(data: st.DataObject) -> None:
    """Arrivals, failures, cancelled and late requests, a full queue and the end, in any order, must leave no client waiting."""
    kinds = st.sampled_from(["good", "poison", "cancelled", "late", "pause"])
    plan = data.draw(st.lists(st.tuples(kinds, st.lists(st.integers(1, 40), min_size=1, max_size=6)), max_size=30))
    end = data.draw(st.sampled_from(["close", "refuse"]))
    lanes = data.draw(st.integers(1, 3))

    async def scenario() -> None:
        batcher = Batcher(Doubler(), replace(LIMITS, max_queue_size=12), lanes=lanes)
        calls: list[tuple[str, list[Instance], asyncio.Future[list[Prediction]]]] = []
        for number, (kind, lengths) in enumerate(plan):
            if kind == "pause":
                await asyncio.sleep(0.0005)
                continue
            asked = [instance(length, POISON if kind == "poison" else 100.0 + number) for length in lengths]
            try:
                call = asyncio.ensure_future(ask(batcher, asked, timeout=0.0 if kind == "late" else 60.0))
            except (QueueFull, Overloaded):
                continue
            calls.append((kind, asked, call))
            if kind == "cancelled":
                await asyncio.sleep(0)  # a task that is cancelled before it begins would not run at all
                call.cancel()
        if end == "refuse":
            await asyncio.sleep(0)
            batcher.refuse()
        await batcher.close()
        results = await asyncio.wait_for(asyncio.gather(*(call for *_, call in calls), return_exceptions=True), 10)
        for (kind, asked, _), result in zip(calls, results, strict=True):
            if isinstance(result, list):
                assert kind in ("good", "cancelled", "late")
                for mine, answer in zip(asked, result, strict=True):
                    np.testing.assert_array_equal(answer.output, 2 * mine.steps)
            elif isinstance(result, Draining):
                assert end == "refuse"
            else:
                expected = {"poison": ValueError, "cancelled": asyncio.CancelledError, "late": DeadlineExceeded}
                assert isinstance(result, expected[kind])

    asyncio.run(scenario())


def test_closing_finishes_what_waits_and_refuses_what_is_new() -> None:
    """Every accepted request must be answered."""

    async def scenario() -> None:
        engine = Gated()
        batcher = Batcher(engine, LIMITS, lanes=1)
        calls = [asyncio.ensure_future(ask(batcher, [instance(5)])) for _ in range(3)]
        await engine.wait_until_busy()
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(Draining):
            await ask(batcher, [instance(5)])
        engine.open()
        await closing
        assert all(len(answer) == 1 for answer in await asyncio.gather(*calls))

    asyncio.run(scenario())


def test_what_got_no_thread_is_not_answered_twice_nor_keeps_it_from_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool queues a batch before it starts a thread, so the next thread finds the batch of a start that failed."""
    start = threading.Thread.start

    def refuse(_: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "start", start)
        raise RuntimeError("can't start new thread")

    async def scenario() -> None:
        batcher = Batcher(engine := Doubler(), LIMITS, lanes=1, inline=lambda _size, _steps: 0.0)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            await ask(batcher, [instance(5)])
        assert len(await ask(batcher, [instance(3)])) == 1
        assert engine.batches == [1, 1]
        async with asyncio.timeout(30):
            await batcher.close()

    asyncio.run(scenario())


def test_refusing_tells_everyone_who_waits_and_finishes_what_runs() -> None:
    """A client without an answer would wait for ever."""

    async def scenario() -> None:
        engine = Gated()
        batcher = Batcher(engine, LIMITS, lanes=1)
        running = asyncio.ensure_future(ask(batcher, [instance(5)]))
        await engine.wait_until_busy()
        waiting = asyncio.ensure_future(ask(batcher, [instance(5)]))
        await asyncio.sleep(0)
        assert batcher.refuse() == 1
        with pytest.raises(Draining):
            await waiting
        with pytest.raises(Draining):
            await ask(batcher, [instance(5)])
        engine.open()
        await batcher.close()
        assert len(await running) == 1

    asyncio.run(scenario())


def test_cheap_work_runs_on_the_event_loop_and_dear_work_does_not() -> None:
    """A hop to a thread costs more than a small batch, and a large batch must not block the loop."""

    async def scenario() -> None:
        threads: list[str] = []

        def predict(instances: Sequence[Instance]) -> list[Prediction]:
            threads.append(threading.current_thread().name)
            return [Prediction(outputs=(each.steps,), state=()) for each in instances]

        cost = CostModel()
        cost.learn(1, 1, 10e-6)
        cost.learn(1, 100, 100 * 50e-6)
        told = cost.predict(1, 300)
        batcher = Batcher(predict, LIMITS, lanes=2, cost=cost)
        await ask(batcher, [instance(1)])
        await ask(batcher, [instance(300)])
        await batcher.close()
        assert threads[0] == "MainThread"
        assert threads[1].startswith("lane")
        assert told != cost.predict(1, 300) < 10, "seconds, learned from what they took"

    asyncio.run(scenario())


def test_work_on_the_event_loop_is_not_put_off_by_those_who_are_read_and_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = 0.0
    for clock in ("thread_time", "perf_counter"):
        monkeypatch.setattr(loop_time, clock, lambda: spent)
    engine = Doubler()

    def run(instances: Sequence[Instance]) -> list[Prediction]:
        nonlocal spent
        spent += loop_time.SLICE
        return engine(instances)

    async def read() -> list[int]:
        nonlocal spent
        batcher = Batcher(run, replace(LIMITS, max_batch_size=1), lanes=1, inline=lambda *_: math.inf)
        tickets = [ask(batcher, [instance(3)]) for _ in range(4)]
        done = []
        for _ in range(3):  # in one iteration of the loop
            spent += 0.6 * loop_time.SLICE
            batcher.admit(60.0)
            done.append(len(engine.batches))
        await asyncio.gather(*tickets)
        await batcher.close()
        return done

    assert asyncio.run(read()) == [0, 2, 2]
    assert engine.batches == [1] * 4


def test_work_on_the_event_loop_fails_like_any_other() -> None:
    """The client must get the error, and the batcher must go on."""

    async def scenario() -> None:
        cost = CostModel()
        cost.learn(1, 1, 1e-6)
        batcher = Batcher(Doubler(), LIMITS, lanes=1, cost=cost)
        with pytest.raises(DeadlineExceeded):
            await ask(batcher, [instance(1)], timeout=0)  # the answer is there before the timer
        good, bad = await asyncio.gather(ask(batcher, [instance(1)]), ask(batcher, [instance(1, POISON)]), return_exceptions=True)
        assert isinstance(good, list)
        assert isinstance(bad, ValueError)
        assert len(await ask(batcher, [instance(1)])) == 1
        await batcher.close()

    asyncio.run(scenario())


def test_a_wrong_number_of_answers_is_an_error_for_all_of_the_batch() -> None:
    """It is unknown which instance each answer belongs to, so none may be given out."""

    async def scenario() -> None:
        batcher = Batcher(lambda instances: [], LIMITS, lanes=1)  # noqa: ARG005  # an engine that lost its answers
        with pytest.raises(Exception, match="answered 0 of 1"):
            await ask(batcher, [instance(5)])
        await batcher.close()

    asyncio.run(scenario())


def test_a_caller_who_left_before_his_work_began_leaves_no_error_behind() -> None:
    """asyncio logs a future whose error nobody retrieves, and every client that hangs up would cause such a line."""

    async def scenario() -> None:
        troubles: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, told: troubles.append(told))
        leaving: set[Callable[[], None]] = set()
        with Caller({"extensions": {ON_DISCONNECT: leaving}}) as caller:
            for tell in [*leaving]:
                tell()
            unheard = ticket(loop)
            with pytest.raises(ClientDisconnect):
                caller.waits_for(unheard)
        assert unheard.abandoned
        del unheard
        gc.collect()
        assert troubles == []

    asyncio.run(scenario())
