"""Reads what is in an ONNX file: its tensors, its opset and the program that wrote it.

Owns reading and checking the file, external data included. Knows nothing of which tensor has which role.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import file_digest
from pathlib import Path

import onnx
from onnx.external_data_helper import load_external_data_for_model

from scripts.adoption import external_data
from scripts.adoption.refusal import Refused
from scripts.training.placement import with_subgraphs

_NAMES = {"float": "float32", "double": "float64"}  # ONNX's names -> NumPy's; the others are the same
_TOO_NEW = re.compile(r"[^.]*(?:model IR version|ir_version|opset \d+|is till opset)[^\n]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output: each axis is a size, or a name if its size is free."""

    name: str
    type: str
    dims: tuple[int | str, ...] | None = None  # None: not even their number is known

    @property
    def rank(self) -> int | None:
        return None if self.dims is None else len(self.dims)

    @property
    def free(self) -> tuple[int, ...]:
        """The axes whose size is not fixed."""
        return tuple(axis for axis, dim in enumerate(self.dims or ()) if isinstance(dim, str))

    @property
    def axes(self) -> str:
        return "of any shape" if self.dims is None else f"[{', '.join(str(dim) for dim in self.dims)}]"

    def __str__(self) -> str:
        return f"{self.name} {self.type} {self.axes}"


@dataclass(frozen=True)
class Graph:
    """A checked ONNX model, with all its data in memory."""

    path: Path
    proto: onnx.ModelProto
    external: dict[str, str]  # file of external data -> its SHA-256
    sha256: str  # of the file as it was read, without later changes
    changed: bool = False

    @cached_property
    def inputs(self) -> tuple[Tensor, ...]:
        """The inputs that must be fed: those without a default value."""
        return tuple(_tensor(value) for value in self.proto.graph.input if value.name not in self.defaults)

    @cached_property
    def outputs(self) -> tuple[Tensor, ...]:
        return tuple(_tensor(value) for value in self.proto.graph.output)

    @cached_property
    def defaults(self) -> frozenset[str]:
        """Names of the inputs that have a default value; old files list every weight as an input."""
        weights = {tensor.name for tensor in self.proto.graph.initializer}
        weights |= {tensor.values.name for tensor in self.proto.graph.sparse_initializer}
        return frozenset(value.name for value in self.proto.graph.input if value.name in weights)

    @property
    def opset(self) -> int:
        return next(int(each.version) for each in self.proto.opset_import if each.domain in ("", "ai.onnx"))

    @property
    def size(self) -> int:
        """Bytes of its weights."""
        return _size(self.proto)

    @property
    def producer(self) -> str:
        return f"{self.proto.producer_name or 'an unnamed program'} {self.proto.producer_version}".strip()

    @cached_property
    def nodes(self) -> tuple[onnx.NodeProto, ...]:
        """Every node, those of subgraphs and functions too."""
        functions = [node for function in self.proto.functions for node in function.node]
        return tuple(with_subgraphs([*self.proto.graph.node, *functions]))


def read(path: Path) -> Graph:
    """Read the model in the file; Refused if it is not an ONNX model, or not a valid one."""
    try:
        proto = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}.") from error
    except Exception as error:  # protobuf's own, or any other that a file of another kind causes
        raise Refused(not_onnx(path)) from error
    if not proto.graph.node or not proto.opset_import:
        raise Refused(not_onnx(path))
    external = external_data.files(path, proto)
    try:
        onnx.checker.check_model(path)
        load_external_data_for_model(proto, str(path.parent))
        _check_types(proto)
        proto = onnx.shape_inference.infer_shapes(proto) if _size(proto) < 2**30 else proto  # it makes copies
    except Exception as error:  # the checker raises its own and built-in types
        raise Refused(unopenable(path, error)) from error
    if not any(each.domain in ("", "ai.onnx") for each in proto.opset_import):
        raise Refused(
            f"{path.name} uses no operator of ONNX itself: ONNX Runtime cannot run it. Export the model to ONNX's operators."
        )
    return Graph(path, proto, {name: _digest(path.parent / name) for name in external}, _digest(path))


def with_copies(graph: Graph, names: Sequence[str]) -> tuple[Graph, tuple[str, ...]]:
    """The graph with a copy of each of these outputs under another name; and the new names."""
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    copies = tuple(f"{name}_answer" for name in names)
    for name, copy in zip(names, copies, strict=True):
        (value,) = (value for value in graph.proto.graph.output if value.name == name)
        proto.graph.node.append(onnx.helper.make_node("Identity", [name], [copy], name=copy))
        proto.graph.output.add().CopyFrom(value)
        proto.graph.output[-1].name = copy
    return Graph(graph.path, proto, graph.external, graph.sha256, changed=True), copies


def not_onnx(path: Path) -> str:
    return (
        f"{path.name} is not an ONNX model. Give the .onnx file: torch.onnx.export writes one from PyTorch, tf2onnx from Keras "
        "and TensorFlow, skl2onnx from scikit-learn."
    )


def unopenable(path: Path, error: Exception) -> str:
    """Why the checker or ONNX Runtime refused the file, and what to do."""
    text = str(error)
    if found := _TOO_NEW.search(text):
        return (
            f"{path.name} is newer than what is installed here can run: {found[0].strip()[-200:]}. Export it again for an older "
            "opset (torch.onnx.export has opset_version=17), or convert it with onnx.version_converter."
        )
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return (
        f"{path.name} is not a valid ONNX model: {first[:400]}. Export it again; onnx.checker.check_model says whether it is good."
    )


def _size(proto: onnx.ModelProto) -> int:
    return sum(len(tensor.raw_data) for tensor in proto.graph.initializer)  # in large models, the rest is negligible


def _check_types(proto: onnx.ModelProto) -> None:
    """ValueError if a tensor has a type that ONNX does not have; its checker lets that pass."""
    for value in (*proto.graph.input, *proto.graph.output):
        onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return Tensor(value.name, (kind or "unknown").removesuffix("_type").replace("_", " "))
    tensor = value.type.tensor_type
    name = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    if not tensor.HasField("shape"):
        return Tensor(value.name, _NAMES.get(name, name))
    dims = (dim.dim_value if dim.dim_value >= 0 and dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim)
    return Tensor(value.name, _NAMES.get(name, name), tuple(dims))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
