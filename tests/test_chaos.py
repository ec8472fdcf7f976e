"""Streams while everything around them fails: processes are killed, stores are away, clients misbehave.

The promise: a client that sends a chunk again until it is answered gets the same answer as if nothing had failed.
"""

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import connect

from app import manifest
from app.tensors import Array
from tests.redis_server import RedisServer, needs_redis, redis_server
from tests.servers import Server, serve
from tests.stream_clients import OCTETS, Caller, Crowd, Machine, client, outputs, steps, whole
from tests.test_http import children

STREAMS = 50
PROBLEM = "urn:recurve:problem:store-unavailable"


@contextmanager
def machines(count: int, repository: Path, *flags: str) -> Iterator[list[Machine]]:
    """Start `count` services; at the end, none of them may have logged an unexpected error."""
    with ExitStack() as stack:
        made = [Machine(repository, flags) for _ in range(count)]
        for machine in made:
            stack.callback(machine.close)
            machine.start()
        yield made
    for machine in made:
        assert "Traceback" not in "".join(machine.log), "".join(machine.log)


async def begin(http: httpx.AsyncClient, url: str, id: str) -> None:
    assert (await http.post(f"{url}/streams", json={"id": id})).status_code == 201


def test_a_machine_that_is_killed_ten_times_loses_no_step_and_doubles_none(
    repository: Path, tmp_path: Path, spec: manifest.ModelSpec
) -> None:
    """Answered chunks must be kept, and a chunk that was done without an answer must be answered when it is sent again."""
    chance = random.Random(1)

    async def scenario(machine: Machine) -> None:
        crowd = Crowd(STREAMS, lambda: machine.url)
        unheard = Caller("unheard", iter(()))
        async with client() as http, crowd.calling():
            await begin(http, machine.url, unheard.id)
            for killed in range(10):
                await crowd.everyone()  # or some clients might never get an answer
                await unheard.say_unheard(http, machine.url, [steps(5, 9, killed, number) for number in range(3)])
                await crowd.more(chance.randint(1, 100))
                await asyncio.to_thread(machine.kill)
                await asyncio.to_thread(machine.start)
                await unheard.over_http(http, lambda: machine.url, asyncio.Semaphore())
            await crowd.everyone()
        await crowd.check(machine.url, spec, [*crowd.callers, unheard])

    with machines(1, repository, "--workers", "2", "--data-dir", str(tmp_path)) as (machine,):
        asyncio.run(scenario(machine))


@needs_redis
def test_replicas_that_are_killed_one_after_the_other_lose_no_step_and_double_none(
    repository: Path, tmp_path: Path, spec: manifest.ModelSpec
) -> None:
    """Any replica continues where another was killed, so clients need not know that there are several."""
    chance = random.Random(2)

    async def scenario(replicas: list[Machine]) -> None:
        crowd = Crowd(STREAMS, lambda: chance.choice(replicas).url, rest=0.5)
        unheard = Caller("unheard", iter(()))
        async with client() as http, crowd.calling():
            await begin(http, replicas[0].url, unheard.id)
            for killed, replica in enumerate([*replicas, replicas[0]]):
                await unheard.say_unheard(http, replica.url, [steps(5, 9, killed, number) for number in range(3)])
                await crowd.more(chance.randint(1, 100))
                await asyncio.to_thread(replica.kill)
                await unheard.over_http(http, lambda: chance.choice(replicas).url, asyncio.Semaphore())
                await crowd.everyone()
                await asyncio.to_thread(replica.start)
        await crowd.check(replicas[0].url, spec, [*crowd.callers, unheard])

    with redis_server(tmp_path) as redis, machines(3, repository, "--workers", "1", "--stream-store", redis.url) as replicas:
        asyncio.run(scenario(replicas))


def test_a_worker_that_is_killed_takes_no_stream_with_it(repository: Path, tmp_path: Path, spec: manifest.ModelSpec) -> None:
    """The other workers, and the one that replaces it, go on with the store that it was using when it died."""
    chance = random.Random(3)

    async def scenario(machine: Machine) -> None:
        crowd = Crowd(12, lambda: machine.url)
        async with crowd.calling():
            for killed in range(1, 5):
                await crowd.more(chance.randint(1, 100))
                os.kill(chance.choice(sorted(children(machine.server.process.pid))), signal.SIGKILL)
                await asyncio.to_thread(machine.server.wait_for, "is replaced", times=killed)
                await asyncio.to_thread(machine.server.wait_for, "Loaded", times=2 + killed)
            await crowd.everyone()
        await crowd.check(machine.url, spec)

    with machines(1, repository, "--workers", "2", "--data-dir", str(tmp_path)) as (machine,):
        asyncio.run(scenario(machine))


