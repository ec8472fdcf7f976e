"""The benchmark's instruments: a failed, late or refused request must never pass for a fast one."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
import uvloop
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as listen
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from app import manifest
from scripts.bench import load, report, rounds, scenarios, search, servers, streaming, tree
from scripts.bench.frames import Frames, frame
from scripts.bench.generator import Generator
from scripts.bench.job import Answer, Job, Own, Report, percentile
from scripts.bench.report import Spread
from scripts.bench.rounds import Figures, Plan
from scripts.bench.scenarios import Expiry
from scripts.bench.servers import Running
from scripts.bench.sockets import Messages
from tests.servers import ROOT, serve

T = TypeVar("T")

WRK = """Running 4s test @ http://127.0.0.1:8000/predict
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    10.36ms    2.01ms  31.00ms   90.00%
    Req/Sec     6.10k   200.00     6.54k    87.50%
  Latency Distribution
     50%  950.00us
     75%   11.00ms
     90%   12.00ms
     99%    1.25s
  24400 requests in 4.00s, 100.00MB read
{errors}Requests/sec:   6089.12
Transfer/sec:     25.00MB
"""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
LATER = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nContent-Length: 0\r\n\r\n"
NEVER = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
EXPIRED = b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n"
HANG_UP = b""


class Peer:
    """A server that gives these answers in turn, one to each request, and records the requests. None: no answer."""

    def __init__(self, *answers: bytes | None) -> None:
        self._answers = cycle(answers)
        self.requests: list[bytes] = []
        self.most_at_once = self._at_once = 0

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.startswith(b"Content-Length")), 0)
                self.requests.append(head + await reader.readexactly(length))
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                answer = next(self._answers)
                if answer is None:
                    await reader.read()
                self._at_once -= 1
                if not answer:
                    break
                writer.write(answer)
                if answer == LAST:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def met(peer: Peer, ask: Callable[[str], Awaitable[T]]) -> T:
    """What `ask(url)` returns while the peer serves."""

    async def both() -> T:
        server = await asyncio.start_server(peer.meet, "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()
            return await ask(f"http://{host}:{port}/predict")

    return uvloop.run(both())


def until(enough: Callable[[Report], bool], measure: Callable[[], Report]) -> Report:
    """Measure up to five times until it is enough: on a machine that stalls for the whole time, a closed loop sends nothing."""
    for _ in range(5):
        if enough(found := measure()):
            break
    return found


def reported(peer: Peer, **options: Any) -> Report:
    """The generator's report on this peer, from its own loop: 100 requests in an open loop unless the options say otherwise."""
    usual: dict[str, Any] = {"bodies": [b"one"], "connections": 4, "seconds": 0.2, "rate": 500.0, "warm": 0.1}
    return until(lambda found: found.sent > 0, lambda: met(peer, lambda url: Generator(Job(url=url, **usual | options)).run()))


# -- wrk ---------------------------------------------------------------------------------------------------------------


def test_rates_and_latencies_are_read_in_their_units() -> None:
    found = load._read(WRK.format(errors=""))
    assert (found.requests_per_second, found.p50, found.p99, found.failed) == (6089.12, pytest.approx(950e-6), 1.25, 0)


def test_every_kind_of_failure_is_counted() -> None:
    errors = "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n"
    assert load._read(WRK.format(errors=errors)).failed == 15


def test_a_report_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="cannot be read"):
        load._read("unable to connect to 127.0.0.1:8000 Connection refused")


# -- the generator -----------------------------------------------------------------------------------------------------


def test_an_open_loop_sends_what_its_schedule_says() -> None:
    """Requests that are due during the warm-up are sent, but not counted."""
    peer = Peer(OK)
    found = reported(peer)
    assert (found.sent, found.answers, found.failed, found.unanswered) == (100, {"200": 100}, 0, 0)
    assert len(peer.requests) == 150


def test_a_closed_loop_has_one_request_under_way_for_each_connection() -> None:
    peer = Peer(OK)
    found = reported(peer, rate=None, connections=3)
    assert found.sent == found.answers["200"] > 0
    assert peer.most_at_once <= 3


