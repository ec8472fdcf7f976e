"""Rate limits: how often each key may send requests, counted over all workers."""

import os
from contextlib import suppress
from pathlib import Path
from time import monotonic

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from app.api import guard
from app.api.guard import Guard
from app.errors import RateLimited
from app.keys import Keys
from app.rates import Rates
from tests.servers import serve

SLOW, FAST = "s" * 16, "f" * 16
STEP = {"instances": [[[0.0] * 6]]}


def granted(rates: Rates, number: int, rate: float, now: float, asked: int) -> int:
    return sum(rates.take(number, rate, now) == 0.0 for _ in range(asked))


@pytest.mark.parametrize(
    ("rate", "at_once", "in_ten_seconds"),
    [
        pytest.param(5.0, 5, 50, id="a-second-at-once"),
        pytest.param(0.5, 1, 5, id="one-at-least"),
        pytest.param(1.0, 1, 10, id="one"),
        pytest.param(2.5, 2, 25, id="no-whole-number"),
        pytest.param(0.0, 1000, 10_000, id="any"),
    ],
)
def test_a_second_of_it_may_come_at_once_and_then_as_it_says(rate: float, at_once: int, in_ten_seconds: int) -> None:
    """A client that is mostly idle may send a burst; in the long run, nobody exceeds the rate."""
    rates = Rates(2)
    assert granted(rates, 1, rate, 100.0, 1000) == at_once
    later = sum(granted(rates, 1, rate, 100.0 + tenth / 10, 100) for tenth in range(1, 101))
    assert later == in_ten_seconds
    assert granted(rates, 1, rate, 1000.0, 1000) == at_once  # what was unused meanwhile is not saved up


def test_who_is_refused_is_told_when_to_come_back_and_loses_nothing() -> None:
    rates = Rates(1)
    assert granted(rates, 0, 4.0, 10.0, 4) == 4
    assert rates.take(0, 4.0, 10.0) == pytest.approx(0.25)
    assert rates.take(0, 4.0, 10.2) == pytest.approx(0.05)
    assert rates.take(0, 4.0, 10.25) == 0.0


def test_keys_do_not_share() -> None:
    rates = Rates(2)
    assert [granted(rates, number, 1.0, 10.0, 3) for number in (0, 1)] == [1, 1]


def test_whoever_gets_the_place_of_a_slower_key_does_not_wait_as_long_as_that_would() -> None:
    """Keys are numbered by their order in a file that may change."""
    rates = Rates(1)
    assert granted(rates, 0, 0.01, 10.0, 2) == 1  # the next would be allowed in 100 s
    assert rates.take(0, 4.0, 10.0) == pytest.approx(0.25)
    assert rates.take(0, 4.0, 10.25) == 0.0


def test_processes_share_one_count() -> None:
    """A worker has only some connections of a key: with a share of the rate per worker, the key could not use its whole rate."""
    rates = Rates(2)
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            os._exit(granted(rates, 1, 10.0, 5.0, 3))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert granted(rates, 1, 10.0, 5.0, 3) == 1


def test_a_key_that_asks_too_fast_is_a_429_from_all_workers_together(repository: Path) -> None:
    """Each request has its own connection, and so reaches either worker. Other keys are not limited by it, and probes never are."""
    keys = f"slow:predict@5:{SLOW},fast:predict:{FAST}"
    with serve(repository, "--workers", "2", RECURVE_API_KEYS=keys) as server:
        begin = monotonic()
        answers = [httpx.post(f"{server.url}/predict", json=STEP, headers={"X-API-Key": SLOW}) for _ in range(40)]
        most = 5 + 5 * (monotonic() - begin)
        good = [answer for answer in answers if answer.is_success]
        assert 5 <= len(good) <= most + 1
        refused = [answer for answer in answers if not answer.is_success]
        assert {answer.status_code for answer in refused} == {429}
        last = refused[-1]
        assert last.headers["content-type"] == "application/problem+json"
        assert last.headers["retry-after"] == "1"
        assert last.json()["type"] == "urn:recurve:problem:rate-limited"
        assert "The key slow may ask 5 times a second" in last.json()["detail"]
        assert SLOW not in last.text
        for _ in range(20):
            assert httpx.post(f"{server.url}/predict", json=STEP, headers={"X-API-Key": FAST}).is_success
            assert httpx.get(f"{server.url}/health", headers={"X-API-Key": SLOW}).is_success
        text = httpx.get(f"{server.url}/metrics").text
        assert f'recurve_refused_total{{reason="rate-limited"}} {len(refused)}.0' in text


def test_messages_of_a_websocket_count_too(repository: Path) -> None:
    """Otherwise they would evade the limit. Accepted messages are answered, then the connection is closed, and the stream stays."""
    with serve(repository, "--workers", "1", "--rate-limit", "0.1", RECURVE_API_KEYS=f"slow:predict@4:{SLOW}") as server:
        live = f"{server.url.replace('http', 'ws')}/streams/ws"
        with connect(live, additional_headers={"X-API-Key": SLOW}) as caller:
            answers: list[str | bytes] = []
            with suppress(ConnectionClosed):  # the connection may close before all are sent
                for _ in range(20):
                    caller.send(bytes(24))
            with pytest.raises(ConnectionClosed) as closed:
                answers.extend(caller)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4429
        assert all(isinstance(answer, bytes) for answer in answers[:-1])
        assert "rate-limited" in answers[-1]
        assert 3 <= len(answers[:-1]) < 20  # the connection itself took one of the four


def test_of_messages_that_come_together_as_many_are_worked_on_as_the_rate_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a client that sends many messages at once would pay for only one."""
    monkeypatch.setattr(guard, "monotonic", lambda: 10.0)
    keys = Keys.parse(f"slow:predict@4:{SLOW}")
    lets = Guard(None, lambda: keys)
    scope = {"state": {"key": keys.find(SLOW)}}
    assert [lets.allow(scope, messages) for messages in (2, 20)] == [2, 2]
    with pytest.raises(RateLimited, match="4 times a second"):
        lets.allow(scope, 1)


def test_without_keys_a_rate_does_nothing_and_that_is_said(repository: Path) -> None:
    with serve(repository, "--workers", "1", "--rate-limit", "0.1") as server:
        for _ in range(5):
            assert httpx.post(f"{server.url}/predict", json=STEP).is_success
        assert "RECURVE_RATE_LIMIT=0.1 limits keys, and no RECURVE_API_KEYS are set" in "".join(server.log)
