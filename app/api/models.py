"""GET /models: the models that are served, described by their data, all or one; and an example for each of them.

Owns how a model is described to clients that want to send it something. Knows nothing of its tensors: those are v2_models.py's.
"""

import asyncio
from typing import TypeVar

import numpy as np
import orjson
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from app.api import model_schemas, responses
from app.api.queries import NoQuery, WhichQuery
from app.errors import BadArtifact, NotReady
from app.golden import Golden
from app.lifecycle import Model
from app.manifest import ModelSpec, Signal
from app.service import Service

T = TypeVar("T", bound=BaseModel)


def router(service: Service) -> APIRouter:
    routes = APIRouter(prefix="/models", tags=["models"])

    @routes.get(
        "",
        operation_id="list_models",
        summary="Models, their features and outputs",
        response_model=model_schemas.Models,
        responses=responses.problems(422, 503),
    )
    async def models(_: NoQuery) -> JSONResponse:
        """Every version that is served, the newest of a model first, with names and units as its manifest has them."""
        service.check_ready()
        default = service.default_model if service.has_default else None
        answer = model_schemas.Models(default=default, models=[_told(model) for model in service.catalog.served])
        return JSONResponse(answer.model_dump(mode="json"))

    @routes.get(
        "/{model}",
        operation_id="get_model",
        summary="A model, its features and outputs",
        response_model=model_schemas.ServedModel,
        responses=responses.problems(401, 404, 422, 503),
    )
    async def one(model: str, query: WhichQuery) -> JSONResponse:
        """The newest version that is served, or the one that is asked for, as GET /models describes it."""
        return JSONResponse(_told(service.model(model, query.version)).model_dump(mode="json"))

    @routes.get(
        "/{model}/example",
        operation_id="example",
        summary="A sequence to try a model with",
        response_model=model_schemas.Example,
        responses=responses.problems(401, 404, 422, 503),
    )
    async def example(model: str, query: WhichQuery) -> Response:
        """The longest sequence of its golden sample, in raw units: an instance as POST /predict takes it."""
        with service.model(model, query.version) as found:
            folder = service.catalog.repository.folder(found.spec.name, found.spec.version)
            try:
                golden = await asyncio.to_thread(Golden.load, folder, found.spec)
            except BadArtifact as error:
                raise NotReady(str(error)) from None
        longest = max((instance.steps for instance in golden.instances), key=len)
        steps = np.ascontiguousarray(longest, dtype=np.float32)  # float32 is written with the fewest digits that restore it
        answer = {"model": found.spec.name, "version": found.spec.version, "input": steps}
        return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")

    return routes


def _told(model: Model) -> model_schemas.ServedModel:
    spec, provider = model.spec, model.engine.provider
    return model_schemas.ServedModel(
        name=spec.name,
        version=spec.version,
        description=spec.description,
        task=spec.task,
        sample_rate=spec.sample_rate,
        features=_signals(spec.features),
        outputs=[
            model_schemas.Output(
                name=output.name,
                shape=[*output.width],
                every_step=spec.every_step(output),
                signals=_signals(output.signals),
            )
            for output in spec.outputs
        ],
        time_steps=spec.time_steps,
        horizon=_horizon(spec),
        streamable=spec.causal,
        truth=_told_by_trainer(model_schemas.Truth, spec.provenance.get("truth")),
        reading=_told_by_trainer(model_schemas.Reading, spec.provenance.get("config")),
        provider=provider.in_use,
        fallback_reason=provider.fallback_reason,
    )


def _horizon(spec: ModelSpec) -> int | None:
    return spec.outputs[0].width[0] if spec.task == "forecast" else None


def _told_by_trainer(kind: type[T], told: object) -> T | None:
    """An entry of a manifest's provenance as `kind`; None if it does not fit: it may hold anything."""
    try:
        return kind.model_validate(told)
    except ValidationError:
        return None


def _signals(signals: tuple[Signal, ...]) -> list[model_schemas.Signal]:
    return [model_schemas.Signal(name=signal.name, unit=signal.unit) for signal in signals]
