"""The bodies of requests with the chunks of many streams, and of their answers, as OpenAPI describes them.

The chunks themselves are schemas.py's.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.api.schemas import EXAMPLE_STEP, ChunkRequest, Problem

NO_STREAM = "There is no stream 'wrist-8'; POST /streams begins one."
EXAMPLE_CHUNKS: JsonDict = {
    "chunks": [{"id": "wrist-7", "input": [EXAMPLE_STEP], "seq": 0}, {"id": "wrist-8", "input": [EXAMPLE_STEP]}]
}
EXAMPLE_RESULTS: JsonDict = {
    "results": [
        {"id": "wrist-7", "predictions": [[0.5, -0.29, 0.1]], "seq": 1, "steps": 1},
        {
            "id": "wrist-8",
            "error": {
                "type": "urn:recurve:problem:stream-not-found",
                "title": "Stream not found",
                "status": 404,
                "detail": NO_STREAM,
                "instance": "2b7f1c0a-5",
                "error": NO_STREAM,
            },
        },
    ]
}


class StreamChunk(ChunkRequest):
    """The next steps of one stream among many."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"id": "wrist-7", "input": [EXAMPLE_STEP], "seq": 0}]}
    )

    id: Annotated[str, Field(description="the stream's")]


class ChunksRequest(BaseModel):
    """Chunks of any streams; those of one stream run in their order."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE_CHUNKS]})

    chunks: Annotated[list[StreamChunk], Field(min_length=1)]


class ChunkResult(BaseModel):
    """What came of one chunk: either `predictions`, `seq` and `steps`, or an `error`."""

    id: Annotated[str, Field(description="the stream's")]
    predictions: Annotated[Any, Field(description="as one of those of POST /predict")] = None
    seq: Annotated[int | None, Field(description="chunks done, and so the number of the next")] = None
    steps: Annotated[int | None, Field(description="time steps in all of them")] = None
    error: Annotated[Problem | None, Field(description="why it was refused; pointers are into the chunk")] = None


class ChunksResponse(BaseModel):
    """Results in the order of the chunks."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_RESULTS]})

    results: list[ChunkResult]


DESCRIBED = (ChunksRequest, ChunksResponse)  # not declared by routes
