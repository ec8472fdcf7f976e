"""TLS on the request port, and a separate port for metrics, as clients and operators meet them."""

import asyncio
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, time
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from app.certificates import context_of, read
from scripts.evaluation.card import EvaluationError
from scripts.evaluation.connection import Connection
from tests.servers import ROOT, Server, serve
from tests.test_http import STEP, children, wait_for_end

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl on the PATH")

WORKERS = pytest.mark.parametrize("workers", ["1", "2"])
ONE = {"instances": [[STEP]]}
KEY = {"X-API-Key": "sensors-0123456789"}


def make_certificate(folder: Path, *more: str) -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1; returns the paths of the certificate and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subject = ("-subj", "/CN=recurve", "-addext", "subjectAltName=IP:127.0.0.1")
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    command = ["openssl", "req", "-x509", *kind, *subject, *(more or ("-nodes",))]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def flags(files: tuple[Path, Path]) -> tuple[str, ...]:
    return ("--tls-cert", str(files[0]), "--tls-key", str(files[1]))


def trusting(files: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files[0]))


def metrics_url(server: Server) -> str:
    (url,) = re.findall(r"port of their own, (http://\S+)\.", "".join(server.log))
    return str(url)


def address(url: str) -> tuple[str, int]:
    parsed = httpx.URL(url)
    assert parsed.port is not None
    return parsed.host, parsed.port


async def first_answer(url: str, trust: ssl.SSLContext) -> dict[str, Any]:
    """The first answer over a WebSocket. The library's other client reads in a thread, and Python's TLS may lose writes then."""
    async with connect(url, ssl=trust) as stream:
        await stream.send(json.dumps({"input": [STEP]}))
        answer: dict[str, Any] = json.loads(await stream.recv())
    return answer


# -------------------------------------------------------------------------------------------------------------------- TLS


def test_who_is_refused_while_he_sends_gets_the_answer(repository: Path, files: tuple[Path, Path]) -> None:
    """A client may send everything before it reads, over TLS too."""
    with serve(repository, "--workers", "1", *flags(files)) as server:
        plain = socket.create_connection(address(server.url), timeout=30)
        with trusting(files).wrap_socket(plain, server_hostname="127.0.0.1") as caller:
            caller.sendall(b"POST /nope HTTP/1.0\r\nContent-Length: 30000000\r\n\r\n")
            caller.sendall(bytes(30_000_000))
            found = b"".join(iter(lambda: caller.recv(65536), b""))
        assert found.startswith(b"HTTP/1.1 404 ")
        assert found.endswith(b"}")


@WORKERS
def test_requests_and_streams_are_served_over_tls_and_the_probe_sees_it(
    repository: Path, files: tuple[Path, Path], workers: str
) -> None:
    with serve(repository, "--workers", workers, *flags(files)) as server:
        assert server.url.startswith("https://")
        trust = trusting(files)
        with httpx.Client(base_url=server.url, verify=trust) as http:
            assert http.post("/predict", json=ONE).status_code == 200
            long = {"instances": [[STEP] * 5000] * 4}  # more than one record of TLS, both ways
            assert [len(each) for each in http.post("/predict", json=long).json()["predictions"]] == [5000] * 4
            ask = [sys.executable, "-m", "app.probe"]
            port = str(address(server.url)[1])
            environment = {**os.environ, "RECURVE_PORT": port, "RECURVE_TLS_CERT": str(files[0])}
            assert subprocess.run(ask, cwd=ROOT, env=environment, check=False).returncode == 0
            plain = subprocess.run(ask, cwd=ROOT, env={**environment, "RECURVE_TLS_CERT": ""}, stderr=subprocess.PIPE, check=False)
            assert plain.returncode == 1
            assert plain.stderr.startswith(f"Not ready, at http://127.0.0.1:{port}/health/ready: ".encode())
            with pytest.raises(EvaluationError, match=r"is not trusted .* Name it in SSL_CERT_FILE to trust it\."):
                Connection(server.url).json("GET", "/models")
            assert asyncio.run(first_answer(server.url.replace("https", "wss") + "/streams/ws", trust))["seq"] == 1
            for _ in range(2 if workers == "1" else 1):
                with pytest.raises(httpx.TransportError):
                    httpx.post(server.url.replace("https", "http") + "/predict", json=ONE)
            assert http.post("/predict", json=ONE).status_code == 200
            assert server.stop() == 0
    logged = "".join(server.log)
    assert "Traceback" not in logged
    assert 1 <= logged.count("A request came in plain HTTP, and this port speaks TLS") <= int(workers)  # once in each worker it hit


