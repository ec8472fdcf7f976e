"""API keys: who gets access, who is an administrator, and that no secret leaks."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from timeit import repeat

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from app.keys import MOST, Keys
from app.watched import Watched
from tests.servers import Server, serve
from tests.test_http import children

READER, OPERATOR = "r" * 16, "operator-0123456789"
FRESH, OTHER = "f" * 16, "o" * 16
KEYS = f"sensor:predict:{READER},ops:admin:{OPERATOR}"
STEP = {"instances": [[[0.0] * 6]]}


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_a_key_is_known_by_its_secret_alone() -> None:
    keys = Keys.parse(f" sensor:predict:{READER} \nops:admin:a:colon-in-the-secret,")
    assert len(keys) == 2
    for secret, who in {READER: (0, "sensor", "predict", 0.0), "a:colon-in-the-secret": (1, "ops", "admin", 0.0)}.items():
        assert (key := keys.find(secret)) is not None
        assert (key.number, key.name, key.role, key.rate) == who
        assert repr(key.digest) not in repr(key)
    for wrong in ("", READER[:-1], READER + "r", "sensor", "é", "\udc80"):
        assert keys.find(wrong) is None


def test_a_key_is_found_as_fast_among_many() -> None:
    """Every request is checked: to compare its secret with all the others took longer than some predictions."""
    keys = Keys.parse("\n".join(f"{n}:predict:{n:016}" for n in range(MOST)))
    assert len(keys) == MOST == 65_536
    assert (last := keys.find(f"{MOST - 1:016}")) is not None
    assert last.number == MOST - 1
    many, few = (min(repeat(lambda keys=keys: keys.find("x" * 16), number=1000)) for keys in (keys, Keys.parse(KEYS)))
    assert many < 20 * few  # it would be ten thousand times as long


def test_a_key_may_have_a_rate_of_its_own() -> None:
    """A secret may contain any character, so the rate is written with the role."""
    keys = Keys.parse(f"a:predict:{READER},b:admin@50:{OPERATOR},c:predict@0:c:sixteen-letters@7,d:predict@0.5:{'d' * 16}", rate=7)
    assert [(key.name, key.role, key.rate) for key in keys] == [
        ("a", "predict", 7.0),
        ("b", "admin", 50.0),
        ("c", "predict", 0.0),
        ("d", "predict", 0.5),
    ]
    assert [key.number for key in keys] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(f":admin:{OPERATOR}", "no name of its own", id="no-name"),
        pytest.param(f"a:admin:{OPERATOR},a:predict:{READER}", "key 2 .*no name of its own", id="a-name-twice"),
        pytest.param(f"a:root:{OPERATOR}", "key 1 .* no role", id="unknown-role"),
        pytest.param(f"{OPERATOR}", "no role", id="secret-only"),
        pytest.param(f"a:predict@:{READER}", "key 1 .* no rate", id="empty-rate"),
        pytest.param(f"a:predict@fast:{READER}", "no rate", id="rate-in-words"),
        pytest.param(f"a:predict@-1:{READER}", "no rate", id="negative-rate"),
        pytest.param(f"a:predict@1000001:{READER}", "no rate", id="rate-without-limit"),
        pytest.param("a:admin:short-secret", "too weak", id="short"),
        pytest.param(" ,", "holds no key", id="none"),
        pytest.param(f"a:admin:{OPERATOR},b:predict:{OPERATOR}", "the secret of another", id="a-secret-twice"),
        pytest.param(
            "".join(f"{n}:admin:{n:016}," for n in range(MOST + 1)), f"{MOST + 1} keys: expected {MOST} at most", id="many"
        ),
    ],
)
def test_keys_that_cannot_be_meant_are_refused(text: str, message: str) -> None:
    """A service that started with only half of its keys would let in the wrong clients, or none."""
    with pytest.raises(ValueError, match=message) as refused:
        Keys.parse(text)
    assert not [secret for secret in (OPERATOR, "short-secret") if secret in str(refused.value)]


def test_with_keys_nothing_but_probes_and_documentation_answers_without_one(repository: Path) -> None:
    with serve(repository, RECURVE_API_KEYS=KEYS) as server, httpx.Client(base_url=server.url) as client:
        for path in ("/health", "/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json", "/v2/health/live"):
            assert client.get(path).status_code == 200, path
        refused = client.post("/predict", json=STEP)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert refused.json()["instance"] == refused.headers["x-request-id"]
        assert client.get("/streams", headers=bearer("x" * 16)).status_code == 401
        assert client.get("/v2/models/gyro-denoiser").status_code == 401
        assert client.post("/predict", json=STEP, headers=bearer(READER)).status_code == 200
        assert client.post("/predict", json=STEP, headers={"X-API-Key": OPERATOR}).status_code == 200
        load = "/v2/repository/models/gyro-denoiser/load"
        assert client.post(load, headers=bearer(READER)).status_code == 403
        assert client.post(load, headers=bearer(OPERATOR)).status_code == 200
        live = f"{server.url.replace('http', 'ws')}/streams/ws"
        with pytest.raises(InvalidStatus, match="401"), connect(live):
            pass
        with connect(live, additional_headers=bearer(READER)) as socket:
            socket.send(b"\0" * 24)
            assert len(socket.recv()) == 12
        assert not [line for line in server.log if READER in line or OPERATOR in line]


def test_the_documentation_says_what_needs_a_key_and_how_it_is_sent(repository: Path) -> None:
    """Otherwise the documentation page would have no field for a key and could only show a 401."""
    with serve(repository, RECURVE_API_KEYS=KEYS) as server, httpx.Client(base_url=server.url) as client:
        document = client.get("/openapi.json").json()
        assert {
            (each["type"], each.get("scheme"), each.get("name")) for each in document["components"]["securitySchemes"].values()
        } == {
            ("http", "bearer", None),
            ("apiKey", None, "X-API-Key"),
        }
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                status = client.request(method, path).status_code  # nothing exists at these paths
                assert ("security" in operation) == (status == 401), path
    with serve(repository) as server:
        told = httpx.get(f"{server.url}/openapi.json").text
        assert "securitySchemes" not in told
        assert '"security"' not in told


def test_a_file_without_keys_does_not_open_the_service(repository: Path, tmp_path: Path) -> None:
    """A secret that was not mounted in time must not let everyone in."""
    (tmp_path / "keys").write_text("\n")
    with (
        pytest.raises(RuntimeError, match="RECURVE_API_KEYS_FILE holds no key"),
        serve(repository, "--api-keys-file", str(tmp_path / "keys")),
    ):
        pass


def test_keys_in_a_file_are_exchanged_without_a_restart(repository: Path, tmp_path: Path) -> None:
    """A lost key must stop working at once, without a restart, and also on connections that are open."""
    file = tmp_path / "keys"

    def rewrite(text: str) -> None:
        (tmp_path / "next").write_text(text)
        (tmp_path / "next").rename(file)

    def answered(server: Server, secret: str) -> int:
        return httpx.post(f"{server.url}/predict", json=STEP, headers=bearer(secret)).status_code

    rewrite(f"lost:predict:{READER}, other:predict@1000:{OTHER}")
    with serve(repository, "--workers", "2", "--api-keys-file", str(file)) as server:
        address = server.url.replace("http", "ws") + "/streams/ws"
        with ExitStack() as stack:
            # one in each worker
            lost = [stack.enter_context(connect(address, additional_headers=bearer(READER))) for _ in range(2)]
            other = stack.enter_context(connect(address, additional_headers=bearer(OTHER)))
            for each in (*lost, other):
                each.send(bytes(24))
                assert len(each.recv()) == 12
            rewrite(f"fresh:predict:{FRESH}, other:predict:{OTHER}")
            for each in lost:
                said: str | bytes = b""
                while isinstance(said, bytes):
                    each.send(bytes(24))
                    said = each.recv()
                assert "The key is not known any more." in said
                with pytest.raises(ConnectionClosed) as closed:
                    each.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 4401
            for _ in range(6):
                assert [answered(server, secret) for secret in (FRESH, OTHER, READER)] == [200, 200, 401]
            server.wait_for("have changed, and are in use")  # the supervisor has seen it, too, and forks new workers
            rewrite(f"fresh:predict:{FRESH}, other:everything:{OTHER}")
            server.wait_for("The keys that were read before stay in use: key 2 of RECURVE_API_KEYS_FILE has no role")
            os.kill(min(children(server.process.pid)), signal.SIGKILL)
            server.wait_for("Loaded", times=3)  # its replacement starts while the file is wrong
            for _ in range(6):
                assert [answered(server, secret) for secret in (FRESH, OTHER, READER)] == [200, 200, 401]
            with suppress(ConnectionClosed):  # if it was the killed worker's connection
                other.send(bytes(24))
                assert len(other.recv()) == 12
        assert server.stop() == 0
    assert not [line for line in server.log if FRESH in line or OTHER in line]


def test_a_file_that_is_gone_while_it_is_read_changes_nothing(tmp_path: Path) -> None:
    """The file is checked by what must keep running: a supervisor, or the event loop of a worker."""
    (file := tmp_path / "keys").write_text("first")
    found = Watched([file], lambda: file.read_text(), changed="changed", kept="kept")
    file.unlink()
    for _ in range(3):
        found.look()
        assert found.found == "first"
    file.write_text("second")
    found.look()
    assert found.found == "second"


ELSEWHERE = {"Origin": "http://elsewhere.example", "Content-Type": "text/plain"}  # a form on another site's page can send these


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param(ELSEWHERE, 403, id="origin"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, 403, id="cross-site"),
        pytest.param({"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1"}, 403, id="same-site"),
        pytest.param({"Origin": "null"}, 403, id="opaque"),
        pytest.param({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind-a-proxy.example"}, 201, id="same-origin"),
        pytest.param({"Sec-Fetch-Site": "none"}, 201, id="typed-in"),
        pytest.param({"Origin": "https://A.example", "Host": "a.example:443"}, 201, id="default-port"),
        pytest.param({"Origin": "http://a.example:80", "Host": "a.example"}, 201, id="default-port-written"),
        pytest.param({"Origin": "https://a.example", "Host": "a.example:80"}, 403, id="other-port"),
        pytest.param({}, 201, id="no-browser"),
    ],
)
def test_without_keys_a_page_of_elsewhere_changes_nothing(open_service: httpx.Client, headers: dict[str, str], status: int) -> None:
    """A browser sends such a request for its user, whose machine may be the only one that can reach the service."""
    answer = open_service.post("/streams", headers=headers)
    assert (answer.status_code, "Host header" in answer.text) == (status, status == 403)
    infer = open_service.post("/v2/models/gyro-denoiser/infer", content=b"{}", headers=headers)
    assert infer.status_code == (403 if status == 403 else 400)
    assert open_service.get("/streams", headers=headers).status_code == 200


@pytest.fixture(scope="module")
def open_service(repository: Path) -> Iterator[httpx.Client]:
    with serve(repository, "--stream-store", "memory") as server, httpx.Client(base_url=server.url) as client:
        yield client


def test_with_keys_a_page_of_elsewhere_needs_one(repository: Path) -> None:
    """A page that its user has given the key may do whatever the key allows."""
    with serve(repository, RECURVE_API_KEYS=KEYS) as server, httpx.Client(base_url=server.url) as client:
        assert client.post("/streams", headers=ELSEWHERE).status_code == 401
        assert client.post("/streams", headers={**ELSEWHERE, **bearer(READER)}).status_code == 201


def test_without_keys_nobody_is_an_administrator(repository: Path) -> None:
    """Everything else is open, for users who try the service on their own machine."""
    with serve(repository) as server, httpx.Client(base_url=server.url) as client:
        refused = client.post("/v2/repository/models/gyro-denoiser/unload")
        assert (refused.status_code, "RECURVE_API_KEYS" in refused.json()["error"]) == (403, True)
        assert client.post("/predict", json=STEP).status_code == 200