def test_requests_go_out_as_asked_and_in_turn() -> None:
    peer = Peer(OK)
    reported(peer, bodies=[b"one", b"three"], headers={"Content-Type": "text/plain"}, connections=1)
    first, second = (request.decode().split("\r\n") for request in peer.requests[:2])
    assert first[0] == "POST /predict HTTP/1.1"
    assert {"Content-Type: text/plain", "Content-Length: 3"} <= set(first)
    assert [first[-1], second[-1]] == ["one", "three"]


def test_refusals_are_told_from_answers_and_from_other_failures() -> None:
    """Refusals without Retry-After are counted, and the header's name is matched in any case."""
    found = reported(Peer(OK, LATER, NEVER, EXPIRED), warm=0.0)
    assert found.answers == {"200": 25, "503": 50, "504": 25}
    assert (found.refusals, found.refusals_without_retry_after, found.failed, found.unanswered) == (50, 25, 75, 0)


def test_a_request_that_finds_no_connection_waits_and_counts() -> None:
    """Otherwise a server that answers nothing would look as if it had got only one request."""
    found = reported(Peer(None), connections=1, warm=0.0, seconds=0.02, patience=0.1)
    assert (found.sent, found.unanswered, found.waited) == (10, 10, 9)
    assert found.p50 is found.p99 is None


@pytest.mark.parametrize("rate", [500.0, None], ids=["open loop", "closed loop"])
def test_a_connection_that_the_server_closes_is_replaced(rate: float | None) -> None:
    found = reported(Peer(OK, LAST), rate=rate)
    assert found.answers == {"200": found.sent}


def test_a_request_whose_connection_breaks_is_lost() -> None:
    found = reported(Peer(OK, HANG_UP), warm=0.0)
    assert (found.sent, found.answers, found.unanswered) == (100, {"200": 50}, 50)


def test_the_generator_is_a_process_that_takes_a_job_and_gives_a_report() -> None:
    async def ask(url: str) -> Report:
        job = Job(url=url, bodies=[bytes(range(256))], connections=2, seconds=0.1, rate=200.0)
        return await asyncio.to_thread(load.generate, job)

    peer = Peer(OK)
    assert met(peer, ask).answers == {"200": 20}
    assert peer.requests[0].endswith(bytes(range(256)))


