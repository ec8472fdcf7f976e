"""Chunks of many streams in one request: each is done or refused by itself, as if it had come alone."""

import asyncio
import gzip
import json
import random
import re
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.requests import ClientDisconnect

from app import manifest
from app.api import many_chunks
from app.api.bodies import LARGE, Bodies, ReceivedBody
from app.api.chunks import ChunkDecoder
from app.api.many_chunks import MOST_AT_ONCE, ManyChunks
from app.codecs import entries
from app.codecs.json import Decoder
from app.codecs.request import ENTRY_MEMBERS, Limits
from app.errors import InvalidRequest, MalformedBody, RecurveError, StreamConflict, TooLarge
from app.http.ahead import Room
from app.http.extensions import ON_DISCONNECT
from app.streaming import streams
from app.streaming.streams import Chunk, Decode, StreamLimits
from app.streaming.tokens import Tokens
from app.tensors import Array
from tests import artifacts
from tests.servers import Server, serve
from tests.test_http import problem
from tests.test_stream_http import begin, signal_of, whole

JSON = {"Content-Type": "application/json"}
STEP = [12.52, -8.31, 3.08, 0.02, 0.01, 9.81]


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = str(tmp_path_factory.mktemp("data"))
    flags = ("--workers", "2", "--data-dir", data, "--max-steps", "5000", "--max-instances", "400", "--max-body-bytes", "2000000")
    with serve(repository, *flags) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        yield http


