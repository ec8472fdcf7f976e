"""Streams over real HTTP and a real WebSocket: two workers, the embedded store, third-party clients."""

import json
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from app import manifest
from app.tensors import Array
from tests import artifacts
from tests.servers import Server, serve
from tests.test_http import problem
from tests.test_stores import small_disk

OCTETS = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = str(tmp_path_factory.mktemp("data"))
    flags = ("--workers", "2", "--data-dir", data, "--max-steps", "300", "--max-body-bytes", "200000", "--max-streams", "300")
    with serve(repository, *flags, RECURVE_STATE_KEY="a key of sixteen") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        yield http


@contextmanager
def websocket(server: Server, path: str, **headers: str) -> Iterator[ClientConnection]:
    with connect(server.url.replace("http", "ws") + path, additional_headers=headers) as connection:
        yield connection


def signal_of(length: int, seed: int = 0) -> Array:
    return (np.random.default_rng([seed, length]).standard_normal((length, 6)) * 50).round(3).astype(np.float32)


def whole(client: httpx.Client, steps: Array) -> Array:
    """The answer to the whole signal in one call."""
    answer = client.post("/predict", json={"instances": [steps.tolist()]}).raise_for_status()
    return np.array(answer.json()["predictions"][0], dtype=np.float32)


def begin(client: httpx.Client, **options: Any) -> str:
    answer = client.post("/streams", json=options)
    assert answer.status_code == 201, answer.text
    id: str = answer.json()["id"]
    return id


def said(data: str | bytes) -> Array:
    assert isinstance(data, bytes), data
    return np.frombuffer(data, "<f4").reshape(-1, 3)


def closed(connection: ClientConnection) -> tuple[int, str]:
    """The code and the reason with which the server closes, after its remaining messages."""
    try:
        while True:
            connection.recv(timeout=10)
    except ConnectionClosed as error:
        end = error.rcvd
    assert end is not None
    return end.code, end.reason


def test_a_stream_in_chunks_equals_the_whole(client: httpx.Client, spec: manifest.ModelSpec) -> None:
    """Each chunk may go to either worker, as JSON or as octets."""
    steps, id = signal_of(100), begin(client)
    pieces, seen = [], 0
    for seq, piece in enumerate(np.array_split(steps, [1, 2, 40, 47, 99])):
        seen += len(piece)
        with httpx.Client(base_url=client.base_url) as other:  # a new connection: it may reach the other worker
            if seq % 2:
                answer = other.post(f"/streams/{id}/predict?seq={seq}", content=piece.tobytes(), headers=OCTETS)
                assert answer.status_code == 200, answer.text
                assert (answer.headers["recurve-seq"], answer.headers["recurve-steps"]) == (str(seq + 1), str(seen))
                pieces.append(said(answer.content))
            else:
                answer = other.post(f"/streams/{id}/predict", json={"input": piece.tolist(), "seq": seq})
                body = answer.json()
                assert (body["seq"], body["steps"]) == (seq + 1, seen)
                pieces.append(np.array(body["predictions"]))
    np.testing.assert_allclose(np.concatenate(pieces), whole(client, steps), rtol=spec.tolerance.rtol, atol=spec.tolerance.atol)


