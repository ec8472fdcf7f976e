"""The bodies of the Open Inference Protocol V2 as OpenAPI describes them.

Owns the documentation of the wire format; the codecs own the format itself.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

Integer = Annotated[int, Field(ge=0)]
Shape = Annotated[list[Annotated[int, Field(ge=0)]], Field(description="rows, steps and features in the graph's own order")]
Parameters = Annotated[dict[str, Any], Field(description="unknown ones are passed over")]
Data = Annotated[list[Any], Field(description="its elements, flat or nested as the shape says")]

EXAMPLE_REQUEST: JsonDict = {
    "id": "42",
    "inputs": [
        {"name": "input", "datatype": "FP32", "shape": [1, 1, 6], "data": [12.52, -8.31, 3.08, 0.02, 0.01, 9.81]},
        {"name": "lengths", "datatype": "INT32", "shape": [1], "data": [1]},
    ],
    "outputs": [{"name": "output"}],
}
EXAMPLE_ANSWER: JsonDict = {
    "model_name": "gyro-denoiser",
    "model_version": "1",
    "id": "42",
    "outputs": [{"name": "output", "datatype": "FP32", "shape": [1, 1, 3], "data": [0.5, -0.29, 0.1]}],
}


class ServerMetadata(BaseModel):
    """What this server is, and which extensions of the protocol it has."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(BaseModel):
    live: bool


class ServerReady(BaseModel):
    ready: bool


class ModelReady(BaseModel):
    name: str
    ready: bool


class TensorMetadata(BaseModel):
    """One tensor; -1 in its shape is any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """The tensors of a model: the sequences, their lengths, the states; the outputs, and the states after them."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class RequestInput(BaseModel):
    """A tensor that is given: its numbers in `data`, or as bytes after the JSON, with `parameters.binary_data_size`."""

    name: str
    datatype: Annotated[str, Field(description="FP32 of sequences and states, INT32 or INT64 of lengths")]
    shape: Shape
    data: Data | None = None
    parameters: Parameters | None = None


class RequestOutput(BaseModel):
    """A tensor that is asked for, as bytes with `parameters.binary_data`."""

    name: str
    parameters: Parameters | None = None


class InferRequest(BaseModel):
    """Sequences as one tensor, a row each; rows that are shorter say so in the tensor of lengths.

    Of the parameters, these are known: `sequence_id`, `sequence_start` and `sequence_end` for a sequence whose state the service
    keeps; `timeout` in microseconds; `binary_data_output`.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_REQUEST]})

    id: Annotated[str | None, Field(description="comes back in the answer")] = None
    inputs: list[RequestInput]
    outputs: Annotated[list[RequestOutput] | None, Field(description="all but the states, where absent")] = None
    parameters: Parameters | None = None


class ResponseOutput(BaseModel):
    """A tensor of the answer: its numbers in `data`, flat, or as bytes after the JSON; rows that are shorter end in zeros."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float] = []
    parameters: dict[str, Any] = {}


class InferResponse(BaseModel):
    """The tensors that were asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_ANSWER]})

    model_name: str
    model_version: str
    id: str = ""
    outputs: list[ResponseOutput]


class ModelConfiguration(BaseModel):
    """Triton's ModelConfig, as far as it says something of this model."""

    model_config = ConfigDict(extra="allow")

    name: str
    platform: str
    backend: str
    version_policy: dict[str, Any]
    max_batch_size: Annotated[int, Field(ge=0, description="rows in one request; 0 where batch is not the first axis, or fixed")]
    input: list[dict[str, Any]]
    output: list[dict[str, Any]]
    instance_group: list[dict[str, Any]]
    default_model_filename: str
    parameters: dict[str, Any]
    sequence_batching: Annotated[dict[str, Any], Field(description="only where the model has states that are carried on")] = {}


class Duration(BaseModel):
    """How often, and how long in all."""

    count: Integer
    ns: Integer


class InferenceStatistics(BaseModel):
    """`success` and `fail` count requests, `queue` instances, `compute_infer` batches; the others are not measured."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration


class BatchStatistics(BaseModel):
    """The batches of one size."""

    batch_size: Integer
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


class VersionStatistics(BaseModel):
    """What all processes together have counted of one version of a model."""

    name: str
    version: str
    last_inference: Annotated[int, Field(ge=0, description="milliseconds since the epoch; 0: none")]
    inference_count: Integer
    execution_count: Integer
    inference_stats: InferenceStatistics
    response_stats: dict[str, Any]
    batch_stats: list[BatchStatistics]
    memory_usage: list[dict[str, Any]]


class ModelStatistics(BaseModel):
    model_stats: list[VersionStatistics]


class IndexRequest(BaseModel):
    """Which versions are listed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ready": True}]})

    ready: Annotated[bool | None, Field(description="true: only those that are served")] = None


class IndexEntry(BaseModel):
    """A version in the repository."""

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str


class LoadRequest(BaseModel):
    """Which versions are to be served: in `parameters.config`, a ModelConfig as JSON text of which `version_policy` is taken."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{}, {"parameters": {"config": '{"version_policy": {"latest": {"num_versions": 1}}}'}}]}
    )

    parameters: Parameters | None = None


DESCRIBED = (InferRequest, InferResponse, IndexRequest, LoadRequest)  # bodies that the routes do not declare to the framework


def path(*names: str) -> list[dict[str, Any]]:
    """The parameters in a route's path, for its OpenAPI description."""
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in names]
