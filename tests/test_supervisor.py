"""How the supervisor handles workers that fail, hang or cannot be started. The clock is simulated, so no test waits."""

import json
import socket
import subprocess
import sys
from typing import Any

from app.processes.worker import HANGS, QUIET, Worker
from tests.servers import ROOT


def scenario(name: str) -> tuple[dict[str, Any], str]:
    """The result of one scenario of tests/supervised.py, and its log."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.supervised", name], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_a_worker_has_the_connections_that_it_told_and_those_that_it_was_given_since() -> None:
    """The next connection goes to the worker with the fewest; reports may come in parts, and a silent worker is chosen last."""
    with socket.socket() as channel:
        worker, other = (Worker(0, channel, handed=5) for _ in range(2))
        worker.hear(b"2:1:0\n3:2", now=1.0)
        assert worker.load == (False, 1 + 5 - 2)
        worker.hear(b":7\n", now=2.0)
        assert (worker.load, worker.done, worker.ready_at) == ((False, 2 + 5 - 3), 7, 1.0)
        worker.silent = QUIET + 1
        assert worker.load > other.load
        worker.hear(b"3:2:7\n", now=3.0)
        assert worker.load < other.load


def test_a_worker_that_dies_as_soon_as_it_is_ready_is_replaced_after_a_pause() -> None:
    """Otherwise the service would do nothing but start workers. A worker that has lived long is replaced at once."""
    found, _ = scenario("dying")
    assert found == {"code": 0, "deaths": [0, 1, 2, 103, 103]}


def test_a_worker_that_hangs_is_killed_and_replaced() -> None:
    """It answers no request and does not end by itself."""
    found, log = scenario("hanging")
    assert found["code"] == 0
    assert len(found["rounds"]) == 2
    assert {*found["rounds"]} <= {HANGS - 1, HANGS}
    assert log.count("hangs: it has not reported for about 30 s, and is killed.") == 2
    assert "memory is short" not in log  # the supervisor killed it, not the system


def test_a_worker_that_hangs_while_it_is_to_end_does_not_keep_the_service_from_it() -> None:
    """The requests that it had accepted are lost, so the exit code must not be 0."""
    found, log = scenario("leaving")
    assert found == {"code": 1}
    assert "hangs: it has not reported for about 30 s, and is killed." in log
    assert "ended with exit code -9 while it stopped." in log


def test_a_worker_that_is_killed_before_it_is_ready_leaves_a_reason() -> None:
    """Unlike a worker that cannot load its model, it could not give a reason itself."""
    found, log = scenario("killed")
    assert found == {"code": 1}
    assert "ended with exit code -9 (SIGKILL, as the system does it where memory is short) before it was ready." in log


def test_a_worker_that_cannot_be_started_is_tried_again_and_the_others_go_on() -> None:
    """A system without free processes or files may have some again soon; a service that had ended would be missing until then."""
    found, log = scenario("no_room")
    assert found == {"code": 0, "forks": [1], "pairs": [2], "heard": ["hello"], "blocked": [], "left": 0}
    assert log.count("A worker cannot be started (Resource temporarily unavailable): it is tried again every 1 s.") == 1
    assert "Traceback" not in log


def test_a_service_that_cannot_start_a_single_worker_says_so_and_fails() -> None:
    """It gives up after a while: whoever started the service must not believe that it serves."""
    found, log = scenario("none_at_all")
    assert found == {"code": 1, "forks": [each for second in range(5) for each in (second, second)] + [5], "blocked": []}
    assert log.count("A worker cannot be started") == 1
    assert "Not one worker could be started in 5 s: Resource temporarily unavailable." in log


def test_connections_that_cannot_be_accepted_are_left_alone_for_a_while() -> None:
    """To accept again at once would fail again: that would use a core which other processes need to release their files."""
    found, _ = scenario("no_files")
    assert found == {"code": 0, "accepts": [0, 1, 2], "heard": ["hello"]}