def test_a_stream_is_shown_listed_forked_and_ended(client: httpx.Client) -> None:
    answer = client.post("/streams", json={"id": "wrist-7", "model": "gyro-denoiser", "version": "1", "ttl_seconds": 60})
    assert answer.status_code == 201
    assert answer.headers["location"] == "/streams/wrist-7"
    assert {name: answer.json()[name] for name in ("id", "model", "version", "seq", "steps")} == {
        "id": "wrist-7",
        "model": "gyro-denoiser",
        "version": "1",
        "seq": 0,
        "steps": 0,
    }
    steps = signal_of(20)
    client.post("/streams/wrist-7/predict", json={"input": steps[:10].tolist()}).raise_for_status()
    shown = client.get("/streams/wrist-7", params={"state": "true"}).json()
    assert (shown["seq"], shown["steps"], shown["ttl_seconds"]) == (1, 10, 60)
    assert (datetime.fromisoformat(shown["expires_at"]) - datetime.fromisoformat(shown["used_at"])).total_seconds() == 60

    fork = client.post("/streams/wrist-7/fork", json={"id": "wrist-8", "ttl_seconds": 30})
    assert (fork.status_code, fork.headers["location"], fork.json()["seq"]) == (201, "/streams/wrist-8", 0)
    assert fork.json()["ttl_seconds"] == 30
    token = client.post("/predict", json={"instances": [{"input": steps[10:].tolist(), "state": shown["state"]}]}).json()
    rest = [client.post(f"/streams/{id}/predict", json={"input": steps[10:].tolist()}).json() for id in ("wrist-7", "wrist-8")]
    np.testing.assert_allclose(rest[0]["predictions"], token["predictions"][0], rtol=1e-5, atol=1e-4)
    assert rest[0]["predictions"] == rest[1]["predictions"]

    begun = client.post("/streams", json={"state": shown["state"]}).json()["id"]
    same = client.post(f"/streams/{begun}/predict", json={"input": steps[10:].tolist()}).json()
    assert same["predictions"] == rest[0]["predictions"]

    listed: list[str] = []
    page = client.get("/streams", params={"limit": 2}).json()
    while listed.extend(page["ids"]) or page["next"]:
        page = client.get("/streams", params={"limit": 2, "cursor": page["next"]}).json()
    assert {"wrist-7", "wrist-8", begun} <= {*listed}
    assert page["count"] == len({*listed})
    assert (page["limit"], page["ttl_seconds"], page["store"]) == (300, 600, "embedded")

    for id in ("wrist-7", "wrist-8", begun):
        assert client.delete(f"/streams/{id}").status_code == 204
        assert "There is no stream" in problem(client.get(f"/streams/{id}"), 404)["detail"]


def test_a_sensor_that_starts_again_goes_on_with_its_stream(server: Server, client: httpx.Client) -> None:
    """It need not know whether the service still has its stream: it asks for the same each time."""
    asked, steps = {"id": "pump-1", "resume": True, "ttl_seconds": 30}, signal_of(20)
    first = client.post("/streams", json=asked)
    assert (first.status_code, first.headers["location"], first.json()["seq"]) == (201, "/streams/pump-1", 0)
    begun = client.post("/streams/pump-1/predict", json={"input": steps[:5].tolist()}).json()["predictions"]
    again = client.post("/streams", json={**asked, "model": "gyro-denoiser", "version": "1"})
    assert (again.status_code, again.headers["location"]) == (200, "/streams/pump-1")
    assert again.json() == client.get("/streams/pump-1").json()
    for other in ({"model": "gyro-denoiser", "version": "2"}, {"model": "another"}):
        refused = problem(client.post("/streams", json={**asked, **other}), 409)
        assert refused["detail"] == "There is a stream pump-1 already, and it is one of gyro-denoiser version 1."
    with websocket(server, "/streams/ws?id=pump-1&resume=true") as connection:
        assert connection.response is not None
        assert connection.response.headers["Recurve-Seq"] == "1"
        connection.send(steps[5:].tobytes())
        rest = said(connection.recv(timeout=10))
    np.testing.assert_allclose(np.concatenate([begun, rest]), whole(client, steps), rtol=1e-5, atol=1e-4)
    assert client.delete("/streams/pump-1").status_code == 204
    with websocket(server, "/streams/ws?id=pump-1&resume=true") as connection:
        assert connection.response is not None
        assert connection.response.headers["Recurve-Seq"] == "0"


def test_a_stream_that_has_expired_begins_anew_where_it_would_be_resumed(client: httpx.Client) -> None:
    id = begin(client, ttl_seconds=0.2)
    client.post(f"/streams/{id}/predict", json={"input": [[1] * 6]}).raise_for_status()
    while client.get(f"/streams/{id}").status_code == 200:
        pass
    anew = client.post("/streams", json={"id": id, "resume": True})
    assert (anew.status_code, anew.json()["seq"]) == (201, 0)


def test_of_those_who_resume_a_stream_at_once_one_begins_it(server: Server) -> None:
    def ask(round: int) -> int:
        return httpx.post(f"{server.url}/streams", json={"id": f"shared-{round}", "resume": True}).status_code

    for round in range(10):
        with ThreadPoolExecutor(8) as callers:
            assert sorted(callers.map(ask, [round] * 8)) == [200] * 7 + [201]


