"""How connections are accepted when the system has no file descriptors left."""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest

from app.http.arrivals import PAUSE, Arrivals


class Full(socket.socket):
    """A listener whose first accept fails because no file descriptors are left."""

    asked = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.asked += 1
        if self.asked == 1:
            raise OSError(errno.EMFILE, "no files are left")
        return super().accept()


@pytest.mark.parametrize("stops", [False, True], ids=["goes-on", "stops"])
def test_who_comes_while_no_files_are_left_is_let_in_after_a_pause(monkeypatch: pytest.MonkeyPatch, *, stops: bool) -> None:
    """An immediate retry would fail again; without a retry, the service would never accept connections again."""
    later: list[tuple[float, Callable[..., None], Any]] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "call_later", lambda *call: later.append(call))
        arrived = asyncio.Event()

        class Arrived(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                transport.close()
                arrived.set()

        arrivals = Arrivals(Arrived, None, room=lambda: 1, refused=lambda: None, gone=lambda: None)
        with Full() as listener, socket.socket() as caller:
            listener.bind(("127.0.0.1", 0))
            arrivals.listen(listener)
            caller.connect(listener.getsockname())
            for _ in range(5):
                await asyncio.sleep(0)
            assert listener.asked == 1
            ((pause, listen_again, again),) = later
            assert pause == PAUSE
            monkeypatch.undo()
            if stops:
                await arrivals.settle()
            listen_again(again)
            await asyncio.wait_for(arrived.wait(), timeout=30)

    asyncio.run(run())