def test_a_generator_that_reaches_nothing_fails_and_says_so() -> None:
    command = [sys.executable, "-m", "scripts.bench.generator"]
    job = Job(url="http://127.0.0.1:1/predict", bodies=[b""], connections=1, seconds=1)
    done = subprocess.run(command, cwd=ROOT, input=job.to_json(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr


def test_latency_counts_from_when_a_request_was_due() -> None:
    """Answers that come quickly after their requests are written are still late if the requests had to wait."""
    job = Job(url="", bodies=[], connections=1, seconds=2.0, rate=2.0, deadline=0.5)
    answers = [
        Answer(200, False, due=9.0, written=9.0, arrived=9.1),  # due during the warm-up
        Answer(200, False, due=9.9, written=9.9, arrived=10.1),  # due during the warm-up, arrived afterwards
        Answer(200, False, due=10.0, written=10.0, arrived=10.5),
        Answer(200, False, due=10.5, written=11.0, arrived=11.25),  # waited half a second for a connection
        Answer(503, True, due=11.0, written=11.5, arrived=11.75),
        Answer(200, False, due=11.5, written=11.75, arrived=12.0),  # arrived after the end
    ]
    found = Report.of(job, answers, Own(counts_from=10.0, sent=5, late=[0.0, 0.25], waited=3, cpus=0.1))
    assert (found.goodput, found.served, found.requests_per_second) == (1.0, 1.5, 2.0)
    assert (found.p50, found.p99) == (0.5, 0.75)
    assert (found.refusal_p50, found.refusal_from_due_p50) == (0.25, 0.75)
    assert (found.sent, found.unanswered, found.failed) == (5, 1, 2)


def test_a_connection_with_a_path_of_its_own_asks_for_nothing_else() -> None:
    """Calls on one stream take turns: connections that shared a stream would measure their waiting."""
    peer = Peer(OK, LAST)  # it closes after every second answer: the new connection must keep the path
    reported(peer, rate=None, connections=2, paths=["/a", "/b"])
    asked = [request.split(b" ")[1] for request in peer.requests]
    assert set(asked) == {b"/a", b"/b"}
    assert min(asked.count(path) for path in set(asked)) > len(asked) / 4


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile([], 50) is None
    assert [percentile(list(range(1, 101)), percent) for percent in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([7.0], 99) == 7.0


# -- servers and processes ---------------------------------------------------------------------------------------------


def test_a_counter_is_summed_over_its_labels() -> None:
    text = b'# TYPE a_total counter\na_total{m="1"} 2.0\na_total{m="2"} 1e3\nab_total 7.0\n'
    peer = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))

    async def ask(url: str) -> list[float | None]:
        server = Running(port=urlsplit(url).port or 0, pid=0, cold_start=0.0)
        return [await asyncio.to_thread(server.counter, name) for name in ("a_total", "ab_total", "b_total")]

    assert met(peer, ask) == [1002.0, 7.0, None]


def test_a_tree_holds_the_children() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert {os.getpid(), child.pid} <= set(tree.members(os.getpid()))
        assert tree.members(child.pid) == [child.pid]
        assert 0 < (tree.pss(child.pid) or 0) < (tree.pss(os.getpid()) or 0)
        assert (tree.cpu_seconds(os.getpid()) or 0) > 0
    finally:
        child.communicate(b"\n")


# -- WebSockets --------------------------------------------------------------------------------------------------------

SIZES = [0, 1, 125, 126, 2**16 - 1, 2**16]


@pytest.mark.parametrize("at_once", [1, 3, 2**20], ids=["byte by byte", "in threes", "all together"])
def test_frames_are_cut_wherever_their_pieces_begin_and_end(at_once: int) -> None:
    """The messages must be those that another implementation wrote."""
    payloads = [bytes(size % 251 for size in range(size)) for size in SIZES]
    wire = b"".join(Frame(Opcode.BINARY, payload).serialize(mask=False) for payload in payloads)
    frames = Frames()
    pieces = [wire[begin : begin + at_once] for begin in range(0, len(wire), at_once)]
    found = [each for piece in pieces[: 2**13] for each in frames.feed(piece)]
    if len(pieces) > 2**13:  # a large frame in tiny pieces is slow to cut, and says nothing new
        found += list(frames.feed(b"".join(pieces[2**13 :])))
    assert found == [(0x82, payload) for payload in payloads]


@pytest.mark.parametrize("size", SIZES)
def test_a_message_is_written_as_a_server_reads_it(size: int) -> None:
    payload = os.urandom(size)
    wire = StreamReader()
    wire.feed_data(frame(payload))
    reading = Frame.parse(wire.read_exact, mask=True)
    with pytest.raises(StopIteration) as read:
        next(reading)
    assert read.value.value == Frame(Opcode.BINARY, payload)
    assert wire.buffer == b""


def heard(
    answer: Callable[[ServerConnection, int], Awaitable[None]],
    enough: Callable[[Report], bool] = lambda found: found.sent > 0,
    **options: Any,
) -> Report:
    """The generator's report on a server that calls `answer(connection, messages before)`: 100 messages in an open loop."""
    usual: dict[str, Any] = {"bodies": [b"one"], "connections": 4, "seconds": 0.2, "rate": 500.0, "warm": 0.1, "patience": 30.0}

    async def meet(connection: ServerConnection) -> None:
        before = 0
        async for message in connection:
            assert message == b"one"
            await answer(connection, before)
            before += 1

    async def both() -> Report:
        async with listen(meet, "127.0.0.1", 0, compression=None) as server:
            host, port = next(iter(server.sockets)).getsockname()
            return await Messages(Job(url=f"http://{host}:{port}/streams/ws", **usual | options)).run()

    return until(enough, lambda: uvloop.run(both()))


async def echo(connection: ServerConnection, _: int) -> None:
    await connection.send(b"two")


def test_messages_are_spread_over_the_sockets_as_their_schedule_says() -> None:
    most: dict[ServerConnection, int] = {}

    async def count(connection: ServerConnection, before: int) -> None:
        most[connection] = before + 1
        await connection.send(b"two")

    found = heard(count)
    assert (found.sent, found.answers, found.failed) == (100, {"200": 100}, 0)
    assert sorted(most.values()) == [37, 37, 38, 38]  # 150 in all: 50 were due during the warm-up, and do not count
    assert found.late_p99 is not None
    assert found.p50 is not None
    assert found.p50 > 0


def test_a_socket_of_a_closed_loop_has_one_message_under_way() -> None:
    """Each message is sent when the one before is answered, so a slow server gets no more of them."""

    async def slowly(connection: ServerConnection, _: int) -> None:
        await asyncio.sleep(0.02)
        assert not connection.recv_messages.frames  # nothing else arrived meanwhile
        await connection.send(b"two")

    found = heard(slowly, rate=None, connections=2)
    assert found.failed == 0
    assert 0 < found.sent <= 22
    assert found.p50 is not None
    assert found.p50 >= 0.02


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("1003", lambda connection: connection.send("a problem in words")),
        ("4404", lambda connection: connection.close(4404, "gone")),
        ("1006", lambda connection: asyncio.sleep(0, connection.transport.abort())),
    ],
    ids=["text", "closed", "broken"],
)
@pytest.mark.parametrize("rate", [500.0, None], ids=["open loop", "closed loop"])
@pytest.mark.parametrize("after", [0, 20], ids=["at first", "later"])
def test_a_socket_that_ends_is_a_failure_and_says_why(
    capfd: pytest.CaptureFixture[str], code: str, end: Callable[[ServerConnection], Awaitable[None]], rate: float | None, after: int
) -> None:
    """This holds even during the warm-up: a rate at which sockets are lost is not sustained."""

    async def answer(connection: ServerConnection, before: int) -> None:
        await (connection.send(b"two") if before < after else end(connection))

    found = heard(answer, enough=lambda found: found.answers.get(code) == 4, rate=rate)
    assert found.answers[code] == 4
    assert found.failed >= 4
    assert not streaming.held(found)
    assert f"ended with {code}" in capfd.readouterr().err


