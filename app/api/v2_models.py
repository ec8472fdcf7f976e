"""/v2: the server and its models as the Open Inference Protocol V2 shows them.

Owns these routes. What the answers hold is the codec's.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from app import __version__
from app.api import responses, v2_schemas
from app.codecs import v2_model
from app.counted import ModelCounts
from app.lifecycle import Model
from app.metrics import Metrics
from app.runtime import CPU
from app.service import Service

PREFIX = "/v2"
MODEL = "/models/{model}"
VERSION = "/models/{model}/versions/{version}"
EXTENSIONS = (
    "binary_tensor_data",
    "sequence",
    "model_repository",
    "model_configuration",
    "statistics",
)
NO_COUNTS = ModelCounts.of({})


class Models:
    """The answers about models. A model's configuration states `max_instances` of a request and `idle_seconds` of a sequence."""

    def __init__(self, service: Service, metrics: Metrics, *, max_instances: int, idle_seconds: float) -> None:
        self._service = service
        self._metrics = metrics
        self._max_instances = max_instances
        self._idle_seconds = idle_seconds

    async def ready(self, request: Request) -> JSONResponse:
        """200 when it can be used."""
        model = self._model(request)
        self._service.check_ready()
        return JSONResponse({"name": model.spec.name, "ready": True})

    async def metadata(self, request: Request) -> JSONResponse:
        """The names, types and shapes of its tensors; a state comes back only when it is named."""
        spec = self._model(request).spec
        return JSONResponse(v2_model.metadata(spec, self._service.catalog.versions(spec.name)))

    async def config(self, request: Request) -> JSONResponse:
        """In the terms of Triton's ModelConfig."""
        model = self._model(request)
        spec, provider = model.spec, model.engine.provider.in_use
        serving = v2_model.Serving(
            versions=self._service.catalog.versions(spec.name),
            max_instances=self._max_instances,
            lanes=model.batcher.lanes,
            gpu=provider != CPU,
            graph=spec.graphs[provider],
            idle_seconds=self._idle_seconds,
        )
        return JSONResponse(v2_model.config(spec, serving))

    async def statistics(self, request: Request) -> JSONResponse:
        """Counts of all processes together since the service started: of one version, or of all that are served."""
        catalog = self._service.catalog
        if "version" in request.path_params:
            served = [self._model(request).spec]
        elif "model" in request.path_params:
            name = self._model(request).spec.name
            served = [model.spec for model in catalog.served if model.spec.name == name]
        else:
            served = [model.spec for model in catalog.served]
        counts = await asyncio.to_thread(self._metrics.model_counts)  # in a thread: it reads the files of all processes
        stats = [v2_model.statistics(spec.name, spec.version, counts.get((spec.name, spec.version), NO_COUNTS)) for spec in served]
        return JSONResponse({"model_stats": stats})

    def _model(self, request: Request) -> Model:
        return self._service.model(request.path_params["model"], request.path_params.get("version"))


def router(service: Service, models: Models) -> APIRouter:
    routes = APIRouter(prefix=PREFIX, tags=["open inference protocol"])

    async def server() -> JSONResponse:
        """What it is, and which extensions of the protocol it has."""
        return JSONResponse({"name": "recurve", "version": __version__, "extensions": list(EXTENSIONS)})

    for path, in_schema in (("", True), ("/", False)):
        routes.add_api_route(
            path,
            server,
            operation_id="server_metadata",
            summary="Server metadata",
            response_model=v2_schemas.ServerMetadata,
            include_in_schema=in_schema,
            responses=responses.problems(401, 503),
        )

    @routes.get(
        "/health/live",
        operation_id="server_live",
        summary="Server live",
        response_model=v2_schemas.ServerLive,
        responses=responses.problems(503),
    )
    async def live() -> JSONResponse:
        """200 as long as the event loop answers and every batch ends, whatever the load and the models."""
        service.catalog.check_live()
        return JSONResponse({"live": True})

    @routes.get(
        "/health/ready",
        operation_id="server_ready",
        summary="Server ready",
        response_model=v2_schemas.ServerReady,
        responses=responses.problems(503),
    )
    async def ready() -> JSONResponse:
        """200 when the models are loaded, warmed up and checked, and the service is not draining."""
        service.check_ready()
        return JSONResponse({"ready": True})

    routes.add_api_route(  # before /models/{model}, which would take "stats" for a name
        "/models/stats",
        models.statistics,
        operation_id="statistics",
        summary="Statistics of all models",
        response_model=v2_schemas.ModelStatistics,
        responses=responses.problems(401, 503),
    )
    shown: list[tuple[str, str, Callable[[Request], Awaitable[Any]], Any]] = [
        ("", "Model metadata", models.metadata, v2_schemas.ModelMetadata),
        ("/ready", "Model ready", models.ready, v2_schemas.ModelReady),
        ("/config", "Model configuration", models.config, v2_schemas.ModelConfiguration),
        ("/stats", "Model statistics", models.statistics, v2_schemas.ModelStatistics),
    ]
    for base, names in ((MODEL, ("model",)), (VERSION, ("model", "version"))):
        for path, summary, endpoint, schema in shown:
            routes.add_api_route(
                base + path,
                endpoint,
                operation_id=_id(summary) if base == MODEL else f"{_id(summary)}_of_version",
                summary=summary if base == MODEL else f"{summary}, of this version",
                response_model=schema,
                responses=responses.problems(401, 404, 503),
                openapi_extra={"parameters": v2_schemas.path(*names)},
            )
    return routes


def _id(summary: str) -> str:
    return summary.lower().replace(" ", "_")
