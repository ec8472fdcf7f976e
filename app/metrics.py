"""What the service counts, under the names that operators know from Triton: requests, inferences, executions.

Owns names, labels and buckets, and the text that Prometheus reads. Several processes count into files that any of them
reads, where the environment named a folder before this module was imported. Knows nothing of who counts or when.
"""

import os
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.exposition import CONTENT_TYPE_LATEST

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
MODEL = ("model", "version")

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Everything that one process counts."""

    def __init__(self) -> None:
        self._own = own = CollectorRegistry()
        self._requests = Histogram(
            "recurve_request_seconds", "From a request's head to its answer", ("route", "status"), buckets=SECONDS, registry=own
        )
        self._refused = Counter("recurve_refused_total", "Requests refused with 503", ("reason",), registry=own)
        self.inferences = Counter("recurve_inferences_total", "Instances predicted", MODEL, registry=own)
        self.executions = Counter("recurve_executions_total", "Batches run", MODEL, registry=own)
        self.steps = Counter("recurve_steps_total", "Time steps predicted", MODEL, registry=own)
        self.padded = Counter("recurve_padded_steps_total", "Time steps run, padding among them", MODEL, registry=own)
        self.waited = Counter("recurve_queue_seconds_total", "Seconds that instances waited for a lane", MODEL, registry=own)
        self.compute = Histogram("recurve_execution_seconds", "A batch in the engine", MODEL, buckets=SECONDS, registry=own)
        self.sizes = Histogram("recurve_batch_size", "Instances in a batch", MODEL, buckets=SIZES, registry=own)
        self.waiting = Gauge("recurve_queue_instances", "Instances that wait", MODEL, registry=own, multiprocess_mode="livesum")
        self._lanes = Gauge("recurve_lanes", "Batches that can run at once", MODEL, registry=own, multiprocess_mode="livesum")
        self._providers = Gauge(
            "recurve_model_provider",
            "1 for the execution provider in use; fallback is whether another was asked for",
            (*MODEL, "provider", "fallback"),
            registry=own,
            multiprocess_mode="livemax",
        )
        self.streams = StreamMetrics(own)
        self._children: dict[tuple[str, int], Histogram] = {}

    def answered(self, route: str, status: int, *, seconds: float) -> None:
        """A request got its answer."""
        child = self._children.get((route, status))
        if child is None:
            child = self._children[route, status] = self._requests.labels(route, str(status))
        child.observe(seconds)

    def refused(self, reason: str) -> None:
        """A request was told to come back later."""
        self._refused.labels(reason).inc()

    def model(self, name: str, version: str, *, lanes: int, provider: str, fallback: bool) -> "ModelMetrics":
        """What one loaded version counts."""
        self._lanes.labels(name, version).set(lanes)
        self._providers.labels(name, version, provider, "yes" if fallback else "no").set(1)
        return ModelMetrics(self, name, version)

    def render(self) -> bytes:
        """The counts of all processes together, in Prometheus' text format."""
        registry = self._own
        if FOLDER in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # published without
        return generate_latest(registry)


class StreamMetrics:
    """What is counted of streams, whatever model they are of."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.alive = Gauge(
            "recurve_streams", "Streams that are kept, of all replicas", registry=registry, multiprocess_mode="livemostrecent"
        )
        self.opened = Counter("recurve_streams_opened_total", "Streams begun", registry=registry)
        self.ended = Counter("recurve_streams_ended_total", "Streams ended", ("reason",), registry=registry)
        self.connections = Gauge(
            "recurve_stream_connections", "WebSockets that are open", registry=registry, multiprocess_mode="livesum"
        )
        chunks = Counter(
            "recurve_stream_chunks_total",
            "Chunks done; answered again from what is kept; run again because another process was first",
            ("outcome",),
            registry=registry,
        )
        self.done, self.repeated, self.raced = (chunks.labels(outcome) for outcome in ("done", "repeated", "raced"))


class ModelMetrics:
    """What one version of a model counts, batch by batch."""

    def __init__(self, metrics: Metrics, name: str, version: str) -> None:
        self._executions = metrics.executions.labels(name, version)
        self._inferences = metrics.inferences.labels(name, version)
        self._steps = metrics.steps.labels(name, version)
        self._padded = metrics.padded.labels(name, version)
        self._waited = metrics.waited.labels(name, version)
        self._compute = metrics.compute.labels(name, version)
        self._sizes = metrics.sizes.labels(name, version)
        self._waiting = metrics.waiting.labels(name, version)
        self._last_waiting = 0

    def executed(self, lengths: Sequence[int], *, seconds: float, waited: float) -> None:
        """A batch of instances of these lengths has run for `seconds`; together they had waited for `waited` seconds."""
        self._executions.inc()
        self._inferences.inc(len(lengths))
        self._steps.inc(sum(lengths))
        self._padded.inc(len(lengths) * max(lengths))
        self._waited.inc(max(0.0, waited))
        self._compute.observe(seconds)
        self._sizes.observe(len(lengths))

    def waiting(self, instances: int) -> None:
        """So many wait now."""
        if instances != self._last_waiting:
            self._last_waiting = instances
            self._waiting.set(instances)