@WORKERS
def test_a_handshake_has_the_read_timeout_and_holds_up_nobody(repository: Path, files: tuple[Path, Path], workers: str) -> None:
    """Clients that connect and send nothing, or half a ClientHello, are cut off; others are served meanwhile."""
    trust = trusting(files)
    with serve(repository, "--workers", workers, "--read-timeout", "1.5", *flags(files)) as server:

        def served_before_any_is_cut_off() -> bool:
            with ExitStack() as stack:
                began = monotonic()
                silent = [stack.enter_context(socket.create_connection(address(server.url), timeout=20)) for _ in range(50)]
                for each in silent[::2]:
                    each.sendall(b"\x16\x03\x01\x02\x00\x01")
                for _ in range(4):
                    assert httpx.post(f"{server.url}/predict", json=ONE, verify=trust).status_code == 200
                served = monotonic()
                for each in silent:
                    while each.recv(4096):
                        pass
                assert monotonic() - began >= 1.5
                return served - began < 1.5

        assert any(served_before_any_is_cut_off() for _ in range(5))  # else the machine was stalled each time
        assert server.stop() == 0


@WORKERS
def test_handshakes_are_limited_like_connections(repository: Path, files: tuple[Path, Path], workers: str) -> None:
    """Each holds a file descriptor: a client that only begins handshakes must not use them all up."""
    limits = ("--workers", workers, "--max-connections", workers, "--read-timeout", "60")
    with serve(repository, *limits, *flags(files)) as server, ExitStack() as stack:
        crowd = [stack.enter_context(socket.create_connection(address(server.url), timeout=20)) for _ in range(400)]
        assert crowd[-1].recv(1) == b""
        crowd[0].close()
        assert server.stop() == 0


def test_a_refusal_reaches_its_caller_over_tls(repository: Path, files: tuple[Path, Path]) -> None:
    """A TLS transport cannot close one direction alone."""
    with serve(repository, "--workers", "1", *flags(files)) as server:
        with (
            socket.create_connection(address(server.url)) as plain,
            trusting(files).wrap_socket(plain, server_hostname="127.0.0.1") as caller,
        ):
            caller.sendall(b"nonsense\r\n\r\n")
            said = b""
            while part := caller.recv(4096):
                said += part
        assert said.startswith(b"HTTP/1.1 400")
        assert b"application/problem+json" in said
        assert server.stop() == 0
    assert "Traceback" not in "".join(server.log)


@WORKERS
def test_a_renewed_certificate_is_served_without_a_restart(
    repository: Path, files: tuple[Path, Path], tmp_path: Path, workers: str
) -> None:
    """Certificates are renewed every few weeks; open connections keep the one that they began with."""
    mine = [tmp_path / file.name for file in files]
    for old, new in zip(files, mine, strict=True):
        shutil.copy(old, new)
    with serve(repository, "--workers", workers, "--tls-cert", str(mine[0]), "--tls-key", str(mine[1])) as server:

        def answered(trust: ssl.SSLContext) -> bool:
            try:
                return httpx.post(f"{server.url}/predict", json=ONE, verify=trust).status_code == 200
            except httpx.ConnectError:
                return False

        def wait_until_answered(trust: ssl.SSLContext) -> None:
            deadline = monotonic() + 20
            while not answered(trust):
                assert monotonic() < deadline

        with httpx.Client(base_url=server.url, verify=trusting(files)) as before:
            assert before.post("/predict", json=ONE).status_code == 200
            (tmp_path / "other").mkdir()
            other = make_certificate(tmp_path / "other", "-nodes", "-days", "10")
            expires = re.compile(rf'recurve_certificate_expires_timestamp_seconds{{file="{re.escape(str(mine[0]))}"}} ([0-9.e+]+)')
            soon = float(expires.findall(before.get("/metrics").text)[0]) - time()
            assert 29 < soon / 86_400 <= 30
            shutil.copy(other[0], mine[0])  # the key is still the old certificate's
            while "served on" not in "".join(server.log):
                assert answered(trusting(files))
            assert "is not the key of the certificate in" in "".join(server.log)
            shutil.copy(other[1], mine[1])
            wait_until_answered(trusting(other))
            assert before.post("/predict", json=ONE).status_code == 200
            while answered(trusting(files)):  # each worker checks for itself
                pass
            server.wait_for(f"The certificate in {mine[0]} expires on ")
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("more", "days", "doubt"),
    [
        pytest.param((), 0, None, id="good-for-long"),
        pytest.param((), 87, r"cert.pem expires on \d{4}-", id="soon"),
        pytest.param((), 101, r"cert.pem expired on \d{4}-", id="expired"),
        pytest.param(
            ("-addext", "extendedKeyUsage=clientAuth"), 0, "No caller can use .*cert.pem: unsuitable .* purpose", id="clients"
        ),
    ],
)
def test_a_certificate_that_callers_refuse_now_or_soon_is_warned_of(
    tmp_path: Path, more: tuple[str, ...], days: int, doubt: str | None
) -> None:
    """The service itself only notices that no clients connect any more."""
    files = make_certificate(tmp_path, "-nodes", "-days", "100", *more)
    found = read(*files).doubts(time() + days * 86_400)
    assert (found is None) == (doubt is None)
    assert re.search(doubt or "", found or "")


