"""Turns are taken in order of arrival, and a waiter that has left is passed over."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from time import sleep

import pytest
import uvloop

from app.errors import DeadlineExceeded, QueueFull
from app.streaming.turns import MOST_WAITING, Turns


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_turns_come_in_the_order_in_which_they_were_asked_for() -> None:
    async def main() -> list[int]:
        turns, order = Turns(), []
        gate = asyncio.Event()

        async def work(number: int) -> None:
            async with turns.of("a"):
                await gate.wait()
                order.append(number)

        tasks = [asyncio.create_task(work(number)) for number in range(5)]
        await settle()
        gate.set()
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


def test_keys_do_not_wait_for_each_other() -> None:
    async def main() -> None:
        turns = Turns()
        await turns.take("a")
        await asyncio.wait_for(turns.take("b"), 5)

    asyncio.run(main())


def test_a_turn_that_does_not_come_in_time_is_the_next_ones() -> None:
    async def main() -> None:
        turns = Turns()
        await turns.take("a")
        with pytest.raises(DeadlineExceeded, match="had its turn"):
            await turns.take("a", timeout=0.01)
        third = asyncio.create_task(turns.take("a"))
        await settle()
        turns.give("a")
        await asyncio.wait_for(third, 5)

    asyncio.run(main())


@pytest.mark.parametrize("apart", [False, True], ids=["at-once", "a-round-later"])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_turn_that_comes_as_its_time_is_up_is_the_next_ones(
    run: Callable[[Coroutine[None, None, None]], None], apart: bool
) -> None:
    """An event loop that is held up sees the turn and the deadline in the same round."""

    async def main() -> None:
        turns, loop = Turns(), asyncio.get_running_loop()
        await turns.take("a")

        async def second() -> None:
            with suppress(DeadlineExceeded):  # or it gets its turn: the event loop decides
                await turns.take("a", timeout=0.02)
                turns.give("a")

        def held_up() -> None:
            sleep(0.05)  # the deadline passes
            if apart:
                loop.call_soon(turns.give, "a")
            else:
                turns.give("a")

        waiting = asyncio.create_task(second())
        await settle()
        loop.call_soon(held_up)
        await waiting
        await asyncio.wait_for(turns.take("a"), 5)

    run(main())


@pytest.mark.parametrize("late", [False, True], ids=["waiting", "just-when-it-came"])
def test_a_turn_of_someone_who_left_is_the_next_ones(late: bool) -> None:
    """The waiter is cancelled while it waits, or between being called and waking up."""

    async def main() -> None:
        turns = Turns()
        await turns.take("a")
        second, third = (asyncio.create_task(turns.take("a")) for _ in range(2))
        await settle()
        if late:
            turns.give("a")
            second.cancel()
        else:
            second.cancel()
            await settle()
            turns.give("a")
        await asyncio.wait_for(third, 5)
        assert second.cancelled()
        turns.give("a")
        await asyncio.wait_for(turns.take("a"), 5)

    asyncio.run(main())


def test_nothing_is_kept_of_a_key_that_nobody_asks_for() -> None:
    async def main() -> Turns:
        turns = Turns()
        for number in range(100):
            async with turns.of(str(number)):
                pass
        return turns

    assert not asyncio.run(main())._waiting


def test_a_line_that_is_too_long_is_refused_at_once() -> None:
    async def main() -> None:
        turns = Turns()
        await turns.take("a")
        waiting = [asyncio.create_task(turns.take("a")) for _ in range(MOST_WAITING)]
        await settle()
        with pytest.raises(QueueFull, match="their turn on a"):
            await turns.take("a")
        turns.give("a")
        await waiting[0]

    asyncio.run(main())