def test_a_chunk_that_comes_again_gets_its_answer_again(client: httpx.Client) -> None:
    """The state does not change: what follows is as if the chunk had come once."""
    id, steps = begin(client), signal_of(30)
    url = f"/streams/{id}/predict"
    first = client.post(url, json={"input": steps[:10].tolist(), "seq": 0}).json()
    assert client.post(url, json={"input": steps[:10].tolist(), "seq": 0}).json() == first
    again = client.post(f"{url}?seq=0", content=steps[:10].tobytes(), headers=OCTETS)
    np.testing.assert_array_equal(said(again.content), np.array(first["predictions"], np.float32))
    octets_in = client.post(f"{url}?seq=0", content=steps[:10].tobytes(), headers={"Content-Type": OCTETS["Content-Type"]})
    octets_out = client.post(url, json={"input": steps[:10].tolist(), "seq": 0}, headers={"Accept": OCTETS["Accept"]})
    assert octets_in.json() == octets_out.json() == first  # only a client that sends octets and asks for them gets them
    last = client.post(url, json={"input": steps[:10].tolist(), "seq": 0, "return_sequences": False}).json()
    assert last["predictions"] == first["predictions"][-1]
    after = client.post(url, json={"input": steps[10:].tolist(), "seq": 1}).json()
    np.testing.assert_allclose(after["predictions"], whole(client, steps)[10:], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        pytest.param("POST", "/streams/{id}/predict", {"input": [[1] * 6], "seq": 5}, 409, "0 is", id="gap"),
        pytest.param("POST", "/streams/{id}/predict", {"input": [[1] * 5]}, 422, "/input/0: expected 6 features", id="features"),
        pytest.param("POST", "/streams/{id}/predict", {"input": []}, 422, "empty sequence", id="empty"),
        pytest.param("POST", "/streams/{id}/predict", {"input": [1, 2, 3]}, 422, "put a single step into an array", id="flat"),
        pytest.param("POST", "/streams/{id}/predict", {"seq": 0}, 422, "the member input is missing", id="no-input"),
        pytest.param("POST", "/streams/{id}/predict", {"input": [[1] * 6], "seq": -1}, 422, "/seq", id="negative"),
        pytest.param("POST", "/streams/{id}/predict", {"input": [[1] * 6], "seq": True}, 422, "/seq", id="boolean"),
        pytest.param("POST", "/streams/{id}/predict", {"input": [[1] * 6], "sek": 1}, 422, "did you mean seq", id="unknown"),
        pytest.param(
            *("POST", "/streams/{id}/predict", {"input": [[1] * 6], "return_state": True}, 422),
            "/return_state: unknown member; did you mean return_sequences? Known are: input, seq, return_sequences",
            id="of-predict-only",
        ),
        pytest.param("POST", "/streams/{id}/predict", {"input": [[0] * 6] * 301}, 413, "at most 300", id="too-many-steps"),
        pytest.param("POST", "/streams/{id}/predict?seq=0", {"input": [[1] * 6]}, 422, "not the query", id="query"),
        pytest.param("POST", "/streams", {"model": "x"}, 404, "has gyro-denoiser", id="model"),
        pytest.param("POST", "/streams", {"version": "9"}, 404, "version '1' is", id="version"),
        pytest.param("POST", "/streams", {"id": "../etc"}, 422, "/id", id="id"),
        pytest.param("POST", "/streams", {"id": "ws"}, 422, "/id: 'ws' cannot be the id of a stream", id="id-of-the-websocket"),
        pytest.param("POST", "/streams/{id}/fork", {"id": "ws"}, 422, "/id: 'ws' cannot be", id="fork-of-that-id"),
        pytest.param("POST", "/streams", {"id": "{id}"}, 409, "already", id="taken"),
        pytest.param("POST", "/streams", {"state": "forged"}, 422, "/state: not a state", id="token"),
        pytest.param("POST", "/streams", {"ttl_seconds": 0}, 422, "/ttl_seconds", id="ttl"),
        pytest.param("POST", "/streams", {"tll_seconds": 9}, 422, "/tll_seconds", id="member"),
        pytest.param("POST", "/streams", [1], 422, "", id="array"),
        pytest.param("GET", "/streams?limit=0", None, 422, "/limit", id="page"),
        pytest.param("GET", "/streams/nobody", None, 404, "no stream 'nobody'", id="unknown-stream"),
        pytest.param("GET", "/streams/..%2f..%2fetc", None, 404, "", id="traversal"),
        pytest.param("POST", "/streams/nobody/predict", {"input": [[1] * 6]}, 404, "no stream 'nobody'", id="unknown-chunk"),
        pytest.param("POST", "/streams/nobody/fork", None, 404, "no stream 'nobody'", id="unknown-fork"),
        pytest.param("DELETE", "/streams/nobody", None, 404, "no stream 'nobody'", id="unknown-end"),
        pytest.param("PUT", "/streams/nobody", None, 405, "method not allowed", id="method"),
        pytest.param("GET", "/streams/nobody/predict", None, 405, "method not allowed", id="method-of-a-chunk"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(
    client: httpx.Client, method: str, path: str, body: Any, status: int, says: str
) -> None:
    id = begin(client)
    if body == {"id": "{id}"}:
        body = {"id": id}
    answer = client.request(method, path.replace("{id}", id), json=body)
    said = problem(answer, status)
    assert says in said["detail"]
    if status == 409 and "seq" in body:
        assert said["expected"] == 0
    assert client.get(f"/streams/{id}").json()["seq"] == 0
    client.delete(f"/streams/{id}")


@pytest.mark.parametrize(
    ("content", "headers", "status", "says"),
    [
        pytest.param(b"{", {"Content-Type": "application/json"}, 400, "not valid JSON", id="broken-json"),
        pytest.param(b"x", {"Content-Type": "text/plain"}, 415, "text/plain", id="media-type"),
        pytest.param(bytes(25), OCTETS, 400, "25 bytes, not a multiple of the 24", id="size"),
        pytest.param(b"", OCTETS, 422, "empty sequence", id="empty"),
        pytest.param(np.full(6, np.nan, "<f4").tobytes(), OCTETS, 422, "/0/0: ", id="nan"),
        pytest.param(bytes(200_001), OCTETS, 413, "200001 bytes", id="too-large"),
    ],
)
def test_a_body_that_is_not_a_chunk_is_refused(
    client: httpx.Client, content: bytes, headers: dict[str, str], status: int, says: str
) -> None:
    id = begin(client)
    assert says in problem(client.post(f"/streams/{id}/predict", content=content, headers=headers), status)["detail"]
    assert client.get(f"/streams/{id}").json()["seq"] == 0
    client.delete(f"/streams/{id}")


def test_what_a_query_holds_that_is_not_known_ends_no_stream(client: httpx.Client) -> None:
    id = begin(client)
    problem(client.delete(f"/streams/{id}?dry_run=true"), 422)
    assert problem(client.post("/streams?model=other"), 422)["errors"] == [
        {"pointer": "", "detail": "with an application/json body the options go into the body, not the query"}
    ]
    assert client.get(f"/streams/{id}?state=true").status_code == 200
    assert client.delete(f"/streams/{id}").status_code == 204


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("/streams", {"idd": "a"}, "/idd: unknown member; did you mean id? Known are: model, version, id, "),
        ("/streams", {"id": "a b"}, "/id: expected 1 to 128 letters, digits, dots, dashes and underscores, "),
        ("/streams", {"id": 3}, "/id: expected a string, got 3"),
        ("/streams", {"resume": True}, "/id: resume goes on with the stream of an id, and none is given"),
        ("/streams", {"resume": "perhaps", "id": "a"}, "/resume: expected true or false, got 'perhaps'"),
        ("/streams", {"ttl_seconds": "soon"}, "/ttl_seconds: expected a number, got 'soon'"),
        ("/streams", {"ttl_seconds": 0}, "/ttl_seconds: expected a number above 0, got 0"),
        ("/streams", {"ttl_seconds": 1e9}, "/ttl_seconds: expected a number up to 2592000, got 1000000000.0"),
        ("/streams", [], "The request: expected an object, got an array"),
        ("/streams?limit=abc", None, "/limit: expected a whole number, got 'abc'"),
        ("/streams?limit=0", None, "/limit: expected a number from 1 up, got '0'"),
        (f"/streams?cursor={'a' * 600}", None, f"/cursor: expected 512 characters at most, got '{'a' * 64}'"),
        ("/streams?bogus=1", None, "/bogus: unknown parameter; those of each route are listed at /docs"),
        ("/streams/any?stat=true", None, "/stat: unknown parameter; "),
        ("/models?a", None, "/a: unknown parameter; "),
        ("/models/gyro-denoiser/example?versoin=2", None, "/versoin: unknown parameter; "),
        ("/streams?model=other", {}, "The request: with an application/json body the options go into the body, not the query"),
        ("/streams/any/fork?id=other", {}, "The request: with an application/json body the options go into the body"),
        ("/streams/any?state=perhaps", None, "/state: expected true or false, got 'perhaps'"),
    ],
)
def test_what_pydantic_refuses_is_told_in_words_like_all_else(client: httpx.Client, path: str, body: Any, detail: str) -> None:
    """Pydantic's own messages differ in style and do not say what to do."""
    answer = client.get(path) if body is None else client.post(path, json=body)
    assert problem(answer, 422)["detail"].startswith(detail)


