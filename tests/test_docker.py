"""The container, with a real Docker engine: it becomes healthy, answers, and stops at once with exit code 0."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from tests.servers import ROOT

PORT = "18000"


def engine() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


pytestmark = [pytest.mark.docker, pytest.mark.skipif(not engine(), reason="no Docker engine answers")]


def compose(*arguments: str) -> str:
    command = ["docker", "compose", "--project-name", "recurve-test", *arguments]
    environment = os.environ | {"RECURVE_PUBLISH": f"127.0.0.1:{PORT}"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    try:
        compose("up", "--build", "--wait")
        yield compose("ps", "--quiet").strip()
    finally:
        compose("down", "--volumes")


def test_compose_serves_the_committed_model_and_stops_cleanly(container: str) -> None:
    """`docker compose up` is the first thing that most people try, and `docker stop` the last."""
    url = f"http://127.0.0.1:{PORT}"
    assert httpx.get(f"{url}/health").json()["status"] == "ok"
    answer = httpx.post(f"{url}/predict", json={"instances": [[[0.5, -0.3, 0.1, 0.0, 0.0, 9.8]]]})
    assert answer.json()["model"] == "gyro-denoiser"

    (details,) = json.loads(subprocess.check_output(["docker", "inspect", container]))
    assert details["State"]["Health"]["Status"] == "healthy"
    assert details["Config"]["User"] not in ("", "0", "root")
    assert details["HostConfig"]["ReadonlyRootfs"]

    subprocess.run(["docker", "stop", "--timeout", "10", container], check=True, capture_output=True)
    (details,) = json.loads(subprocess.check_output(["docker", "inspect", container]))
    assert details["State"]["ExitCode"] == 0
