"""The event loop's time: work comes after who is there has been heard, and is not put off for ever by those who come."""

import asyncio

import pytest

from app import loop_time
from app.loop_time import FAIR, SLICE, LoopTime


class Clock:
    """What a thread has used of its processor, in seconds."""

    def __init__(self) -> None:
        self.now = 7.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loop_time, "thread_time", clock)
    return clock


def idle() -> LoopTime:
    """Whose turns do nothing."""

    async def make() -> LoopTime:
        return LoopTime(lambda: None)

    return asyncio.run(make())


def test_a_turn_comes_after_so_many_rounds_and_once() -> None:
    async def count() -> list[int]:
        turns: list[int] = []
        rounds = 0
        time = LoopTime(lambda: turns.append(rounds))
        for asked in (1, 3):
            begin = rounds
            time.call(rounds=asked)
            time.call()
            for _ in range(6):
                rounds += 1
                await asyncio.sleep(0)
            turns[-1] -= begin
        return turns

    assert asyncio.run(count()) == [1, 3]


def test_a_turn_is_overdue_once_the_loop_has_done_other_things_for_long(clock: Clock) -> None:
    time = idle()
    assert not time.overdue
    clock.now += 2 * SLICE
    assert time.overdue
    time.left()
    assert not time.overdue


@pytest.mark.parametrize(("away", "share"), [(SLICE / 2, SLICE / 2), (SLICE, SLICE), (100 * FAIR, FAIR)])
def test_a_turn_may_last_as_long_as_the_loop_was_away_but_not_for_ever(clock: Clock, away: float, share: float) -> None:
    time = idle()
    clock.now += away
    until = time.owed()
    clock.now += share * 0.9
    assert not time.over(until)
    clock.now += share * 0.2
    assert time.over(until)
