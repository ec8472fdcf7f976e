"""What a connection writes: answers of one round of the loop leave together, in order, and one that is alone does not wait."""

import asyncio
from collections.abc import Callable

from app.transport import Corked


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
        write(Corked(transport, asyncio.get_running_loop()))
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
