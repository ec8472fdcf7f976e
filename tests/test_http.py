"""The service over real HTTP: a real process, a real socket, a client that we did not write."""

import gzip
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPResponse
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort
import pytest

from app import __version__, manifest
from app.metrics import SECONDS
from app.settings import Settings
from tests import artifacts
from tests.servers import ROOT, Server, serve

STEP = [10.0, -5.0, 300.0, 0.1, -0.2, 9.8]


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with serve(repository, "--max-body-bytes", "200000", "--max-instances", "40", "--max-steps", "300") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        yield http


def steps(length: int, seed: int = 0) -> Any:
    return (np.random.default_rng([seed, length]).standard_normal((length, 6)) * 50).round(3).tolist()


def predict(client: httpx.Client, instances: list[Any], **options: Any) -> list[Any]:
    answer = client.post("/predict", json={"instances": instances, **options})
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()["predictions"]
    return found


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["instance"] == answer.headers["x-request-id"]
    assert body["error"] == body["detail"]
    assert {"type", "title"} <= body.keys()
    return body


def test_lengths_1_7_and_128_together_equal_three_single_ones(client: httpx.Client, spec: manifest.ModelSpec) -> None:
    """The promise of the service: a batch is faster, never different."""
    sequences = [steps(length) for length in (1, 7, 128)]
    together = predict(client, sequences)
    assert [len(prediction) for prediction in together] == [1, 7, 128]
    for sequence, prediction in zip(sequences, together, strict=True):
        (alone,) = predict(client, [sequence])
        np.testing.assert_allclose(prediction, alone, rtol=spec.tolerance.rtol, atol=spec.tolerance.atol)


def test_the_answer_is_what_the_equations_say(client: httpx.Client, spec: manifest.ModelSpec) -> None:
    """The whole chain at once: torch's weights, the graph, the batch, JSON both ways, against float64 NumPy."""
    network = artifacts.network()
    for length in (1, 50):
        (prediction,) = predict(client, [steps(length)])
        expected, _ = network.equations(np.array(steps(length)), [np.zeros((2, 8))])
        np.testing.assert_allclose(prediction, expected, rtol=spec.tolerance.rtol, atol=spec.tolerance.atol)


def test_the_last_step_is_the_last_of_the_sequence(client: httpx.Client) -> None:
    (whole,) = predict(client, [steps(20)])
    (last,) = predict(client, [steps(20)], return_sequences=False)
    assert last == whole[-1]


def test_an_answer_says_which_model_gave_it_and_where(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"instances": [[STEP]], "model": "gyro-denoiser", "version": "1"})
    assert {k: v for k, v in answer.json().items() if k != "predictions"} == {
        "model": "gyro-denoiser",
        "version": "1",
        "provider": "CPUExecutionProvider",
    }


def test_64_callers_at_once_each_get_their_own_answer(client: httpx.Client, spec: manifest.ModelSpec) -> None:
    """Requests share batches, not answers; and the bad requests among them affect no others."""
    network = artifacts.network()
    zero = [np.zeros((2, 8))]

    def call(caller: int) -> None:
        if caller % 8 == 0:
            problem(client.post("/predict", json={"instances": [[STEP], [[1, 2]]]}), 422)
            return
        mine = steps(1 + caller, seed=caller)
        (prediction,) = predict(client, [mine])
        expected, _ = network.equations(np.array(mine), zero)
        np.testing.assert_allclose(prediction, expected, rtol=spec.tolerance.rtol, atol=spec.tolerance.atol)

    with ThreadPoolExecutor(64) as threads:
        list(threads.map(call, range(64)))