@needs_redis
def test_while_redis_is_away_callers_are_told_and_afterwards_streams_go_on(
    repository: Path, tmp_path: Path, spec: manifest.ModelSpec
) -> None:
    """Sequences without a stream need no store, so they must be answered even while it is away."""

    async def scenario(machine: Machine, redis: RedisServer) -> None:
        crowd = Crowd(12, lambda: machine.url)
        async with client() as http, crowd.calling():
            await crowd.more(100)
            redis.kill()
            told = [len(caller.refused) for caller in crowd.callers]
            await asyncio.to_thread(machine.server.wait_for, "Streams cannot be used")
            health = await http.get(f"{machine.url}/health")
            assert health.status_code == 200
            assert "cannot be used" in health.json()["streams"]["trouble"]
            assert "recurve_stream_store_trouble 1.0" in (await http.get(f"{machine.url}/metrics")).text
            for _ in range(10):
                await whole(http, machine.url, steps(5))
            refused = await http.post(f"{machine.url}/streams/stream-0/predict", json={"input": steps(1).tolist()})
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["type"] == PROBLEM
            assert f"Redis at 127.0.0.1:{redis.port} cannot be used" in refused.json()["detail"]

            def all_are_told() -> bool:
                return all(len(caller.refused) > before for caller, before in zip(crowd.callers, told, strict=True))

            async with asyncio.timeout(30):
                while not all_are_told():  # noqa: ASYNC110  # the clients act meanwhile
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(redis.start)
            await crowd.more(100)
            await asyncio.to_thread(machine.server.wait_for, "Streams can be used again")
            assert (await http.get(f"{machine.url}/health")).json()["streams"]["trouble"] is None
            assert "recurve_stream_store_trouble 0.0" in (await http.get(f"{machine.url}/metrics")).text
        assert {problem["type"] for caller in crowd.callers for problem in caller.refused} == {PROBLEM}
        await crowd.check(machine.url, spec)

    with redis_server(tmp_path) as redis, machines(1, repository, "--workers", "1", "--stream-store", redis.url) as (machine,):
        asyncio.run(scenario(machine, redis))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Write a file that fills the disk; returns its path."""
    rest = disk / "rest"
    with rest.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return rest


def test_a_full_disk_is_told_and_with_space_streams_go_on(repository: Path, small_disk: Path, spec: manifest.ModelSpec) -> None:
    """A chunk that cannot be stored must not be applied, and the service must recover without a restart."""

    async def scenario(machine: Machine) -> None:
        crowd = Crowd(20, lambda: machine.url, longest=40)
        workers = children(machine.server.process.pid)
        async with client() as http, crowd.calling():
            await begin(http, machine.url, "probe")
            chunks, answers = [steps(40, 5, seq) for seq in range(50)], []
            await crowd.more(20)
            rest = fill(small_disk)
            for seq, chunk in enumerate(chunks):  # the stored stream grows with its first chunks: not all of them fit
                body = {"input": chunk.tolist(), "seq": seq}
                while (
                    answer := await http.post(f"{machine.url}/streams/probe/predict", json=body)
                ).status_code == 503 and rest.exists():
                    assert answer.json()["type"] == PROBLEM
                    assert str(small_disk) in answer.json()["detail"]
                    assert "free space" in answer.json()["detail"].lower()
                    assert int(answer.headers["retry-after"]) >= 1
                    stands = (await http.get(f"{machine.url}/streams/probe")).json()
                    assert (stands["seq"], stands["steps"]) == (seq, 40 * seq)
                    await whole(http, machine.url, chunk)
                    await crowd.until(lambda: any(caller.refused for caller in crowd.callers))
                    rest.unlink()
                assert answer.status_code == 200, answer.text
                answers += answer.json()["predictions"]
            assert not rest.exists()
            await crowd.more(5 * 20)
            expected = await whole(http, machine.url, np.concatenate(chunks))
            np.testing.assert_allclose(answers, expected, rtol=spec.tolerance.rtol, atol=spec.tolerance.atol)
        assert {problem["type"] for caller in crowd.callers for problem in caller.refused} == {PROBLEM}
        assert children(machine.server.process.pid) == workers
        await crowd.check(machine.url, spec)

    with machines(1, repository, "--workers", "2", "--data-dir", str(small_disk)) as (machine,):
        asyncio.run(scenario(machine))


def test_who_feeds_a_websocket_when_the_service_stops_is_told_and_goes_on(
    repository: Path, tmp_path: Path, spec: manifest.ModelSpec
) -> None:
    """In an orderly stop, the service answers the chunks that are done, and then closes the connection with a reason."""

    async def scenario(machine: Machine) -> None:
        crowd = Crowd(20, lambda: machine.url, ahead=16)
        async with crowd.calling():
            for _ in range(2):
                await crowd.more(200)
                assert await asyncio.to_thread(machine.stop) == 0
                await asyncio.to_thread(machine.start)
            await crowd.more(200)
        for caller in crowd.callers[1::2]:
            assert caller.closed == [(1012, "the service is shutting down; reconnect and go on where you were")] * 2
            assert caller.resumed == 0
        await crowd.check(machine.url, spec)

    with machines(1, repository, "--workers", "2", "--data-dir", str(tmp_path)) as (machine,):
        asyncio.run(scenario(machine))


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(repository, "--workers", "2", "--data-dir", str(tmp_path_factory.mktemp("data"))) as running:
        yield running


def counted(metrics: str, outcome: str) -> float:
    (line,) = (line for line in metrics.splitlines() if line.startswith(f'recurve_stream_chunks_total{{outcome="{outcome}"}}'))
    return float(line.split()[1])


def test_chunks_without_a_number_are_done_in_some_order_whoever_sends_them(server: Server, spec: manifest.ModelSpec) -> None:
    """With four clients on one stream, on both workers, each chunk is done once, on the state that the previous one left."""
    each = 40

    async def over_http(id: str, caller: int, done: list[tuple[dict[str, Any], Array]]) -> None:
        async with client() as http:
            for number in range(each):
                chunk = steps(5, caller, number)
                answer = await http.post(f"{server.url}/streams/{id}/predict", json={"input": chunk.tolist()})
                assert answer.status_code == 200, answer.text
                done.append((answer.json(), chunk))

    async def over_websocket(id: str, caller: int, done: list[tuple[dict[str, Any], Array]]) -> None:
        chunks = [steps(5, caller, number) for number in range(each)]
        async with connect(f"{server.url.replace('http', 'ws')}/streams/{id}/ws") as connection:
            for chunk in chunks:
                await connection.send(json.dumps({"input": chunk.tolist()}))
            done.extend([(json.loads(await connection.recv()), chunk) for chunk in chunks])

    async def met(id: str) -> bool:
        """Whether two workers happened to do the same chunk at the same time."""
        done: list[tuple[dict[str, Any], Array]] = []
        async with client() as http:
            await begin(http, server.url, id)
            callers = [over_http(id, 0, done), over_http(id, 1, done), over_websocket(id, 2, done), over_websocket(id, 3, done)]
            await asyncio.gather(*callers)
            done.sort(key=lambda one: one[0]["seq"])
            assert [(answer["seq"], answer["steps"]) for answer, _ in done] == [(n, 5 * n) for n in range(1, 4 * each + 1)]
            expected = await whole(http, server.url, np.concatenate([chunk for _, chunk in done]))
            found = np.concatenate([answer["predictions"] for answer, _ in done])
            np.testing.assert_allclose(found, expected, rtol=spec.tolerance.rtol, atol=spec.tolerance.atol)
            return counted((await http.get(f"{server.url}/metrics")).text, "raced") > 0

    assert any(asyncio.run(met(f"shared-{attempt}")) for attempt in range(20))


@pytest.mark.parametrize("alike", [pytest.param(True, id="the-same-steps"), pytest.param(False, id="other-steps")])
def test_of_two_chunks_with_one_number_one_is_done(server: Server, spec: manifest.ModelSpec, *, alike: bool) -> None:
    """A client that sends a chunk twice gets the same answer twice; of two different chunks with one number, one is refused."""
    url = f"{server.url}/streams/twice-{alike}"

    async def send(http: httpx.AsyncClient, seq: int, chunk: Array) -> tuple[httpx.Response, Array]:
        return await http.post(f"{url}/predict", json={"input": chunk.tolist(), "seq": seq}), chunk

    async def scenario() -> None:
        chunks: list[Array] = []
        answers: list[Any] = []
        async with client() as first, client() as second:
            await begin(first, server.url, f"twice-{alike}")
            for seq in range(50):
                chunk, rival = steps(5, seq), steps(5, seq, 0 if alike else 1)
                both = await asyncio.gather(send(first, seq, chunk), send(second, seq, chunk if alike else rival))
                (one, done), (two, _) = sorted(both, key=lambda sent: sent[0].status_code)
                if alike:
                    assert (one.status_code, two.status_code, two.content) == (200, 200, one.content)
                else:
                    assert (one.status_code, two.status_code, two.json()["expected"]) == (200, 409, seq + 1)
                chunks.append(done)
                answers += one.json()["predictions"]
            expected = await whole(first, server.url, np.concatenate(chunks))
            np.testing.assert_allclose(answers, expected, rtol=spec.tolerance.rtol, atol=spec.tolerance.atol)
            assert (await first.get(url)).json()["seq"] == len(chunks)

    asyncio.run(scenario())


def test_a_caller_that_vanishes_leaves_the_stream_whole(server: Server, spec: manifest.ModelSpec) -> None:
    """Half a chunk is never done; a whole one may be, and a client that sends it again gets the answer either way."""
    address = httpx.URL(server.url)
    chunks = [steps(5, 6, seq) for seq in range(30)]

    def vanish(sends: bytes) -> None:
        with socket.create_connection((address.host, address.port or 80)) as caller:
            caller.sendall(sends)

    async def vanish_from_websocket(seq: int, chunk: Array) -> None:
        connection = await connect(f"{server.url.replace('http', 'ws')}/streams/left/ws?seq={seq}", compression=None)
        frame = bytes((0x82, 0x80 + chunk.nbytes, 0, 0, 0, 0)) + chunk.tobytes()
        connection.transport.write(frame if seq % 2 else frame[:-1])
        connection.transport.abort()
        await connection.wait_closed()

    async def scenario() -> None:
        answers = []
        async with client() as http:
            await begin(http, server.url, "left")
            for seq, chunk in enumerate(chunks):
                body = chunk.tobytes()
                head = f"POST /streams/left/predict?seq={seq} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
                request = f"{head}Content-Type: {OCTETS['Content-Type']}\r\n\r\n".encode() + body
                vanish(request[:-1])
                await vanish_from_websocket(seq, chunk)
                if seq % 2:
                    vanish(request)
                else:
                    assert (await http.get(f"{server.url}/streams/left")).json()["seq"] == seq
                answer = await http.post(f"{server.url}/streams/left/predict?seq={seq}", content=body, headers=OCTETS)
                assert answer.status_code == 200, answer.text
                answers.append(outputs(answer.content))
            expected = await whole(http, server.url, np.concatenate(chunks))
            np.testing.assert_allclose(np.concatenate(answers), expected, rtol=spec.tolerance.rtol, atol=spec.tolerance.atol)
            assert (await http.get(f"{server.url}/streams/left")).json()["seq"] == len(chunks)

    asyncio.run(scenario())
    assert "Traceback" not in "".join(server.log)


def memory_of(pid: int) -> int:
    """Resident bytes of the process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to see memory")