@pytest.mark.parametrize("kind", ["application/octet-stream", "text/plain", ""])
def test_what_begins_a_stream_is_json_and_nothing_else_is_offered(client: httpx.Client, kind: str) -> None:
    for path in ("/streams", "/streams/any/fork"):
        answer = client.post(path, content=b"{}", headers={"Content-Type": kind})
        expected = f"The body must be application/json, got {kind or 'no Content-Type'}: send 'Content-Type: application/json'."
        assert problem(answer, 415)["detail"] == expected
    assert client.post("/streams", content=b"{}", headers={"Content-Type": "Application/JSON; charset=utf-8"}).status_code == 201


def test_null_is_what_some_clients_send_for_no_body(client: httpx.Client) -> None:
    """Clients generated for Go send it, for example; elsewhere, too, null means the same as absent."""
    null = {"content": b"null", "headers": {"Content-Type": "application/json"}}
    begun = client.post("/streams", **null)
    assert begun.status_code == 201
    assert client.post(f"{begun.headers['Location']}/fork", **null).status_code == 201
    assert client.post("/v2/repository/index", **null).json() == client.post("/v2/repository/index").json()


def test_a_stream_that_is_not_used_expires_and_says_so(client: httpx.Client) -> None:
    id = begin(client, ttl_seconds=0.05)
    until = monotonic() + 30
    while (answer := client.get(f"/streams/{id}")).status_code == 200 and monotonic() < until:
        pass
    assert "idle for more than 0.05 s" in problem(answer, 410)["detail"]
    problem(client.post(f"/streams/{id}/predict", json={"input": [[1] * 6]}), 410)
    assert client.post("/streams", json={"id": id}).status_code == 201  # its id is free again


