"""The files in which workers count: what they hold, and that a full disk does not end a worker."""

import logging
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict

from app.processes.metric_files import LEAST, Allotted
from tests.servers import ROOT
from tests.test_stores import small_disk

COUNT = """
import os, sys
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
from app.processes import metric_files
metric_files.install()
from app.metrics import Metrics
counts = Metrics()
print("begun", flush=True)
sys.stdin.readline()
for status in range(1000):
    counts.answered("/predict", status, [0.001])
    counts.refused(f"reason-{status}")
assert b"recurve_refused_total{" in counts.render()
"""


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Within the block, no file of this process may grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fill(disk: Path) -> None:
    """Fill the disk to its last byte."""
    with suppress(OSError), (disk / "rest").open("wb", buffering=0) as rest:
        while rest.write(bytes(4096)):
            pass


def kept(path: Path) -> dict[str, float]:
    """What other processes read from the file."""
    return {key: value for key, value, *_ in MmapedDict.read_all_values_from_file(str(path))}


def test_what_is_counted_is_there_and_so_is_its_place_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "counts.db"
    counts = Allotted(str(path))
    expected = {}
    for number in range(500):
        expected["x" * (number % 70) + str(number)] = float(number)
        for key in list(expected)[-2:]:
            expected[key] += 1
            counts.write_value(key, expected[key], 0.0)
        found = path.stat()
        assert found.st_blocks * 512 >= found.st_size == counts._capacity
    assert kept(path) == expected
    assert found.st_size >= 4 * LEAST
    again = Allotted(str(path))  # as a new process with the pid of a dead one does
    assert {key: again.read_value(key)[0] for key in expected} == expected
    counts.close()
    again.close()


def test_where_no_file_can_grow_what_is_new_is_not_counted_and_the_rest_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests are answered all the same, and the log says it once."""
    path = tmp_path / "counts.db"
    counts = Allotted(str(path))
    with files_of_at_most(2 * LEAST), caplog.at_level(logging.ERROR):
        for times in (1.0, 2.0):
            for number in range(1000):
                counts.write_value(f"{number}", times, 0.0)
    found = kept(path)
    assert 100 < len(found) < 1000
    assert [*found] == [f"{number}" for number in range(len(found))]
    assert {*found.values()} == {2.0}
    (told,) = caplog.messages
    assert told == f"There is no room for more metrics in {tmp_path} (File too large): some are not counted."
    counts.close()


def test_where_no_file_can_be_made_nothing_is_left_that_others_would_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An empty file would be an error in the worker that is asked for metrics."""
    disk = tmp_path / "disk"
    with small_disk(disk), caplog.at_level(logging.ERROR):
        fill(disk)
        counts = Allotted(str(disk / "counts.db"))
        for number in range(5000):
            counts.write_value(f"{number}", 1.0, 0.0)
        assert counts.read_value("4999") == (1.0, 0.0)
        counts.close()
        assert [*disk.glob("counts*")] == []
    assert caplog.messages == [f"There is no room for more metrics in {disk} (No space left on device): some are not counted."]


def test_a_worker_outlives_that_its_disk_is_full(tmp_path: Path) -> None:
    """Docker gives /dev/shm 64 MB, shared by all programs: a write to a mapped page that has no room there would raise SIGBUS."""
    with small_disk(tmp_path / "disk"):
        worker = subprocess.Popen(
            [sys.executable, "-c", COUNT, str(tmp_path / "disk")],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert worker.stdout is not None
        assert worker.stdout.readline() == "begun\n"
        fill(tmp_path / "disk")
        worker.communicate("go on\n", timeout=60)
        assert worker.returncode == 0