def test_a_websocket_that_is_never_read_from_is_not_read_any_more(
    repository: Path, tmp_path: Path, spec: manifest.ModelSpec
) -> None:
    """Its answers must not pile up: a client that does not read them is not read either, and no other client notices."""
    chunk = steps(1000, 8)

    async def scenario(server: Server) -> None:
        crowd = Crowd(4, lambda: server.url)
        async with client() as http, crowd.calling():
            await begin(http, server.url, "never-read")
            await crowd.more(100)
            before = memory_of(server.process.pid)
            address = f"{server.url.replace('http', 'ws')}/streams/never-read/ws?seq=0"
            connection = await connect(address, compression=None, max_queue=1)
            sent, stood, stands = 0, -1, 0
            while stands > stood:  # if it stands still only once, the service may have been busy for a second
                with suppress(TimeoutError):
                    while sent < 5000:
                        sent += 1
                        async with asyncio.timeout(1):
                            await connection.send(chunk.tobytes())
                assert sent < 5000, "it takes whatever comes"
                stood, stands = stands, (await http.get(f"{server.url}/streams/never-read")).json()["seq"]
            await crowd.more(100)
            assert memory_of(server.process.pid) - before < 50 * 2**20
            assert (await http.get(f"{server.url}/streams/never-read")).json()["seq"] < sent
            connection.transport.abort()
            await connection.wait_closed()
        await crowd.check(server.url, spec)

    with serve(repository, "--workers", "1", "--data-dir", str(tmp_path)) as server:
        asyncio.run(scenario(server))
        assert server.stop() == 0
    assert "Traceback" not in "".join(server.log)
