"""The files of an adopted version: graph and golden sample, and what the manifest says of both.

Owns what the golden sample is made of, and on which execution providers the graph may run. Knows nothing of how the graph
was read, nor of how exact it is.
"""

from pathlib import Path

import numpy as np
import onnx

from app.engine import Engine
from app.golden import Golden
from app.runtime import CPU, CUDA
from app.tensors import Array, Instance
from scripts.adoption.hypotheses import GRAPH_NAME
from scripts.adoption.inspection import Graph
from scripts.adoption.questions import by_chance
from scripts.adoption.refusal import Refused
from scripts.training import placement
from scripts.training.exactness import tensors
from scripts.training.verify import reached

SEED = 23
LENGTHS = (1, 1, 2, 7, 33, 128)

_ONE_FILE = 2**31 - 2**20  # protobuf holds no more


def write_graph(graph: Graph, folder: Path, *, one_file: int = _ONE_FILE) -> None:
    """Write the file as it was, if it is whole; external data is packed in, or put beside it above `one_file` bytes."""
    target = folder / GRAPH_NAME
    if not graph.external and not graph.changed:
        target.write_bytes(graph.path.read_bytes())
    elif graph.size < one_file:
        onnx.save(graph.proto, target)
    else:
        proto = onnx.ModelProto()
        proto.CopyFrom(graph.proto)  # saving removes the weights from it
        data = f"{GRAPH_NAME}.data"
        (folder / data).unlink(missing_ok=True)  # or they would be appended
        onnx.save(proto, target, save_as_external_data=True, location=data, size_threshold=0)


def golden_of(graph: Graph, engine: Engine, steps: Array) -> Golden:
    """What the graph itself answers, instance by instance; Refused if that is not finite, or differs the next time."""
    spec = engine.spec
    lengths = (spec.time_steps,) * 3 if spec.time_steps else LENGTHS
    found = reached(engine, steps, lengths, np.random.default_rng(SEED))
    if not spec.causal:  # its states are never carried on
        found = [Instance(each.steps) for each in found]
    predictions, again = ([engine.predict([instance])[0] for instance in found] for _ in range(2))
    for instance, prediction, other in zip(found, predictions, again, strict=True):
        if not all(np.isfinite(array).all() for array in tensors(prediction)):
            steps_given = f"{len(instance)} {'step' if len(instance) == 1 else 'steps'}"
            raise Refused(
                f"The graph answers NaN or Infinity to an input of {steps_given}. If it needs typical input, give "
                "--sample FILE; if not, the model is broken: look for a division by zero, or a logarithm, in it."
            )
        if not all(map(np.array_equal, tensors(prediction), tensors(other))):
            raise Refused(by_chance(graph))
    return Golden(found, predictions)


def providers_of(graph: Graph) -> tuple[tuple[str, ...], str]:
    """The execution providers on which the graph may run, and the reason."""
    for misfit in placement.misfits(graph.proto):
        if not misfit.runs:
            return (CPU,), f"CPU only: {misfit}. ONNX Runtime would run that node on the CPU in silence"
    return (CPU, CUDA), "CPU and CUDA: every node in it has a CUDA kernel"
