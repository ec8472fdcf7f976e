"""What an operator finds in the log: each line's process, and each request that was refused, without its contents."""

import json
import logging
import os
from pathlib import Path

import httpx
import pytest

from app import logs
from app.errors import MOST_SHOWN
from tests.servers import serve

READER = "reader-0123456789"
KEYS = {"RECURVE_API_KEYS": f"sensors:predict@0.01:{READER}"}
STEP = [0.0] * 6
NONE = [["hunter2"] * 6]  # not a sequence of numbers


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_line_says_which_process_it_is_from(repository: Path, workers: str) -> None:
    """All processes write to the same stream."""
    with serve(repository, "--workers", workers, "--log-format", "json") as server:
        lines = [json.loads(line) for line in server.log]
        loaded = [line["process"] for line in lines if line["message"].startswith("Loaded")]
        assert lines[0]["process"] == server.process.pid
        assert len({*loaded}) == int(workers)
        assert (server.process.pid in loaded) == (workers == "1")


def test_plain_lines_say_it_where_there_are_several(repository: Path) -> None:
    with serve(repository, "--workers", "2") as server:
        assert server.log[0].split()[1] == str(server.process.pid)
    with serve(repository, "--workers", "1") as server:
        assert server.log[0].split()[1] == "INFO"


def test_who_is_refused_is_found_by_his_request_id(repository: Path) -> None:
    """The answer holds the request id; the log holds it too, with the request, the key's name and how it was answered."""
    flags = ("--workers", "1", "--log-level", "debug")
    with serve(repository, *flags, **KEYS) as server, httpx.Client(base_url=server.url) as client:

        def told(answer: httpx.Response) -> str:
            (line,) = [line for line in server.log if f"Request {answer.headers['x-request-id']}: " in line]
            return line.split(": ", 1)[1].rstrip("\n")

        unknown = client.post("/predict?a=hunter2", json={"instances": [[STEP]]}, headers={"X-API-Key": "hunter2-0123456789"})
        client.headers["X-API-Key"] = READER
        wrong = client.post("/v2/models/gyro-denoiser/infer", json={"inputs": NONE})
        often = client.post("/predict", json={"instances": [[STEP]]})
        long = client.get("/metrics/%0A" + "x" * 1000)
        fine = client.get("/health")
        server.wait_for("/metrics/")
        assert told(unknown) == "POST '/predict' is answered 401, unauthorized."
        what = "POST '/v2/models/gyro-denoiser/infer' of model gyro-denoiser 1 with key sensors"
        assert told(wrong) == f"{what} is answered 400, invalid-request."
        assert told(often) == "POST '/predict' with key sensors is answered 429, rate-limited."
        assert told(long) == rf"GET '/metrics/\n{'x' * (MOST_SHOWN - 10)}' is answered 404, not-found."
        assert not [line for line in server.log if fine.headers["x-request-id"] in line]
        assert not [line for line in server.log if "hunter2" in line or READER in line]


def test_above_debug_nothing_is_said_of_requests_that_are_refused(repository: Path) -> None:
    with serve(repository, "--workers", "1") as server:
        refused = httpx.post(f"{server.url}/predict", content=b"{")
        assert server.stop() == 0
        assert not [line for line in server.log if refused.headers["x-request-id"] in line]


def test_a_log_that_nobody_reads_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the collector behind a container hangs, its pipe fills up, and a blocking write would wait for ever."""
    monkeypatch.setattr(logs, "PATIENCE", 0.0)
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as read, os.fdopen(writer, "w") as stream:
        handler = logs.Lines(stream)
        records = [logging.makeLogRecord({"msg": f"{number} " + "x" * 9000}) for number in range(40)]
        for record in records:
            handler.handle(record)
        full = read.read(2**20).decode()
        handler.handle(records[0])
        after = read.read(2**20).decode()
    whole = full.count("\n")
    assert 0 < whole < 40
    assert full.startswith("".join(f"{record.msg}\n" for record in records[:whole]))
    ended = "" if full.endswith("\n") else "\n"  # a line that was cut off must not run into the next
    assert after == f"{ended}Nobody has read the log: {40 - whole} lines are missing here.\n{records[0].msg}\n"
