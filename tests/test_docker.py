"""The containers, with a real Docker engine: what each profile of docker-compose.yml starts, and whether it works.

Grafana and the GPU are left out.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
import yaml
from websockets.sync.client import connect

from app import manifest
from scripts.training.publish import publish, staging
from tests.servers import ROOT

PORT, SCALED, PROMETHEUS, OTHER = "18000", "18080", "19090", "18001"
SCALE, MONITOR = ("--profile", "scale"), ("--profile", "monitor")


def engine() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


pytestmark = [pytest.mark.docker, pytest.mark.skipif(not engine(), reason="no Docker engine answers")]


def compose(*arguments: str, folder: Path = ROOT, project: str = "recurve-test", port: str = PORT) -> str:
    command = ["docker", "compose", "--project-name", project, *arguments]
    environment = os.environ | {
        "RECURVE_PUBLISH": f"127.0.0.1:{port}",
        "RECURVE_PUBLISH_SCALED": f"127.0.0.1:{SCALED}",
        "RECURVE_PUBLISH_PROMETHEUS": f"127.0.0.1:{PROMETHEUS}",
    }
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
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
    assert httpx.get(f"{url}/streams/kept").status_code == 200  # the volume keeps the stream

    (details,) = json.loads(subprocess.check_output(["docker", "inspect", container]))
    assert details["State"]["Health"]["Status"] == "healthy"
    assert details["Config"]["User"] not in ("", "0", "root")
    assert details["HostConfig"]["ReadonlyRootfs"]

    subprocess.run(["docker", "stop", "--timeout", "10", container], check=True, capture_output=True)
    (details,) = json.loads(subprocess.check_output(["docker", "inspect", container]))
    assert details["State"]["ExitCode"] == 0


def test_what_is_published_is_served_by_the_container_that_runs(tmp_path: Path) -> None:
    """By whoever trains, with a umask that hides his files, and without a new image; a copy of the folders stands for the clone."""
    copy_clone(tmp_path)
    first = tmp_path / "model/gyro-denoiser/1"
    before = os.umask(0o077)

    def run(*arguments: str) -> None:
        compose(*arguments, folder=tmp_path, project="recurve-test-model", port=OTHER)

    def health() -> tuple[str, str]:
        answer = httpx.get(f"http://127.0.0.1:{OTHER}/health").json()
        return answer["status"], answer["models"][0]["version"]

    try:
        run("up", "--build", "--wait")
        assert health() == ("ok", "1")
        with staging(tmp_path / "model", "gyro-denoiser") as staged:
            spec = manifest.read(first)
            for file in spec.files:
                (staged / file).write_bytes((first / file).read_bytes())
            publish(staged, lambda version: spec.model_copy(update={"version": version}))
        eventually(health, ("ok", "2"))
        hidden = shutil.copytree(first.parent / "2", first.parent / "3")  # not published, and of another user
        hidden.chmod(0o700)
        eventually(health, ("degraded", "2"))
    finally:
        os.umask(before)
        run("down", "--volumes")


def copy_clone(to: Path) -> None:
    """Copy what images are built from, and what runs them."""
    for folder in ("app", "model", "requirements", "scripts"):
        shutil.copytree(ROOT / folder, to / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (".dockerignore", "Dockerfile", "docker-compose.yml"):
        shutil.copy(ROOT / file, to)


def test_a_profile_starts_what_it_says() -> None:
    """Compose reads its own file here; what it starts without a profile is what most people try first."""
    started = {
        profile: compose(*(("--profile", profile) if profile else ()), "config", "--services").split()
        for profile in ("", "gpu", "scale", "monitor", "train")
    }
    assert started.pop("") == ["recurve"]
    assert {profile: set(services) - {"recurve"} for profile, services in started.items()} == {
        "gpu": {"gpu"},
        "scale": {"nginx", "redis", "replica", "state-key"},
        "monitor": {"grafana", "prometheus"},
        "train": {"train"},
    }


@pytest.fixture(scope="module")
def replicas() -> Iterator[list[str]]:
    try:
        compose(*SCALE, "up", "--build", "--wait", "nginx")
        yield compose(*SCALE, "ps", "--quiet", "replica").split()
    finally:
        compose(*SCALE, "down", "--volumes")


def test_a_stream_goes_on_while_one_replica_after_another_is_killed(replicas: list[str]) -> None:
    """Three replicas behind nginx share one Redis, and each accepts the state tokens of the others."""
    assert len(replicas) == 3
    steps = [[0.5, -0.3, 0.1, 0.0, 0.0, 9.8 + seq] for seq in range(12)]
    with httpx.Client(base_url=f"http://127.0.0.1:{SCALED}", timeout=10) as client:
        (whole,) = client.post("/predict", json={"instances": [steps]}).json()["predictions"]
        id = client.post("/streams").json()["id"]
        for seq, step in enumerate(steps):
            if seq % 4 == 2:
                subprocess.run(["docker", "kill", replicas[seq // 4]], check=True, capture_output=True)
            answer = None
            while answer is None or answer.status_code >= 500:  # nginx has not noticed the killed replica yet
                answer = client.post(f"/streams/{id}/predict", json={"input": [step], "seq": seq})
            assert answer.json()["predictions"][0] == pytest.approx(whole[seq], rel=1e-4, abs=1e-4)
            subprocess.run(["docker", "start", *replicas], check=True, capture_output=True)


@pytest.fixture
def prometheus(replicas: list[str]) -> Iterator[httpx.Client]:
    """A client of Prometheus, which runs beside the replicas and the single service."""
    assert replicas
    try:
        compose(*SCALE, *MONITOR, "up", "--no-recreate", "--wait", "recurve", "nginx", "prometheus")
        with httpx.Client(base_url=f"http://127.0.0.1:{PROMETHEUS}/api/v1", timeout=10) as client:
            yield client
    finally:
        compose(*MONITOR, "rm", "--stop", "--force", "prometheus")
        subprocess.run(["docker", "volume", "rm", "--force", "recurve-test_prometheus"], check=True, capture_output=True)


def eventually(seen: Callable[[], Any], wanted: Any, *, seconds: float = 60) -> None:
    """Call `seen` until it returns `wanted`: Prometheus scrapes at its own times."""
    until = time.monotonic() + seconds
    while (now := seen()) != wanted:
        assert time.monotonic() < until, f"{now}, not {wanted}"
        time.sleep(0.25)  # Prometheus does not announce when it has scraped


def test_prometheus_scrapes_all_that_runs_and_nginx_gives_each_replica_its_share(prometheus: httpx.Client) -> None:
    """Prometheus' rules over the metrics of real services must give exactly the requests that were sent."""

    def data(path: str, **query: str) -> Any:
        try:
            answer = prometheus.get(path, params=query)
        except httpx.TransportError:  # it is still starting
            return {}
        return answer.json().get("data", {})

    def up() -> list[tuple[str, str]]:
        return sorted((each["labels"]["job"], each["health"]) for each in data("/targets").get("activeTargets", ()))

    def inferences() -> dict[str, int]:
        found = data("/query", query='sum by (instance) (recurve_inferences_total{job="replica"})').get("result", ())
        return {each["metric"]["instance"]: int(each["value"][1]) for each in found}

    eventually(up, [("recurve", "up"), *[("replica", "up")] * 3])
    eventually(lambda: len(inferences()), 3)

    named = [rule.get("alert") or rule["record"] for group in rule_groups() for rule in group["rules"]]

    def rules() -> dict[str, tuple[str, str]]:
        loaded = [rule for group in data("/rules").get("groups", ()) for rule in group["rules"]]
        return {rule["name"]: (rule["health"], rule.get("lastError", "")) for rule in loaded}

    eventually(rules, dict.fromkeys(named, ("ok", "")))

    before, requests = inferences(), 60
    with httpx.Client(base_url=f"http://127.0.0.1:{SCALED}", timeout=10) as client:
        for _ in range(requests):
            answer = client.post("/predict", json={"instances": [[[0.5, -0.3, 0.1, 0.0, 0.0, 9.8]]]})
            assert answer.status_code == 200
    eventually(lambda: sum(inferences().values()), sum(before.values()) + requests)
    after = inferences()
    assert after.keys() == before.keys()
    assert all(after[instance] > before[instance] for instance in before)


