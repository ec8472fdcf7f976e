"""The event loop's time: work starts after the input that has arrived was read, and new input cannot delay it for ever."""

import asyncio

import pytest

from app import loop_time
from app.loop_time import FAIR, SLICE, LoopTime


class Clock:
    """The CPU time of a thread, and the time of a wall clock, in seconds."""

    def __init__(self) -> None:
        self.now = 7.0
        self.waited = 0.0
        self.asked = 0  # how often the CPU time was read

    def spent(self) -> float:
        self.asked += 1
        return self.now

    def shown(self) -> float:
        return self.now + self.waited


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loop_time, "thread_time", clock.spent)
    monkeypatch.setattr(loop_time, "perf_counter", clock.shown)
    return clock


def idle() -> LoopTime:
    """A LoopTime whose work does nothing."""

    async def make() -> LoopTime:
        return LoopTime(lambda: None)

    return asyncio.run(make())


def test_the_work_is_done_after_so_many_rounds_and_once() -> None:
    async def count() -> list[int]:
        done: list[int] = []
        rounds = 0
        time = LoopTime(lambda: done.append(rounds))
        for asked in (1, 3):
            begin = rounds
            time.call(rounds=asked)
            time.call()
            for _ in range(6):
                rounds += 1
                await asyncio.sleep(0)
            done[-1] -= begin
        return done

    assert asyncio.run(count()) == [1, 3]


def test_the_work_is_overdue_once_the_loop_has_done_other_things_for_long(clock: Clock) -> None:
    time = idle()
    assert not time.overdue
    clock.now += 2 * SLICE
    assert time.overdue
    time.work_ended()
    assert not time.overdue


def test_who_only_waited_is_not_overdue_and_the_processor_is_asked_no_more_often_than_it_has_to_be(clock: Clock) -> None:
    time = idle()
    time.work_ended()
    clock.waited += 100 * SLICE
    assert not time.overdue
    asked = clock.asked
    for _ in range(9):
        clock.now += SLICE / 10
        assert not time.overdue
    assert clock.asked == asked
    clock.now += SLICE / 5
    assert time.overdue


@pytest.mark.parametrize(("away", "share"), [(SLICE / 2, SLICE / 2), (SLICE, SLICE), (100 * FAIR, FAIR)])
def test_the_work_may_last_as_long_as_the_loop_was_away_but_not_for_ever(clock: Clock, away: float, share: float) -> None:
    time = idle()
    clock.now += FAIR
    time.work_ended()
    clock.now += away
    until = time.work_until()
    clock.now += share * 0.9
    assert not time.is_past(until)
    clock.now += share * 0.2
    assert time.is_past(until)