def test_chunks_at_once_are_each_done_once(client: httpx.Client) -> None:
    """Two workers get chunks without numbers: none is lost, none is done twice."""
    id = begin(client)

    def send(_: int) -> int:
        with httpx.Client(base_url=client.base_url) as other:
            return int(other.post(f"/streams/{id}/predict", json={"input": [[1] * 6] * 3}).raise_for_status().json()["seq"])

    with ThreadPoolExecutor(16) as threads:
        assert sorted(threads.map(send, range(48))) == list(range(1, 49))
    assert client.get(f"/streams/{id}").json()["steps"] == 144


def test_health_and_metrics_know_the_streams(client: httpx.Client) -> None:
    begin(client)
    assert client.get("/health").json()["streams"]["store"] == "embedded"
    metrics = client.get("/metrics").text
    assert re.search(r"^recurve_streams_opened_total [1-9]", metrics, re.MULTILINE)
    assert re.search(r'^recurve_stream_chunks_total\{outcome="done"\} [1-9]', metrics, re.MULTILINE)
    assert 'route="/streams/{id}/predict"' in metrics


def test_a_websocket_equals_the_whole(server: Server, client: httpx.Client, spec: manifest.ModelSpec) -> None:
    """Messages are sent ahead of the answers, in binary and in JSON by turns; each is answered in its own format, in order."""
    steps = signal_of(200, seed=3)
    pieces = np.array_split(steps, 25)
    with websocket(server, "/streams/ws") as connection:
        assert connection.response is not None
        id = connection.response.headers["recurve-stream"]
        assert connection.response.headers["location"] == f"/streams/{id}"
        for seq, piece in enumerate(pieces):
            connection.send(json.dumps({"input": piece.tolist(), "seq": seq}) if seq % 3 == 0 else piece.tobytes())
        got = []
        for seq in range(len(pieces)):
            data = connection.recv(timeout=10)
            if seq % 3 == 0:
                assert isinstance(data, str)
                answer = json.loads(data)
                assert (answer["id"], answer["seq"]) == (id, seq + 1)
                got.append(np.array(answer["predictions"]))
            else:
                got.append(said(data))
    np.testing.assert_allclose(np.concatenate(got), whole(client, steps), rtol=spec.tolerance.rtol, atol=spec.tolerance.atol)
    assert client.get(f"/streams/{id}").json()["seq"] == len(pieces)


def test_a_lost_connection_is_resumed_by_the_number_of_the_first_chunk_that_was_not_answered(
    server: Server, client: httpx.Client
) -> None:
    """The client sends all unanswered chunks again: those that were done get their stored answers, the others are done."""
    id, pieces = begin(client), np.array_split(signal_of(60, seed=4), 30)
    with websocket(server, f"/streams/{id}/ws?seq=0") as connection:
        for piece in pieces[:20]:
            connection.send(piece.tobytes())
        got = [said(connection.recv(timeout=10)) for _ in range(7)]  # the client never sees the other answers
        connection.socket.close()
    with websocket(server, f"/streams/{id}/ws?seq={len(got)}") as connection:
        for piece in pieces[len(got) :]:
            connection.send(piece.tobytes())
        got += [said(connection.recv(timeout=10)) for _ in pieces[len(got) :]]
    np.testing.assert_allclose(np.concatenate(got), whole(client, signal_of(60, seed=4)), rtol=1e-5, atol=1e-4)
    assert client.get(f"/streams/{id}").json()["steps"] == 60


