"""Frees the batch axis of a graph that was exported for a batch of 1, if that changes no answer.

Owns the changes: first the sizes that the graph declares, then the nodes that hold a literal 1 (initial states of recurrent
nodes, the shapes of Reshape, Expand and ConstantOfShape). Whether a change is right is never inferred: the answers to many
rows at once must equal the original's, one by one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import helper, numpy_helper
from tqdm import tqdm

from app.engine import Engine
from app.manifest import ModelSpec
from app.tensors import Array
from scripts.adoption import artifact
from scripts.adoption.hypotheses import GRAPH_NAME, Asked, Hypothesis, hypotheses
from scripts.adoption.inspection import Graph
from scripts.adoption.probe import Probe, shortened
from scripts.adoption.reading import readings
from scripts.adoption.refusal import Refused
from scripts.adoption.roles import assign
from scripts.adoption.wiring import Wiring
from scripts.adoption.wishes import Wishes
from scripts.training.apart import Compare
from scripts.training.verify import reached

BATCH = "batch"
ROWS = 8
MOST = 64  # ways that are tried
SEED = 24
_STATE_INPUTS = {"GRU": (5,), "LSTM": (5, 6), "RNN": (5,)}
_SHAPED = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0}  # operator -> the input that holds a shape


@dataclass(frozen=True, slots=True)
class Relaxed:
    """A graph with a free batch axis, its manifest, and how far its rows are from the original's, as a part of the tolerance."""

    graph: Graph
    spec: ModelSpec
    worst: float


def relax(graph: Graph, spec: ModelSpec, original: Engine, steps: Array, apart: Compare) -> Relaxed:
    """Free the batch axis of `graph`, whose manifest is `spec`; Refused with the reason if every change alters its answers.

    original: the graph as it is, running. steps: typical input (time, features). apart: compares answers.
    """
    rows = reached(original, steps, _lengths(spec), np.random.default_rng(SEED))
    expected = [original.predict([row])[0] for row in rows]
    reason = "no way of doing it runs"
    ways = islice(_ways(graph, spec), MOST)
    for changed in tqdm(ways, desc="freeing the batch axis", unit="way", leave=False, delay=1.0):
        try:
            with TemporaryDirectory() as name:
                folder = Path(name)
                artifact.write_graph(changed, folder)
                found = _read(changed, spec, folder)
                worst = max(each.share for each in apart(Engine(found, folder, device="cpu").predict(rows), expected))
        except Exception as error:  # a wrongly changed graph may fail with any error
            reason = f"a batch of several does not run ({shortened(error)})"
            continue
        if worst <= 1:
            return Relaxed(changed, found, worst)
        reason = f"{ROWS} rows at once differ from the original by {worst:.3g} times what is allowed"
    raise Refused(f"The batch axis cannot be freed: {reason}. An export with a free batch axis could (dynamic_axes in PyTorch).")


def _lengths(spec: ModelSpec) -> tuple[int, ...]:
    """How many steps each row has; if only equal lengths run together, a full run for each length."""
    if spec.time_steps:
        return (spec.time_steps,) * ROWS
    return (1, 7, 7, 128, 7, 1, 128, 1) if spec.ragged else tuple(length for length in (1, 7, 128) for _ in range(ROWS))


def _read(graph: Graph, spec: ModelSpec, folder: Path) -> ModelSpec:
    """The manifest of the changed graph: the same roles, with the new layout."""
    wishes = Wishes(
        input=spec.input.name,
        lengths=spec.lengths.name if spec.lengths else None,
        states=tuple((state.input, state.output) for state in spec.states),
        constants={each.name: each.value for each in spec.constants},
        outputs=tuple(output.name for output in spec.outputs),
    )
    wiring = Wiring.of(graph)
    roles = assign(graph, wishes, wiring)
    found = readings(roles, len(spec.features), Probe(folder / GRAPH_NAME))
    asked = Asked(graph, roles, wishes, wiring, spec.name, [signal.name for signal in spec.features])
    (same,) = (each for each in hypotheses(asked, found) if _alike(each, spec))
    return same.spec.model_copy(update={"causal": spec.causal, "tolerance": spec.tolerance, "max_batch_size": None})


def _alike(hypothesis: Hypothesis, spec: ModelSpec) -> bool:
    return hypothesis.reading.batch is None and hypothesis.spec.input == spec.input


