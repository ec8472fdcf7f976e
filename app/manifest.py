"""The manifest of a model version: what the model takes and gives, and how to know that its files are whole.

Owns the format of manifest.json, the one contract between the trainer and the service. Knows nothing of ONNX Runtime,
of how artifacts are found or served.
"""

from functools import cached_property
from hashlib import file_digest
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.errors import BadArtifact

FILE_NAME = "manifest.json"
GOLDEN_NAME = "golden.npz"

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"  # no separators: a name never leads outside its folder

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Version = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$")]
FileName = Annotated[str, Field(pattern=NAME_PATTERN)]
Size = Annotated[int, Field(ge=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Signal(_Frozen):
    """One feature or output: its name and its unit, raw, as the user's data has it."""

    name: str
    unit: str = ""


class StateSpec(_Frozen):
    """One recurrent state: the graph input it enters by, the graph output it leaves by, and its layout."""

    input: str
    output: str
    shape: tuple[Size, ...]  # of one instance, without the batch axis
    batch_axis: Annotated[int, Field(ge=0)]  # where the batch axis stands in the graph's tensor

    @model_validator(mode="after")
    def _axis_is_inside(self) -> "StateSpec":
        if self.batch_axis > len(self.shape):
            raise ValueError(f"batch_axis {self.batch_axis} is outside a tensor of {len(self.shape) + 1} axes")
        return self


class TensorNames(_Frozen):
    """What the graph calls its input (batch, time, features), lengths (batch,) and output (batch, time, outputs)."""

    input: str = "input"
    lengths: str = "lengths"
    output: str = "output"


class Tolerance(_Frozen):
    """How far two runs of this model may differ: |a - b| <= atol + rtol |b|, in the units of the outputs."""

    rtol: Annotated[float, Field(ge=0)]
    atol: Annotated[float, Field(ge=0)]


class Cell(_Frozen):
    """The recurrent cell in the graph. reset_before: the reset gate acts before the matrix product."""

    variant: Literal["reset_before", "reset_after"]
    hidden_size: Size
    num_layers: Size
    bias: bool


class ModelSpec(_Frozen):
    """Everything the service knows of a model version before it opens the graph."""

    format: Literal[1] = 1
    name: Name
    version: Version
    description: str = ""
    sample_rate: Annotated[float, Field(gt=0)] | None = None  # Hz
    features: Annotated[tuple[Signal, ...], Field(min_length=1)]
    outputs: Annotated[tuple[Signal, ...], Field(min_length=1)]
    tensors: TensorNames = TensorNames()
    states: tuple[StateSpec, ...]
    cell: Cell
    opset: Size
    graphs: Annotated[dict[str, FileName], Field(min_length=1)]  # execution provider -> the graph to run on it
    files: dict[FileName, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]  # every other file of the version -> its SHA-256
    tolerance: Tolerance
    provenance: dict[str, Any] = {}  # data, arguments, metrics and package versions it was made with

    @model_validator(mode="after")
    def _every_file_is_listed(self) -> "ModelSpec":
        missing = {*self.graphs.values(), GOLDEN_NAME} - set(self.files)
        if missing:
            raise ValueError(f"files lists no SHA-256 of {', '.join(sorted(missing))}")
        return self

    @cached_property
    def layout(self) -> tuple[tuple[slice, tuple[int, ...]], ...]:
        """Where each state lies when all of one instance's are written one after the other, and its shape."""
        ends = [0, *accumulate(prod(state.shape) for state in self.states)]
        return tuple((slice(*ends[i : i + 2]), state.shape) for i, state in enumerate(self.states))

    @cached_property
    def state_size(self) -> int:
        """How many numbers the states of one instance are."""
        return sum(prod(state.shape) for state in self.states)

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


def read(folder: Path) -> ModelSpec:
    """The manifest of the version in `folder`, every file of it checked; BadArtifact says what is wrong."""
    try:
        spec = ModelSpec.model_validate_json((folder / FILE_NAME).read_bytes())
    except OSError as error:
        raise BadArtifact(f"{folder / FILE_NAME} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(str(part) for part in first["loc"]) or "the whole of it"
        raise BadArtifact(f"{folder / FILE_NAME} is not a valid manifest: {where}: {first['msg']}.") from error
    if (spec.name, spec.version) != (folder.parent.name, folder.name):
        raise BadArtifact(f"{folder} holds {spec}: folder and manifest must agree.")
    for name, expected in spec.files.items():
        try:
            with (folder / name).open("rb") as file:
                actual = file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BadArtifact(f"{folder / name} cannot be read: {error.strerror}.") from error
        if actual != expected:
            raise BadArtifact(f"{folder / name} is not the file that was published: SHA-256 {actual}, expected {expected}.")
    return spec