def test_a_message_without_a_number_is_done_though_one_before_it_had_one(server: Server, client: httpx.Client) -> None:
    """Numbered by the one before it, it would get the answer to the same steps of another client, and never be done."""
    id, steps = begin(client), signal_of(1, seed=5)
    without = json.dumps({"input": steps.tolist()})
    with websocket(server, f"/streams/{id}/ws") as connection:
        connection.send(json.dumps({"input": steps.tolist(), "seq": 0}))
        assert json.loads(connection.recv(timeout=10))["seq"] == 1
        client.post(f"/streams/{id}/predict", json={"input": steps.tolist()}).raise_for_status()
        connection.send(without)
        assert json.loads(connection.recv(timeout=10))["seq"] == 3
        client.post(f"/streams/{id}/predict", json={"input": steps.tolist()}).raise_for_status()
        connection.send(json.dumps({"input": steps.tolist(), "seq": 4}))  # three at once: the first with a number
        connection.send(without)
        connection.send(steps.tobytes())
        assert [json.loads(connection.recv(timeout=10))["seq"] for _ in range(2)] == [5, 6]
        assert len(said(connection.recv(timeout=10))) == 1
    assert client.get(f"/streams/{id}").json()["seq"] == 7


def test_a_websocket_that_counts_goes_on_from_the_number_that_a_message_has(server: Server, client: httpx.Client) -> None:
    """So a client may send all again from some chunk on and say only where: what was done is not done again."""
    id, pieces = begin(client), np.array_split(signal_of(5, seed=6), 5)
    numbered = json.dumps({"input": pieces[1].tolist(), "seq": 1})
    with websocket(server, f"/streams/{id}/ws?seq=0") as connection:
        for message in (pieces[0].tobytes(), pieces[1].tobytes(), pieces[2].tobytes(), numbered, pieces[2].tobytes()):
            connection.send(message)
        answers = [connection.recv(timeout=10) for _ in range(5)]
        assert answers[4] == answers[2]
        connection.send(pieces[3].tobytes())
        assert len(said(connection.recv(timeout=10))) == 1
    assert client.get(f"/streams/{id}").json()["seq"] == 4


def test_a_websocket_counts_on_when_its_stream_is_begun_anew_with_another_version(tmp_path: Path) -> None:
    """A chunk that the client then sends again is not done again, though the WebSocket has read it for the version before."""
    for seed in (0, 1):
        artifacts.build(tmp_path, seed=seed)
    chunks = [np.full((2, 6), number, "<f4").tobytes() for number in range(3)]
    with serve(tmp_path, "--workers", "1", "--model-versions", "all") as server, httpx.Client(base_url=server.url) as client:
        client.post("/streams", json={"id": "s", "version": "2"}).raise_for_status()
        with websocket(server, "/streams/s/ws?seq=0") as connection:
            connection.send(chunks[0])
            assert connection.recv() != b""
            client.delete("/streams/s").raise_for_status()
            client.post("/streams", json={"id": "s", "version": "1"}).raise_for_status()
            for seq in (0, 1):
                answer = client.post(f"/streams/s/predict?seq={seq}", content=chunks[seq], headers=OCTETS).raise_for_status()
            connection.send(chunks[1])
            assert connection.recv() == answer.content
            connection.send(chunks[2])
            assert connection.recv() != answer.content
        assert client.get("/streams/s").json()["seq"] == 3


def test_the_last_step_only_over_a_websocket(server: Server, client: httpx.Client) -> None:
    steps = signal_of(20)
    with websocket(server, "/streams/ws?return_sequences=false&id=last-only&ttl_seconds=30&model=gyro-denoiser") as connection:
        connection.send(steps.tobytes())
        np.testing.assert_allclose(said(connection.recv(timeout=10)), whole(client, steps)[-1:], rtol=1e-5, atol=1e-4)
        connection.send(json.dumps({"input": steps.tolist()}))
        assert np.array(json.loads(connection.recv(timeout=10))["predictions"]).shape == (3,)
    assert client.get("/streams/last-only").json()["ttl_seconds"] == 30


