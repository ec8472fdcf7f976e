"""Space on the disk is reserved beforehand, also if the system has no function for it."""

import os
from pathlib import Path

import httpx
import pytest

from app.disk import allot
from tests.servers import serve
from tests.test_metric_files import files_of_at_most


@pytest.fixture(params=["with-the-function", "without-it"])
def _system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without-it":
        monkeypatch.delattr(os, "posix_fallocate")


@pytest.mark.usefixtures("_system")
@pytest.mark.parametrize("mode", ["r+b", "ab"])
def test_a_file_has_its_place_and_keeps_what_it_holds(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"held")
    with path.open(mode) as file:
        allot(file.fileno(), 100_000)
        allot(file.fileno(), 10)
    assert path.read_bytes() == b"held" + bytes(99_996)
    assert path.stat().st_blocks * 512 >= 100_000


@pytest.mark.usefixtures("_system")
def test_where_there_is_no_room_it_is_told(tmp_path: Path) -> None:
    with files_of_at_most(50_000), (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match="too large"):
        allot(file.fileno(), 100_000)


def test_a_service_does_without_what_linux_alone_has(repository: Path) -> None:
    """Metrics shared by workers, and streams on the disk, both need reserved space."""
    with (
        serve(repository, "--workers", "2", "--device", "cpu", module="tests.macos") as server,
        httpx.Client(base_url=server.url) as client,
    ):
        sequence = client.get("/models/gyro-denoiser/example").json()["input"]
        assert client.post("/predict", json={"instances": [sequence]}).status_code == 200
        stream = client.post("/streams").headers["Location"]
        assert client.post(f"{stream}/predict", json={"input": sequence, "seq": 0}).json()["seq"] == 1
        assert client.get("/health").json()["streams"]["store"] == "embedded"
        assert 'recurve_request_seconds_count{route="/predict",status="200"} 1.0' in client.get("/metrics").text
        assert server.stop() == 0
    assert not [line for line in server.log if "Traceback" in line or "cannot be written" in line]