def ask(client: httpx.Client, chunks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results of these chunks, sent over a new connection: it may reach either worker."""
    with httpx.Client(base_url=client.base_url, timeout=30) as other:
        answer = other.post("/streams/predict", json={"chunks": chunks})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    assert [result["id"] for result in results] == [chunk["id"] for chunk in chunks]
    return results


def status_of(result: dict[str, Any]) -> int:
    return int(result["error"]["status"]) if "error" in result else 200


# The members of a chunk as JSON, without the braces; they are sent alone, and among others.
CASES = {
    "good": f'"input": [{STEP}], "seq": 0',
    "without a number": f'"input": [{STEP}, {STEP}]',
    "last step only": f'"input": [{STEP}, {STEP}], "return_sequences": false',
    "nulls": f'"input": [{STEP}], "seq": null, "return_sequences": null',
    "input last": f'"return_sequences": true, "seq": 0, "input": [{STEP}]',
    "strange numbers": '"input": [[-0, -0.0, 1e-320, 1E+2, 123456789012345678901234567890, 0.1]]',
    "gap": f'"input": [{STEP}], "seq": 3',
    "features": '"input": [[1, 2]]',
    "flattened": '"input": [[[1, 2, 3], [4, 5, 6]]]',
    "flat": '"input": [1, 2, 3, 4, 5, 6]',
    "empty": '"input": []',
    "no input": '"seq": 0',
    "null for an input": '"input": null',
    "a string for a number": '"input": [[1, 2, 3, 4, 5, "[6"]]',
    "brackets in a string": f'"input": [{STEP}], "seq": "]}}[{{, \\"id\\": \\"]"',
    "a step that is an object": '"input": [{"id": [1]}]',
    "not a number": '"input": [[1, 2, 3, 4, 5, NaN]]',
    "infinite": '"input": [[1, 2, 3, 4, 5, Infinity]]',
    "beyond float32": '"input": [[1, 2, 3, 4, 5, 1e39]]',
    "beyond float64": '"input": [[1, 2, 3, 4, 5, 1e999]]',
    "not finite in the end": '"input": [[3.4e38, 3.4e38, 3.4e38, 3.4e38, 3.4e38, 3.4e38]]',
    "a member twice": f'"input": [{STEP}], "input": [{STEP}]',
    "a member twice, once escaped": f'"input": [{STEP}], "\\u0069nput": [{STEP}]',
    "unknown member": f'"input": [{STEP}], "sek": 0',
    "half of a pair": f'"input": [{STEP}], "\\ud800": 0',
    "a number that is no integer": f'"input": [{STEP}], "seq": 0.0',
    "a negative number": f'"input": [{STEP}], "seq": -1',
    "a boolean for a number": f'"input": [{STEP}], "seq": true',
    "a number for a flag": f'"input": [{STEP}], "return_sequences": 0',
    "too many steps": f'"input": [{", ".join([str(STEP)] * 5001)}]',
    "too many steps, and wrong": f'"input": [{", ".join(["[1]"] * 5001)}]',
}
PARSED = [name for name, members in CASES.items() if not re.search(r"NaN|Infinity|e999|\d{30}|ud800", members)]


@pytest.mark.parametrize("names", [[*CASES], PARSED], ids=["all", "those that a strict parser reads"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_each_chunk_is_answered_as_if_it_had_come_alone(
    client: httpx.Client, spec: manifest.ModelSpec, names: list[str], packed: bool
) -> None:
    """The wrong ones too, with the same words; and what is wrong with one changes nothing for its neighbours."""
    cases = [CASES[name] for name in names]
    alone, together = ([begin(client) for _ in cases] for _ in range(2))
    singles = [
        client.post(f"/streams/{id}/predict", content=f"{{{members}}}", headers=JSON)
        for id, members in zip(alone, cases, strict=True)
    ]
    body = ", ".join(f'{{{members}, "id": "{id}"}}' for id, members in zip(together, cases, strict=True))
    content = f'\n{{"chunks" : [{body}] }}\n'.encode()
    headers = JSON | ({"Content-Encoding": "gzip"} if packed else {})
    answer = client.post("/streams/predict", content=gzip.compress(content) if packed else content, headers=headers)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [result["id"] for result in results] == together
    for name, single, result in zip(names, singles, results, strict=True):
        expected, said = single.json(), {**result}
        said.pop("id")
        if single.status_code == 200:
            close = {"rtol": spec.tolerance.rtol, "atol": spec.tolerance.atol}
            np.testing.assert_allclose(said.pop("predictions"), expected.pop("predictions"), **close, err_msg=name)
        else:
            said = json.loads(json.dumps(said["error"]).replace("nown are: id, ", "nown are: "))
            assert said.pop("instance") == answer.headers["x-request-id"]
            expected.pop("instance")
        assert said == expected, name
    assert {200, 409, 413, 422} <= {single.status_code for single in singles}
    for one, other in zip(alone, together, strict=True):
        first, second = (client.get(f"/streams/{id}").json() for id in (one, other))
        assert (first["seq"], first["steps"]) == (second["seq"], second["steps"])


def test_unknown_and_expired_streams_harm_no_neighbour(client: httpx.Client) -> None:
    good, brief = begin(client), begin(client, ttl_seconds=0.05)
    sleep(0.1)
    ids = ["nobody", good, brief, "no id", "", "ä" * 200, "../etc", good]
    results = ask(client, [{"id": id, "input": [STEP]} for id in ids])
    assert [status_of(result) for result in results] == [404, 200, 410, 404, 404, 404, 404, 200]
    assert [results[1]["seq"], results[7]["seq"]] == [1, 2]
    assert "no stream 'nobody'; POST /streams begins one" in results[0]["error"]["detail"]


@pytest.mark.parametrize("numbered", [True, False], ids=["numbered", "not numbered"])
def test_chunks_of_one_stream_run_in_their_order(client: httpx.Client, spec: manifest.ModelSpec, numbered: bool) -> None:
    """Also more than run together, and more than may wait for their turn on a stream."""
    count = 300
    assert count > MOST_AT_ONCE
    steps, ids = signal_of(2 * count), [begin(client) for _ in range(2)]
    pieces = np.split(steps, count)
    chunks = [{"id": id, "input": piece.tolist()} for piece in pieces for id in ids][: 2 * count]
    if numbered:
        chunks = [chunk | {"seq": index // 2} for index, chunk in enumerate(chunks)]
    results = [result for half in (chunks[:count], chunks[count:]) for result in ask(client, half)]
    assert [(result["seq"], result["steps"]) for result in results] == [
        (index // 2 + 1, 2 * (index // 2 + 1)) for index in range(2 * count)
    ]
    for offset in range(2):
        found = np.concatenate([result["predictions"] for result in results[offset::2]])
        np.testing.assert_allclose(found, whole(client, steps), rtol=spec.tolerance.rtol, atol=spec.tolerance.atol)


def test_requests_at_once_keep_their_own_order_and_do_each_chunk_once(client: httpx.Client) -> None:
    """Chunks without numbers, for the same streams through both workers."""
    ids = [begin(client) for _ in range(3)]

    def send(number: int) -> list[tuple[str, int, int]]:
        order = random.Random(number).choices(ids, k=20)
        results = ask(client, [{"id": id, "input": [STEP] * 2} for id in order])
        return [(result["id"], result["seq"], result["steps"]) for result in results]

    with ThreadPoolExecutor(12) as threads:
        answered = list(threads.map(send, range(36)))
    for id in ids:
        for request in answered:
            own = [seq for name, seq, _ in request if name == id]
            assert own == sorted(own)
        everyone = sorted((seq, steps) for request in answered for name, seq, steps in request if name == id)
        assert everyone == [(seq, 2 * seq) for seq in range(1, len(everyone) + 1)]
        assert client.get(f"/streams/{id}").json()["seq"] == len(everyone)


def test_what_comes_again_is_not_done_again(client: httpx.Client) -> None:
    """A gateway that lost its answer sends the same request, perhaps with more in it."""
    ids = [begin(client) for _ in range(5)]
    chunks = [{"id": id, "input": signal_of(3, seed=seq).tolist(), "seq": seq} for seq in range(4) for id in ids]
    first = ask(client, chunks[:12])
    again = ask(client, chunks)
    assert again[:12] == first
    assert ask(client, chunks) == again
    assert ask(client, [chunks[0] | {"input": [STEP]}])[0]["error"]["expected"] == 4
    for id in ids:
        assert client.get(f"/streams/{id}").json()["seq"] == 4


def test_a_wrong_chunk_among_those_of_its_stream_is_passed_over(client: httpx.Client) -> None:
    """What follows it in the stream is judged by itself: without a number it is next, with one it may be early."""
    id, numbered = begin(client), begin(client)
    bare = [{"input": [STEP]}, {"input": [[1]]}, {"input": [STEP]}, {"input": [STEP], "seq": 9}, {"input": [STEP]}]
    assert [status_of(result) for result in ask(client, [{"id": id, **chunk} for chunk in bare])] == [200, 422, 200, 409, 200]
    with_seq = [{"input": [STEP] if seq != 1 else [[1]], "seq": seq} for seq in range(4)]
    results = ask(client, [{"id": numbered, **chunk} for chunk in with_seq])
    assert [status_of(result) for result in results] == [200, 422, 409, 409]
    assert results[2]["error"]["expected"] == 1
    assert (client.get(f"/streams/{id}").json()["seq"], client.get(f"/streams/{numbered}").json()["seq"]) == (3, 1)


@pytest.mark.parametrize(
    ("content", "status", "pointer", "says"),
    [
        pytest.param("", 400, None, "The body is empty", id="empty"),
        pytest.param('{"chunks": [GOOD', 400, None, "not valid JSON", id="cut"),
        pytest.param('{"chunks": [GOOD]} x', 400, None, "not valid JSON: Extra data", id="more"),
        pytest.param('{"chunks": [GOOD, {"id": "a", "input": [[01]]}]}', 400, None, "not valid JSON", id="not JSON in a chunk"),
        pytest.param('{"chunks": [GOOD, ' + "[" * 100_000, 400, None, "nested too deeply", id="deep"),
        pytest.param('{"chunks": [GOOD, {"id": "\xff"}]}', 400, None, "not UTF-8", id="not UTF-8"),
        pytest.param("[GOOD]", 422, "", "an object with the member chunks, got an array", id="array"),
        pytest.param("{}", 422, "", "the member chunks is missing", id="no chunks"),
        pytest.param('{"chunks": null}', 422, "", "the member chunks is missing", id="null"),
        pytest.param('{"chunks": GOOD}', 422, "/chunks", "an array of chunks, got an object", id="object"),
        pytest.param('{"chunks": []}', 422, "/chunks", "one chunk or more, got none", id="none"),
        pytest.param('{"chunks": [GOOD], "chunks": [GOOD]}', 422, "", "the member chunks is there twice", id="twice"),
        pytest.param('{"chunks": [GOOD], "model": "a"}', 422, "/model", "unknown member; known are: chunks", id="unknown"),
        pytest.param('{"chunks": [GOOD, [GOOD]]}', 422, "/chunks/1", "the members id and input, got an array", id="no object"),
        pytest.param('{"chunks": [GOOD, null]}', 422, "/chunks/1", "the members id and input, got null", id="null for a chunk"),
        pytest.param('{"chunks": [GOOD, {"input": [[1]]}]}', 422, "/chunks/1", "the member id is missing", id="no id"),
        pytest.param('{"chunks": [GOOD, {"id": 7}]}', 422, "/chunks/1/id", "a string, got a number", id="number for an id"),
        pytest.param('{"chunks": [GOOD, {"id": null}]}', 422, "/chunks/1/id", "a string, got null", id="null for an id"),
        pytest.param('{"chunks": [GOOD, {"id": "\\ud800"}]}', 422, "/chunks/1/id", "not Unicode", id="half of a pair"),
        pytest.param(
            '{"chunks": [GOOD, {"id": "a", "i\\u0064": "b"}]}', 422, "/chunks/1", "the member id is there twice", id="two ids"
        ),
        pytest.param('{"chunks": [GOOD' + ", 0" * 400 + "]}", 413, None, "401 chunks; at most 400", id="too many"),
        pytest.param('{"chunks": [GOOD' + ", NaN" * 400 + "]}", 413, None, "401 chunks; at most 400", id="too many, no JSON"),
        pytest.param(" " * 2_000_001, 413, None, "at most 2000000", id="too large"),
    ],
)
def test_a_request_that_is_wrong_as_a_whole_changes_nothing(
    client: httpx.Client, content: str, status: int, pointer: str | None, says: str
) -> None:
    id = begin(client)
    body = content.replace("GOOD", f'{{"id": "{id}", "input": [{STEP}]}}').encode("latin-1")
    said = problem(client.post("/streams/predict", content=body, headers=JSON), status)
    assert says in said["detail"]
    if pointer is not None:
        assert pointer in [each["pointer"] for each in said["errors"]]
    assert client.get(f"/streams/{id}").json()["seq"] == 0


def test_only_json_without_a_query_is_taken(client: httpx.Client) -> None:
    for kind in ("application/octet-stream", "text/plain"):
        assert kind in problem(client.post("/streams/predict", content=b"", headers={"Content-Type": kind}), 415)["detail"]
    body = {"chunks": [{"id": begin(client), "input": [STEP]}]}
    assert "not the query" in problem(client.post("/streams/predict?seq=0", json=body), 422)["detail"]
    assert client.get("/streams/predict").status_code == 404  # a stream may have this id
    assert client.post("/streams", json={"id": "predict"}).status_code == 201
    assert ask(client, [{"id": "predict", "input": [STEP]}])[0]["seq"] == 1
    assert client.post("/streams/predict/predict", json={"input": [STEP]}).json()["seq"] == 2
    assert client.delete("/streams/predict").status_code == 204
    assert client.delete("/streams/predict/predict").status_code == 405


@pytest.mark.parametrize("wrong", [False, True], ids=["good", "with NaN"])
def test_large_requests_are_decoded_aside_and_compressed_answers_are_the_same(
    client: httpx.Client, spec: manifest.ModelSpec, wrong: bool
) -> None:
    """With NaN the exact decoder takes the whole body apart."""
    steps = signal_of(5000).astype(np.float64).round(3)
    chunks: list[dict[str, Any]] = [{"id": begin(client), "input": steps.tolist()} for _ in range(6)]
    bad = [{"id": chunks[0]["id"], "input": [[float("nan"), 0, 0, 0, 0, 0]]}] if wrong else []
    body = json.dumps({"chunks": [*chunks, *bad]}).encode()
    assert len(body) > LARGE
    answer = client.post("/streams/predict", content=body, headers=JSON | {"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    results = answer.json()["results"]
    if wrong:
        assert results.pop()["error"]["errors"] == [
            {"pointer": "/input/0/0", "detail": "gyro_x: expected a finite number, got NaN"}
        ]
    expected = whole(client, steps.astype(np.float32))
    for result in results:
        np.testing.assert_allclose(result["predictions"], expected, rtol=spec.tolerance.rtol, atol=spec.tolerance.atol)


class Model:
    """What should happen to some streams, worked out without the service."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.done: dict[str, list[Array]] = {id: [] for id in ids}
        self.kept = dict.fromkeys(ids, 0)  # answers, of the last chunks
        self.answers: dict[str, list[Any]] = {id: [] for id in ids}

    def result(self, chunk: dict[str, Any]) -> tuple[int, int]:
        """The status of the next chunk, and the number of the chunk after it (or after the stream's last, if it is refused)."""
        done = self.done.get(chunk["id"])
        if done is None:
            return 404, 0
        steps, seq = np.array(chunk["input"], np.float32), chunk.get("seq")
        if steps.shape[1:] != (6,):
            return 422, len(done)
        if seq is None or seq == len(done):
            done.append(steps)
            self.kept[chunk["id"]] = 1 if seq is None else min(self.kept[chunk["id"]] + 1, 32)
            return 200, len(done)
        kept = range(len(done) - self.kept[chunk["id"]], len(done))
        if seq in kept and done[seq].shape == steps.shape and (done[seq] == steps).all():
            return 200, seq + 1
        return 409, len(done)


def test_a_thousand_random_requests_do_what_a_model_of_them_says(client: httpx.Client, spec: manifest.ModelSpec) -> None:
    """Good, repeated, early, changed and wrong chunks, of streams that are there and that are not, mixed at random."""
    rng = random.Random(20)
    ids = [begin(client) for _ in range(12)]
    model = Model(ids)
    with httpx.Client(base_url=client.base_url) as first, httpx.Client(base_url=client.base_url) as second:
        for _ in range(1000):
            chunks: list[dict[str, Any]] = []
            expected = []
            for _ in range(rng.randint(1, 6)):
                id = rng.choice([*ids, "nobody"])
                chunk: dict[str, Any] = {"id": id, "input": signal_of(rng.randint(1, 3), seed=rng.randrange(10)).tolist()}
                done = model.done.get(id, [])
                match rng.choice(["next", "next", "bare", "again", "early", "changed", "wrong"]):
                    case "next":
                        chunk["seq"] = len(done)
                    case "again" if done:
                        chunk["seq"] = rng.randrange(max(0, len(done) - 40), len(done))
                        chunk["input"] = done[chunk["seq"]].tolist()
                    case "early":
                        chunk["seq"] = len(done) + rng.randint(1, 3)
                    case "changed":
                        chunk["seq"] = rng.randrange(len(done) + 1)
                    case "wrong":
                        chunk["input"][-1].pop()
                        chunk["input"] = chunk["input"][-1:]
                chunks.append(chunk)
                expected.append(model.result(chunk))
            answer = rng.choice([first, second]).post("/streams/predict", json={"chunks": chunks})
            for chunk, (status, seq), result in zip(chunks, expected, answer.json()["results"], strict=True):
                assert (status_of(result), result["id"]) == (status, chunk["id"])
                if status == 200:
                    assert result["seq"] == seq
                    assert result["steps"] == sum(map(len, model.done[chunk["id"]][:seq]))
                    answers = model.answers[chunk["id"]]
                    if seq > len(answers):
                        answers.append(result["predictions"])
                    else:
                        np.testing.assert_array_equal(result["predictions"], answers[seq - 1])
                elif status == 409:
                    assert result["error"]["expected"] == seq
    for id in ids:
        assert client.get(f"/streams/{id}").json()["seq"] == len(model.done[id])
        found = np.concatenate(model.answers[id])
        close = {"rtol": spec.tolerance.rtol, "atol": spec.tolerance.atol}
        np.testing.assert_allclose(found, whole(client, np.concatenate(model.done[id])), **close)


def test_a_caller_that_leaves_and_comes_again_finds_each_chunk_done_once(
    server: Server, client: httpx.Client, spec: manifest.ModelSpec
) -> None:
    """Some chunks were done when it left, and others not: with their numbers it need not know which."""
    ids = [begin(client) for _ in range(40)]
    address, pieces = httpx.URL(server.url), []
    rng = random.Random(3)
    for seq in range(12):
        pieces.append(signal_of(4, seed=seq))
        chunks = [
            {"id": id, "input": half.tolist(), "seq": 2 * seq + n} for n, half in enumerate(np.split(pieces[-1], 2)) for id in ids
        ]
        body = json.dumps({"chunks": chunks}).encode()
        head = b"POST /streams/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
            body
        )
        with socket.create_connection((address.host, address.port or 80)) as caller:
            caller.sendall(head + body)
            sleep(rng.choice([0, 0.001, 0.003, 0.01]))
        results = ask(client, chunks)
        assert [result["seq"] for result in results] == [2 * seq + 1] * 40 + [2 * seq + 2] * 40
    expected = whole(client, np.concatenate(pieces))
    last = np.stack([result["predictions"] for result in results[40:]])
    np.testing.assert_allclose(last, np.broadcast_to(expected[-2:], (40, 2, 3)), rtol=spec.tolerance.rtol, atol=spec.tolerance.atol)
    assert "Traceback" not in "".join(server.log)


