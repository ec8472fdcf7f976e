"""The benchmark's instruments: a failed, late or refused request must never pass for a fast one."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from itertools import cycle
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
import uvloop

from app import manifest
from scripts.bench import load, report, rounds, scenarios, soak, tree
from scripts.bench.generator import Generator
from scripts.bench.job import Answer, Job, Own, Report, percentile
from scripts.bench.report import Spread
from scripts.bench.rounds import Figures, Plan
from scripts.bench.servers import Running
from scripts.bench.soak import Request
from tests.servers import ROOT

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
    """A server that gives these answers in turn, one to each request, and remembers what it was asked. None: no answer."""

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


def reported(peer: Peer, **options: Any) -> Report:
    """The generator's report on this peer, from its own loop: 100 requests in an open loop unless the options say otherwise."""
    usual: dict[str, Any] = {"bodies": [b"one"], "connections": 4, "seconds": 0.2, "rate": 500.0, "warm": 0.1}
    return met(peer, lambda url: Generator(Job(url=url, **usual | options)).run())


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
    """What was due while it warmed up is sent and does not count."""
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
    """A refusal that does not say when to come back is counted, in whatever case the header is written."""
    found = reported(Peer(OK, LATER, NEVER, EXPIRED))
    assert found.answers == {"200": 25, "503": 50, "504": 25}
    assert (found.refusals, found.refusals_without_retry_after, found.failed, found.unanswered) == (50, 25, 75, 0)


def test_a_request_that_finds_no_connection_waits_and_counts() -> None:
    """Else a server that answers nothing would look as if it had been asked only once."""
    found = reported(Peer(None), connections=1, warm=0.0, seconds=0.02, patience=0.1)
    assert (found.sent, found.unanswered, found.waited) == (10, 10, 9)
    assert found.p50 is found.p99 is None


@pytest.mark.parametrize("rate", [500.0, None], ids=["open loop", "closed loop"])
def test_a_connection_that_the_server_closes_is_replaced(rate: float | None) -> None:
    found = reported(Peer(OK, LAST), rate=rate)
    assert found.answers == {"200": found.sent}


def test_a_request_whose_connection_breaks_is_lost() -> None:
    found = reported(Peer(OK, HANG_UP))
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
    """Answers that came quickly once their requests were written, but too late for who asked, are no good."""
    job = Job(url="", bodies=[], connections=1, seconds=2.0, rate=2.0, deadline=0.5)
    answers = [
        Answer(200, False, due=9.0, written=9.0, arrived=9.1),  # before it counted
        Answer(200, False, due=9.9, written=9.9, arrived=10.1),  # came while it counted
        Answer(200, False, due=10.0, written=10.0, arrived=10.5),
        Answer(200, False, due=10.5, written=11.0, arrived=11.25),  # waited half a second for a connection
        Answer(503, True, due=11.0, written=11.5, arrived=11.75),
        Answer(200, False, due=11.5, written=11.75, arrived=12.0),  # came after
    ]
    found = Report.of(job, answers, Own(counts_from=10.0, sent=5, late=[0.0, 0.25], waited=3, cpus=0.1))
    assert (found.goodput, found.served, found.requests_per_second) == (1.0, 1.5, 2.0)
    assert (found.p50, found.p99) == (0.5, 0.75)
    assert (found.refusal_p50, found.refusal_from_due_p50) == (0.25, 0.75)
    assert (found.sent, found.unanswered, found.failed) == (5, 1, 2)


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


# -- the report --------------------------------------------------------------------------------------------------------


def a_round(**figures: float) -> Figures:
    """One round in which the service answered this many requests a second, and the plain service that many."""
    return {
        "ceiling": {"sequences_per_second": 1000.0, "raw_seconds": 1e-3},
        "service": {"padding_waste": None, "cold_start": 0.5, "idle_cpu": 0.0},
        scenarios.CAPACITY: {"requests_per_second": figures["own"], "p50": 0.01, "p99": 0.02, "of_ceiling": 0.5},
        scenarios.PLAIN: {"requests_per_second": figures["plain"], "p50": 0.01, "p99": 0.02, "of_ceiling": 0.1},
    }


def test_a_ratio_is_the_median_of_those_within_a_round() -> None:
    """A machine that is slower for one round is so for both sides; the ratio of the medians would be 8 here."""
    found = report.summary([a_round(own=80, plain=10), a_round(own=40, plain=20), a_round(own=90, plain=9)])
    assert found["ratios"]["over_plain"] == Spread(median=8.0, min=2.0, max=10.0)
    assert found[scenarios.CAPACITY]["requests_per_second"] == Spread(median=80, min=40, max=90)
    assert found["ratios"]["step_over_bare"] is None


def test_what_was_not_measured_is_left_out_of_the_report() -> None:
    spec = manifest.read(ROOT / "model/gyro-denoiser/1")
    closed = [each for each in scenarios.closed_loops(6) if each.name in (scenarios.CAPACITY, scenarios.PLAIN)]
    plan = Plan(version=ROOT, spec=spec, closed=closed, open=[], seconds=1)
    text = "\n".join(report.lines(plan, report.summary([a_round(own=80, plain=10)])))
    assert "plain service: 8.0 times" in text
    assert "Idle: 0.00 % of a CPU" in text
    assert "padding" not in text
    assert "bare" not in text


def test_padding_is_counted_from_when_the_load_began() -> None:
    """What the server had computed before is not this load's; a server without these counters has no figure."""
    assert rounds._waste((10.0, 20.0), (110.0, 145.0)) == pytest.approx(0.2)
    assert rounds._waste((None, None), (100.0, 125.0)) == pytest.approx(0.2)
    assert rounds._waste((None, None), (None, None)) is None


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


# -- the long run ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status", "answer", "verdict"),
    [
        (Request(b"", 200, [2, 1]), 200, b'{"predictions": [[[1], [2]], [[3]]]}', "right 200"),
        (Request(b"", 200, [2, 1]), 200, b'{"predictions": [[[1], [2]]]}', "200 with other steps than were asked for"),
        (Request(b"", 200, [2], octets=True), 200, bytes(8), "right 200"),
        (Request(b"", 200, [2], octets=True), 200, bytes(4), "200 with other steps than were asked for"),
        (Request(b"", 422), 422, b"", "right 422"),
        (Request(b"", 422), 500, b"", "500 instead of 422"),
        (Request(b"", 200, [1]), 503, b"", "503 instead of 200"),
    ],
    ids=["whole", "one missing", "whole octets", "half the octets", "rightly refused", "a defect", "overloaded"],
)
def test_each_answer_of_the_long_run_is_judged(request_: Request, status: int, answer: bytes, verdict: str) -> None:
    assert soak.judge(request_, status, answer, outputs=1) == verdict