def rule_groups() -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())["groups"]
    return groups


def test_no_request_is_lost_while_each_replica_gives_way_to_one_at_another_address(replicas: list[str]) -> None:
    """As the image stops, and as nginx looks for the replicas; what held a replica's address meanwhile keeps it from the next."""
    assert replicas
    compose(*SCALE, "up", "--no-recreate", "--wait", "nginx")
    old = addresses()
    url, body = f"http://127.0.0.1:{SCALED}", {"instances": [[[0.5, -0.3, 0.1, 0.0, 0.0, 9.8]]]}
    done = Event()

    def ask() -> Counter[str]:
        seen: Counter[str] = Counter()
        with httpx.Client(base_url=url, timeout=30) as client:
            while not done.is_set():
                try:
                    seen[str(client.post("/predict", json=body).status_code)] += 1
                except httpx.HTTPError as error:
                    seen[repr(error)] += 1
        return seen

    placeholders = []
    with ThreadPoolExecutor(4) as callers:
        asked = [callers.submit(ask) for _ in range(4)]
        try:
            for replica in old:
                for command in (("stop", "--timeout", "40", replica), ("rm", "--volumes", replica)):
                    subprocess.run(["docker", *command], check=True, capture_output=True)
                hold = ["docker", "run", "--detach", "--network", "recurve-test_default", "redis:7-alpine"]
                placeholders.append(subprocess.check_output(hold, text=True).strip())
                compose(*SCALE, "up", "--no-recreate", "--wait", "nginx")
        finally:
            done.set()
            subprocess.run(["docker", "rm", "--force", "--volumes", *placeholders], check=True, capture_output=True)
    answers = sum((each.result() for each in asked), Counter[str]())
    assert answers.keys() == {"200"}
    new = addresses()
    assert len(new) == 3
    assert not {*new.values()} & {*old.values()}

    with httpx.Client() as client:

        def counted(name: str) -> list[float]:
            texts = [client.get(f"http://{address}:8000/metrics").text for address in new.values()]
            return [float(re.findall(rf"^{name}(?:{{.*}})? (.*)$", text, re.MULTILINE)[0]) for text in texts]

        before = counted("recurve_inferences_total")
        for _ in range(30):
            client.post(f"{url}/predict", json=body)
        assert all(now > then for now, then in zip(counted("recurve_inferences_total"), before, strict=True))
        eventually(lambda: min(counted("recurve_connections")) > 1, True)  # this client's, and one that nginx keeps
    with connect(f"ws://127.0.0.1:{SCALED}/streams/ws") as stream:
        stream.send(json.dumps({"input": body["instances"][0], "seq": 0}))
        assert json.loads(stream.recv())["seq"] == 1