def test_a_message_without_an_answer_is_a_failure() -> None:
    async def half(connection: ServerConnection, before: int) -> None:
        if before % 2:
            await connection.send(b"two")

    found = heard(half, warm=0.0, patience=0.5)
    assert found.sent == 100
    assert found.unanswered == found.failed >= 48  # 50, or two fewer


def test_an_answer_that_nobody_waits_for_is_a_failure() -> None:
    async def twice(connection: ServerConnection, _: int) -> None:
        await connection.send(b"two")
        await connection.send(b"three")

    assert heard(twice).answers["1003"] == 4


def test_a_ping_is_answered() -> None:
    """Otherwise the service would take the sockets of a long run for dead."""

    async def ping(connection: ServerConnection, _: int) -> None:
        await (await connection.ping())
        await connection.send(b"two")

    assert heard(ping, connections=1, seconds=0.02, warm=0.0).failed == 0


def test_sockets_that_cannot_be_opened_are_an_error() -> None:
    async def ask(url: str) -> None:
        await Messages(Job(url=url, bodies=[b""], connections=2, seconds=1)).run()

    with pytest.raises(ConnectionError, match=r"HTTP/1\.1 503 Service Unavailable"):
        met(Peer(LATER), ask)


def test_streams_of_the_service_are_measured(repository: Path) -> None:
    """Real streams of the service, over WebSockets and over HTTP."""
    spec = manifest.read(repository / "gyro-denoiser" / "1")
    by_name = {each.name: each for each in scenarios.streams(len(spec.features))}
    with serve(repository, "--workers", "1") as service:
        server = Running(port=urlsplit(service.url).port or 0, pid=service.process.pid, cold_start=0.0)
        for name in ("streams: 64 callers over HTTP", scenarios.MEMORY):
            figures = streaming.measure(server, by_name[name], 1)
            assert set(figures) == set(streaming.SHOWN)
            assert (figures["messages_per_second"] or 0) > 0
            assert (figures["batch"] or 0) >= 1
        report, *_ = streaming._load(server, by_name["streams: 200 sockets by a schedule, 10 steps a message"], 1, 200.0)
        assert (report.sent, report.answers) == (200, {"200": 200})
        assert server.counter("recurve_steps_total") > 10 * 200