def test_each_chunk_is_run_by_the_model_of_its_stream(tmp_path: Path) -> None:
    """Only a request that is for one model counts as a request of a model."""
    artifacts.build(tmp_path)
    artifacts.build(tmp_path, name="other", seed=1)
    with (
        serve(tmp_path, "--workers", "1", "--default-model", "gyro-denoiser") as server,
        httpx.Client(base_url=server.url) as client,
    ):
        names = ["gyro-denoiser", "other", "gyro-denoiser"]
        chunks = [{"id": begin(client, model=name), "input": [STEP, STEP]} for name in names]
        results = ask(client, [*chunks, {"id": "nobody", "input": [STEP]}])
        for name, result in zip(names, results, strict=False):
            alone = client.post("/predict", json={"instances": [[STEP, STEP]], "model": name}).json()["predictions"][0]
            np.testing.assert_allclose(result["predictions"], alone, rtol=1e-5, atol=1e-4)
        ask(client, [chunks[1], {"id": "nobody", "input": [STEP]}])
        metrics = client.get("/metrics").text
    found = re.findall(r'^recurve_model_request_seconds_count\{model="(.+?)".* (\d+)\.0$', metrics, re.MULTILINE)
    assert dict(found) == {"gyro-denoiser": "2", "other": "2"}  # those to /predict: two and one


