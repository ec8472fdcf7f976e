"""Traces: what the spans of requests and batches contain, what creates them, and that nothing is traced unless asked for."""

import asyncio
import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_tracer_provider

from app.api.direct import Direct
from app.main import create_app
from app.settings import Settings
from app.traces import Traces
from tests.listeners import Handler, listening
from tests.servers import ROOT, serve

STEP = [0.5, -0.3, 0.1, 0.0, 0.0, 9.8]
ONE = {"instances": [[STEP]]}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def settings_for(repository: Path, **more: Any) -> Settings:
    key = "0123456789abcdef"
    return Settings(model_dir=repository, device="cpu", workers=1, lanes=1, stream_store="memory", state_key=key, **more)


class Traced:
    """A service in this process that keeps its spans."""

    def __init__(self, repository: Path, **settings: Any) -> None:
        self._kept = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.app = create_app(settings_for(repository, **settings), traces=Traces(provider, version="0"))

    def run(self, scenario: Any) -> tuple[list[ReadableSpan], list[ReadableSpan]]:
        """Run the scenario; returns the spans of requests and those of batches."""

        async def main() -> None:
            async with self.app.router.lifespan_context(self.app):

                async def served(scope: Any, receive: Any, send: Any) -> None:
                    await self.app.state.asgi({**scope, "state": {}, "extensions": {}}, receive, send)  # as the server calls it

                transport = httpx.ASGITransport(app=served, raise_app_exceptions=False)
                async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
                    await scenario(http)

        asyncio.run(main())
        spans = self._kept.get_finished_spans()
        return [span for span in spans if span.name != "batch"], [span for span in spans if span.name == "batch"]


def test_a_request_has_a_span_with_its_caller_its_route_its_status_and_its_model(repository: Path) -> None:
    async def scenario(http: httpx.AsyncClient) -> None:
        sent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        assert (await http.post("/predict", json=ONE, headers=sent)).status_code == 200

    (span,), (batch,) = Traced(repository).run(scenario)
    assert span.name == "POST /predict"
    assert span.kind is SpanKind.SERVER
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "url.path": "/predict",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "recurve.model": "gyro-denoiser",
        "recurve.version": "1",
    }
    assert batch.parent is None
    assert [link.context.span_id for link in batch.links] == [span.context.span_id]


def test_a_batch_has_one_span_with_links_to_all_requests_in_it(repository: Path) -> None:
    """A batch belongs to many traces at once, so it is a child of none of them."""
    lengths = (3, 1, 2)

    async def scenario(http: httpx.AsyncClient) -> None:
        bodies = [{"instances": [[STEP] * length, [STEP] * length]} for length in lengths]
        await asyncio.gather(*(http.post("/predict", json=body) for body in bodies))

    together = {"max_queue_delay": 10.0, "max_batch_size": 6, "max_padding_waste": 0.9}
    requests, (batch,) = Traced(repository, **together).run(scenario)
    assert {link.context.span_id for link in batch.links} == {span.context.span_id for span in requests}
    assert len(batch.links) == len(requests) == 3  # one link each, though each had two instances
    assert dict(batch.attributes or {}) == {
        "recurve.model": "gyro-denoiser",
        "recurve.version": "1",
        "recurve.provider": "CPUExecutionProvider",
        "recurve.batch.instances": 6,
        "recurve.batch.steps": 12,
        "recurve.batch.padded_steps": 18,
    }
    assert batch.start_time is not None
    assert batch.end_time is not None
    assert batch.start_time < batch.end_time
    for span in requests:
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= batch.start_time
        assert batch.end_time <= span.end_time


