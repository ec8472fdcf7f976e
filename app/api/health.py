"""GET /health and its two probes: what is served, on which execution provider, and what is wrong with it.

Probes do no work and wait for nothing: they answer under full load.
"""

from time import monotonic

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from app import __version__
from app.api import responses, schemas
from app.service import Service
from app.streaming.keeper import Keeper


def router(service: Service, keeper: Keeper) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get(
        "/health",
        operation_id="health",
        summary="Models, execution providers and status",
        response_model=schemas.Health,
        responses={503: {"model": schemas.Health, "description": "starting or draining"}},
    )
    async def health() -> JSONResponse:
        """200 when predictions are served, `degraded` when not as asked for; 503 while starting or draining."""
        loaded = [
            schemas.ModelHealth(
                name=model.spec.name,
                version=model.spec.version,
                ready=service.ready,
                provider=model.engine.provider.in_use,
                provider_requested=model.engine.provider.requested,
                fallback_reason=model.engine.provider.fallback_reason,
            )
            for model in service.catalog.loaded
        ]
        refused = [
            schemas.ModelHealth(name=r.name, version=r.version, ready=False, fallback_reason=r.reason)
            for r in service.catalog.refused.values()
        ]
        answer = schemas.Health(
            status="degraded" if keeper.trouble and service.status == "ok" else service.status,
            models=[*loaded, *refused],
            default_trouble=service.default_trouble,
            streams=schemas.StreamHealth(
                store=keeper.name, alive=keeper.alive, limit=keeper.limits.max_streams, trouble=keeper.trouble
            ),
            uptime_seconds=round(monotonic() - service.started, 3),
            version=__version__,
        )
        return JSONResponse(answer.model_dump(mode="json"), status_code=200 if service.ready else 503)

    @routes.get(
        "/health/live",
        operation_id="live",
        summary="Liveness probe",
        response_class=Response,
        responses={200: {"content": {}}, **responses.problems(503)},
    )
    async def live() -> Response:
        """200 as long as the event loop answers and every batch ends, whatever the load and the models."""
        service.catalog.check_live()
        return Response()

    @routes.get(
        "/health/ready",
        operation_id="ready",
        summary="Readiness probe",
        response_class=Response,
        responses={200: {"content": {}}, **responses.problems(503)},
    )
    async def ready() -> Response:
        """200 when the models are loaded, warmed up and checked, and the service is not draining."""
        service.check_ready()
        return Response()

    return routes
