"""The container, with a real Docker engine: it becomes healthy, answers, and stops at once with exit code 0."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from tests.servers import ROOT

PORT, SCALED = "18000", "18080"
WITH_GPU = ("--file", "docker-compose.yml", "--file", "deploy/gpu.yml")


def engine() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


pytestmark = [pytest.mark.docker, pytest.mark.skipif(not engine(), reason="no Docker engine answers")]


def compose(*arguments: str) -> str:
    command = ["docker", "compose", "--project-name", "recurve-test", *arguments]
    environment = os.environ | {
        "RECURVE_PUBLISH": f"127.0.0.1:{PORT}",
        "RECURVE_PUBLISH_SCALED": f"127.0.0.1:{SCALED}",
    }
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
    assert httpx.post(f"{url}/streams", json={"id": "kept"}).status_code == 201
    compose("restart", "recurve")
    compose("up", "--wait", "recurve")
    assert httpx.get(f"{url}/streams/kept").status_code == 200  # the volume holds it

    (details,) = json.loads(subprocess.check_output(["docker", "inspect", container]))
    assert details["State"]["Health"]["Status"] == "healthy"
    assert details["Config"]["User"] not in ("", "0", "root")
    assert details["HostConfig"]["ReadonlyRootfs"]

    subprocess.run(["docker", "stop", "--timeout", "10", container], check=True, capture_output=True)
    (details,) = json.loads(subprocess.check_output(["docker", "inspect", container]))
    assert details["State"]["ExitCode"] == 0


def test_a_gpu_is_reserved_by_its_own_file_alone() -> None:
    """Docker starts nothing that reserves a GPU on a host that has none to give; and what has one is as locked up as the rest."""
    plain, gpu = (
        json.loads(compose(*files, "--profile", "scale", "config", "--format", "json"))["services"] for files in ((), WITH_GPU)
    )
    assert "nvidia" not in json.dumps(plain)
    served = gpu["recurve"]
    assert (served["build"].pop("target"), served.pop("image")) == ("cuda", "recurve:cuda")
    reserved = served.pop("deploy")["resources"]["reservations"]
    assert reserved == {"devices": [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]}
    assert (plain["recurve"]["build"].pop("target"), plain["recurve"].pop("image")) == ("cpu", "recurve:cpu")
    assert gpu == plain


@pytest.fixture(scope="module")
def replicas() -> Iterator[list[str]]:
    scale = ("--profile", "scale")
    try:
        compose(*scale, "up", "--build", "--wait", "nginx")
        yield compose(*scale, "ps", "--quiet", "replica").split()
    finally:
        compose(*scale, "down", "--volumes")


def test_a_stream_goes_on_while_one_replica_after_another_is_killed(replicas: list[str]) -> None:
    """Three replicas behind nginx with one Redis; tokens of one are good for all."""
    assert len(replicas) == 3
    steps = [[0.5, -0.3, 0.1, 0.0, 0.0, 9.8 + seq] for seq in range(12)]
    with httpx.Client(base_url=f"http://127.0.0.1:{SCALED}", timeout=10) as client:
        (whole,) = client.post("/predict", json={"instances": [steps]}).json()["predictions"]
        id = client.post("/streams").json()["id"]
        for seq, step in enumerate(steps):
            if seq % 4 == 2:
                subprocess.run(["docker", "kill", replicas[seq // 4]], check=True, capture_output=True)
            answer = None
            while answer is None or answer.status_code >= 500:  # nginx has not noticed yet
                answer = client.post(f"/streams/{id}/predict", json={"input": [step], "seq": seq})
            assert answer.json()["predictions"][0] == pytest.approx(whole[seq], rel=1e-4, abs=1e-4)
            subprocess.run(["docker", "start", *replicas], check=True, capture_output=True)