def test_every_route_is_named_by_its_template_and_none_by_its_path(repository: Path) -> None:
    """A name with an id in it would differ for each stream."""

    async def scenario(http: httpx.AsyncClient) -> None:
        stream = (await http.post("/streams", json={})).json()["id"]
        await http.post(f"/streams/{stream}/predict", json={"input": [STEP]})
        await http.post("/streams/predict", json={"chunks": [{"id": stream, "input": [STEP]}, {"id": "none", "input": [STEP]}]})
        await http.get("/streams/predict")  # the path of a stream of this name
        await http.get(f"/streams/{stream}")
        await http.head(f"/streams/{stream}")
        tensor = {"name": "input", "shape": [1, 1, 6], "datatype": "FP32", "data": STEP}
        await http.post("/v2/models/gyro-denoiser/infer", json={"inputs": [tensor]})
        await http.get("/nowhere/7")
        await http.post("/predict", content=b"{", headers={"Content-Type": "application/json"})
        for watching in ("/health", "/health/ready", "/metrics", "/v2/health/live"):
            await http.get(watching)

    requests, batches = Traced(repository).run(scenario)
    assert [(span.name, (span.attributes or {})["http.response.status_code"]) for span in requests] == [
        ("POST /streams", 201),
        ("POST /streams/{id}/predict", 200),
        ("POST /streams/predict", 200),
        ("GET /streams/{id}", 404),
        ("GET /streams/{id}", 200),
        ("HEAD /streams/{id}", 200),
        ("POST /v2/models/{model}/infer", 200),
        ("GET", 404),
        ("POST /predict", 400),
    ]
    linked = [link.context.span_id for batch in batches for link in batch.links]
    assert linked == [requests[index].context.span_id for index in (1, 2, 6)]


def test_nothing_is_traced_unless_that_is_asked_for(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without tracing, requests take the same path as if tracing did not exist."""
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    for variables in ({}, endpoint | {"OTEL_SDK_DISABLED": "TRUE"}, endpoint | {"OTEL_TRACES_EXPORTER": "none"}):
        assert Traces.configured(variables, version="0") is None
    assert not caplog.messages
    app = create_app(settings_for(repository), traces=None)
    assert isinstance(app.state.asgi, Direct)
    before = get_tracer_provider()
    traces = Traces.configured(endpoint, version="0")
    assert traces is not None
    assert get_tracer_provider() is before  # libraries that look for a global provider are not traced
    asyncio.run(traces.close())
    assert Traces.configured(endpoint | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, version="0") is None
    assert "packages that are not installed" in caplog.text


def test_nothing_of_the_sdk_is_loaded_unless_it_is_used() -> None:
    """The SDK takes memory in each worker."""
    program = "import app.__main__, app.main, fastapi.telemetry._runtime, sys; print('opentelemetry.sdk' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, text=True).strip() == "False"


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """The collector's address, and the requests that it received."""
    received: list[ExportTraceServiceRequest] = []

    class Collector(Handler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                received.append(ExportTraceServiceRequest.FromString(body))
            self.answer()

    with listening(Collector) as port:
        yield f"http://127.0.0.1:{port}", received


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_running_service_sends_its_spans_to_a_collector_before_it_ends(repository: Path, workers: str) -> None:
    with collector() as (endpoint, received):
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
        with serve(repository, "--workers", workers, **variables) as server:
            for _ in range(8):
                assert httpx.post(f"{server.url}/predict", json=ONE).status_code == 200
            assert server.stop() == 0
    resources = [resource for request in received for resource in request.resource_spans]
    for resource in resources:
        said = {each.key: each.value.string_value for each in resource.resource.attributes}
        assert (said["service.name"], said["deployment.environment.name"]) == ("recurve", "test")
    names = [span.name for resource in resources for scope in resource.scope_spans for span in scope.spans]
    assert names.count("POST /predict") == names.count("batch") == 8


def test_a_collector_that_is_away_holds_nothing_up(repository: Path) -> None:
    with serve(repository, "--workers", "1", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1") as server:
        for _ in range(8):
            assert httpx.post(f"{server.url}/predict", json=ONE, timeout=5).status_code == 200
        assert server.stop() == 0
    assert "everything that was accepted has been answered" in "".join(server.log)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith(("OTEL_", "RECURVE_")):
            monkeypatch.delenv(name)
