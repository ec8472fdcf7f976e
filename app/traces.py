"""Traces for OpenTelemetry: a span for each request, and one for each batch, with links to the requests in it.

Owns whether traces are sent, as OpenTelemetry's standard variables say, and what a span holds. Imports OpenTelemetry's SDK, an
optional dependency, only if traces are sent; no other module imports it. Knows nothing of how requests are answered.
"""

import asyncio
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from threading import Thread
from time import time_ns
from typing import TYPE_CHECKING, Self

from opentelemetry.context import Context
from opentelemetry.propagate import extract
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, Tracer, get_current_span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
HTTP = "http/protobuf"
EXPORTERS = {
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
    HTTP: "opentelemetry.exporter.otlp.proto.http.trace_exporter",
}
LAST = 2.0  # seconds that the last spans have to reach their collector


class Traces:
    """Makes spans, which a provider of the SDK sends."""

    def __init__(self, provider: "TracerProvider", *, version: str) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("recurve", version)

    @classmethod
    def configured(cls, variables: Mapping[str, str] = os.environ, *, version: str) -> Self | None:
        """Traces as OpenTelemetry's variables say; None if they name no endpoint, or if packages are missing."""
        off = variables.get("OTEL_SDK_DISABLED", "").lower() == "true" or variables.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp"
        if off or not any(variables.get(name) for name in ENDPOINTS):
            return None
        protocol = next((variables[name] for name in PROTOCOLS if variables.get(name)), HTTP)
        try:
            exporter = import_module(EXPORTERS[protocol]).OTLPSpanExporter()
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except (ImportError, KeyError):
            log.warning("No traces are sent: %s needs packages that are not installed, see requirements/otel.txt.", protocol)
            return None
        own = {"service.version": version}
        if not variables.get("OTEL_SERVICE_NAME") and "service.name=" not in variables.get("OTEL_RESOURCE_ATTRIBUTES", ""):
            own["service.name"] = "recurve"
        provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        return cls(provider, version=version)

    @contextmanager
    def request(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> "Iterator[RequestSpan]":
        """The span of a request, for the `with` block; a child of the client's span, if the headers name one."""
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        attributes = {"http.request.method": method, "url.path": path}
        parent = extract(carrier)
        with self._tracer.start_as_current_span(method, parent, SpanKind.SERVER, attributes, record_exception=False) as span:
            yield RequestSpan(span, method)

    def batches(self, model: str, version: str) -> "BatchTraces":
        """The traces of the batches of one version of a model."""
        return BatchTraces(self._tracer, {"recurve.model": model, "recurve.version": version})

    async def close(self) -> None:
        """Send the spans that are left, for `LAST` seconds at most: a missing collector must not delay the stop."""
        thread = Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, LAST)


class RequestSpan:
    """The span of a request that is not answered yet."""

    def __init__(self, span: Span, method: str) -> None:
        self._span = span
        self._method = method

    def answered(self, status: int, *, route: str | None, model: tuple[str, str] | None) -> None:
        self._span.set_attribute("http.response.status_code", status)
        if route is not None:  # the path itself is no name: a client may have made it up
            self._span.update_name(f"{self._method} {route}")
            self._span.set_attribute("http.route", route)
        if model is not None:
            self._span.set_attributes({"recurve.model": model[0], "recurve.version": model[1]})
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)


class BatchTraces:
    """The spans of batches, each made when the batch is done."""

    def __init__(self, tracer: Tracer, attributes: dict[str, str]) -> None:
        self._tracer = tracer
        self._attributes = attributes

    def current(self) -> SpanContext:
        """The context of the current request's span."""
        return get_current_span().get_span_context()

    def executed(self, requests: Iterable[SpanContext | None], lengths: list[int], seconds: float | None, provider: str) -> None:
        """Make the span of a batch that has just run for `seconds` (None: it failed), with instances of these lengths, of these
        requests.
        """
        end = time_ns()
        spans = {span.span_id: span for span in requests if span is not None and span.is_valid}
        attributes: dict[str, str | int] = {
            **self._attributes,
            "recurve.provider": provider,
            "recurve.batch.instances": len(lengths),
            "recurve.batch.steps": sum(lengths),
            "recurve.batch.padded_steps": len(lengths) * max(lengths),
        }
        links = [Link(span) for span in spans.values()]
        begin = end - int((seconds or 0.0) * 1e9)
        # An empty context, or the span would become a child of whichever request is current now.
        span = self._tracer.start_span("batch", Context(), attributes=attributes, links=links, start_time=begin)
        if seconds is None:
            span.set_status(StatusCode.ERROR)
        span.end(end)
