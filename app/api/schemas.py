"""The bodies of requests and answers as OpenAPI describes them.

Owns the documentation of the wire format; the codecs own the format itself, which pydantic would be too slow for.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.config import JsonDict

from app.api import violations
from app.codecs.request import LARGEST_SEQ, LONGEST_TIMEOUT, TAKEN
from app.errors import InvalidRequest
from app.manifest import NAME_PATTERN
from app.settings import LONGEST_TTL

Step = Annotated[list[float], Field(description="one number per feature, in the manifest's order", min_length=1)]
Sequence = Annotated[
    list[Step], Field(description="time steps, oldest first; GET /models/{model}/example has some for each model", min_length=1)
]

LAST_ONLY = "false: a prediction for the last step only; true when absent"
# Not a union of arrays: from one, generators for Java, C# and some for TypeScript make code that cannot be compiled, or read.
Predictions = Annotated[
    list[Any], Field(description="the numbers of each step, or of the last one; of several outputs an object: see GET /models")
]

EXAMPLE_ANSWER: JsonDict = {
    "predictions": [[[0.5, -0.29, 0.1]], [[0.5, -0.29, 0.1], [0.48, -0.3, 0.09]]],
    "model": "gyro-denoiser",
    "version": "1",
    "provider": "CPUExecutionProvider",
}
EXAMPLE_STREAM: JsonDict = {
    "id": "wrist-7",
    "model": "gyro-denoiser",
    "version": "1",
    "seq": 12,
    "steps": 1200,
    "created_at": "2026-01-31T12:00:00Z",
    "used_at": "2026-01-31T12:00:12Z",
    "expires_at": "2026-01-31T12:10:12Z",
    "ttl_seconds": 600.0,
}
EXAMPLE_STEP: list[JsonValue] = [12.52, -8.31, 3.08, 0.02, 0.01, 9.81]


def _not_taken(id: str | None) -> str | None:
    if id == TAKEN:
        raise ValueError(
            f"{TAKEN!r} cannot be the id of a stream: /streams/{TAKEN} is the WebSocket that begins one; choose another"
        )
    return id


Id = Annotated[str | None, Field(pattern=NAME_PATTERN, description="made up when absent"), AfterValidator(_not_taken)]


class Instance(BaseModel):
    """A sequence in an object of its own, and the state it starts from."""

    model_config = ConfigDict(extra="forbid")

    input: Sequence
    state: Annotated[str | None, Field(description="a state token from an earlier answer; zeros when absent")] = None


InstanceOrSequence = Annotated[
    Annotated[Sequence, Field(title="Sequence")] | Instance, Field(title="InstanceOrSequence")  # its type's name in clients
]


class PredictRequest(BaseModel):
    """Sequences of any lengths from 1 up, in raw units."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"instances": [[EXAMPLE_STEP], [EXAMPLE_STEP, EXAMPLE_STEP]]}]}
    )

    instances: Annotated[list[InstanceOrSequence], Field(min_length=1)]
    model: Annotated[str | None, Field(description="the default model when absent")] = None
    version: Annotated[str | None, Field(description="the newest ready version when absent")] = None
    return_sequences: Annotated[bool | None, Field(description=LAST_ONLY)] = True
    return_state: Annotated[bool | None, Field(description="true: also a token of the state after the last step of each")] = False
    timeout_ms: Annotated[float | None, Field(gt=0, le=LONGEST_TIMEOUT, description="deadline, in milliseconds")] = None


