"""What the service counts, under the names that operators know from Triton: requests, inferences, executions.

Owns names, labels and buckets, and the text that Prometheus reads. Several processes count into files that any of them
reads, if the environment named a folder before this module was imported. Knows nothing of who counts or when.
"""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from time import time
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from app.counted import ModelCounts, Samples
from app.observed import Buckets, Children, Totals, built, expiring, replaced, tally

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
MODEL = ("model", "version")

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Everything that one process counts."""

    def __init__(self) -> None:
        self._own = own = CollectorRegistry()
        requests = Buckets(
            "recurve_request_seconds", "From a request's head to its answer", ("route", "status"), buckets=SECONDS, registry=own
        )
        self._by_route = Children[tuple[str, int], Buckets](lambda of: requests.labels(of[0], str(of[1])))
        refused = Counter("recurve_refused_total", "Requests and connections turned away", ("reason",), registry=own)
        self._refused = Children[str, Counter](refused.labels)
        self.open = Gauge("recurve_connections", "Connections that are open", registry=own, multiprocess_mode="livesum")
        self.inferences = Counter("recurve_inferences_total", "Instances predicted", MODEL, registry=own)
        self.executions = Counter("recurve_executions_total", "Batches run", MODEL, registry=own)
        self.steps = Counter("recurve_steps_total", "Time steps predicted", MODEL, registry=own)
        self.padded = Counter("recurve_padded_steps_total", "Time steps run, padding among them", MODEL, registry=own)
        self.waited = Counter("recurve_queue_seconds_total", "Seconds that instances waited for a lane", MODEL, registry=own)
        self.compute = Buckets("recurve_execution_seconds", "A batch in the engine", MODEL, buckets=SECONDS, registry=own)
        self.sizes = Buckets("recurve_batch_size", "Instances in a batch", MODEL, buckets=SIZES, registry=own)
        self.by_size = Totals(
            "recurve_batch_seconds", "A batch in the engine, by the number of its instances", (*MODEL, "size"), registry=own
        )
        self.last = Gauge(
            "recurve_last_execution_timestamp_seconds",
            "When a batch was done last",
            MODEL,
            registry=own,
            multiprocess_mode="max",
        )
        model_requests = Totals(
            "recurve_model_request_seconds",
            "From a request's head to its answer, by the model that it was for",
            (*MODEL, "outcome"),
            registry=own,
        )
        self._by_model = Children[tuple[str, str, bool], Totals](
            lambda of: model_requests.labels(of[0], of[1], "success" if of[2] else "fail")
        )
        self.waiting = Gauge("recurve_queue_instances", "Instances that wait", MODEL, registry=own, multiprocess_mode="livesum")
        self.by_provider = Counter(
            "recurve_provider_executions_total",
            "Batches run, by the execution provider that ran them",
            (*MODEL, "provider"),
            registry=own,
        )
        self._lanes = Gauge("recurve_lanes", "Batches that can run at once", MODEL, registry=own, multiprocess_mode="livesum")
        self.providers = Gauge(
            "recurve_model_provider",
            "1 for the execution provider in use; fallback is whether another was asked for",
            (*MODEL, "provider", "fallback"),
            registry=own,
            multiprocess_mode="livemax",
        )
        self._versions_refused = Gauge(
            "recurve_versions_refused",
            "Versions in the repository that are not served because of what is wrong with them",
            ("model",),
            registry=own,
            multiprocess_mode="livemax",
        )
        self.default_missing = Gauge(
            "recurve_default_model_missing",
            "1 while the default model is not served, though others may be",
            registry=own,
            multiprocess_mode="livemax",
        )
        replaced(own)
        self.certificate = expiring(own)
        self.build = built(own)
        self._with_refusals: set[str] = set()  # models that have ever had refused versions
        self.in_use: dict[tuple[str, str], Gauge] = {}  # of `providers`; a version that is loaded again finds its old one
        self.streams = StreamMetrics(own)

    def answered(self, route: str, status: int, seconds: Sequence[float], *, model: tuple[str, str] | None = None) -> None:
        """Count requests that were answered after `seconds` each; `model`: the name and version that all were for, if any."""
        self._by_route[route, status].observe_all(seconds)
        if model is not None:
            self._by_model[*model, status < 400].observe_all(seconds)

    def refused(self, reason: str) -> None:
        """Count a refused request or connection; `reason` is the code of its error."""
        self._refused[reason].inc()

    def versions_refused(self, counts: Mapping[str, int]) -> None:
        """Set how many versions of each model are refused now; a model that is not in `counts` has none."""
        self._with_refusals.update(counts)
        for name in self._with_refusals:
            self._versions_refused.labels(name).set(counts.get(name, 0))

    def model(self, name: str, version: str, *, lanes: int) -> "ModelMetrics":
        """The metrics of one loaded version."""
        counts = ModelMetrics(self, name, version)
        gauge = self._lanes.labels(name, version)
        gauge.set(lanes)
        counts.while_loaded.append(gauge)
        return counts

    def render(self) -> bytes:
        """The counts of all processes together, in Prometheus' text format."""
        return generate_latest(self._all())

    def model_counts(self) -> dict[tuple[str, str], ModelCounts]:
        """The counts of all processes together, for each version that was ever loaded, by name and version."""
        found: dict[tuple[str, str], Samples] = defaultdict(dict)
        for metric in self._all().collect():
            for sample in metric.samples:
                labels = sample.labels
                if "model" in labels and "version" in labels:
                    by = labels.get("size") or labels.get("outcome") or ""
                    found[labels["model"], labels["version"]][sample.name, by] = sample.value
        return {key: ModelCounts.of(samples) for key, samples in found.items()}

    def _all(self) -> CollectorRegistry:
        """A registry with the counts of all processes."""
        if FOLDER not in os.environ:
            return self._own
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # published without types
        return registry