@pytest.mark.parametrize(
    ("path", "message", "code", "reason"),
    [
        pytest.param("/streams/nobody/ws", None, 4404, "There is no stream 'nobody'; POST /streams begins one.", id="unknown"),
        pytest.param("/streams/{id}/ws?seq=x", None, 4422, "/seq: ", id="query"),
        pytest.param("/streams/ws?id={id}", None, 4409, "There is a stream", id="taken"),
        pytest.param("/streams/ws?id=ws", None, 4422, "/id: 'ws' cannot be the id", id="id"),
        pytest.param("/streams/{id}/ws?seq=3", bytes(24), 4409, "Chunk 3 is out of order: chunk 0 is next.", id="gap"),
        pytest.param("/streams/{id}/ws", bytes(25), 4400, "The body has 25 bytes", id="size"),
        pytest.param("/streams/{id}/ws", np.full(6, np.inf, "<f4").tobytes(), 4422, "/0/0: ", id="infinity"),
        pytest.param("/streams/{id}/ws", "{", 4400, "The body is not valid JSON", id="json"),
        pytest.param("/streams/{id}/ws", bytes(24 * 301), 1009, "the sequence has 301 time steps", id="too-many-steps"),
        pytest.param("/streams/{id}/ws", bytes(200_001), 1009, "", id="too-large"),
    ],
)
def test_a_websocket_closes_with_the_reason(
    server: Server, client: httpx.Client, path: str, message: str | bytes | None, code: int, reason: str
) -> None:
    """Nothing of the refused chunk was done."""
    id = begin(client)
    with websocket(server, path.replace("{id}", id)) as connection:
        if message is not None:
            connection.send(message)
        found, why = closed(connection)
    assert found == code
    assert why.startswith(reason)
    assert client.get(f"/streams/{id}").json()["seq"] == 0


def test_the_whole_problem_is_told_before_a_websocket_closes(server: Server, client: httpx.Client) -> None:
    """A close frame has room for only 123 bytes."""
    with websocket(server, f"/streams/{begin(client)}/ws") as connection:
        connection.send(json.dumps({"input": [[1] * 6, [1] * 5, [1] * 4]}))
        told = json.loads(connection.recv(timeout=10))
        assert [each["pointer"] for each in told["errors"]] == ["/input/1", "/input/2"]
        assert told["status"] == 422


@pytest.mark.parametrize(
    ("path", "origin", "status"),
    [
        pytest.param("/nothing/here", None, 404, id="path"),
        pytest.param("/streams/ws", "http://elsewhere.example", 403, id="origin"),
        pytest.param("/streams/ws", "http://[", 403, id="no address"),
    ],
)
def test_a_websocket_that_cannot_be_is_refused_at_the_handshake(server: Server, path: str, origin: str | None, status: int) -> None:
    """Browsers let a page of another origin open a WebSocket, since CORS does not apply to it."""
    headers = {"Origin": origin} if origin else {}
    with pytest.raises(InvalidStatus) as refused, websocket(server, path, **headers):
        pass
    assert refused.value.response.status_code == status
    assert refused.value.response.headers["content-type"] == "application/problem+json"
    told = json.loads(refused.value.response.body or b"")
    assert told["instance"] == refused.value.response.headers["x-request-id"]
    with websocket(server, "/streams/ws", Origin=server.url):
        pass  # the service's own page is allowed


def test_messages_count_as_requests_do(repository: Path) -> None:
    """Monitoring must see slow and failed requests, whether over HTTP or a WebSocket."""
    with serve(repository, "--workers", "1") as server, httpx.Client(base_url=server.url) as client:
        with websocket(server, "/streams/ws") as connection:
            for _ in range(3):
                connection.send(signal_of(5).tobytes())
                connection.recv(timeout=10)
            connection.send("no JSON")
            connection.recv(timeout=10)
        with websocket(server, "/streams/nobody/ws") as connection:
            connection.recv(timeout=10)
        found = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if "_request_seconds_count" in line)
    by_route = 'recurve_request_seconds_count{route="/streams/{id}/ws",status='
    assert {name: int(float(count)) for name, count in found.items()} == {
        by_route + '"200"}': 3,
        by_route + '"400"}': 1,
        by_route + '"404"}': 1,
        'recurve_model_request_seconds_count{model="gyro-denoiser",outcome="success",version="1"}': 3,
    }


