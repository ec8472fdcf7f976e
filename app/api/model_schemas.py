"""The bodies of /models as OpenAPI describes them.

Owns the documentation of how a model is described; the manifest owns the facts.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

EXAMPLE_MODEL: JsonDict = {
    "name": "gyro-denoiser",
    "version": "1",
    "description": "Denoised angular rates of a MEMS gyroscope, causal, one per step.",
    "task": "denoise",
    "sample_rate": 100.0,
    "features": [{"name": "gyro_x", "unit": "deg/s"}],
    "outputs": [{"name": "output", "shape": [1], "every_step": True, "signals": [{"name": "rate_x", "unit": "deg/s"}]}],
    "time_steps": None,
    "horizon": None,
    "streamable": True,
    "truth": None,
    "reading": None,
    "provider": "CPUExecutionProvider",
    "fallback_reason": None,
}


class Signal(BaseModel):
    """One feature or output: its name and its unit, raw."""

    name: str
    unit: str


class Output(BaseModel):
    """One of the arrays that a prediction is made of."""

    name: str
    shape: Annotated[list[int], Field(description="of the answer to a step, or to the whole sequence")]
    every_step: Annotated[bool, Field(description="whether each step has an answer of its own, or the sequence as a whole")]
    signals: Annotated[list[Signal], Field(description="what the numbers along the last axis are; empty where that is not known")]


class Truth(BaseModel):
    """What the answers of a model that was trained on tables are to be measured against."""

    columns: Annotated[list[str], Field(description="of the training data, which it learned to tell; of a classifier the label's")]
    per_recording: Annotated[bool, Field(description="whether a recording has one label, which the answer to its last step tells")]
    deviations: Annotated[
        list[float], Field(description="standard deviation of each column in training, in its unit; empty where it is not known")
    ]


class Reading(BaseModel):
    """How the tables of a model's training were read, in the words of its trainer's flags; what is empty or 0 was left open."""

    time: Annotated[str, Field(description="the column of the time")]
    group: Annotated[str, Field(description="the column that tells recordings apart")]
    missing: Annotated[str, Field(description="what became of empty cells")]
    na: Annotated[list[float], Field(description="numbers that mean a missing value")] = []
    irregular: Annotated[str, Field(description="what became of rows that are not evenly spaced")]
    period: Annotated[float, Field(description="seconds between rows after resampling")]
    split: Annotated[list[str], Field(description="where training, validation and test part: fractions, rows or dates")]
    season: Annotated[int, Field(description="rows")]


class ServedModel(BaseModel):
    """A version that is served, and what it takes and gives."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_MODEL]})

    name: str
    version: str
    description: str
    task: Literal["denoise", "regress", "classify", "forecast"] | None
    sample_rate: Annotated[float | None, Field(description="Hz")]
    features: list[Signal]
    outputs: list[Output]
    time_steps: Annotated[int | None, Field(description="that every sequence must have: the context of a forecast; null: any")]
    horizon: Annotated[int | None, Field(description="steps that a forecast looks ahead")]
    streamable: Annotated[bool, Field(description="whether a stream may go on with it, chunk by chunk")]
    truth: Annotated[Truth | None, Field(description="what to measure it against; null where its manifest does not say")]
    reading: Annotated[
        Reading | None, Field(description="how to read tables as its training did; null where its manifest does not say")
    ]
    provider: Annotated[str, Field(description="the execution provider in use")]
    fallback_reason: Annotated[str | None, Field(description="why it is not the one that was asked for")]


class Models(BaseModel):
    """Everything that is served."""

    default: Annotated[
        str | None, Field(description="the model of a request that names none; null while it is not served: /health says why")
    ]
    models: list[ServedModel]


class Example(BaseModel):
    """A sequence for a model."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "gyro-denoiser", "version": "1", "input": [[12.52, -8.31, 3.08, 0.02, 0.01, 9.81]]}]
        }
    )

    model: str
    version: str
    input: Annotated[list[list[float]], Field(description="time steps, oldest first")]