class StreamMetrics:
    """The metrics of streams, for all models together."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.alive = Gauge(
            "recurve_streams", "Streams that are kept, of all replicas", registry=registry, multiprocess_mode="livemostrecent"
        )
        self.limit = Gauge(
            "recurve_streams_limit", "Streams that may be kept at once", registry=registry, multiprocess_mode="livemax"
        )
        self.trouble = Gauge(
            "recurve_stream_store_trouble",
            "1 while the store of the streams cannot be used",
            registry=registry,
            multiprocess_mode="livemax",
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


class Executed(NamedTuple):
    """A batch that has run."""

    size: int
    steps: int
    padded: int  # steps, padding among them
    seconds: float
    waited: float  # seconds, of all its instances together
    provider: str


class ModelMetrics:
    """The metrics of one version of a model, counted batch by batch."""

    def __init__(self, metrics: Metrics, name: str, version: str) -> None:
        self._names = (name, version)
        self._executions = metrics.executions.labels(name, version)
        self._inferences = metrics.inferences.labels(name, version)
        self._steps = metrics.steps.labels(name, version)
        self._padded = metrics.padded.labels(name, version)
        self._waited = metrics.waited.labels(name, version)
        self._compute = metrics.compute.labels(name, version)
        self._sizes = metrics.sizes.labels(name, version)
        self._of_size = Children[int, Totals](lambda size: metrics.by_size.labels(name, version, str(size)))
        self._last = metrics.last.labels(name, version)
        self._waiting = metrics.waiting.labels(name, version)
        self._last_waiting = 0
        self._providers = metrics.providers
        self._in_use = metrics.in_use
        self._on_provider = Children[str, Counter](lambda provider: metrics.by_provider.labels(name, version, provider))
        self.while_loaded = [self._waiting]  # gauges that are set to 0 when the version is no longer loaded

    def runs_on(self, provider: str, *, fallback: bool) -> None:
        """Set the execution provider that the version runs on from now on; `fallback`: another one was asked for."""
        if (before := self._in_use.get(self._names)) is not None:
            before.set(0)
        gauge = self._in_use[self._names] = self._providers.labels(*self._names, provider, "yes" if fallback else "no")
        gauge.set(1)
        if gauge not in self.while_loaded:
            self.while_loaded.append(gauge)

    def gone(self) -> None:
        """Reset the gauges: the version is no longer loaded."""
        for gauge in self.while_loaded:
            gauge.set(0)

    def ran(self, batches: Sequence[Executed], *, waiting: int) -> None:
        """Count these batches, which have run, and set how many instances wait now."""
        if batches:
            self._count(batches)
        if waiting != self._last_waiting:
            self._last_waiting = waiting
            self._waiting.set(waiting)

    def _count(self, batches: Sequence[Executed]) -> None:
        sizes, steps, padded, seconds, waited, providers = zip(*batches, strict=True)
        self._executions.inc(len(batches))
        self._inferences.inc(sum(sizes))
        self._steps.inc(sum(steps))
        self._padded.inc(sum(padded))
        self._waited.inc(sum(waited))
        self._compute.observe_all(seconds)
        self._sizes.observe_all(sizes)
        of_size = defaultdict(list)
        for batch in batches:
            of_size[batch.size].append(batch.seconds)
        for size, of_these in of_size.items():
            self._of_size[size].observe_all(of_these)
        self._last.set(time())
        for provider, count in tally(providers).items():
            if provider:  # it is not known for a batch in which every answer overflows
                self._on_provider[provider].inc(count)
