"""The manifest of a model version: the model's inputs and outputs, and the checksums of its files.

Owns the format of manifest.json, the contract between trainer and service. Knows nothing of how artifacts are found or served.
"""

from functools import cached_property
from hashlib import file_digest, sha256
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.errors import BadArtifact, Damaged

FILE_NAME = "manifest.json"
GOLDEN_NAME = "golden.npz"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"  # no separators: a name never leads outside its folder
VERSION_PATTERN = r"^[1-9][0-9]{0,8}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Version = Annotated[str, Field(pattern=VERSION_PATTERN)]
FileName = Annotated[str, Field(pattern=NAME_PATTERN)]
Size = Annotated[int, Field(ge=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Signal(_Frozen):
    """One feature or output: its name, and its unit as in the user's raw data."""

    name: str
    unit: str = ""


class InputSpec(_Frozen):
    """The graph's tensor of sequences. Its axes are batch, time and features; features is always the last."""

    name: str = "input"
    batch_axis: Annotated[int, Field(ge=0, le=1)] = 0
    time_axis: Annotated[int, Field(ge=0, le=1)] | None = 1  # None: the graph takes one step a call, (batch, features)

    @model_validator(mode="after")
    def _axes_fit(self) -> "InputSpec":
        _check_axes(self.name, {"batch_axis": self.batch_axis, "time_axis": self.time_axis}, 2 if self.time_axis is None else 3)
        if self.time_axis is None and self.batch_axis:
            raise ValueError(f"batch_axis {self.batch_axis} of {self.name} is the axis of its features")
        return self


class LengthsSpec(_Frozen):
    """The graph's tensor of sequence lengths, (batch,). Steps beyond a length are padding and do not change the answer."""

    name: str = "lengths"
    type: Literal["int32", "int64"] = "int32"


class ConstantSpec(_Frozen):
    """An input that has the same value in every call, such as a sampling rate."""

    name: str
    type: Literal["bool", "float32", "float64", "int32", "int64"]
    value: Any  # a number, or numbers in as many nested arrays as the tensor has axes


class StateSpec(_Frozen):
    """One recurrent state: the graph input it enters by, the graph output it leaves by, and its layout."""

    input: str
    output: str
    shape: tuple[Size, ...]  # of one instance, without the batch axis
    batch_axis: Annotated[int, Field(ge=0)]  # where the batch axis stands in the graph's tensor

    @model_validator(mode="after")
    def _axis_is_inside(self) -> "StateSpec":
        _check_axes(self.input, {"batch_axis": self.batch_axis}, len(self.shape) + 1)
        return self


class OutputSpec(_Frozen):
    """One output tensor of the graph, and its layout.

    With a time axis it answers every step; without one it answers the whole sequence or, if the graph takes one step a call, that
    step.
    """

    name: str = "output"
    shape: tuple[Size, ...]  # without the axes of batch and time; () is taken as (1,)
    batch_axis: Annotated[int, Field(ge=0)] = 0
    time_axis: Annotated[int, Field(ge=0)] | None = 1
    signals: tuple[Signal, ...] = ()  # what the numbers along the last axis are, if known

    @model_validator(mode="after")
    def _axes_fit(self) -> "OutputSpec":
        axes = {"batch_axis": self.batch_axis, "time_axis": self.time_axis}
        _check_axes(self.name, axes, len(self.shape) + (1 if self.time_axis is None else 2))
        if self.signals and len(self.signals) != self.width[-1]:
            raise ValueError(f"{self.name} has {self.width[-1]} numbers a step and {len(self.signals)} signals")
        return self

    @property
    def width(self) -> tuple[int, ...]:
        """The shape of one answer, with at least one axis."""
        return self.shape or (1,)


def _check_axes(name: str, axes: dict[str, int | None], rank: int) -> None:
    given = [axis for axis in axes.values() if axis is not None]
    for label, axis in axes.items():
        if axis is not None and axis >= rank:
            raise ValueError(f"{label} {axis} is outside {name}, a tensor of {rank} axes")
    if len(set(given)) < len(given):
        raise ValueError(f"{name} has batch and time on one axis")


class Tolerance(_Frozen):
    """How far two runs of this model may differ: |a - b| <= atol + rtol |b|, in the units of the outputs."""

    rtol: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    atol: Annotated[float, Field(ge=0, allow_inf_nan=False)]


Variant = Literal["reset_before", "reset_after", "lstm", "rnn"]


class Cell(_Frozen):
    """The recurrent cell in the graph. reset_before: the GRU whose reset gate acts before the matrix product."""

    variant: Variant | tuple[Variant, ...]  # one for all layers, or one for each, from the input up
    hidden_size: Size
    num_layers: Size
    bias: bool


class ModelSpec(_Frozen):
    """Everything that the service knows about a model version before it opens the graph."""

    format: Literal[2] = 2
    name: Name
    version: Version
    description: str = ""
    task: Literal["denoise", "regress", "classify", "forecast"] | None = None  # what it was trained for, if known
    sample_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None  # Hz
    features: Annotated[tuple[Signal, ...], Field(min_length=1)]
    input: InputSpec = InputSpec()
    lengths: LengthsSpec | None = LengthsSpec()  # None: the graph takes no lengths, so only equally long sequences run together
    constants: tuple[ConstantSpec, ...] = ()
    states: tuple[StateSpec, ...]
    outputs: Annotated[tuple[OutputSpec, ...], Field(min_length=1)]
    max_batch_size: Size | None = None  # 1: the graph's batch axis is fixed
    time_steps: Size | None = None  # of every sequence, if the graph's time axis is fixed
    causal: bool = True  # a sequence in pieces, with its states carried on, is answered like the whole: it can be streamed
    cell: Cell | None = None  # None: unknown, for the graph is not from this project's trainer
    opset: Size
    graphs: Annotated[dict[str, FileName], Field(min_length=1)]  # execution provider -> the graph to run on it
    files: dict[FileName, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]  # every other file of the version -> its SHA-256
    tolerance: Tolerance
    provenance: dict[str, Any] = {}  # data, arguments, metrics and package versions it was made with

    @model_validator(mode="after")
    def _every_file_is_listed(self) -> "ModelSpec":
        if missing := {*self.graphs.values(), GOLDEN_NAME} - set(self.files):
            raise ValueError(f"files lists no SHA-256 of {', '.join(sorted(missing))}")
        return self

    @model_validator(mode="after")
    def _every_tensor_has_one_part(self) -> "ModelSpec":
        inputs = [self.input.name, *(each.name for each in self.constants), *(state.input for state in self.states)]
        inputs += [self.lengths.name] if self.lengths else []
        for names in (inputs, [*(output.name for output in self.outputs), *(state.output for state in self.states)]):
            if len(set(names)) < len(names):
                raise ValueError(f"a tensor stands in more than one place: {', '.join(sorted(names))}")
        if self.stepwise and (self.lengths or any(output.time_axis is not None for output in self.outputs)):
            raise ValueError(f"{self.input.name} is one step a call, so there are no lengths and no output has a time axis")
        return self

    @property
    def stepwise(self) -> bool:
        """Whether the graph takes one step a call."""
        return self.input.time_axis is None

    @property
    def ragged(self) -> bool:
        """Whether sequences of different lengths may run together."""
        return self.stepwise or self.lengths is not None

    def every_step(self, output: OutputSpec) -> bool:
        """Whether this output answers every step of a sequence, and not the sequence as a whole."""
        return self.stepwise or output.time_axis is not None

    @cached_property
    def divisible(self) -> bool:
        """Whether the answer to several chunks that run as one can be split into the answer to each."""
        return self.time_steps is None and all(map(self.every_step, self.outputs))

    @cached_property
    def layout(self) -> tuple[tuple[slice, tuple[int, ...]], ...]:
        """For each state, its place in one instance's states written one after the other, and its shape."""
        ends = [0, *accumulate(prod(state.shape) for state in self.states)]
        return tuple((slice(*ends[i : i + 2]), state.shape) for i, state in enumerate(self.states))

    @cached_property
    def weights(self) -> str:
        """Identifies the weights, whatever the version's name: a digest of all its files but the golden sample."""
        return sha256(repr(sorted(self.files.items() - {(GOLDEN_NAME, self.files[GOLDEN_NAME])})).encode()).hexdigest()[:16]

    @cached_property
    def state_size(self) -> int:
        """How many numbers the states of one instance have together."""
        return sum(prod(state.shape) for state in self.states)

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


def read(folder: Path) -> ModelSpec:
    """Read the manifest of the version in `folder` and check every file's checksum; raises BadArtifact with the reason."""
    try:
        spec = ModelSpec.model_validate_json((folder / FILE_NAME).read_bytes())
    except OSError as error:
        raise BadArtifact(f"{folder / FILE_NAME} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(str(part) for part in first["loc"]) or "the whole of it"
        other = first["type"] == "extra_forbidden" or first["loc"] == ("format",)
        advice = " Another release may have written it: serve it with that one." if other else ""
        raise BadArtifact(f"{folder / FILE_NAME} is not a valid manifest: {where}: {first['msg']}.{advice}") from error
    if (spec.name, spec.version) != (folder.parent.name, folder.name):
        raise BadArtifact(f"{folder} holds {spec}: folder and manifest must agree.")
    for name, expected in spec.files.items():
        try:
            with (folder / name).open("rb") as file:
                actual = file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise Damaged(f"{folder / name} cannot be read: {error.strerror}.") from error
        if actual != expected:
            raise Damaged(f"{folder / name} is not the file that was published: SHA-256 {actual}, expected {expected}.")
    return spec