def test_what_is_refused_for_lack_of_room_is_counted_and_done_when_it_comes_again(repository: Path) -> None:
    """A queue for one instance: the first of a request is taken, and a neighbour that is refused does not harm it."""
    with (
        serve(repository, "--workers", "1", "--max-queue-size", "1") as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        ids = [begin(client) for _ in range(20)]
        left = [{"id": id, "input": [STEP], "seq": 0} for id in ids]
        refused = 0
        while left:
            results = ask(client, left)
            assert {status_of(result) for result in results} <= {200, 503}
            assert status_of(results[0]) == 200
            kinds = {result["error"]["type"] for result in results if "error" in result}
            assert kinds <= {"urn:recurve:problem:queue-full"}
            left = [chunk for chunk, result in zip(left, results, strict=True) if "error" in result]
            refused += len(left)
        assert refused
        metrics = client.get("/metrics").text
        assert f'recurve_refused_total{{reason="queue-full"}} {refused}.0' in metrics
        assert re.search(r'^recurve_request_seconds_count\{route="/streams/predict",status="200"\} [1-9]', metrics, re.MULTILINE)
        assert re.search(r'^recurve_model_request_seconds_count\{model="gyro-denoiser",outcome="success"', metrics, re.MULTILINE)
        assert 'recurve_stream_chunks_total{outcome="done"} 20.0' in metrics


def test_a_deadline_that_cannot_be_kept_is_each_chunks_own(repository: Path) -> None:
    with (
        serve(repository, "--workers", "1", "--request-timeout", "0.000000001") as server,
        httpx.Client(base_url=server.url) as client,
    ):
        ids = [begin(client) for _ in range(3)]
        results = ask(client, [{"id": id, "input": [STEP]} for id in [*ids, "nobody"]])
        assert {status_of(result) for result in results} <= {503, 504}
        assert [client.get(f"/streams/{id}").json()["seq"] for id in ids] == [0, 0, 0]


def test_a_request_counts_once_against_the_rate_of_its_key(repository: Path) -> None:
    secret = "a secret of sixteen"
    with (
        serve(
            repository, "--workers", "1", RECURVE_API_KEYS=f"slow:predict@0.001:{secret},fast:predict:another {secret}"
        ) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        fast, slow = ({"Authorization": f"Bearer {key}"} for key in (f"another {secret}", secret))
        id = client.post("/streams", headers=fast).json()["id"]
        body = {"chunks": [{"id": id, "input": [STEP]}] * 30}
        assert problem(client.post("/streams/predict", json=body), 401)
        assert len(client.post("/streams/predict", json=body, headers=slow).json()["results"]) == 30
        assert problem(client.post("/streams/predict", json=body, headers=slow), 429)
        assert client.get(f"/streams/{id}", headers=fast).json()["seq"] == 30


def test_streams_go_on_after_the_service_was_killed(repository: Path, tmp_path: Path) -> None:
    """All chunks of a round are kept, as those of single requests are."""
    flags = ("--data-dir", str(tmp_path), "--workers", "1")
    with serve(repository, *flags) as first, httpx.Client(base_url=first.url) as client:
        ids = [begin(client) for _ in range(10)]
        before = ask(client, [{"id": id, "input": [STEP], "seq": 0} for id in ids])
        first.stop(signal.SIGKILL)
    with serve(repository, *flags) as second, httpx.Client(base_url=second.url) as client:
        assert ask(client, [{"id": id, "input": [STEP], "seq": 0} for id in ids]) == before
        assert [result["seq"] for result in ask(client, [{"id": id, "input": [STEP], "seq": 1} for id in ids])] == [2] * 10


LIMITS = Limits(max_instances=4, max_steps=6)


def taken_apart(decoder: Decoder, body: bytes, spec: manifest.ModelSpec, *, quickly: bool) -> Any:
    """What a body holds, each chunk as it is decoded; or the error, in words."""
    try:
        found = (decoder.quick_entries(body) if quickly else None) or decoder.exact_entries(body)
    except RecurveError as error:
        return type(error), error.detail
    told: list[Any] = []
    for id, chunk in found:
        try:
            quick = decoder.quick_chunk(chunk, spec, ENTRY_MEMBERS) if quickly else None
            decoded = quick or decoder.exact_chunk(chunk, spec, ENTRY_MEMBERS)
            told.append((id, decoded.steps.tolist(), decoded.seq, decoded.return_sequences))
        except RecurveError as error:
            told.append((id, type(error), error.detail))
    return told


def test_the_fast_way_takes_a_body_apart_as_the_exact_one_does(spec: manifest.ModelSpec) -> None:
    """Bodies with a few characters changed, of which most are wrong in one way or another."""
    rng = random.Random(7)
    decoder = Decoder(LIMITS, Tokens([b"a key of sixteen"]))
    chunks = [f'{{"id": "s-{n}", {members}}}' for n, members in enumerate(list(CASES.values())[:5])]
    outcomes = set()
    for _ in range(4000):
        text = f'{{"chunks": [{", ".join(rng.sample(chunks, rng.randint(1, 4)))}]}}'
        for _ in range(rng.randint(0, 3)):
            at = rng.randrange(len(text))
            piece = rng.choice(
                ['"', "{", "}", "[", "]", ",", ":", " ", "\\", "1", "-", "e", "NaN", "null", '"id": "x",', "\\u0069d"]
            )
            text = text[:at] + piece + text[at + rng.randint(0, 2) :]
        body = text.encode()
        exact = taken_apart(decoder, body, spec, quickly=False)
        assert taken_apart(decoder, body, spec, quickly=True) == exact, text
        outcomes |= {exact[0]} if isinstance(exact, tuple) else {len(each) for each in exact}
    assert outcomes == {MalformedBody, InvalidRequest, 3, 4}


def test_an_ordinary_body_takes_the_fast_way() -> None:
    """Both ways give the same, so no other test would notice if the fast one were never used."""
    decoder = Decoder(LIMITS, Tokens([b"a key of sixteen"]))
    body = b'{"chunks": [{"id": "a", "input": [[1, 2]], "seq": 4}, {"input": [], "id": "b", "x": {"id": 3}}]}'
    found = decoder.quick_entries(body)
    assert found == [("a", b'{"id":"a","input":[[1,2]],"seq":4}'), ("b", b'{"input":[],"id":"b","x":{"id":3}}')]
    assert [(id, json.loads(chunk)) for id, chunk in entries.split(body, LIMITS)] == [(id, json.loads(text)) for id, text in found]
    with pytest.raises(TooLarge, match="5 chunks; at most 4"):
        decoder.quick_entries(b'{"chunks": [1, 2, 3, 4, 5]}')


def test_a_long_body_is_taken_apart_exactly_too() -> None:
    """It is read piece by piece, with strings full of brackets, a byte order mark, and chunks that are themselves long."""
    made = [
        {"id": "]}", "input": [[0.5, 1]] * 30_000, "note": '}"]'},
        {"id": 'a "quoted" \\', "input": ["[" * 70_000]},
        {"x": {"id": [{}]}, "id": "last", "input": float("nan")},
    ]
    body = b"\xef\xbb\xbf" + json.dumps({"chunks": made}).encode()
    found = entries.split(body, LIMITS)
    assert [id for id, _ in found] == [chunk["id"] for chunk in made]
    assert [json.dumps(json.loads(chunk)) for _, chunk in found] == [json.dumps(chunk) for chunk in made]


def test_many_members_are_looked_through_in_little_time() -> None:
    """A chunk with a hundred thousand names, one of them twice, must not hold up the service."""
    names = ", ".join(f'"k{number}": 0' for number in range(100_000))
    found = entries.split(f'{{"chunks": [{{"id": "a", {names}, "k0": 1}}]}}'.encode(), LIMITS)
    assert [id for id, _ in found] == ["a"]


class Slow(ChunkDecoder):
    """Takes `lasts` seconds of a clock for each chunk, and finds something wrong with those whose JSON says so."""

    def __init__(self, lasts: float) -> None:
        limits = Limits(max_instances=1024, max_steps=100)
        super().__init__(Bodies(LARGE, Room(LARGE)), limits, lambda: Decoder(limits, Tokens([b"secret"])))
        self.lasts = lasts
        self.now = 0.0
        self.decoded: list[bytes] = []

    async def from_json(self, body: bytes, *_: object) -> Chunk:
        self.now += self.lasts
        self.decoded.append(body)
        if b"wrong" in body:
            raise InvalidRequest.at("/input", "wrong")
        return Chunk(np.zeros((1, 6), np.float32), 9)


class Refusing:
    """Streams whose next chunk has another number than all that come, in a store that is never waited for."""

    def __init__(self, spec: manifest.ModelSpec) -> None:
        self.keeper = self
        self.limits = StreamLimits(60.0, 1000, 30.0)
        self._spec = spec

    async def predict(self, _id: str, decoders: Sequence[Decode], *_: object, **_options: object) -> None:
        await streams.decoded(decoders, self._spec)
        raise StreamConflict("Chunk 9 is out of order: chunk 0 is next.", expected=0)


def refuse(decoder: Slow, chunks: Sequence[dict[str, Any]], spec: manifest.ModelSpec) -> tuple[list[int], float]:
    """The status of each chunk's result, and the longest time of `decoder` in one round of the event loop."""

    async def run() -> tuple[list[int], float]:
        many = ManyChunks(Refusing(spec), Bodies(LARGE, Room(LARGE)), decoder, [].append)  # type: ignore[arg-type]  # a fake
        headers = [(b"content-type", b"application/json")]
        scope = {"headers": headers, "query_string": b"", "path": "/", "state": {"request_id": "a"}}
        body = json.dumps({"chunks": chunks}).encode()
        answering = asyncio.ensure_future(many(scope, ReceivedBody(body)))
        longest = 0.0
        while not answering.done():
            before = decoder.now
            await asyncio.sleep(0)
            longest = max(longest, decoder.now - before)
        return [status_of(result) for result in json.loads(answering.result().body)["results"]], longest

    return asyncio.run(run())


@pytest.mark.parametrize("ids", [["a"], [*"abcdefgh"]], ids=["one stream", "many streams"])
@pytest.mark.parametrize("wrong", [True, False], ids=["wrong", "early"])
def test_the_event_loop_does_other_work_while_many_chunks_are_decoded(
    spec: manifest.ModelSpec, monkeypatch: pytest.MonkeyPatch, ids: list[str], wrong: bool
) -> None:
    """Each may take some milliseconds: a probe must not wait until the last of a thousand is looked at."""
    decoder = Slow(lasts=0.003)
    monkeypatch.setattr(many_chunks, "perf_counter", lambda: decoder.now, raising=False)
    chunks = [{"id": ids[n % len(ids)], "input": "wrong" if wrong else [STEP]} for n in range(200)]
    statuses, longest = refuse(decoder, chunks, spec)
    assert statuses == [422 if wrong else 409] * 200
    assert longest < 0.01


def test_a_wrong_chunk_is_not_decoded_again_with_each_that_comes_before_it(spec: manifest.ModelSpec) -> None:
    decoder = Slow(lasts=0.0)
    chunks = [{"id": "a", "input": [[n]] if n % MOST_AT_ONCE else f"wrong {n}"} for n in range(1, 4 * MOST_AT_ONCE + 1)]
    statuses, _ = refuse(decoder, chunks, spec)
    assert statuses == ([409] * (MOST_AT_ONCE - 1) + [422]) * 4
    assert max(decoder.decoded.count(body) for body in decoder.decoded) == 2


class Losing(Refusing):
    """Streams of which the first one that is asked for a prediction loses the client."""

    def __init__(self, spec: manifest.ModelSpec, leaving: set[Callable[[], None]]) -> None:
        super().__init__(spec)
        self.asked: list[str] = []
        self._leaving = leaving

    async def predict(self, id: str, *_: object, **_options: object) -> None:
        self.asked.append(id)
        for tell in [*self._leaving]:
            tell()
        raise ClientDisconnect


def test_no_more_streams_are_asked_when_the_caller_has_left(spec: manifest.ModelSpec) -> None:
    """Only those that were asked before hear of it by themselves."""

    async def ask() -> list[str]:
        leaving: set[Callable[[], None]] = set()
        losing = Losing(spec, leaving)
        many = ManyChunks(losing, Bodies(LARGE, Room(LARGE)), Slow(0.0), [].append)  # type: ignore[arg-type]  # a fake
        headers = [(b"content-type", b"application/json")]
        scope = {"headers": headers, "query_string": b"", "state": {}, "extensions": {ON_DISCONNECT: leaving}}
        body = json.dumps({"chunks": [{"id": str(number), "input": [STEP]} for number in range(200)]}).encode()
        with pytest.raises(ClientDisconnect):
            await many(scope, ReceivedBody(body))
        return losing.asked

    assert asyncio.run(ask()) == [str(number) for number in range(many_chunks.BEGUN_AT_ONCE)]