def test_what_is_wrong_with_the_files_is_told(tmp_path: Path, files: tuple[Path, Path]) -> None:
    cert, key = files
    (other := tmp_path / "other").mkdir()
    _, foreign = make_certificate(other)
    (sealed := tmp_path / "sealed").mkdir()
    locked = make_certificate(sealed, "-passout", "pass:secret")
    (text := tmp_path / "text.pem").write_text("no certificate")
    for pair, said in {
        (cert, tmp_path / "none.pem"): "none.pem cannot be read: No such file",
        (cert, foreign): "is not the key of the certificate in",
        (text, key): "text.pem is not PEM: expected a file with '-----BEGIN",
        (key, cert): "are not a certificate and its key in PEM",
        locked: "needs a passphrase",
    }.items():
        with pytest.raises(ValueError, match=said):
            context_of(*pair)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    neither = "RECURVE_TLS_KEY: expected RECURVE_TLS_CERT and RECURVE_TLS_KEY, or neither of them; RECURVE_TLS_KEY is not set\n"
    for more, said in {(): neither, ("--tls-key", str(foreign)): "is not the key"}.items():
        command = [sys.executable, "-m", "app", "--tls-cert", str(cert), *more]
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 2
        assert said in ended.stderr


# ----------------------------------------------------------------------------------------------------------- Metrics' port


@WORKERS
def test_metrics_have_a_port_of_their_own_without_keys(repository: Path, files: tuple[Path, Path], workers: str) -> None:
    """Metrics need no key, so operators must be able to keep them from clients that ask for predictions."""
    more, keys = ("--metrics-port", "0", *flags(files)), "sensors:predict:sensors-0123456789"
    with serve(repository, "--workers", workers, *more, RECURVE_API_KEYS=keys) as server:
        watch, trust = metrics_url(server), trusting(files)
        for _ in range(2 * int(workers)):
            assert httpx.post(f"{server.url}/predict", json=ONE, headers=KEY, verify=trust).status_code == 200
            assert httpx.get(f"{server.url}/metrics", headers=KEY, verify=trust).status_code == 404
            assert httpx.get(f"{server.url}/health/ready", verify=trust).status_code == 200  # for load balancers
        with httpx.Client(base_url=watch) as http:
            count = f'recurve_inferences_total{{model="gyro-denoiser",version="1"}} {2 * int(workers)}.0'
            assert count in http.get("/metrics").text
            for path in ("/health", "/health/live", "/health/ready"):
                assert http.get(path).status_code == 200
            for path in ("/", "/docs", "/openapi.json", "/v2", "/streams", "/predict"):
                assert http.get(path).status_code == 404
            refused = http.post("/predict", json=ONE)
            assert (refused.status_code, refused.headers["content-type"]) == (404, "application/problem+json")
        assert "/metrics" not in httpx.get(f"{server.url}/openapi.json", verify=trust).json()["paths"]
        assert server.stop() == 0


def test_metrics_survive_the_death_of_a_worker_and_a_crowd(repository: Path) -> None:
    """When a worker dies, another answers; a crowd of clients on the request port does not block the metrics port."""
    with serve(repository, "--workers", "2", "--metrics-port", "0", "--max-connections", "2") as server, ExitStack() as stack:
        watch = metrics_url(server)
        victim = min(children(server.process.pid))
        os.kill(victim, 9)
        wait_for_end(victim)
        for _ in range(10):
            assert httpx.get(f"{watch}/metrics").status_code == 200
        server.wait_for("Loaded", times=3)
        for _ in range(200):
            stack.enter_context(socket.create_connection(address(server.url), timeout=20))
        for _ in range(10):
            assert "recurve_connections" in httpx.get(f"{watch}/metrics").text
            assert httpx.get(f"{watch}/health/live").status_code == 200
        assert server.stop() == 0


def test_a_port_that_is_taken_or_the_same_is_told(repository: Path) -> None:
    with serve(repository) as server:
        taken = str(address(server.url)[1])
        with pytest.raises(RuntimeError, match=rf"Cannot listen on 127.0.0.1 port {taken}: .* Choose another with --metrics-port"):
            serve(repository, "--metrics-port", taken).__enter__()
    with pytest.raises(RuntimeError, match="RECURVE_METRICS_PORT: expected another port than RECURVE_PORT=9000"):
        serve(repository, "--port", "9000", "--metrics-port", "9000").__enter__()


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith("RECURVE_"):
            monkeypatch.delenv(name)