# -- the search for a rate ---------------------------------------------------------------------------------------------


class Capacity:
    """Sustains rates up to `most` and none above it; records the rates that were tried."""

    def __init__(self, most: float) -> None:
        self.most = most
        self.asked: list[float] = []

    def hold(self, rate: float) -> tuple[bool, str]:
        self.asked.append(rate)
        return rate <= self.most, f"{rate:.0f}"


@pytest.mark.parametrize("steps", range(-7, 8))
def test_the_highest_rate_that_is_held_is_found_within_a_few_attempts(steps: int) -> None:
    """The first attempt may be far below the highest rate or far above it."""
    capacity = Capacity(1000 * search.STEP**steps * 1.05)
    found = search.highest(1000, capacity.hold)
    assert found is not None
    rate, said = found
    assert rate <= capacity.most < rate * search.STEP
    assert said == f"{rate:.0f}"
    assert len(capacity.asked) == len(set(capacity.asked)) <= search.MOST


@pytest.mark.parametrize("most", [0, 1e9], ids=["holds nothing", "holds everything"])
def test_a_search_ends(most: float) -> None:
    capacity = Capacity(most)
    found = search.highest(1000, capacity.hold)
    assert len(capacity.asked) == search.MOST
    assert found == (None if most == 0 else (max(capacity.asked), f"{max(capacity.asked):.0f}"))


def test_a_chance_delay_at_a_low_rate_does_not_end_the_search() -> None:
    """If a higher rate is sustained, the lower one can be as well."""
    assert search.following({0: False, -1: False, -3: True, -2: True}) is None
    assert search.following({0: True, 1: False, 3: True}) == 7


def outcome(answered: int, *, p99: float) -> Report:
    """A report on 100 messages, `answered` of which were answered."""
    times = [(10.0 + number / 100, p99) for number in range(answered)]
    answers = [Answer(200, False, due, due, due + latency) for due, latency in times]
    job = Job(url="", bodies=[], connections=1, seconds=1.0, rate=100.0)
    return Report.of(job, answers, Own(counts_from=10.0, sent=100, late=[0.0], waited=0, cpus=0.1))


def test_a_rate_is_held_when_all_are_answered_and_nearly_all_in_time() -> None:
    assert streaming.held(outcome(100, p99=streaming.WITHIN * 0.9))
    assert not streaming.held(outcome(100, p99=streaming.WITHIN * 1.1))
    assert not streaming.held(outcome(99, p99=streaming.WITHIN * 0.9))
    assert not streaming.held(outcome(0, p99=0.0))


def test_a_mean_batch_is_counted_from_when_the_load_began() -> None:
    assert streaming.mean_batch((100.0, 50.0), (260.0, 60.0)) == 16.0
    assert streaming.mean_batch((None, None), (30.0, 10.0)) == 3.0
    assert streaming.mean_batch((30.0, 10.0), (30.0, 10.0)) is None


@pytest.mark.parametrize("store", ["embedded", "memory"])
def test_the_pauses_while_streams_expire_are_measured(store: Any) -> None:
    """Each part of a plan is reported, or the progress would not end at its total."""
    version = ROOT / "model/gyro-denoiser/1"
    plan = Plan(
        version=version,
        spec=manifest.read(version),
        closed=[],
        open=[],
        streams=[],
        expiries=[Expiry("expiry", store, streams=3000)],
        seconds=1,
    )
    told: list[str] = []
    found = rounds.measure(plan, told.append)
    assert told == ["expiry"]
    assert len(plan) == 1
    assert (found["expiry"]["longest_work"] or 0) > 0
    assert 0 < (found["expiry"]["longest_pause"] or 0) < (found["expiry"]["seconds"] or 0)
    assert "longest pause" in "\n".join(report.lines(plan, report.summary([found])))


# -- the report --------------------------------------------------------------------------------------------------------


