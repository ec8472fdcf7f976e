"""The bodies of requests and answers as OpenAPI describes them.

Owns the documentation of the wire format; the codecs own the format itself, which pydantic would be too slow for.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.config import JsonDict

Step = Annotated[list[float], Field(description="one number per feature, in the manifest's order", min_length=1)]
Sequence = Annotated[list[Step], Field(description="time steps, oldest first", min_length=1)]

EXAMPLE_ANSWER: JsonDict = {
    "predictions": [[[0.5, -0.29, 0.1]], [[0.5, -0.29, 0.1], [0.48, -0.3, 0.09]]],
    "model": "gyro-denoiser",
    "version": "1",
    "provider": "CPUExecutionProvider",
}
EXAMPLE_STEP: list[JsonValue] = [0.52, -0.31, 0.08, 0.02, 0.01, 9.81]


class Instance(BaseModel):
    """A sequence in an object of its own, and the state it starts from."""

    model_config = ConfigDict(extra="forbid")

    input: Sequence
    state: Annotated[str | None, Field(description="a state token from an earlier answer; zeros when absent")] = None


class PredictRequest(BaseModel):
    """Sequences of any lengths from 1 up, in raw units."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"instances": [[EXAMPLE_STEP], [EXAMPLE_STEP, EXAMPLE_STEP]]}]}
    )

    instances: Annotated[list[Sequence | Instance], Field(min_length=1)]
    model: Annotated[str | None, Field(description="the default model when absent")] = None
    version: Annotated[str | None, Field(description="the newest ready version when absent")] = None
    return_sequences: Annotated[bool | None, Field(description="false: a prediction for the last step only")] = True
    return_state: Annotated[bool | None, Field(description="true: a token of the state after the last step of each")] = False
    timeout_ms: Annotated[float | None, Field(gt=0, le=86_400_000, description="deadline, in milliseconds")] = None


class PredictResponse(BaseModel):
    """Predictions in the order of the instances, each exactly as long as its instance."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_ANSWER]})

    predictions: list[list[list[float]] | list[float]]
    states: Annotated[list[str] | None, Field(description="one token per instance, with return_state")] = None
    model: str
    version: str
    provider: Annotated[str, Field(description="the execution provider that is in use")]


class ModelHealth(BaseModel):
    """One model version and where it runs."""

    name: str
    version: str
    ready: bool
    provider: Annotated[str | None, Field(description="the execution provider in use")] = None
    provider_requested: str | None = None
    fallback_reason: Annotated[str | None, Field(description="why it is not the one asked for, or why it is not ready")] = None


class Health(BaseModel):
    """What is served, on what, and what is wrong with it."""

    status: Literal["ok", "degraded", "starting", "draining"]
    models: list[ModelHealth]
    uptime_seconds: float
    version: str


class Violation(BaseModel):
    """Where a value is, as an RFC 6901 pointer, and what is wrong with it."""

    pointer: str
    detail: str


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    instance: Annotated[str, Field(description="the request id")]
    error: Annotated[str, Field(description="the same text as detail")]
    errors: list[Violation] = []


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its OpenAPI description."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {status: {"description": "", "content": {"application/problem+json": {"schema": schema}}} for status in statuses}