def _ways(graph: Graph, spec: ModelSpec) -> Iterator[Graph]:
    """Changed graphs, the smallest change first."""
    choices = [_ones(graph, state.input) for state in spec.states]
    for axes in product(*choices):
        yield _freed(graph, spec, axes)
    for axes in product(*choices):
        freed = _freed(graph, spec, axes)
        sites = _sites(freed.proto.graph)
        shapes = list(dict.fromkeys(sites.values()))  # nodes that take the same shape are changed alike
        for places in product(*([*_places(shape), None] for shape in shapes)):
            chosen = dict(zip(shapes, places, strict=True))
            proto = onnx.ModelProto()
            proto.CopyFrom(freed.proto)
            _carry_batch(proto.graph, spec, {index: (shape, chosen[shape]) for index, shape in sites.items()})
            yield replace(freed, proto=proto)


def _ones(graph: Graph, name: str) -> list[int]:
    """The axes of an input that are free already, or else those of size 1."""
    (tensor,) = (tensor for tensor in graph.inputs if tensor.name == name)
    return [*tensor.free] or [axis for axis, dim in enumerate(tensor.dims or ()) if dim == 1]


def _freed(graph: Graph, spec: ModelSpec, axes: tuple[int, ...]) -> Graph:
    """The graph with a free batch axis declared, and without the sizes of 1 that it declared for its outputs."""
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    places = {spec.input.name: spec.input.batch_axis, **dict(zip((state.input for state in spec.states), axes, strict=True))}
    places |= {spec.lengths.name: 0} if spec.lengths else {}
    for value in proto.graph.input:
        if value.name in places:
            value.type.tensor_type.shape.dim[places[value.name]].dim_param = BATCH
    for value in proto.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value == 1:
                dim.ClearField("dim_value")
    del proto.graph.value_info[:]
    return replace(graph, proto=proto, changed=True)


def _sites(graph: onnx.GraphProto) -> dict[int, tuple[int, ...]]:
    """Index of each node that takes a constant shape with a 1 in it -> that shape."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {n.output[0]: n.attribute[0].t for n in graph.node if n.op_type == "Constant" and n.attribute[0].HasField("t")}
    found = {}
    for index, node in enumerate(graph.node):
        at = _SHAPED.get(node.op_type)
        if at is not None and node.input[at] in constants:
            shape = tuple(numpy_helper.to_array(constants[node.input[at]]).tolist())
            if _places(shape):
                found[index] = shape
    return found


def _places(shape: tuple[int, ...]) -> list[int]:
    """Which of these sizes may be the batch."""
    return [place for place, size in enumerate(shape) if size == 1]


def _carry_batch(graph: onnx.GraphProto, spec: ModelSpec, changes: dict[int, tuple[tuple[int, ...], int | None]]) -> None:
    """Put the size of the batch in place of a 1. changes: node -> its shape, and which number to replace; None: leave it."""
    size = "recurve_batch"
    added = [helper.make_node("Shape", [spec.input.name], ["recurve_shape"])]
    added.append(helper.make_node("Gather", ["recurve_shape", _constant(graph, "recurve_axis", [spec.input.batch_axis])], [size]))
    for index, (shape, place) in changes.items():
        if place is None:
            continue
        name = f"recurve_shape_{index}"
        parts = [size if i == place else _constant(graph, f"{name}_{i}", [number]) for i, number in enumerate(shape)]
        added.append(helper.make_node("Concat", parts, [name], axis=0))
        graph.node[index].input[_SHAPED[graph.node[index].op_type]] = name
    one = _constant(graph, "recurve_one", [1])
    added.append(helper.make_node("Concat", [one, size, one], ["recurve_expanded"], axis=0))
    nodes = []
    for index, node in enumerate(graph.node):
        for at in _STATE_INPUTS.get(node.op_type, ()):
            if at < len(node.input) and node.input[at]:  # (directions, batch, hidden): a batch of 1 is repeated
                expanded = f"recurve_start_{index}_{at}"
                nodes.append(helper.make_node("Expand", [node.input[at], "recurve_expanded"], [expanded]))
                node.input[at] = expanded
        nodes.append(node)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in (*added, *nodes)]
    del graph.node[:]
    graph.node.extend(kept)


def _constant(graph: onnx.GraphProto, name: str, values: list[int]) -> str:
    graph.initializer.append(numpy_helper.from_array(np.array(values, dtype=np.int64), name))
    return name
