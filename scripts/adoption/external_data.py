"""Finds the files in which an ONNX file keeps its weights, if it does not hold them itself.

Does not read them: what a file says about other files must not be trusted.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx.external_data_helper import ExternalDataInfo

from scripts.adoption.presence import is_file
from scripts.adoption.refusal import Refused


def files(path: Path, proto: onnx.ModelProto) -> list[str]:
    """The names of the files that hold its weights; Refused if one of them is missing, or its name is impossible."""
    try:
        external = sorted({ExternalDataInfo(tensor).location for tensor in _tensors(proto)})
        missing = [name for name in external if not is_file(path.parent / name)]
    except (OSError, ValueError) as error:  # not a possible file name, or not an offset
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise Refused(f"{path.name} says of its weights what cannot be followed: {reason[:200]}. Export it again.") from error
    if missing:
        raise Refused(f"{path.name} keeps its weights in {', '.join(missing)}, not found in {path.parent}: put the file beside it.")
    return external


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    graphs = [proto.graph]
    while graphs:
        graph = graphs.pop()
        yield from (each for each in graph.initializer if each.data_location == onnx.TensorProto.EXTERNAL)
        for node in graph.node:
            for attribute in node.attribute:
                graphs += [attribute.g] if attribute.HasField("g") else []
                if attribute.HasField("t") and attribute.t.data_location == onnx.TensorProto.EXTERNAL:
                    yield attribute.t
