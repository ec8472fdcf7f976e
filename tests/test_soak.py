"""The soak test's own parts: its instruments, each visit against a real service, and a service that is stopped under load."""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from time import monotonic

import httpx
import pytest

from app import manifest
from scripts.bench import soak, visits
from scripts.bench.peer import CUT_OFF, NoAnswer, Peer, Reply, request
from scripts.bench.probing import SOON, Figures, Prober
from scripts.bench.tally import Tally, Trend, Visit
from scripts.bench.truth import SIGNALS, Part, Truth
from scripts.bench.visits import JSON, Client, Refused, Wrong, deserved
from tests.servers import Server, serve

VISITS = {**soak.QUICK, **soak.SLOW}


@pytest.fixture(scope="module")
def truth(repository: Path, spec: manifest.ModelSpec) -> Truth:
    return Truth(spec, repository / spec.name / spec.version)


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with serve(repository, "--workers", "2") as running:
        yield running
    assert "Traceback" not in "".join(running.log), "".join(running.log)


def port_of(server: Server) -> int:
    return httpx.URL(server.url).port or 80


def client(port: int, truth: Truth, seed: int = 0) -> Client:
    return Client(port, truth, Random(seed))


async def made(name: str, port: int, truth: Truth, times: int) -> Tally:
    tally, each = Tally(), client(port, truth)
    async with each.peer:
        for _ in range(times):
            await tally.visit(name, VISITS[name][0], each)
    return tally


@pytest.mark.parametrize("name", VISITS)
def test_every_visit_is_answered_right(server: Server, truth: Truth, name: str) -> None:
    """Otherwise the soak test would report its own mistakes."""
    times = 3 if name in soak.SLOW else 20
    tally = asyncio.run(made(name, port_of(server), truth, times))
    assert tally.verdicts == {name: Counter(right=times)}
    assert tally.wrong == {}


@pytest.mark.parametrize(
    "name", [name for name in VISITS if name not in ("broken", "gone in the middle", "over the limits", "at the limits")]
)
def test_other_numbers_than_the_engines_are_seen(server: Server, repository: Path, spec: manifest.ModelSpec, name: str) -> None:
    """A service that answers in the right shape but wrong must not pass."""
    other = Truth(spec, repository / spec.name / spec.version, longest=100_000)
    other._answers = [tuple(output + 0.01 for output in outputs) for outputs in other._answers]
    tally = asyncio.run(made(name, port_of(server), other, 1 if name in soak.SLOW else 8))
    assert f"{name}: Wrong: other numbers than the engine's" in tally.wrong


def test_a_model_that_is_not_answered_part_by_part_is_refused(
    repository: Path, spec: manifest.ModelSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    """Too few of its answers could be checked."""
    version = repository / spec.name / spec.version
    assert soak.run(version, spec.model_copy(update={"causal": False}), minutes=1, target=None) == 2
    assert "cannot be soaked" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reply", "raised"),
    [
        (Reply(503, {"retry-after": "1"}, b""), Refused),
        (Reply(503, {}, b""), Wrong),
        (Reply(500, {}, b""), Wrong),
        (Reply(200, {}, b""), Wrong),
    ],
    ids=["refused", "refused for ever", "a defect", "not refused"],
)
def test_only_what_a_request_deserves_is_right(reply: Reply, raised: type[Exception]) -> None:
    with pytest.raises(raised):
        deserved(reply, 422)
    assert deserved(Reply(422, {}, b""), 422).status == 422


@pytest.mark.parametrize(
    ("sends", "says"),
    [
        (b"", "nothing came"),
        (b"HTTP/1.1 200 OK\r\nConte", CUT_OFF),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234", CUT_OFF),
    ],
    ids=["no answer", "part of a head", "part of a body"],
)
def test_an_answer_that_ends_too_early_is_told_from_none(sends: bytes, says: str) -> None:
    async def scenario() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(sends)
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
            peer = Peer(listening.sockets[0].getsockname()[1])
            with pytest.raises(NoAnswer, match=says):
                await peer.ask("GET", "/")
            await asyncio.sleep(0)

    asyncio.run(scenario())


def test_a_probe_without_a_good_answer_counts_as_late() -> None:
    figures = Figures.of([SOON / 2, SOON * 2], failed=2)
    assert (figures.asked, figures.late, figures.failed, figures.late_share) == (4, 1, 2, 0.75)
    assert Figures.of([], failed=0).late_share == 1.0


@pytest.mark.parametrize(("status", "failed"), [(200, 0), (503, 3)])
def test_a_probe_is_a_connection_of_its_own(status: int, failed: int) -> None:
    async def scenario() -> None:
        connections = 0

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await reader.readline()
            writer.write(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % status)
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
            prober = Prober(listening.sockets[0].getsockname()[1])
            for _ in range(3):
                prober.ask()
            figures = await prober.figures()
        assert (figures.asked, figures.failed, connections) == (3, failed, 3)

    asyncio.run(scenario())