class PredictResponse(BaseModel):
    """Predictions in the order of the instances, each exactly as long as its instance."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_ANSWER]})

    predictions: Predictions
    states: Annotated[list[str] | None, Field(description="one token per instance, with return_state")] = None
    model: str
    version: str
    provider: Annotated[str, Field(description="the execution provider that computed it; several, where it was several batches")]


class Attach(BaseModel):
    """How a WebSocket goes on with a stream, in its query."""

    model_config = ConfigDict(extra="forbid")

    seq: Annotated[
        int | None, Field(ge=0, le=LARGEST_SEQ, description="number of the first message's chunk; those after it count on")
    ] = None
    return_sequences: Annotated[bool, Field(description="false: an output for the last step of each chunk only")] = True


class Begin(BaseModel):
    """A stream to begin. Everything may be left out."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"id": "wrist-7", "ttl_seconds": 3600}]})

    model: Annotated[str | None, Field(description="the default model when absent")] = None
    version: Annotated[str | None, Field(description="the newest ready version when absent")] = None
    id: Id = None
    resume: Annotated[bool, Field(description="true: go on with the stream of this id, if it is alive")] = False
    state: Annotated[str | None, Field(description="a state token to start from; zeros when absent")] = None
    ttl_seconds: Annotated[float | None, Field(gt=0, le=LONGEST_TTL, description="idle time after which it expires")] = None


class Fork(BaseModel):
    """What a fork may be given."""

    model_config = ConfigDict(extra="forbid")

    id: Id = None
    ttl_seconds: Annotated[float | None, Field(gt=0, le=LONGEST_TTL, description="that of the stream when absent")] = None


class Open(Attach, Begin):
    """How a WebSocket begins a stream, in its query."""


class Stream(BaseModel):
    """Where a stream stands."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_STREAM]})

    id: str
    model: str
    version: str
    seq: Annotated[int, Field(description="chunks done, and so the number of the next")]
    steps: Annotated[int, Field(description="time steps in all of them")]
    created_at: datetime
    used_at: Annotated[datetime, Field(description="when the last chunk was done")]
    expires_at: datetime
    ttl_seconds: float
    state: Annotated[str | None, Field(description="a state token, with ?state=true")] = None


class StreamPage(BaseModel):
    """The streams, a page of their ids at a time."""

    count: Annotated[int, Field(description="streams that are kept; some may have expired just now")]
    limit: Annotated[int, Field(description="streams that may be kept at once")]
    ttl_seconds: Annotated[float, Field(description="idle time after which one expires that says nothing else")]
    store: Annotated[str, Field(description="memory, embedded or redis")]
    ids: list[str]
    next: Annotated[str | None, Field(description="the cursor of the next page; null after the last")] = None


class ChunkRequest(BaseModel):
    """The next steps of a stream, in raw units."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"input": [EXAMPLE_STEP], "seq": 0}]})

    input: Sequence
    seq: Annotated[
        int | None, Field(ge=0, le=LARGEST_SEQ, description="number of the chunk, which makes it safe to send again")
    ] = None
    return_sequences: Annotated[bool | None, Field(description=LAST_ONLY)] = True


class ChunkResponse(BaseModel):
    """A prediction for every step of the chunk."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"predictions": [[0.5, -0.29, 0.1]], "seq": 1, "steps": 1}]})

    predictions: Annotated[Any, Field(description="as one of those of POST /predict")]
    seq: Annotated[int, Field(description="chunks done, and so the number of the next")]
    steps: Annotated[int, Field(description="time steps in all of them")]


class StreamHealth(BaseModel):
    """Where streams are kept, and what is wrong with it."""

    store: Annotated[str, Field(description="memory, embedded or redis")]
    alive: Annotated[int | None, Field(description="streams that are kept, when they were last counted")] = None
    limit: int
    trouble: Annotated[str | None, Field(description="why streams cannot be used")] = None


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
    default_trouble: Annotated[str | None, Field(description="why a request that names no model is not answered")] = None
    streams: StreamHealth
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
    errors: Annotated[list[Violation], Field(description="what is wrong, and where; ten at most")] = []
    expected: Annotated[int | None, Field(description="409: the number of the chunk that is next")] = None


DESCRIBED = (PredictRequest, PredictResponse, Begin, Fork, ChunkRequest, ChunkResponse, Problem)  # not declared by routes

Schema = TypeVar("Schema", bound=BaseModel)


def read(schema: type[Schema], values: object) -> Schema:
    """The values as an instance of the schema. Raises InvalidRequest, which says what is wrong with each wrong value."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise InvalidRequest(violations.of(error.errors(include_url=False), tuple(schema.model_fields))) from None
