"""What a connection writes: answers of one round of the loop leave together, in order, and one that is alone does not wait."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from app.transport import Corked, Departures


class Written(asyncio.Transport):
    """A transport that remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing


def after(write: Callable[[Corked], None], *, closing: bool = False) -> tuple[list[bytes], list[bytes]]:
    """What has been written at once, and in the end."""

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