def test_a_request_larger_than_a_batch_is_answered_whole_and_in_order(client: httpx.Client) -> None:
    sequences = [steps(length) for length in range(1, 41)]
    for sequence, prediction in zip(sequences[::13], predict(client, sequences)[::13], strict=True):
        np.testing.assert_allclose(prediction, predict(client, [sequence])[0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("content", "headers", "status", "says"),
    [
        pytest.param(b"{", {}, 400, "not valid JSON", id="broken-json"),
        pytest.param(b'{"instances": [[[1,2,3,4,5]]]}', {}, 422, "/instances/0/0: expected 6 features, got 5", id="features"),
        pytest.param(b'{"instances": [[[1,2,3,4,5,6]]], "model": "x"}', {}, 404, "has gyro-denoiser", id="model"),
        pytest.param(b'{"instances": [[[1,2,3,4,5,6]]], "version": "9"}', {}, 404, "version '1' is", id="version"),
        pytest.param(
            b'{"instances": [[[3.4e38,3.4e38,3.4e38,3.4e38,3.4e38,3.4e38]]]}', {}, 422, "overflows float32", id="overflow"
        ),
        pytest.param(b"{}", {"Content-Encoding": "br"}, 415, "Content-Encoding: br", id="encoding"),
        pytest.param(b"{}", {"Content-Encoding": "gzip"}, 400, "is not gzip", id="not-gzip"),
        pytest.param(gzip.compress(b"{}" * 99)[:-9], {"Content-Encoding": "gzip"}, 400, "cut off", id="gzip-cut-off"),
        pytest.param(gzip.compress(b" " * 10**7), {"Content-Encoding": "gzip"}, 413, "more than 200000", id="gzip-bomb"),
        pytest.param(gzip.compress(b"") * 5000, {"Content-Encoding": "gzip"}, 400, "than 1024 gzip streams", id="gzip-streams"),
        pytest.param(b'{"instances":[],"\\ud800":1}', {}, 422, "unknown member", id="half-a-character"),
        pytest.param(b"{}", {"Content-Type": "text/plain"}, 415, "must be application/json", id="media-type"),
        pytest.param(b" " * 200_001, {}, 413, "at most 200000", id="declared-body"),
        pytest.param(json.dumps({"instances": [[[0] * 6]] * 41}).encode(), {}, 413, "at most 40", id="instances"),
        pytest.param(json.dumps({"instances": [[[0] * 6] * 301]}).encode(), {}, 413, "/instances/0: the", id="steps"),
        pytest.param(json.dumps({"instances": [{"input": [{}] * 301}]}).encode(), {}, 413, "at most 300", id="steps-of-nothing"),
    ],
)
def test_what_is_wrong_is_told_with_the_value_and_the_limit(
    client: httpx.Client, content: bytes, headers: dict[str, str], status: int, says: str
) -> None:
    answer = client.post("/predict", content=content, headers={"Content-Type": "application/json"} | headers)
    assert says in problem(answer, status)["detail"]


def test_a_body_without_a_declared_length_is_cut_off_at_the_limit(client: httpx.Client) -> None:
    """A client that sends without end must not fill the memory."""

    def endless() -> Iterator[bytes]:
        for _ in range(300):
            yield b" " * 1000

    answer = client.post("/predict", content=endless(), headers={"Content-Type": "application/json"})
    assert "200000" in problem(answer, 413)["detail"]


def test_wrong_values_are_pointed_at(client: httpx.Client) -> None:
    answer = problem(client.post("/predict", json={"instances": [[STEP], [STEP, [1, 2, "3", 4, 5, 6]]]}), 422)
    assert answer["errors"] == [{"pointer": "/instances/1/1/2", "detail": "gyro_z: expected a number, got a string"}]


OCTETS = "application/octet-stream"


def test_octets_are_answered_as_the_same_sequence_in_json(client: httpx.Client) -> None:
    """Both formats carry the same float32, so the answers agree to the last bit."""
    sequence = np.array(steps(30), dtype=np.float32)
    (expected,) = predict(client, [sequence.tolist()])
    headers = {"Content-Type": OCTETS, "Accept": OCTETS}
    answer = client.post("/predict", content=sequence.astype("<f4").tobytes(), headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, OCTETS)
    assert answer.headers["recurve-model"] == "gyro-denoiser"
    assert answer.headers["recurve-provider"] == "CPUExecutionProvider"
    np.testing.assert_array_equal(np.frombuffer(answer.content, "<f4").reshape(-1, 3), np.array(expected, dtype=np.float32))

    last = client.post(
        "/predict?return_sequences=false&timeout_ms=5000", content=sequence.tobytes(), headers={"Content-Type": OCTETS}
    )
    assert last.json()["predictions"] == [expected[-1]]


@pytest.mark.parametrize(
    ("content", "query", "status", "says"),
    [
        pytest.param(b"", "", 422, "empty sequence", id="empty"),
        pytest.param(bytes(25), "", 400, "25 bytes, not a multiple of the 24", id="half-a-number"),
        pytest.param(bytes(24 * 301), "", 413, "301 time steps; at most 300", id="steps"),
        pytest.param(np.array([0, 0, 0, 0, 0, 0, 0, 0, np.nan, 0, 0, np.inf], "<f4").tobytes(), "", 422, "/1/2: gyro_z", id="nan"),
        pytest.param(bytes(24), "?model=x", 404, "no model 'x'", id="model"),
        pytest.param(bytes(24), "?return_sequences=maybe", 422, "/return_sequences", id="flag"),
        pytest.param(bytes(24), "?timeout_ms=soon", 422, "/timeout_ms", id="timeout"),
        pytest.param(bytes(24), "?return_states=true", 422, "did you mean return_state?", id="unknown-option"),
        pytest.param(bytes(24), "?stride=2", 422, "known are: model, version, return_", id="unlike-any-option"),
        pytest.param(bytes(24), "?instances=2", 422, "unknown member", id="the-body-in-the-query"),
        pytest.param(bytes(24), "?timeout_ms=5000&timeout_ms=9000", 422, "each option once", id="option-twice"),
    ],
)
def test_wrong_octets_are_told(client: httpx.Client, content: bytes, query: str, status: int, says: str) -> None:
    answer = client.post(f"/predict{query}", content=content, headers={"Content-Type": OCTETS})
    assert says in problem(answer, status)["detail"]


def test_a_signal_in_pieces_equals_the_whole(client: httpx.Client, spec: manifest.ModelSpec) -> None:
    """The state token carries everything: a caller may stop after any step and go on elsewhere, in either format."""
    whole = steps(60)
    (expected,) = predict(client, [whole])
    found: list[Any] = []
    token = None
    for begin, end in ((0, 1), (1, 20), (20, 21), (21, 60)):
        mine = {"input": whole[begin:end], "state": token}
        answer = client.post("/predict", json={"instances": [[STEP] * 9, mine], "return_state": True}).json()
        found += answer["predictions"][1]
        token = answer["states"][1]
    np.testing.assert_allclose(found, expected, rtol=spec.tolerance.rtol, atol=spec.tolerance.atol)

    binary = []
    headers = {"Content-Type": OCTETS, "Accept": OCTETS}
    for begin, end in ((0, 7), (7, 60)):
        answer = client.post("/predict?return_state=true", content=np.array(whole[begin:end], "<f4").tobytes(), headers=headers)
        headers["Recurve-State"] = answer.headers["recurve-state"]
        binary += np.frombuffer(answer.content, "<f4").reshape(-1, 3).tolist()
    np.testing.assert_allclose(binary, expected, rtol=spec.tolerance.rtol, atol=spec.tolerance.atol)


def test_a_forged_token_is_refused_and_nothing_runs(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"instances": [[STEP], {"input": [STEP], "state": "x" * 128}]})
    assert problem(answer, 422)["errors"][0]["pointer"] == "/instances/1/state"
    for token in ("forged", ""):
        headers = {"Content-Type": OCTETS, "Recurve-State": token}
        assert "not a state of" in problem(client.post("/predict", content=bytes(24), headers=headers), 422)["detail"]