def a_round(**figures: float) -> Figures:
    """One round in which the service answered `own` requests a second, and the plain service `plain`."""
    return {
        "ceiling": {"sequences_per_second": 1000.0, "raw_seconds": 1e-3},
        "service": {"padding_waste": None, "cold_start": 0.5, "idle_cpu": 0.0},
        scenarios.CAPACITY: {"requests_per_second": figures["own"], "p50": 0.01, "p99": 0.02, "of_ceiling": 0.5},
        scenarios.PLAIN: {"requests_per_second": figures["plain"], "p50": 0.01, "p99": 0.02, "of_ceiling": 0.1},
    }


def test_a_ratio_is_the_median_of_those_within_a_round() -> None:
    """A machine that is slow during one round slows both sides; the ratio of the medians would be 8 here."""
    found = report.summary([a_round(own=80, plain=10), a_round(own=40, plain=20), a_round(own=90, plain=9)])
    assert found["ratios"]["over_plain"] == Spread(median=8.0, min=2.0, max=10.0)
    assert found[scenarios.CAPACITY]["requests_per_second"] == Spread(median=80, min=40, max=90)
    assert found["ratios"]["step_over_bare"] is None


def test_what_http_alone_leaves_of_the_ceiling_is_told_beside_what_was_reached() -> None:
    """HTTP takes half of the processors' time if the bare route handles as many sequences a second as the model alone."""
    loops = {each.name: each for each in scenarios.closed_loops(6)}
    several, one = loops[scenarios.MANY], loops[scenarios.ONE]
    assert rounds._bound(several, 1.0) == 0.5
    assert rounds._bound(several, 4.0) == pytest.approx(0.8)
    assert rounds._bound(one, 4.0) is None  # it waits while no processor is busy
    whole = a_round(own=80, plain=10) | {scenarios.ONE: {"p50": 3e-3, "bare_p50": 1e-3, "bound": None}}
    assert report.ratios(whole)["one_caller_over_both"] == pytest.approx(1.5)
    assert report.ratios(a_round(own=80, plain=10))["one_caller_over_both"] is None


def test_the_bare_route_answers_as_many_bytes_as_it_is_asked_for() -> None:
    port = servers.free_port()
    with servers.module("bare", str(port), "1", port=port, first=b"{}") as server:
        assert server.answering(1000).ask(b"{}", servers.JSON) == b"0" * 1000
        assert server.ask(b"{}") == b""


def test_what_was_not_measured_is_left_out_of_the_report() -> None:
    spec = manifest.read(ROOT / "model/gyro-denoiser/1")
    closed = [each for each in scenarios.closed_loops(6) if each.name in (scenarios.CAPACITY, scenarios.PLAIN)]
    plan = Plan(version=ROOT, spec=spec, closed=closed, open=[], streams=[], expiries=[], seconds=1)
    text = "\n".join(report.lines(plan, report.summary([a_round(own=80, plain=10)])))
    assert "plain service: 8.0 times" in text
    assert "Idle: 0.00 % of a CPU" in text
    assert "padding" not in text
    assert "bare" not in text
    assert "streams" not in text


def test_padding_is_counted_from_when_the_load_began() -> None:
    """What the server computed before does not belong to this load; a server without these counters has no figure."""
    assert rounds._waste((10.0, 20.0), (110.0, 145.0)) == pytest.approx(0.2)
    assert rounds._waste((None, None), (100.0, 125.0)) == pytest.approx(0.2)
    assert rounds._waste((None, None), (None, None)) is None
    assert rounds._each((1.0, 10.0), (3.0, 110.0)) == pytest.approx(0.02)
    assert rounds._each((None, None), (2.0, 100.0)) == pytest.approx(0.02)
    assert rounds._each((None, None), (None, None)) is None


def test_a_state_token_goes_into_every_request_that_carries_one() -> None:
    stateful = [each for each in scenarios.closed_loops(6) if each.stateful]
    assert {each.name for each in stateful} == {
        scenarios.STEP_1,
        scenarios.STEP_64,
        scenarios.BARE_1,
        scenarios.BARE_64,
    }
    for each in stateful:
        (body,) = each.carrying("abc").bodies
        assert json.loads(body)["instances"][0]["state"] == "abc"
