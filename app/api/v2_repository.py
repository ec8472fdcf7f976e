"""/v2/repository: lists the models in the repository, and takes orders to load or unload them.

Owns these routes. Knows nothing of who may give orders, or of how they are carried out.
"""

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app.api import responses, v2_schemas
from app.api.bodies import Bodies, content
from app.catalog import Catalog
from app.codecs import v2_model
from app.codecs.members import member_of, read_object
from app.errors import BadArtifact, NotReady
from app.operations import Operations

PREFIX = "/v2/repository"


def router(catalog: Catalog, operations: Operations, bodies: Bodies) -> APIRouter:
    routes = APIRouter(prefix=PREFIX, tags=["open inference protocol"])

    async def read(request: Request) -> dict[str, Any]:
        """The body as a JSON object; {} if it is empty or null."""
        body = await bodies.read(request.receive, dict(request.scope["headers"]))
        return read_object(body) if body.strip() not in (b"", b"null") else {}

    @routes.post(
        "/index",
        operation_id="repository_index",
        summary="Versions in the repository",
        response_model=list[v2_schemas.IndexEntry],
        responses=responses.problems(400, 401, 503),
        openapi_extra=_reads("IndexRequest"),
    )
    async def index(request: Request) -> JSONResponse:
        """Every version, whether it is served, and why it is not."""
        only_ready = member_of(await read(request), "ready", bool, "")
        try:
            found = await asyncio.to_thread(catalog.index)  # it reads folders, perhaps over a network
        except BadArtifact as error:
            raise NotReady(str(error)) from None
        entries = [{"name": each.name, "version": each.version, "state": each.state, "reason": each.reason} for each in found]
        return JSONResponse([entry for entry in entries if entry["state"] == "READY" or not only_ready])

    @routes.post(
        "/models/{model}/load",
        operation_id="load_model",
        summary="Serve a model",
        response_class=Response,
        responses={200: {"content": {}}, **responses.problems(400, 401, 403, 404, 503)},
        openapi_extra={**_reads("LoadRequest"), "parameters": v2_schemas.path("model")},
    )
    async def load(request: Request) -> Response:
        """Loads its newest version, or the versions that the config names, and checks each before it replaces what is served.

        The answer comes when all workers serve it. A version that is refused changes nothing.
        """
        policy = v2_model.policy_in(await read(request))
        await operations.load(request.path_params["model"], policy)
        return Response()

    @routes.post(
        "/models/{model}/unload",
        operation_id="unload_model",
        summary="Stop serving a model",
        response_class=Response,
        responses={200: {"content": {}}, **responses.problems(400, 401, 403, 404, 503)},
        openapi_extra={**_reads("LoadRequest"), "parameters": v2_schemas.path("model")},
    )
    async def unload(request: Request) -> Response:
        """Requests that wait for it are answered first."""
        await read(request)
        await operations.unload(request.path_params["model"])
        return Response()

    return routes


def _reads(schema: str) -> dict[str, Any]:
    return {"requestBody": {"required": False, "content": content(schema)}}