def test_the_same_key_makes_one_service_of_many(repository: Path, tmp_path: Path) -> None:
    """Clients that carry their state can use any replica if all replicas share a key, which is read from a file here."""
    key = tmp_path / "key"
    key.write_text("a key that all replicas have\n")
    body: dict[str, Any] = {"instances": [[STEP] * 5], "return_state": True}
    with serve(repository, RECURVE_STATE_KEY_FILE=str(key)) as first, serve(repository, "--workers", "2") as stranger:
        token = httpx.post(f"{first.url}/predict", json=body).json()["states"][0]
        body["instances"] = [{"input": [STEP], "state": token}]
        assert "random key" not in "".join(first.log)
        assert "random key" in "".join(stranger.log)
        problem(httpx.post(f"{stranger.url}/predict", json=body), 422)
    with serve(repository, RECURVE_STATE_KEY="a key that all replicas have") as second:
        assert httpx.post(f"{second.url}/predict", json=body).status_code == 200
        assert "a key that" not in "".join(second.log)
    with serve(repository, RECURVE_STATE_KEY="a key that is new,a key that all replicas have") as third:
        assert httpx.post(f"{third.url}/predict", json=body).status_code == 200


def test_gzip_is_taken_and_given(client: httpx.Client) -> None:
    """Numbers in JSON compress to a third of their size."""
    content = gzip.compress(b'{"instances": [') + gzip.compress(json.dumps(steps(200)).encode() + b"]}") + bytes(9)
    sent = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    packed = client.post("/predict", content=content, headers=sent | {"Accept-Encoding": "br, gzip;q=0.5"})
    plain = client.post("/predict", content=content, headers=sent | {"Accept-Encoding": "gzip;q=0, identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.json() == plain.json()
    assert len(packed.json()["predictions"][0]) == 200


def test_metrics_are_those_of_all_workers(repository: Path) -> None:
    """A scrape reaches one worker, by chance: it must report the other workers too, and those that have died."""
    with serve(repository, "--workers", "2") as server:
        for _ in range(8):  # a new connection each, so to either worker
            answer = httpx.post(f"{server.url}/predict", json={"instances": [[STEP] * 3, [STEP]]})
            assert answer.status_code == 200
        httpx.post(f"{server.url}/predict", content=b"{", headers={"Content-Type": "application/json"})
        for _ in range(4):  # to either worker: by then, it has counted what it answered before
            assert httpx.get(f"{server.url}/health/live").status_code == 200
        os.kill(min(children(server.process.pid)), signal.SIGKILL)
        server.wait_for("Loaded", times=3)
        text = httpx.get(f"{server.url}/metrics").text
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    model = '{model="gyro-denoiser",version="1"}'
    assert float(found[f"recurve_inferences_total{model}"]) == 16
    assert float(found[f"recurve_steps_total{model}"]) == 32
    assert 32 <= float(found[f"recurve_padded_steps_total{model}"]) <= 48
    assert float(found[f"recurve_lanes{model}"]) == 2
    assert float(found["recurve_streams_limit"]) == 100_000
    assert float(found[f'recurve_build_info{{onnxruntime="{ort.__version__}",version="{__version__}"}}']) == 1
    assert float(found["recurve_workers_replaced_total"]) == 1
    assert float(found['recurve_request_seconds_count{route="/predict",status="200"}']) == 8
    assert float(found['recurve_request_seconds_count{route="/predict",status="400"}']) == 1


def test_every_histogram_of_seconds_tells_what_is_late_by_default() -> None:
    """Without a bucket at the deadline, whatever takes longer than the one before looks alike, and its quantiles are guessed."""
    assert Settings.model_fields["request_timeout"].default in SECONDS
    assert all(longer <= 3 * shorter for shorter, longer in pairwise(SECONDS))


def test_unknown_paths_and_methods_are_problems_too(client: httpx.Client) -> None:
    problem(client.get("/nothing/here"), 404)
    answer = client.get("/predict")
    problem(answer, 405)
    assert answer.headers["allow"] == "POST"


def test_a_deadline_that_cannot_be_kept_is_a_504(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"instances": [[[1] * 6] * 300] * 40, "timeout_ms": 0.5})
    assert "deadline" in problem(answer, 504)["detail"]


def test_the_callers_request_id_comes_back_if_it_is_safe(client: httpx.Client) -> None:
    """It is written to logs, where a line break in it could forge a line."""
    assert client.get("/health", headers={"X-Request-ID": "trace-7"}).headers["x-request-id"] == "trace-7"
    made = client.get("/health", headers={"X-Request-ID": "a" * 200}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)


def test_health_says_what_runs_where(client: httpx.Client) -> None:
    health = client.get("/health")
    assert health.status_code == 200
    body = health.json()
    assert body["status"] == "ok"
    assert body["models"] == [
        {
            "name": "gyro-denoiser",
            "version": "1",
            "ready": True,
            "provider": "CPUExecutionProvider",
            "provider_requested": "auto",
            "fallback_reason": None,
        }
    ]
    assert body["uptime_seconds"] > 0
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 200


def test_the_documentation_works_offline(client: httpx.Client) -> None:
    """A page that loads its scripts from the internet stays blank on an isolated network."""
    page = client.get("/docs").text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert loaded
    for url in loaded:
        assert url.startswith("/"), url
        assert client.get(url).status_code == 200


def test_the_openapi_document_is_whole_and_its_example_works(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    components = document["components"]["schemas"]
    referenced = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert referenced <= components.keys()
    for example in components["PredictRequest"]["examples"]:
        assert client.post("/predict", json=example).status_code == 200
    assert {"/predict", "/health", "/health/live", "/health/ready"} <= document["paths"].keys()


def test_the_openapi_document_makes_clients_that_can_read_the_answers(client: httpx.Client) -> None:
    """Code generators take an integer for 32 bits and a member with a default as always present, and drop an anyOf of lists."""
    document = client.get("/openapi.json").json()
    schemas = list(parts(document["components"]["schemas"])) + list(parts(document["paths"]))
    assert {each["format"] for each in schemas if each.get("type") == "integer"} == {"int64"}
    assert {each["format"] for each in schemas if each.get("type") == "number"} == {"double"}
    assert all({"type": "null"} in each["anyOf"] for each in schemas if "anyOf" in each)
    for name, schema in document["components"]["schemas"].items():
        assert not [member for member, each in schema["properties"].items() if "default" in each], name
        for example in schema.get("examples", ()):
            assert set(schema.get("required", ())) <= example.keys(), name


def parts(document: Any) -> Iterator[dict[str, Any]]:
    """All objects in a JSON document."""
    if isinstance(document, dict):
        yield document
    for each in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        yield from parts(each)


def test_every_operation_is_described_and_has_a_name_for_a_method(client: httpx.Client) -> None:
    """A framework derives names from paths that nobody would choose: predict_streams__id__predict_post."""
    operations = [each for path in client.get("/openapi.json").json()["paths"].values() for each in path.values()]
    assert all(each["tags"] and each["summary"] and each["description"] for each in operations)
    names = {each["operationId"] for each in operations}
    assert len(names) == len(operations)
    assert not [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+){0,3}", name) or name.endswith(("_get", "_post"))]
    assert {"predict", "begin_stream", "predict_chunk", "predict_chunks", "infer", "list_models"} <= names
    for each in operations:
        for status, header in (("401", "WWW-Authenticate"), ("429", "Retry-After"), ("503", "Retry-After")):
            told = each["responses"].get(status, {})
            assert header in told.get("headers", {}) or "problem+json" not in str(told), each["operationId"]


@pytest.mark.parametrize(
    ("path", "schema", "option"), [("/predict", "PredictRequest", "timeout_ms"), ("/streams/{id}/predict", "ChunkRequest", "seq")]
)
def test_an_option_has_the_same_limits_in_the_query_as_in_the_body(
    client: httpx.Client, path: str, schema: str, option: str
) -> None:
    """Otherwise a generated client sends with octets what it would refuse to send as JSON."""
    document = client.get("/openapi.json").json()
    body, _ = document["components"]["schemas"][schema]["properties"][option]["anyOf"]
    (query,) = [each["schema"] for each in document["paths"][path]["post"]["parameters"] if each["name"] == option]
    assert query == body


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_stops_it_cleanly(repository: Path, name: str, workers: str) -> None:
    """`docker stop`, Ctrl-C and a closed terminal are ordinary ends, not failures; a keep-alive connection must not delay them."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup, and the service would inherit it
    try:
        with serve(repository, "--workers", workers, module="app") as server, httpx.Client(base_url=server.url) as http:
            assert http.get("/health").status_code == 200
            assert server.stop(getattr(signal, name)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert "everything that was accepted has been answered" in "".join(server.log)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_under_nohup_it_outlives_its_terminal(repository: Path, workers: str) -> None:
    """A user who makes the service ignore SIGHUP wants it to go on."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited, as it is from nohup
    try:
        with serve(repository, "--workers", workers) as server:
            for pid in (server.process.pid, *children(server.process.pid)):
                os.kill(pid, signal.SIGHUP)
            assert httpx.get(f"{server.url}/health").status_code == 200
            assert "Stopping" not in "".join(server.log)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_service_that_cannot_serve_says_why_and_ends(tmp_path: Path) -> None:
    """No traceback: the reason and the next step."""
    with pytest.raises(RuntimeError) as caught, serve(tmp_path):
        pass
    assert "There is no model 'gyro-denoiser'" in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_taken_port_is_told(repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(RuntimeError, match="Address already in use"), serve(repository, "--port", port):
            pass


def test_wrong_settings_end_with_2_and_are_all_named() -> None:
    """Otherwise the user would need one start for each mistake."""
    command = [sys.executable, "-m", "app", "--port", "99999", "--lanes", "none", "--max-padding-waste", "1"]
    environment = os.environ | {"RECURVE_MAX_BATCHSIZE": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert [line.split(maxsplit=1)[0] for line in result.stderr.splitlines()] == [
        "RECURVE_PORT:",
        "RECURVE_LANES:",
        "RECURVE_MAX_PADDING_WASTE:",
        "RECURVE_MAX_BATCHSIZE",
    ]


def test_a_secret_that_is_wrong_is_not_shown(tmp_path: Path) -> None:
    """What is printed at the start ends up in logs."""
    for wrong in ({"RECURVE_STATE_KEY": "hunter2"}, {"RECURVE_STATE_KEY_FILE": str(tmp_path / "none")}):
        result = subprocess.run(
            [sys.executable, "-m", "app"], cwd=ROOT, env=os.environ | wrong, capture_output=True, text=True, check=False
        )
        assert result.returncode == 2
        assert next(iter(wrong)) in result.stderr
        assert "hunter2" not in result.stderr
        assert "Traceback" not in result.stderr


def test_a_secret_on_the_command_line_is_warned_of(tmp_path: Path) -> None:
    """Any user of the machine may list processes with their flags; only the service's own user may read its variables."""
    store, told = "redis://somebody:hidden@127.0.0.1:1/0", "can read the secret in --stream-store"

    def log(*flags: str, **variables: str) -> str:
        with pytest.raises(RuntimeError) as caught, serve(tmp_path, "--workers", "1", *flags, **variables):
            pass  # there is no model
        return str(caught.value)

    logs = [log("--stream-store", store), log(f"--stream-store={store}"), log(RECURVE_STREAM_STORE=store)]
    assert [told in each for each in logs] == [True, True, False]
    key = log("--api-keys", "ops:admin:hidden-0123456789")
    assert "can read the secret in --api-keys: set RECURVE_API_KEYS instead" in key
    assert "hidden" not in key
    assert not any("hidden" in each for each in logs)


def test_the_command_line_explains_itself() -> None:
    result = subprocess.run([sys.executable, "-m", "app", "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "--max-batch-size" in result.stdout


def test_flags_beat_variables(repository: Path) -> None:
    with serve(repository, "--max-instances", "2", RECURVE_MAX_INSTANCES="7", RECURVE_MAX_STEPS="5") as server:
        assert "max_instances=2, max_steps=5" in "".join(server.log)


def test_nothing_of_torch_is_loaded_by_the_service() -> None:
    """torch is not installed where the service runs."""
    code = "import sys, app.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_caller_that_goes_away_while_sending_is_no_defect(repository: Path) -> None:
    """It happens all day: it must not fill the log with tracebacks or delay other clients."""
    with serve(repository) as server:
        address = httpx.URL(server.url)
        with socket.create_connection((address.host, address.port or 80)) as caller:
            caller.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
        assert httpx.post(f"{server.url}/predict", json={"instances": [[STEP]]}).status_code == 200
        assert server.stop() == 0
    assert "Traceback" not in "".join(server.log)


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to see processes")
def test_a_worker_that_dies_is_replaced_and_nobody_is_refused(repository: Path) -> None:
    """The loss of one process out of several must not cause an outage."""
    with serve(repository, "--workers", "2") as server:
        before = children(server.process.pid)
        assert len(before) == 2
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        wait_for_end(victim)  # connections it was given before its end are lost
        for _ in range(50):  # a new connection each: a worker that is alive answers
            assert httpx.post(f"{server.url}/predict", json={"instances": [[STEP]]}).status_code == 200
        server.wait_for("is replaced")
        server.wait_for("Loaded", times=3)
        after = children(server.process.pid)
        assert len(after) == 2
        assert victim not in after
        assert server.stop() == 0
        assert not any(Path(f"/proc/{worker}").exists() for worker in before | after)


def test_connections_that_come_together_are_spread_evenly(repository: Path) -> None:
    """Behind one shared socket, one worker often takes them all, and the others idle."""
    with serve(repository, "--workers", "2") as server:
        address = httpx.URL(server.url)
        callers = [socket.create_connection((address.host, address.port or 80)) for _ in range(32)]
        pids = []
        for caller in callers:
            caller.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert caller.recv(65536).startswith(b"HTTP/1.1 200")
        for worker in children(server.process.pid):
            links = [str(path.readlink()) for path in Path(f"/proc/{worker}/fd").iterdir()]
            pids.append(sum(link.startswith("socket:") for link in links))
        for caller in callers:
            caller.close()
        assert abs(pids[0] - pids[1]) <= 2
        assert min(pids) >= 16


def test_workers_end_with_their_supervisor(repository: Path) -> None:
    """A supervisor that was killed must not leave workers behind that nobody stops."""
    with serve(repository, "--workers", "2") as server:
        workers = children(server.process.pid)
        server.stop(signal.SIGKILL)
        for worker in workers:
            wait_for_end(worker)


def wait_for_end(pid: int) -> None:
    """Wait until a process that is not our child has ended; a second should be plenty."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], 10)[0], f"process {pid} goes on"
    finally:
        os.close(descriptor)


def test_a_large_body_is_answered_like_a_small_one(repository: Path, spec: manifest.ModelSpec) -> None:
    """It is decoded in another thread, so that it delays nobody; the answer must be the same."""
    sequences = [steps(2000, seed) for seed in range(8)]
    with serve(repository) as server, httpx.Client(base_url=server.url, timeout=30) as http:
        assert len(json.dumps(sequences)) > 2**19
        together = predict(http, sequences)
        assert problem(http.post("/predict", json={"instances": [*sequences, [[1]]]}), 422)["errors"]
        alone = predict(http, sequences[3:4])
        np.testing.assert_allclose(together[3], alone[0], rtol=spec.tolerance.rtol, atol=spec.tolerance.atol)


@pytest.mark.parametrize(
    "path", ["/health", "/health/live", "/health/ready", "/metrics", "/models", "/v2", "/openapi.json", "/", "/streams/none"]
)
def test_head_is_told_what_get_is_but_the_body(client: httpx.Client, path: str) -> None:
    """Monitors send HEAD requests."""
    got, told = client.get(path), client.head(path)
    assert (told.status_code, told.content) == (got.status_code, b"")
    for name in ("content-type", "content-length"):
        assert (name in told.headers) == (name in got.headers)
    assert client.head("/predict").status_code == 405
    assert client.get("/health/live").status_code == 200  # on the same connection


HEAVY: dict[str, Any] = {"instances": [[STEP] * 5000] * 10, "return_sequences": False}  # tens of milliseconds of work for one lane


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/predict", "POST"),
        ("/health", "GET, HEAD"),
        ("/streams/a", "GET, DELETE, HEAD"),
        ("/v2/models/a/versions/1/infer", "POST"),
        ("/docs", "GET, HEAD"),
    ],
)
def test_options_tells_what_may_be_asked_of_a_path(client: httpx.Client, path: str, allowed: str) -> None:
    """The methods of all routes of the path, as a 405 lists them; pages of other origins get no permission."""
    answer = client.options(path, headers={"Origin": "http://elsewhere", "Access-Control-Request-Method": "POST"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["allow"] == allowed
    assert "content-length" not in answer.headers
    assert not [name for name in answer.headers if name.startswith("access-control")]
    refused = client.patch(path)
    problem(refused, 405)
    assert refused.headers["allow"] == allowed


def test_options_of_nothing_in_particular_is_answered(server: Server, client: httpx.Client) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as caller:
        caller.sendall(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"".join(iter(lambda: caller.recv(65536), b"")).startswith(b"HTTP/1.1 204 ")
    problem(client.options("/nope"), 404)


def test_who_goes_away_is_not_worked_for(repository: Path) -> None:
    """Otherwise clients with short timeouts and automatic retries would keep the service busy with answers that nobody reads."""
    flags = ("--workers", "1", "--lanes", "1", "--max-batch-size", "1", "--log-level", "debug")
    with serve(repository, *flags) as server:
        address = httpx.URL(server.url)
        body = json.dumps(HEAVY | {"instances": HEAVY["instances"] * 4}).encode()
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        for _ in range(20):
            with socket.create_connection((address.host, address.port or 80)) as caller:
                caller.sendall(head.encode() + body)
        server.wait_for("its caller went away", times=10)  # the first ones may be done before it is noticed
        assert httpx.post(f"{server.url}/predict", json={"instances": [[STEP]]}, timeout=30).status_code == 200
        assert server.stop() == 0
    assert "Traceback (most recent call last)" not in "".join(line for line in server.log if "ERROR" in line)


def test_who_leaves_a_pipeline_is_not_worked_for_and_nothing_is_logged(repository: Path) -> None:
    """The request that runs is not the one that was read last."""
    long = np.zeros((500_000, 6), "<f4").tobytes()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {OCTETS}\r\nContent-Length: {len(long)}\r\n\r\n"
    with serve(repository, "--workers", "1", "--lanes", "1", "--max-steps", "500000", "--log-level", "debug") as server:
        address = httpx.URL(server.url)
        for _ in range(8):
            with socket.create_connection((address.host, address.port or 80)) as caller:
                caller.sendall(head.encode() + long + b"POST /predict HTTP/1.1\r\nHost: x\r\n")
        server.wait_for("its caller went away", times=3)  # some may be done before their clients leave
        assert httpx.get(f"{server.url}/health").status_code == 200
    assert "Traceback" not in "".join(server.log)


@pytest.mark.parametrize(
    ("flags", "signals"),
    [
        pytest.param(("--workers", "1", "--drain-timeout", "0"), 1, id="out-of-time"),
        pytest.param(("--workers", "1"), 2, id="second-signal"),
        pytest.param(("--workers", "2"), 2, id="second-signal-to-workers"),
    ],
)
def test_what_is_not_finished_is_refused_with_503(flags: tuple[str, ...], signals: int) -> None:
    """Stopping takes a bounded time, and every waiting client gets an answer that says what to do."""
    body = np.zeros((200_000, 6), "<f4").tobytes()  # 0.25 s of work or more for one lane; 24 of them are sent
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {OCTETS}\r\nContent-Length: {len(body)}\r\n"
    with (
        serve(ROOT / "model", "--lanes", "1", "--max-batch-size", "1", "--max-steps", "200000", *flags) as server,
        ExitStack() as stack,
    ):
        address = httpx.URL(server.url)
        callers = [stack.enter_context(socket.create_connection((address.host, address.port or 80))) for _ in range(24)]
        for caller in callers:
            caller.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
            assert caller.recv(64) == b"HTTP/1.1 100 Continue\r\n\r\n"  # so a worker reads it
            caller.sendall(body)
        for _ in range(signals - 1):
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("Stopping", times=int(flags[1]))
        server.process.send_signal(signal.SIGTERM)
        statuses = [HTTPResponse(caller) for caller in callers]
        for status in statuses:
            status.begin()
            status.read()
        assert server.process.wait(timeout=30) == 0
    assert {status.status for status in statuses} <= {200, 503}
    refused = [status for status in statuses if status.status == 503]
    assert refused
    assert all(status.headers["Retry-After"] for status in refused)