def test_a_trend_is_that_of_the_last_two_thirds() -> None:
    """What a service needs once, when it starts, is not growth."""
    seconds = [60.0 * minute for minute in range(30)]
    settled = Trend.of(seconds, [100.0 + 10 * min(minute, 9) for minute in range(30)])
    assert settled.growth == pytest.approx(0, abs=0.01)
    leaking = Trend.of(seconds, [100.0 + minute for minute in range(30)])
    assert leaking.hourly == pytest.approx(60)
    assert leaking.growth == pytest.approx(19 / 110)


GOOD = Figures.of([0.001] * 1000, failed=0)
STALLED = Figures.of([0.001] * 900 + [0.2] * 100, failed=0)


def a_tally(*verdicts: str) -> Tally:
    tally = Tally()
    tally.verdicts["JSON"].update(verdicts)
    return tally


@pytest.mark.parametrize(
    ("tally", "service", "idle", "growth", "left", "fails"),
    [
        pytest.param(a_tally("right", "refused"), GOOD, GOOD, 0.0, 0, set(), id="all is well"),
        pytest.param(a_tally("right", "Wrong: 500 instead of 200"), GOOD, GOOD, 0.0, 0, {0}, id="wrong"),
        pytest.param(a_tally(), GOOD, GOOD, 0.0, 0, {0}, id="nothing was asked"),
        pytest.param(a_tally("right"), STALLED, GOOD, 0.0, 0, {1}, id="late probes"),
        pytest.param(a_tally("right"), STALLED, STALLED, 0.0, 0, set(), id="a machine that stalls"),
        pytest.param(a_tally("right"), Figures.of([0.001] * 999, failed=1), GOOD, 0.0, 0, {2}, id="a probe that fails"),
        pytest.param(a_tally("right"), GOOD, GOOD, 0.2, 0, {3}, id="a leak"),
        pytest.param(a_tally("right"), GOOD, GOOD, 0.0, 3, {4}, id="streams that stay"),
    ],
)
def test_what_does_not_hold_is_found(
    tally: Tally, service: Figures, idle: Figures, growth: float, left: int, fails: set[int]
) -> None:
    checks = soak.verdicts(tally, {"service": service, "idle": idle}, Trend(100.0, growth, 1.0), left)
    assert {index for index, held in enumerate(checks.values()) if not held} == fails


# -- stopping under load -----------------------------------------------------------------------------------------------

STOPS, CALLERS = 10, 24


async def trickle(client: Client) -> None:
    """Sends the head of a request at once and its body slowly."""
    part = Part(client.random.randrange(SIGNALS), 0, 50)
    body = visits.predict_body(client.truth, [part])
    whole = request("POST", "/predict", body, **JSON)
    head, rest = whole[: -len(body)], whole[-len(body) :]
    pieces = [head, *(rest[begin : begin + 500] for begin in range(0, len(rest), 500))]
    visits.check_predictions(client.truth, [part], await client.peer.send(pieces, pause=0.02))


STOPPED_UNDER: tuple[Visit, ...] = (visits.json, visits.octets, visits.packed, visits.v2, trickle)


def test_a_service_that_is_stopped_ten_times_answers_what_it_had_accepted(repository: Path, truth: Truth) -> None:
    """Every request sent before the signal gets a complete and correct answer; a later one gets a whole answer or none."""
    failed: list[str] = []
    answered = Counter[bool]()  # key: whether the answer came after the signal

    async def call(each: Client, signalled: list[float], over: asyncio.Event, *, keeps: bool) -> None:
        while not over.is_set():
            begun, visit = monotonic(), each.random.choice(STOPPED_UNDER)
            try:
                await visit(each)
                answered[bool(signalled)] += 1
            except Refused:
                failed.append("refused while it was stopping")
            except Wrong as error:
                failed.append(str(error))
            except NoAnswer as error:
                if str(error) == CUT_OFF or not signalled or max(begun, each.peer.sent) < signalled[0]:
                    failed.append(f"{visit.__name__}: {error}")
                await asyncio.sleep(0)
            if not keeps:
                each.peer.leave()

    async def scenario(server: Server, seed: int) -> None:
        signalled: list[float] = []
        over, before = asyncio.Event(), answered.total()
        clients = [client(port_of(server), truth, 1000 * seed + number) for number in range(CALLERS)]
        calls = [asyncio.create_task(call(each, signalled, over, keeps=number % 2 == 0)) for number, each in enumerate(clients)]
        async with asyncio.timeout(30):
            while answered.total() < before + 3 * CALLERS + seed:  # noqa: ASYNC110  # it is they who act
                await asyncio.sleep(0.01)
        signalled.append(monotonic())
        assert await asyncio.to_thread(server.stop, signal.SIGTERM) == 0
        over.set()
        await asyncio.gather(*calls)
        for each in clients:
            each.peer.leave()
        await asyncio.sleep(0)

    for seed in range(STOPS):
        with serve(repository, "--workers", "2") as server:
            asyncio.run(scenario(server, seed))
        assert "Traceback" not in "".join(server.log), "".join(server.log)
    assert failed == []
    assert answered[True] >= STOPS  # else nothing was under way when the signal came
