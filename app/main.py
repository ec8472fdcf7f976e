"""The application: everything wired together, started and stopped in order.

Owns the wiring, and is the only module that turns `Settings` into the arguments of the parts. Knows nothing of sockets or signals.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline

from app import __version__, runtime
from app.api import chunks, description, health, many_chunks, metrics, models, page, predict, problems, v2, v2_models, v2_repository
from app.api.bodies import Bodies
from app.api.direct import Direct, Endpoint
from app.api.full import Full
from app.api.guard import Guard
from app.api.live import Live
from app.api.streams import Streams, router
from app.api.traced import Traced
from app.catalog import Catalog
from app.codecs import json
from app.codecs.request import Limits
from app.errors import StoreUnavailable
from app.http.ahead import Room
from app.keys import Keys
from app.lifecycle import Loader
from app.metrics import Metrics
from app.operations import Operations
from app.orders import OrderBook, VersionPolicy
from app.processes import folders
from app.processes.fleet import Fleet
from app.queue import BatchLimits
from app.repository import Refusals, Repository
from app.service import Service
from app.settings import Settings
from app.stores import Store
from app.streaming.keeper import Keeper
from app.streaming.pins import Pins
from app.streaming.service import StreamService
from app.streaming.streams import StreamLimits
from app.streaming.tokens import Tokens
from app.traces import Traces

log = logging.getLogger(__name__)

ENDING = 5.0  # seconds that batches and the loading of models may still take when all requests are over

# The framework's own spans, metrics and logs would miss what is answered around it, and repeat the rest: see traces.py.
SILENT: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False}


def create_app(
    settings: Settings,
    fleet: Fleet | None = None,
    *,
    guard: Guard | None = None,
    shared: Path | None = None,
    map_size: int | None = None,
    traces: Traces | None = None,
) -> FastAPI:
    """The framework's application, whose lifespan loads the models and drains them. Connections are served by `state.asgi`; those
    beyond the limit by `state.full`.

    `fleet`: tracks the orders of all workers; `guard`: checks keys; `shared`: the folder of all workers; `map_size`: bytes that
    the embedded store may take, if it is in a folder that ends with the service; `traces`: where spans go.
    """
    counts = Metrics()
    counts.build.labels(__version__, runtime.VERSION).set(1)
    assert settings.state_keys, "made at the edge, once for all workers"
    loader = Loader(
        device=settings.device,
        limits=_limits(settings, cuda=False),
        lanes=settings.resolved_lanes(),
        cuda_limits=_limits(settings, cuda=True),
        cuda_lanes=settings.resolved_lanes(cuda=True),
        metrics=counts,
        traces=traces,
        alone=nullcontext if shared is None else partial(folders.alone, shared),
    )
    policy = VersionPolicy(latest=None if settings.model_versions == "all" else settings.model_versions)
    catalog = Catalog(Repository(settings.model_dir), loader, policy, OrderBook(shared), Refusals(counts.versions_refused))
    service = Service(
        catalog,
        default_model=settings.default_model,
        tell_default=lambda served: counts.default_missing.set(not served),
    )
    operations = Operations(service, fleet or Fleet())
    stream_limits = StreamLimits(
        ttl=settings.stream_ttl,
        max_streams=settings.max_streams,
        timeout=settings.request_timeout,
        answers=settings.stream_answers,
    )
    keeper = Keeper(_store(settings, map_size), stream_limits, counts.streams)
    if map_size is not None:
        keeper.name = "memory"  # shown by `/health` and `/streams`: the store is in a folder that ends with the service
    streams = StreamService(catalog, Pins(catalog, drain=settings.drain_streams), keeper)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await operations.start(poll=settings.model_poll_seconds)
        await streams.start()
        yield
        try:
            async with asyncio.timeout(ENDING):
                await operations.close()
                await service.close()
        except TimeoutError:
            app.state.unfinished = True
        await streams.close()
        if traces is not None:
            await traces.close()
        if app.state.unfinished:
            log.error("Stopped, though a batch, or the loading of a version, has not ended after %g s: it is left.", ENDING)
        elif service.refused_late:
            log.warning("Stopped: %d instances had to be refused with 503.", service.refused_late)
        else:
            log.info("Stopped: everything that was accepted has been answered.")

    app = FastAPIOffline(
        title="Recurve",
        version=__version__,
        description=description.DESCRIPTION,
        license_info={"name": "MIT", "identifier": "MIT"},
        servers=[{"url": "/"}],
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=SILENT,
    )
    app.state.service, app.state.unfinished = service, False
    problems.install(app, counts.refused)
    tokens = Tokens(settings.state_keys)
    request_limits = Limits(max_instances=settings.max_instances, max_steps=settings.max_steps)
    app.state.room = room = Room(settings.bodies_each)
    bodies = Bodies(settings.max_body_bytes, room)
    new_parser = partial(json.Decoder, request_limits, tokens)
    answer = predict.Predict(
        service, bodies, limits=request_limits, timeout=settings.request_timeout, tokens=tokens, new_parser=new_parser
    )
    stream_routes = Streams(service, streams, bodies, tokens)
    decoder = chunks.ChunkDecoder(bodies, request_limits, new_parser)
    answer_chunk = chunks.Chunks(streams, bodies, decoder)
    answer_chunks = many_chunks.ManyChunks(streams, bodies, decoder, counts.refused)
    infer = v2.Infer(service, streams, bodies, limits=request_limits, timeout=settings.request_timeout)
    described = v2_models.Models(service, counts, max_instances=settings.max_instances, idle_seconds=settings.stream_ttl)
    app.include_router(predict.router(answer))
    app.include_router(router(stream_routes, answer_chunk, answer_chunks))
    app.include_router(health.router(service, keeper))
    if settings.metrics_port is None:
        app.include_router(metrics.router(counts))
    app.include_router(v2.router(infer))
    app.include_router(v2_models.router(service, described))
    app.include_router(v2_repository.router(catalog, operations, bodies))
    app.include_router(models.router(service))
    app.include_router(page.router(page.Site(page.library())))
    description.install(app, keyed=bool(settings.api_keys))
    guard = guard or Guard(settings.api_keys_file, settings.read_keys)
    # around the framework, not inside it, where the framework's own layers would come first
    direct: dict[str, Endpoint] = {
        predict.PATH: answer,
        chunks.PATH: answer_chunk,
        many_chunks.PATH: answer_chunks,
        v2.PATH: infer,
    }
    around = Direct(
        app,
        direct,
        guard=guard,
        live=Live(streams, stream_routes, decoder, guard=guard, metrics=counts),
        metrics=counts,
    )
    app.state.asgi = around if traces is None else Traced(around, traces, direct=direct)
    app.state.offer = around.offer if traces is None else lambda _: None  # a span belongs to the task in which it began
    app.state.watch = app.state.asgi if settings.metrics_port is None else _watch(service, keeper, counts)
    app.state.full = Full(app.state.asgi, counts, most=settings.max_connections)
    app.state.counts = counts
    return app


def _watch(service: Service, keeper: Keeper, counts: Metrics) -> Direct:
    """The application on the port for metrics, which needs no key."""
    app = FastAPI(openapi_url=None, redirect_slashes=False, telemetry=SILENT)
    problems.install(app, counts.refused)
    app.include_router(health.router(service, keeper))
    app.include_router(metrics.router(counts))
    return Direct(app, {}, live=app, guard=Guard(None, lambda: Keys({})), metrics=counts)


def _limits(settings: Settings, *, cuda: bool) -> BatchLimits:
    size, steps = settings.resolved_batch(cuda=cuda)
    return BatchLimits(
        max_batch_size=size,
        max_batch_steps=steps,
        max_padding_waste=settings.max_padding_waste,
        max_queue_size=settings.max_queue_size,
        max_queue_delay=settings.max_queue_delay,
    )


def _store(settings: Settings, map_size: int | None) -> Store:
    """Where streams are stored. Raises StoreUnavailable. Each store is imported only if it is used, to save memory."""
    match settings.stream_store:
        case "memory":
            from app.stores.memory import Memory

            return Memory()
        case "embedded":
            from app.stores.embedded import Embedded
            from app.stores.files import MAP_SIZE

            return Embedded(settings.data_dir, map_size=map_size or MAP_SIZE)
        case url:
            from app.stores.redis import Redis

            try:
                return Redis(url)
            except ValueError:  # not shown: it may quote a part of the password
                example = "redis://user:password@host:6379/0 is one, in which / and @ of a password are %2F and %40"
                raise StoreUnavailable(f"RECURVE_STREAM_STORE is not an address of Redis: {example}.") from None
