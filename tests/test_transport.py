"""What a connection writes: answers of one round of the event loop leave together, in order, and a single one does not wait."""

import asyncio
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from app.http.transport import BRIEF, LONGEST, MOST, SLOWEST, Corked, Departures, Flow, Lingering


class Written(asyncio.Transport):
    """A transport that records each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closing = False
        self.reads = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def can_write_eof(self) -> bool:
        return False

    def set_protocol(self, _: asyncio.BaseProtocol) -> None: ...


def after(write: Callable[[Corked], None], *, closing: bool = False) -> tuple[list[bytes], list[bytes]]:
    """What has been written at once, and what after one round of the event loop."""

    async def run() -> tuple[list[bytes], list[bytes]]:
        transport = Written()
        transport.closing = closing
        write(Corked(transport, Departures()))
        at_once = [*transport.writes]
        await asyncio.sleep(0)
        return at_once, transport.writes

    return asyncio.run(run())


def test_what_is_written_in_one_round_leaves_together() -> None:
    def write(corked: Corked) -> None:
        corked.write(b"head ")
        corked.write(b"body")

    assert after(write) == ([], [b"head body"])


def test_what_needs_no_company_does_not_wait() -> None:
    assert after(lambda corked: corked.write_at_once(b"answer")) == ([b"answer"], [b"answer"])


def test_nothing_overtakes_what_waits() -> None:
    def write(corked: Corked) -> None:
        corked.write(b"first ")
        corked.write_at_once(b"second")

    assert after(write) == ([], [b"first second"])


def test_nothing_is_written_to_what_closes() -> None:
    assert after(lambda corked: corked.write(b"answer"), closing=True) == ([], [])
    assert after(lambda corked: corked.write_at_once(b"answer"), closing=True) == ([], [])


def test_what_one_cannot_send_does_not_keep_the_others_from_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    class Broken(Written):
        def writelines(self, list_of_data: object) -> None:
            raise RuntimeError(list_of_data)

    async def run() -> list[bytes]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: said.append(context["message"]))
        called: list[object] = []
        soon = loop.call_soon

        def call_soon(*given: Any, **more: Any) -> asyncio.Handle:
            called.append(given)
            return soon(*given, **more)

        monkeypatch.setattr(loop, "call_soon", call_soon)
        departures, whole = Departures(), Written()
        for transport in (Broken(), whole, Broken()):
            Corked(transport, departures).write(b"answer")
        assert len(called) == 1, "for all of them"
        await asyncio.sleep(0)
        Corked(whole, departures).write(b"next")
        await asyncio.sleep(0)
        return whole.writes

    assert asyncio.run(run()) == [b"answer", b"next"]
    assert said == ["An answer could not be sent."] * 2


def ends_after(each: int, *, longest: float = LONGEST, hurried: float | None = None) -> float:
    """Seconds until a connection ends whose client keeps sending `each` bytes a second."""
    transport = Written()
    lingering = Lingering(asyncio.Protocol(), Corked(transport, Departures()), 0.0, longest=longest)
    now = 0.0
    while not transport.closing:
        now += 1
        if each:
            lingering.data_received(bytes(each))
        if now == hurried:
            lingering.hurry(now)
        lingering.check(now)
    return now


def test_a_connection_lingers_as_long_as_its_caller_sends_within_bounds() -> None:
    """A client that falls silent, sends too slowly or never ends would otherwise keep its place."""
    assert ends_after(0) == BRIEF + 1
    assert ends_after(SLOWEST // 4) == BRIEF + 1
    assert ends_after(SLOWEST) == LONGEST + 1
    assert ends_after(MOST // 4) == 5
    assert ends_after(SLOWEST, longest=BRIEF) == BRIEF + 1


def test_a_connection_that_lingers_is_over_soon_when_the_service_stops() -> None:
    assert ends_after(SLOWEST, hurried=10) == 10 + BRIEF + 1


@pytest.mark.parametrize("steps", [*permutations(["pause", "hold", "resume", "let go"])], ids="-".join)
def test_reading_goes_on_when_nothing_is_against_it(steps: tuple[str, ...]) -> None:
    """There are two reasons to pause: a body that is not wanted yet, and enough parsed for now. Either may end before the other."""

    async def run() -> None:
        transport = Written()
        flow = Flow(transport, [])
        acts = {"pause": flow.pause_reading, "hold": flow.hold, "resume": flow.resume_reading, "let go": flow.let_go}
        paused = held = False
        for step in steps:
            acts[step]()
            paused = {"pause": True, "resume": False}.get(step, paused)
            held = {"hold": True, "let go": False}.get(step, held)
            assert transport.reads == (not paused and not held)

    asyncio.run(run())
