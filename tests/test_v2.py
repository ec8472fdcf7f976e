"""The Open Inference Protocol over real HTTP, with Triton's own clients, and with requests that they never send."""

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from fastapi import FastAPI
from tritonclient.utils import InferenceServerException

from app.api import v2_models, v2_repository
from app.api.bodies import Bodies
from app.catalog import Catalog
from app.counted import ModelCounts
from app.engine import Engine
from app.golden import Golden
from app.http.ahead import Room
from app.lifecycle import Loader
from app.manifest import InputSpec, ModelSpec, OutputSpec, Signal, StateSpec, Tolerance
from app.metrics import Metrics
from app.operations import Operations
from app.orders import OrderBook
from app.processes.fleet import Fleet
from app.repository import Refusals, Repository
from app.runtime import CPU
from app.service import Service
from app.tensors import Instance
from scripts.training import publish
from tests import artifacts, graphs
from tests.servers import Server, serve
from tests.services import LATEST, LIMITS

GYRO = "gyro-denoiser"
TICKS, CELLS, SCORES, WHOLE = "ticks", "cells", "scores", "whole"
MOST_LOOKS = 2000  # reads of a count that is about to be written
KEY = "tests-only-secret-of-an-administrator"
AUTHORIZATION = {"Authorization": f"Bearer {KEY}"}

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of one model, and one graph of each kind: time-major, stepwise, with an output for the whole, acausal."""
    folder = tmp_path_factory.mktemp("models")
    for seed in (0, 1):
        artifacts.build(folder, seed=seed)
    state = StateSpec(input="h", output="h_out", shape=(1, graphs.HIDDEN), batch_axis=1)
    adopt(
        folder,
        TICKS,
        graphs.time_major,
        input=InputSpec(name="x", batch_axis=1, time_axis=0),
        states=(state,),
        outputs=(OutputSpec(name="y", shape=(graphs.WIDTH,), batch_axis=1, time_axis=0),),
    )
    adopt(
        folder,
        CELLS,
        graphs.stepwise_cells,
        input=InputSpec(name="x", time_axis=None),
        states=tuple(StateSpec(input=a, output=b, shape=(graphs.HIDDEN,), batch_axis=0) for a, b in (("a", "p"), ("b", "q"))),
        outputs=(OutputSpec(name="y", shape=(graphs.WIDTH,), time_axis=None),),
    )
    adopt(
        folder,
        SCORES,
        graphs.several_outputs,
        input=InputSpec(name="x"),
        states=(state,),
        outputs=(OutputSpec(name="scores", shape=(graphs.WIDTH,)), OutputSpec(name="summary", shape=(2,), time_axis=None)),
    )
    adopt(
        folder,
        WHOLE,
        graphs.bidirectional,
        input=InputSpec(name="input"),
        states=(),
        outputs=(OutputSpec(name="output", shape=(graphs.WIDTH,)),),
        causal=False,
    )
    return folder


def adopt(folder: Path, name: str, graph: Any, **parts: Any) -> None:
    """Publish a graph with a manifest that describes it."""
    features = tuple(Signal(name=f"f{index}") for index in range(graphs.FEATURES))
    common = {"features": features, "lengths": None, "opset": 17, "tolerance": Tolerance(rtol=1e-5, atol=1e-5)}
    with publish.staging(folder, name) as staged:
        graph(staged / "model.onnx")
        (staged / "golden.npz").touch()

        def spec_of(version: str) -> ModelSpec:
            sums = publish.checksums(staged)
            return ModelSpec(name=name, version=version, graphs={CPU: "model.onnx"}, files=sums, **common, **parts)

        engine = Engine(spec_of("1"), staged, device="cpu")
        instances = [Instance(random(steps, graphs.FEATURES)) for steps in (1, 4)]
        starts = [Instance(each.steps, zeros(engine.spec)) for each in instances]
        golden = Golden(starts, engine.predict(instances))
        golden.save(staged, outputs=engine.spec.outputs, states=engine.spec.states)
        publish.publish(staged, spec_of)


def zeros(spec: ModelSpec) -> tuple[Array, ...]:
    return tuple(np.zeros(state.shape, np.float32) for state in spec.states)


@pytest.fixture(scope="module")
def server(model_dir: Path) -> Iterator[Server]:
    limits = ("--max-body-bytes", "200000", "--max-instances", "40", "--max-steps", "300")
    with serve(model_dir, "--workers", "2", *limits, RECURVE_API_KEYS=f"tests:admin:{KEY}") as running:
        yield running


class WithKey(triton.InferenceServerClientPlugin):
    """A plugin that gives Triton's clients an API key."""

    def __call__(self, request: Any) -> None:
        request.headers.update(AUTHORIZATION)