def addresses() -> dict[str, str]:
    """The address of each replica's container."""
    running = compose(*SCALE, "ps", "--quiet", "replica").split()
    found = json.loads(subprocess.check_output(["docker", "inspect", *running]))
    return {each["Id"]: each["NetworkSettings"]["Networks"]["recurve-test_default"]["IPAddress"] for each in found}


def test_what_is_trained_in_a_container_is_the_hosts(tmp_path: Path) -> None:
    """The clone belongs to a user that is not root, and has no folder runs yet; a copy of its folders stands for the clone."""
    copy_clone(tmp_path)
    owner = (os.getuid(), os.getgid()) if os.getuid() else (12345, 23456)
    if not os.getuid():
        for path in (tmp_path / "model", *(tmp_path / "model").rglob("*")):
            os.chown(path, *owner)
    choices = {"name": "tiny", "run": "runs/tiny", "epochs": 1, "hidden": 4, "recordings": 2, "recording-seconds": 10}
    short = [f"--{name}={choice}" for name, choice in choices.items()]

    def trainer(*arguments: str) -> str:
        return compose(*arguments, folder=tmp_path, project="recurve-test-train")

    try:
        trainer("build", "train")
        trainer("run", "--rm", "-T", "train", "python", "-m", "scripts.train", *short)
        trainer("run", "--rm", "-T", "train", "python", "-m", "scripts.export", "runs/tiny")
        is_cpu = "import os, torch; print(torch.version.cuda, os.getuid())"
        assert trainer("run", "--rm", "-T", "train", "python", "-c", is_cpu) == f"None {owner[0]}\n"
    finally:
        trainer("--profile", "train", "down", "--volumes")
    assert {"manifest.json", "model.onnx", "golden.npz"} <= {path.name for path in (tmp_path / "model/tiny/1").iterdir()}
    written = [tmp_path / "runs", *(tmp_path / "runs").rglob("*"), *(tmp_path / "model").rglob("*")]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in written} == {owner}
