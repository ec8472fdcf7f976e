"""The promise of streams: a signal in pieces is answered like the whole, however it is cut and whatever else is served."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import numpy as np

from app import manifest
from app.tensors import Array
from tests import artifacts
from tests.servers import serve
from tests.stream_clients import Caller, Crowd, client, steps, whole

LENGTH = 10_000
LONGEST = 150
OTHERS = 200
SAMPLE = 20  # of the other streams, whose answers are checked too


def pieces(signal: Array, seed: int) -> list[Array]:
    """The signal in chunks of 1 to LONGEST steps."""
    choice = random.Random(seed)
    cuts = [0]
    while cuts[-1] < len(signal):
        cuts.append(min(len(signal), cuts[-1] + choice.randint(1, LONGEST)))
    return [signal[begin:end] for begin, end in pairwise(cuts)]


@asynccontextmanager
async def one_shots(http: httpx.AsyncClient, url: str) -> AsyncIterator[None]:
    """Requests the whole sequences of other clients, one after the other, for as long as the block lasts."""

    async def ask() -> None:
        while True:
            await whole(http, url, steps(60, 7))

    asking = asyncio.create_task(ask())
    try:
        yield
        assert not asking.done(), "a sequence was not answered"
    finally:
        asking.cancel()


def test_10000_steps_in_any_pieces_equal_the_whole(repository: Path, tmp_path: Path) -> None:
    """This holds over HTTP and over a WebSocket, in batches with 200 other streams and with one-shot predictions."""
    spec = manifest.read(repository / "gyro-denoiser" / "1")
    signals = [steps(LENGTH, seed) for seed in range(2)]
    over_http, over_websocket = (Caller(f"whole-{seed}", iter(pieces(signal, seed))) for seed, signal in enumerate(signals))

    async def scenario(url: str) -> None:
        others = Crowd(OTHERS, lambda: url, websockets=False, at_once=4)
        async with client() as http, others.calling(), one_shots(http, url):
            for caller in (over_http, over_websocket):
                assert (await http.post(f"{url}/streams", json={"id": caller.id})).status_code == 201
            await others.more(OTHERS)
            async with asyncio.TaskGroup() as group:
                group.create_task(over_http.over_http(http, lambda: url, asyncio.Semaphore()))
                group.create_task(over_websocket.over_websocket(lambda: url, ahead=16))
        assert min(len(caller.answers) for caller in others.callers) > 1
        await others.check(url, spec, [over_http, over_websocket, *random.Random(0).sample(others.callers, SAMPLE)])

    with serve(repository, "--workers", "2", "--data-dir", str(tmp_path)) as server:
        asyncio.run(scenario(server.url))
    for caller, signal in zip((over_http, over_websocket), signals, strict=True):
        expected, _ = artifacts.network().equations(signal.astype(np.float64), [np.zeros((2, 8))])
        np.testing.assert_array_equal(np.concatenate(caller.chunks), signal)
        found = np.concatenate(caller.answers)
        np.testing.assert_allclose(found, expected, rtol=spec.tolerance.rtol, atol=spec.tolerance.atol)