@pytest.fixture
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as made:
        made.register_plugin(WithKey())
        yield made


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30, headers=AUTHORIZATION) as made:
        yield made


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def given(name: str, array: Array, *, binary: bool = True, module: Any = triton) -> Any:
    kinds = {"float32": "FP32", "int32": "INT32", "int64": "INT64"}
    tensor = module.InferInput(name, list(array.shape), kinds[str(array.dtype)])
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def alone(http: httpx.Client, rows: Sequence[Array]) -> list[Array]:
    """The answers of /predict to each row in a request of its own: the slower truth."""
    answers = [http.post("/predict", json={"instances": [row.tolist()]}).json() for row in rows]
    return [np.array(answer["predictions"][0], np.float32) for answer in answers]


def close(a: Any, b: Any) -> bool:
    return bool(np.allclose(a, b, rtol=1e-5, atol=1e-5))


def plain(array: Array, **members: Any) -> dict[str, Any]:
    inputs = [{"name": "input", "shape": list(array.shape), "datatype": "FP32", "data": array.ravel().tolist()}]
    return {"inputs": inputs, **members}


def infer(http: httpx.Client, body: Any, model: str = GYRO, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return http.post(f"/v2/models/{model}/infer", content=content, headers=headers)


def refusal(answer: httpx.Response, status: int) -> str:
    """The text of an error, after a check of the form that all errors have."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    error = body["error"]
    assert isinstance(error, str)
    return error


def test_the_server_and_its_models_say_that_they_are_ready(client: triton.InferenceServerClient) -> None:
    """Load balancers and clients ask this first."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(GYRO)
    assert client.is_model_ready(GYRO, "2")
    assert not client.is_model_ready(GYRO, "1")
    assert not client.is_model_ready("nobody")


def test_health_answers_are_json(http: httpx.Client) -> None:
    """Other clients of the protocol read the bodies, not the status."""
    assert http.get("/v2/health/live").json() == {"live": True}
    assert http.get("/v2/health/ready").json() == {"ready": True}
    assert http.get(f"/v2/models/{GYRO}/ready").json() == {"name": GYRO, "ready": True}
    assert http.get("/v2/").json() == http.get("/v2").json()


def test_metadata_and_configuration_tell_what_to_send(client: triton.InferenceServerClient) -> None:
    """Tools make their requests from these two alone."""
    server = client.get_server_metadata()
    assert server["name"] == "recurve"
    extensions = {"binary_tensor_data", "sequence", "model_repository", "model_configuration", "statistics"}
    assert set(server["extensions"]) == extensions
    found = client.get_model_metadata(GYRO)
    assert (found["name"], found["versions"], found["platform"]) == (GYRO, ["2"], "onnxruntime_onnx")
    assert found["inputs"] == [
        {"name": "input", "datatype": "FP32", "shape": [-1, -1, 6]},
        {"name": "lengths", "datatype": "INT32", "shape": [-1]},
        {"name": "h0", "datatype": "FP32", "shape": [2, -1, 8]},
    ]
    assert [each["name"] for each in found["outputs"]] == ["output", "hn"]
    config = client.get_model_config(GYRO)
    assert config["max_batch_size"] == 40
    assert config["sequence_batching"]["state"][0]["dims"] == [2, 8]
    assert [(each["name"], each.get("optional", False)) for each in config["input"]] == [
        ("input", False),
        ("lengths", True),
        ("h0", True),
    ]
    assert client.get_model_config(TICKS)["max_batch_size"] == 0
    assert client.get_model_metadata(CELLS)["inputs"][0]["shape"] == [-1, graphs.FEATURES]


@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary_out", [True, False], ids=["binary-out", "json-out"])
@pytest.mark.parametrize("binary_in", [True, False], ids=["binary-in", "json-in"])
def test_every_way_of_asking_gives_the_same_answer(
    client: triton.InferenceServerClient, http: httpx.Client, binary_in: bool, binary_out: bool, packed: str | None
) -> None:
    """Rows may differ in length; each is answered as if it had come alone, and filled up with zeros."""
    rows, lengths = random(3, 90, 6), [90, 1, 33]
    answer = client.infer(
        GYRO,
        [given("input", rows, binary=binary_in), given("lengths", np.array(lengths, np.int64), binary=binary_in)],
        outputs=[triton.InferRequestedOutput("output", binary_data=binary_out)],
        request_id="42",
        request_compression_algorithm=packed,
        response_compression_algorithm=packed,
    )
    found = answer.as_numpy("output")
    for row, length, prediction in zip(
        found, lengths, alone(http, [r[:n] for r, n in zip(rows, lengths, strict=True)]), strict=True
    ):
        assert close(row[:length], prediction)
        assert not row[length:].any()
    assert answer.get_response()["id"] == "42"
    assert (answer.get_response()["model_name"], answer.get_response()["model_version"]) == (GYRO, "2")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_a_large_answer_is_packed_as_its_caller_asks(http: httpx.Client, coding: str, binary: bool) -> None:
    """Binary answers are compressed too; the length of their JSON is the one before compression."""
    body = plain(random(2, 100, 6), parameters={"binary_data_output": binary})
    answer = infer(http, body, **{"Accept-Encoding": coding})
    assert answer.headers["content-encoding"] == coding
    length = answer.headers.get("inference-header-content-length")
    assert (length is not None) == binary
    output = json.loads(answer.content[: int(length or len(answer.content))])["outputs"][0]
    numbers = np.frombuffer(answer.content[int(length) :], "<f4") if length else np.array(output["data"], np.float32)
    bare = infer(http, plain(random(2, 100, 6)), **{"Accept-Encoding": "identity"})
    assert "content-encoding" not in bare.headers
    assert close(numbers, bare.json()["outputs"][0]["data"])


def test_nothing_but_the_body_is_needed(http: httpx.Client) -> None:
    """Some clients send no Content-Type, others one that is not JSON's."""
    answers = [infer(http, plain(random(1, 3, 6)), **headers) for headers in ({}, {"Content-Type": "application/octet-stream"})]
    assert "content-type" not in answers[0].request.headers
    assert [answer.status_code for answer in answers] == [200, 200]
    assert "id" not in answers[0].json()
    assert answers[0].json()["outputs"][0]["shape"] == [1, 3, 3]


def test_a_state_that_is_asked_for_carries_the_sequence_on(client: triton.InferenceServerClient) -> None:
    """State outputs are requested by name and sent back as state inputs: the pieces then equal the whole."""
    whole = random(2, 40, 6)
    expected = client.infer(GYRO, [given("input", whole)]).as_numpy("output")
    named = [triton.InferRequestedOutput("output"), triton.InferRequestedOutput("hn")]
    first = client.infer(GYRO, [given("input", whole[:, :25])], outputs=named)
    second = client.infer(GYRO, [given("input", whole[:, 25:]), given("h0", first.as_numpy("hn"))], outputs=named)
    assert close(np.concatenate([first.as_numpy("output"), second.as_numpy("output")], axis=1), expected)
    assert "hn" not in [each["name"] for each in client.infer(GYRO, [given("input", whole)]).get_response()["outputs"]]


def test_the_asyncio_client_works_as_it_comes(server: Server) -> None:
    """Many requests at once share batches; no answer may depend on that."""
    rows = [random(1, steps, 6, seed=steps) for steps in range(1, 33)]

    async def ask() -> None:
        async with triton_aio.InferenceServerClient(server.url.removeprefix("http://")) as client:
            client.register_plugin(WithKey())
            assert await client.is_server_ready()
            assert (await client.get_model_metadata(GYRO))["name"] == GYRO

            async def one(row: Array, packed: str | None) -> Array:
                inputs = [given("input", row, module=triton_aio)]
                ways = {"request_compression_algorithm": packed, "response_compression_algorithm": packed}
                found: Array = (await client.infer(GYRO, inputs, **ways)).as_numpy("output")
                return found

            together = await asyncio.gather(*(one(row, None) for row in rows))
            packed = await asyncio.gather(*(one(row, ("gzip", "deflate")[i % 2]) for i, row in enumerate(rows)))
            for row, a, b in zip(rows, together, packed, strict=True):
                single = await one(row, None)
                assert close(a, single)
                assert close(b, single)

    asyncio.run(ask())


@pytest.mark.parametrize("name", [TICKS, SCORES])
def test_tensors_are_those_of_the_graph(client: triton.InferenceServerClient, model_dir: Path, name: str) -> None:
    """Tensors keep the graph's own layout: the answer is what ONNX Runtime gives for the same tensors."""
    shape = (7, 3, graphs.FEATURES) if name == TICKS else (3, 7, graphs.FEATURES)
    feeds = {"x": random(*shape), "h": random(1, 3, graphs.HIDDEN)}
    expected = graphs.answer(model_dir / name / "1" / "model.onnx", feeds)
    served = [each["name"] for each in client.get_model_metadata(name)["outputs"]]
    named = [triton.InferRequestedOutput(each) for each in reversed(served)]
    answer = client.infer(name, [given(*each) for each in feeds.items()], outputs=named)
    for output in served:
        assert answer.as_numpy(output).shape == expected[output].shape
        assert close(answer.as_numpy(output), expected[output])
    assert "label" not in served  # it is not in the manifest


def test_a_stepwise_graph_is_driven_step_by_step(client: triton.InferenceServerClient, model_dir: Path) -> None:
    """A request is one step, with both states given or, in a sequence, kept by the service."""
    steps = random(6, 1, graphs.FEATURES)
    a, b = np.zeros((1, graphs.HIDDEN), np.float32), np.zeros((1, graphs.HIDDEN), np.float32)
    for index, x in enumerate(steps):
        expected = graphs.answer(model_dir / CELLS / "1" / "model.onnx", {"x": x, "a": a, "b": b})
        named = [triton.InferRequestedOutput(each) for each in ("y", "p", "q")]
        answer = client.infer(CELLS, [given("x", x), given("b", b), given("a", a)], outputs=named)
        kept = client.infer(CELLS, [given("x", x)], sequence_id="cells", sequence_start=index == 0, sequence_end=index == 5)
        assert close(answer.as_numpy("y"), expected["y"])
        assert close(kept.as_numpy("y"), expected["y"])
        a, b = answer.as_numpy("p"), answer.as_numpy("q")
        assert close(a, expected["p"])


@pytest.mark.parametrize("id", [77, "wrist-7"])
def test_a_sequence_in_pieces_is_the_whole(client: triton.InferenceServerClient, id: int | str) -> None:
    """Fifty requests of one or more steps, to either process, are answered as if the sequence had never been cut."""
    whole = random(1, 100, 6)
    expected = client.infer(GYRO, [given("input", whole)]).as_numpy("output")
    cuts = [0, *sorted(np.random.default_rng(0).choice(np.arange(1, 100), 49, replace=False).tolist()), 100]
    found = []
    for index, (begin, end) in enumerate(pairwise(cuts)):
        part = [given("input", whole[:, begin:end])]
        answer = client.infer(GYRO, part, sequence_id=id, sequence_start=index == 0, sequence_end=index == 49)
        found.append(answer.as_numpy("output"))
    assert len(found) == 50
    assert close(np.concatenate(found, axis=1), expected)
    with pytest.raises(InferenceServerException, match="sequence_start"):  # the sequence has ended
        client.infer(GYRO, [given("input", whole[:, :1])], sequence_id=id)


def test_a_sequence_that_starts_again_begins_anew(client: triton.InferenceServerClient) -> None:
    """The old state must not reach into the new sequence; a refused request does not start one."""
    steps = random(1, 5, 6)
    first = client.infer(GYRO, [given("input", steps)], sequence_id=9, sequence_start=True).as_numpy("output")
    onward = client.infer(GYRO, [given("input", steps)], sequence_id=9).as_numpy("output")
    assert not close(first, onward)
    with pytest.raises(InferenceServerException):
        client.infer(GYRO, [given("input", steps[:, :, :5])], sequence_id=9, sequence_start=True)
    third = client.infer(GYRO, [given("input", steps)], sequence_id=9).as_numpy("output")
    assert not close(first, third)
    again = client.infer(GYRO, [given("input", steps)], sequence_id=9, sequence_start=True, sequence_end=True).as_numpy("output")
    assert close(again, first)


def test_sequences_that_start_at_once_under_one_id_are_answered_one_by_one(http: httpx.Client) -> None:
    """In two processes, each start is one atomic step: each is answered from a zero state, none refused, and one of them stays."""
    starts = [random(1, length, 6, seed=length) for length in range(1, 9)]

    def start(steps: Array) -> httpx.Response:
        with httpx.Client(base_url=http.base_url, headers=AUTHORIZATION, timeout=30) as one:  # its own connection
            return infer(one, plain(steps, parameters={"sequence_id": 21, "sequence_start": True}))

    expected = alone(http, [steps[0] for steps in starts])
    onward = alone(http, [np.concatenate([steps[0], STEP[0]]) for steps in starts])
    with ThreadPoolExecutor(len(starts)) as together:
        for _ in range(10):
            for answer, prediction in zip(together.map(start, starts), expected, strict=True):
                assert answer.status_code == 200, answer.text
                assert close(answer.json()["outputs"][0]["data"], prediction.ravel())
            last = http.get(f"/streams/{GYRO}:21").json()["steps"]
            answer = infer(http, plain(STEP, parameters={"sequence_id": 21, "sequence_end": True}))
            assert close(answer.json()["outputs"][0]["data"], onward[last - 1][-1])
            assert http.get(f"/streams/{GYRO}:21").status_code == 404


def test_a_start_that_is_too_late_leaves_the_sequence_before_it(http: httpx.Client) -> None:
    """A start that fails must not change anything."""
    assert infer(http, plain(STEP, parameters={"sequence_id": 22, "sequence_start": True})).status_code == 200
    late = plain(STEP, parameters={"sequence_id": 22, "sequence_start": True, "timeout": 1})
    assert "deadline" in refusal(infer(http, late), 504)
    wrong = plain(random(1, 1, 7), parameters={"sequence_id": 22, "sequence_start": True})
    assert "expected the shape" in refusal(infer(http, wrong), 400)
    vast = plain(np.full((1, 2, 6), 3.4e38, np.float32), parameters={"sequence_id": 22, "sequence_start": True})
    assert "overflows" in refusal(infer(http, vast), 400)
    assert http.get(f"/streams/{GYRO}:22").json()["steps"] == 1
    assert infer(http, plain(STEP, parameters={"sequence_id": 22, "sequence_end": True})).status_code == 200


def test_a_model_that_needs_the_whole_keeps_no_sequence(http: httpx.Client) -> None:
    """The error is in the protocol's terms, and another model's sequence of the same id continues."""
    assert infer(http, plain(STEP, parameters={"sequence_id": 23, "sequence_start": True})).status_code == 200
    start = plain(random(1, 2, graphs.FEATURES), parameters={"sequence_id": 23, "sequence_start": True})
    said = refusal(infer(http, start, WHOLE), 400)
    assert said.startswith("/parameters/sequence_id: whole version 1 has no state to go on from")
    assert infer(http, plain(STEP, parameters={"sequence_id": 23, "sequence_end": True})).status_code == 200


def test_a_sequence_goes_on_in_the_terms_of_the_version_it_began_with(tmp_path: Path) -> None:
    """The next version has entirely different tensors; a client in the middle of a sequence keeps using the old ones' names."""
    state = StateSpec(input="h", output="h_out", shape=(1, graphs.HIDDEN), batch_axis=1)
    older = (OutputSpec(name="scores", shape=(graphs.WIDTH,)), OutputSpec(name="summary", shape=(2,), time_axis=None))
    adopt(tmp_path, "m", graphs.several_outputs, input=InputSpec(name="x"), states=(state,), outputs=older)
    flags = ("--workers", "2", "--default-model", "m")
    with (
        serve(tmp_path, *flags, RECURVE_API_KEYS=f"tests:admin:{KEY}") as server,
        httpx.Client(base_url=server.url, timeout=30, headers=AUTHORIZATION) as http,
    ):
        whole = random(1, 7, graphs.FEATURES)
        expected = graphs.answer(
            tmp_path / "m" / "1" / "model.onnx", {"x": whole, "h": np.zeros((1, 1, graphs.HIDDEN), np.float32)}
        )

        def ask(x: Array, path: str = "m", *, outputs: Sequence[str] = (), **turn: bool) -> httpx.Response:
            tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
            named = [{"name": name} for name in outputs]
            with httpx.Client(base_url=server.url, headers=AUTHORIZATION) as one:  # its own connection, to either process
                return infer(one, {"inputs": [tensor], "outputs": named, "parameters": {"sequence_id": "s", **turn}}, path)

        found = [ask(whole[:, :2], sequence_start=True)]
        newer = (OutputSpec(name="y", shape=(graphs.WIDTH,), batch_axis=1, time_axis=0),)
        times = InputSpec(name="x", batch_axis=1, time_axis=0)
        adopt(tmp_path, "m", graphs.time_major, input=times, states=(state,), outputs=newer)
        http.post("/v2/repository/models/m/load").raise_for_status()
        assert http.get("/v2/models/m").json()["versions"] == ["2"]
        found += [ask(whole[:, 2:4]), ask(whole[:, 4:5], "m/versions/1")]
        found += [ask(whole[:, 5:6], outputs=["scores"])]
        assert "no output y; it gives scores, summary" in refusal(ask(whole[:, 6:], outputs=["y"]), 400)
        assert "one of m version 1, not of version 2" in refusal(ask(whole[:, 6:], "m/versions/2"), 400)
        assert "one row" in refusal(ask(np.concatenate([whole[:, 6:]] * 2)), 400)
        found += [ask(whole[:, 6:], "m/versions/1", outputs=["summary", "scores"], sequence_end=True)]
        for answer in found:
            assert answer.status_code == 200, answer.text
            assert answer.json()["model_version"] == "1"
        outputs = [{each["name"]: np.reshape(each["data"], each["shape"]) for each in answer.json()["outputs"]} for answer in found]
        assert close(np.concatenate([each["scores"] for each in outputs], axis=1), expected["scores"])
        assert close(outputs[-1]["summary"], expected["summary"])
        assert [list(each) for each in outputs[-2:]] == [["scores"], ["summary", "scores"]]
        refusal(ask(whole, "m/versions/1", sequence_start=True), 404)  # only clients in the middle of a sequence may still use it
        begun = ask(whole.swapaxes(0, 1), outputs=["y"], sequence_start=True)
        assert (begun.json()["model_version"], begun.json()["outputs"][0]["shape"]) == ("2", [7, 1, graphs.WIDTH])


def test_each_model_has_sequences_of_its_own(client: triton.InferenceServerClient) -> None:
    """As in Triton, where each model has its own scheduler, several models may follow one sensor under the same id."""
    whole, ticks = random(1, 4, 6), random(2, 1, graphs.FEATURES)
    expected = client.infer(GYRO, [given("input", whole)]).as_numpy("output")
    pieces = [client.infer(GYRO, [given("input", whole[:, :2])], sequence_id=12, sequence_start=True)]
    with pytest.raises(InferenceServerException, match="no sequence 12 of ticks"):
        client.infer(TICKS, [given("x", ticks)], sequence_id=12)
    client.infer(TICKS, [given("x", ticks)], sequence_id=12, sequence_start=True)
    with pytest.raises(InferenceServerException, match="one row, got 2"):
        client.infer(GYRO, [given("input", random(2, 2, 6))], sequence_id=12)
    pieces.append(client.infer(GYRO, [given("input", whole[:, 2:])], sequence_id=12, sequence_end=True))
    np.testing.assert_allclose(np.concatenate([piece.as_numpy("output") for piece in pieces], axis=1), expected, atol=1e-5)
    client.infer(TICKS, [given("x", ticks)], sequence_id=12, sequence_end=True)


def test_a_sequence_is_a_stream_like_any_other(client: triton.InferenceServerClient, http: httpx.Client) -> None:
    """It can be begun with this protocol, and then seen and continued under /streams."""
    client.infer(GYRO, [given("input", random(1, 2, 6))], sequence_id=13, sequence_start=True)
    stream = f"/streams/{GYRO}:13"
    assert http.get(stream).json()["steps"] == 2
    http.post(f"{stream}/predict", json={"input": random(3, 6).tolist()}).raise_for_status()
    client.infer(GYRO, [given("input", random(1, 2, 6))], sequence_id=13)
    assert http.get(stream).json()["steps"] == 7
    assert f"{GYRO}:13" in http.get("/streams").json()["ids"]
    assert http.delete(stream).status_code == 204


def test_no_stream_that_is_begun_over_http_is_taken_for_a_sequence(http: httpx.Client) -> None:
    """A stream cannot take the id of a sequence either."""
    assert http.post("/streams", json={"id": f"{GYRO}:14"}).status_code == 422
    assert http.post("/streams", json={"id": "14"}).status_code == 201
    assert "no sequence 14" in refusal(infer(http, plain(STEP, parameters={"sequence_id": 14})), 400)
    assert http.delete("/streams/14").status_code == 204


STEP = random(1, 1, 6)


@pytest.mark.parametrize(
    ("body", "headers", "says"),
    [
        (b"", {}, "not valid JSON"),
        (b"nonsense", {"Content-Encoding": "gzip"}, "not gzip"),
        (b"nonsense", {"Content-Encoding": "br"}, "gzip, deflate or not at all"),
        (plain(STEP), {"Inference-Header-Content-Length": "x"}, "must be a number"),
        (plain(STEP), {"Inference-Header-Content-Length": "99999"}, "has only"),
        (plain(random(41, 1, 6)), {}, "41 instances; at most 40"),
        (plain(random(1, 301, 6)), {}, "301 time steps; at most 300"),
        (b" " * 200_001, {}, "at most 200000 are accepted"),
        (plain(random(1, 1, 7)), {}, "input: expected the shape [-1, -1, 6]"),
        (plain(STEP, parameters={"sequence_id": 404}), {}, "sequence_start"),
        (plain(STEP, outputs=[{"name": "nothing"}]), {}, "no output nothing"),
    ],
)
def test_whatever_the_client_does_wrong_is_400(http: httpx.Client, body: Any, headers: dict[str, str], says: str) -> None:
    """This holds even where other routes of the service give another status: the protocol knows no other."""
    assert says in refusal(infer(http, body, **headers), 400)


def test_other_errors_keep_their_status(http: httpx.Client) -> None:
    """What does not exist is 404, and the header Allow lists the methods."""
    assert "There is no model 'nobody'" in refusal(infer(http, plain(STEP), "nobody"), 404)
    assert "Version '9'" in refusal(http.get(f"/v2/models/{GYRO}/versions/9"), 404)
    assert refusal(http.get("/v2/models"), 404)
    wrong = http.get(f"/v2/models/{GYRO}/infer")
    assert refusal(wrong, 405)
    assert wrong.headers["allow"] == "POST"


def test_a_timeout_in_microseconds_is_the_deadline(http: httpx.Client) -> None:
    """A deadline that passes before the body is read gives 504; a sequence then stays where it was."""
    assert "deadline" in refusal(infer(http, plain(STEP, parameters={"timeout": 1})), 504)
    assert infer(http, plain(STEP, parameters={"timeout": 20_000_000})).status_code == 200
    assert infer(http, plain(STEP, parameters={"sequence_id": 5, "sequence_start": True})).status_code == 200
    assert "deadline" in refusal(infer(http, plain(STEP, parameters={"sequence_id": 5, "timeout": 1})), 504)
    assert http.get(f"/streams/{GYRO}:5").json()["steps"] == 1


def test_orders_need_an_administrator(server: Server) -> None:
    """Clients that may ask for predictions may not decide what is served; everyone may ask whether the service is ready."""
    with httpx.Client(base_url=server.url) as stranger:
        assert "key" in refusal(stranger.post(f"/v2/repository/models/{GYRO}/unload"), 401)
        assert "key" in refusal(stranger.post(f"/v2/models/{GYRO}/infer"), 401)
        assert stranger.get("/v2/health/ready").status_code == 200


def test_a_version_may_be_named(http: httpx.Client) -> None:
    """Every path of a model can name a version."""
    for path in ("", "/ready", "/config", "/stats"):
        assert http.get(f"/v2/models/{GYRO}/versions/2{path}").status_code == 200
        assert http.get(f"/v2/models/{GYRO}/versions/1{path}").status_code == 404
    assert infer(http, plain(STEP), f"{GYRO}/versions/2").json()["model_version"] == "2"
    assert refusal(infer(http, plain(STEP), f"{GYRO}/versions/1"), 404)


def test_statistics_count_what_all_processes_did(client: triton.InferenceServerClient, http: httpx.Client) -> None:
    """They count instances, batches, requests and failures; either of the two processes reports the work of both."""
    before = client.get_inference_statistics(SCORES, "1")["model_stats"][0]
    rows, requests = 3, 20
    for _ in range(requests):
        with httpx.Client(base_url=http.base_url, headers=AUTHORIZATION) as one:  # its own connection, to either process
            body = {"inputs": [{"name": "x", "shape": [rows, 2, 4], "datatype": "FP32", "data": [0.5] * rows * 8}]}
            assert infer(one, body, SCORES).status_code == 200
    assert infer(http, {"inputs": []}, SCORES).status_code == 400
    for _ in range(MOST_LOOKS):  # a request is counted only after its answer was sent
        after = client.get_inference_statistics(SCORES)["model_stats"][0]
        if after["inference_stats"]["fail"]["count"] - before["inference_stats"]["fail"]["count"] == 1:
            break

    def more(*path: str) -> int:
        a, b = after, before
        for name in path:
            a, b = a[name], b[name]
        assert type(a) is int
        return a - b

    assert more("inference_count") == rows * requests
    sizes = [(each["batch_size"], each["compute_infer"]["count"]) for each in after["batch_stats"]]
    assert sum(count for _, count in sizes) == after["execution_count"]
    assert sum(size * count for size, count in sizes) == after["inference_count"]
    assert more("inference_stats", "success", "count") == requests
    assert more("inference_stats", "queue", "count") == rows * requests
    assert more("inference_stats", "compute_infer", "count") == more("execution_count")
    assert more("inference_stats", "success", "ns") > more("inference_stats", "compute_infer", "ns") > 0
    assert after["last_inference"] > before["last_inference"]
    assert after["inference_stats"]["cache_hit"] == {"count": 0, "ns": 0}
    everyone = client.get_inference_statistics()["model_stats"]
    assert {(each["name"], each["version"]) for each in everyone} == {
        (GYRO, "2"),
        (TICKS, "1"),
        (CELLS, "1"),
        (SCORES, "1"),
        (WHOLE, "1"),
    }


def test_requests_are_counted_under_one_route(http: httpx.Client) -> None:
    """Model names must not become labels of routes: a stranger could create any number of them."""
    infer(http, plain(STEP), "a-name-that-nobody-has")
    text = http.get("/metrics").text
    assert 'route="/v2/models/{model}/infer"' in text
    assert "a-name-that-nobody-has" not in text


def everywhere(server: Server, path: str) -> set[int]:
    """The statuses of a path, over enough connections to reach every process."""
    statuses = set()
    for _ in range(24):
        with httpx.Client(base_url=server.url, headers=AUTHORIZATION) as one:
            statuses.add(one.get(path).status_code)
    return statuses


def test_models_are_unloaded_and_loaded(server: Server, client: triton.InferenceServerClient) -> None:
    """When the answer arrives, the change has been made in all processes."""
    entry = {"name": CELLS, "version": "1", "state": "READY", "reason": ""}
    assert entry in client.get_model_repository_index()
    client.unload_model(CELLS)
    assert everywhere(server, f"/v2/models/{CELLS}/ready") == {404}
    assert [each["state"] for each in client.get_model_repository_index() if each["name"] == CELLS] == ["UNAVAILABLE"]
    with pytest.raises(InferenceServerException, match="cells was unloaded: POST"):
        client.infer(CELLS, [given("x", random(1, graphs.FEATURES))])
    client.load_model(CELLS)
    assert everywhere(server, f"/v2/models/{CELLS}/ready") == {200}
    assert entry in client.get_model_repository_index()


def test_without_its_default_model_the_service_says_so_and_goes_on_with_the_others(http: httpx.Client) -> None:
    """The service is still ready: requests that name a model are answered."""
    assert http.get("/health").json()["default_trouble"] is None
    assert http.get("/models").json()["default"] == GYRO
    http.post(f"/v2/repository/models/{GYRO}/unload").raise_for_status()
    try:
        health = http.get("/health")
        why = f"{GYRO} was unloaded: POST /v2/repository/models/{GYRO}/load serves it again."
        assert (health.status_code, health.json()["status"], health.json()["default_trouble"]) == (200, "degraded", why)
        assert "recurve_default_model_missing 1.0" in http.get("/metrics").text
        assert http.get("/health/ready").status_code == 200
        assert http.get("/models").json()["default"] is None
        unnamed = http.post("/predict", json={"instances": [[[0.0] * 6]]})
        assert (unnamed.status_code, unnamed.json()["detail"]) == (404, why)
        assert http.get(f"/models/{CELLS}/example").status_code == 200
    finally:
        http.post(f"/v2/repository/models/{GYRO}/load").raise_for_status()
    assert http.get("/health").json()["default_trouble"] is None
    assert "recurve_default_model_missing 0.0" in http.get("/metrics").text


def test_versions_are_served_side_by_side_when_that_is_ordered(server: Server, client: triton.InferenceServerClient) -> None:
    """The order is Triton's version_policy; a client that names no version gets the newest."""
    one = given("input", random(1, 4, 6))
    newest = client.infer(GYRO, [one]).as_numpy("output")
    try:
        client.load_model(GYRO, config=json.dumps({"version_policy": {"all": {}}}))
        assert everywhere(server, f"/v2/models/{GYRO}/versions/1/ready") == {200}
        assert client.get_model_metadata(GYRO)["versions"] == ["2", "1"]
        assert client.get_model_config(GYRO)["version_policy"] == {"specific": {"versions": [2, 1]}}
        older = client.infer(GYRO, [one], model_version="1").as_numpy("output")
        assert not close(older, newest)
        assert close(client.infer(GYRO, [one]).as_numpy("output"), newest)
        assert {each["version"] for each in client.get_inference_statistics(GYRO)["model_stats"]} == {"1", "2"}
        client.load_model(GYRO, config=json.dumps({"version_policy": {"specific": {"versions": [1]}}}))
        assert close(client.infer(GYRO, [one]).as_numpy("output"), older)
    finally:
        client.load_model(GYRO)
    assert everywhere(server, f"/v2/models/{GYRO}/versions/1/ready") == {404}


@pytest.mark.parametrize(
    ("name", "order", "status", "says"),
    [
        ("nobody/load", {}, 404, "There is no model 'nobody'"),
        ("nobody/unload", {}, 404, "There is no model 'nobody'"),
        (f"{GYRO}/load", {"parameters": {"config": '{"version_policy": {"specific": {"versions": [7]}}}'}}, 400, "no version 7"),
        (f"{GYRO}/load", {"parameters": {"config": '{"max_batch_size": 8}'}}, 400, "only version_policy is accepted"),
        (f"{GYRO}/load", {"parameters": {"file:3/model.onnx": "AAAA"}}, 400, "come from the repository"),
        (f"{GYRO}/load", {"parameters": []}, 400, "expected an object"),
    ],
)
def test_an_order_that_cannot_be_carried_out_is_refused(
    server: Server, http: httpx.Client, name: str, order: Any, status: int, says: str
) -> None:
    """The error gives the reason, and what was served before still is."""
    assert says in refusal(http.post(f"/v2/repository/models/{name}", json=order), status)
    assert everywhere(server, f"/v2/models/{GYRO}/versions/2/ready") == {200}
    http.post(f"/v2/repository/models/{GYRO}/load").raise_for_status()


def test_the_index_may_list_only_what_is_served(http: httpx.Client) -> None:
    """An older version is in the index, with the reason why it is not served."""
    every = http.post("/v2/repository/index").json()
    assert {"name": GYRO, "version": "1", "state": "UNAVAILABLE", "reason": "not loaded"} in every
    served = http.post("/v2/repository/index", json={"ready": True}).json()
    assert served == [each for each in every if each["state"] == "READY"]
    assert "expected true or false" in refusal(http.post("/v2/repository/index", json={"ready": "yes"}), 400)


class Disk(Repository):
    """A repository that records which threads list its models."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.seen_by: list[threading.Thread] = []

    def names(self) -> list[str]:
        self.seen_by.append(threading.current_thread())
        return super().names()


class Files(Metrics):
    """Metrics that record which threads read the counts."""

    def __init__(self) -> None:
        super().__init__()
        self.read_by: list[threading.Thread] = []

    def model_counts(self) -> dict[tuple[str, str], ModelCounts]:
        self.read_by.append(threading.current_thread())
        return super().model_counts()


def test_what_reads_many_files_leaves_the_event_loop_to_others(repository: Path) -> None:
    """The repository may be on a network file system, and every process leaves files of counts."""

    async def main() -> None:
        disk, files = Disk(repository), Files()
        loader = Loader(device="cpu", limits=LIMITS, lanes=1, metrics=files)
        catalog = Catalog(disk, loader, LATEST, OrderBook(), Refusals())
        service = Service(catalog, default_model=GYRO)
        operations = Operations(service, Fleet())
        await operations.start()
        disk.seen_by.clear()
        app = FastAPI()
        models = v2_models.Models(service, files, max_instances=1, idle_seconds=1.0)
        app.include_router(v2_models.router(service, models))
        app.include_router(v2_repository.router(catalog, operations, Bodies(1000, Room(2000))))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http:
            entry = {"name": GYRO, "version": "1", "state": "READY", "reason": ""}
            assert (await http.post("/v2/repository/index")).json() == [entry]
            for path in ("/v2/models/stats", f"/v2/models/{GYRO}/stats"):
                assert [each["name"] for each in (await http.get(path)).json()["model_stats"]] == [GYRO]
        assert (len(disk.seen_by), len(files.read_by)) == (1, 2)
        assert threading.current_thread() not in [*disk.seen_by, *files.read_by]
        await service.close()

    asyncio.run(main())