def test_streams_that_find_no_room_are_counted(repository: Path) -> None:
    """The alert is built on this count."""
    flags = ("--workers", "1", "--stream-store", "memory", "--max-streams", "1")
    with serve(repository, *flags) as server, httpx.Client(base_url=server.url) as client:
        begin(client, id="kept")
        for _ in range(2):
            assert problem(client.post("/streams"), 503)["type"].endswith("too-many-streams")
        assert client.post("/streams", json={"id": "kept", "resume": True}).status_code == 200
        counted = [line for line in client.get("/metrics").text.splitlines() if line.startswith("recurve_refused_total")]
    assert counted == ['recurve_refused_total{reason="too-many-streams"} 2.0']


def test_no_cache_keeps_what_changes(client: httpx.Client) -> None:
    """A cache would show an old position of a stream, and show clients without a key what others were told."""
    id = begin(client)
    for path in (f"/streams/{id}", f"/streams/{id}?state=true", "/streams", "/models", "/health", "/metrics", "/nothing", "/v2"):
        assert client.get(path).headers["cache-control"] == "no-store", path
    assert "immutable" in client.get("/" + re.findall(r'"(assets/[^"]+)"', client.get("/").text)[0]).headers["cache-control"]


@pytest.mark.parametrize("path", ["/streams/ws", "/streams/any/ws"])
def test_a_websocket_that_is_asked_for_in_another_way_says_what_it_is(client: httpx.Client, path: str) -> None:
    """This happens behind a proxy that does not pass on the upgrade; the answer must not speak of a missing stream `ws`."""
    answer = client.get(path)
    assert "have a proxy in between pass on the headers Upgrade and Connection" in problem(answer, 426)["detail"]
    assert (answer.headers["upgrade"], answer.headers["connection"]) == ("websocket", "upgrade")  # RFC 9110, section 15.5.22
    assert client.get(path).status_code == 426  # on the same connection


def test_streams_go_on_after_the_server_was_killed(repository: Path, tmp_path: Path) -> None:
    """The default store survives a crash of the service and its update."""
    flags = ("--data-dir", str(tmp_path), "--workers", "1")
    steps = signal_of(40, seed=5)
    with serve(repository, *flags) as first, httpx.Client(base_url=first.url) as client:
        id = begin(client)
        before = client.post(f"/streams/{id}/predict", json={"input": steps[:25].tolist(), "seq": 0}).json()
        expected = whole(client, steps)
        first.stop(signal.SIGKILL)
    with serve(repository, *flags) as second, httpx.Client(base_url=second.url) as client:
        assert client.post(f"/streams/{id}/predict", json={"input": steps[:25].tolist(), "seq": 0}).json() == before
        after = client.post(f"/streams/{id}/predict", json={"input": steps[25:].tolist(), "seq": 1}).json()
    np.testing.assert_allclose(after["predictions"], expected[25:], rtol=1e-5, atol=1e-4)


def test_a_disk_that_is_full_at_the_first_start_is_replaced_by_memory_and_the_log_says_so(repository: Path, tmp_path: Path) -> None:
    """Streams that are already stored stay in use: a service without them would be worse."""
    data = tmp_path / "disk" / "data"
    with small_disk(tmp_path / "disk") as relief:
        filling = tmp_path / "disk" / "filling"
        for begun in (False, True):
            with suppress(OSError), filling.open("wb") as file:
                file.write(bytes(2**22))
            with serve(repository, "--data-dir", str(data)) as server, httpx.Client(base_url=server.url) as client:
                in_memory = "cannot be written (No space left on device): streams are kept in memory" in "".join(server.log)
                assert in_memory == (not begun)
                assert client.get("/streams/kept").status_code == (200 if begun else 404)
                if not begun:
                    begin(client)
            if not begun:
                filling.unlink()
                relief()
                with serve(repository, "--data-dir", str(data)) as server, httpx.Client(base_url=server.url) as client:
                    assert client.post("/streams", json={"id": "kept"}).status_code == 201


def test_a_data_folder_that_cannot_be_written_is_replaced_by_memory_and_the_log_says_so(repository: Path, tmp_path: Path) -> None:
    """Memory is better than no service, but nobody must find out by losing a stream."""
    taken = tmp_path / "taken"
    taken.write_text("a file, not a folder")
    with serve(repository, "--data-dir", str(taken)) as server, httpx.Client(base_url=server.url) as client:
        assert "streams are kept in memory" in "".join(server.log)
        assert client.get("/health").json()["streams"]["store"] == "memory"
        id = begin(client)
        assert client.post(f"/streams/{id}/predict", json={"input": [[1] * 6]}).status_code == 200
