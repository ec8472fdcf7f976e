"""Finds how states run through the recurrent nodes of a graph: which input starts a node, which output is its final state.

Owns tracing a tensor back through nodes that only move numbers. This is evidence where running the graph cannot decide: a
graph that takes one step per call answers pieces like the whole, however its states are paired. Ignores what names mean.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from scripts.adoption.inspection import Graph

# operators that only pass numbers on: in another shape or order, or only some of them
_MOVES = {
    "Identity",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Reshape",
    "Flatten",
    "Slice",
    "Split",
    "Gather",
    "Concat",
    "Expand",
    "Cast",
}
_CELLS = {"GRU": 1, "LSTM": 2, "RNN": 1}  # operator -> how many states it has, its outputs from the second on
_FIRST_STATE = 5  # the place of initial_h among the inputs of all three; the LSTM's initial_c follows


@dataclass(frozen=True, slots=True)
class Wiring:
    """Pairs of a graph input and a graph output between which a recurrent node keeps a state."""

    pairs: frozenset[tuple[str, str]]
    backwards: bool  # whether a recurrent node runs from the last step to the first

    @property
    def starts(self) -> frozenset[str]:
        return frozenset(start for start, _ in self.pairs)

    @classmethod
    def of(cls, graph: Graph) -> "Wiring":
        sources = _sources(graph)
        inputs = {tensor.name for tensor in graph.inputs}
        reached = {tensor.name: _reach(tensor.name, sources) for tensor in graph.outputs}
        pairs = set()
        for node in graph.nodes:
            for place in range(_CELLS.get(node.op_type, 0)):
                start, end = _at(node.input, _FIRST_STATE + place), _at(node.output, 1 + place)
                if start and end:
                    ends = [output for output, seen in reached.items() if end in seen]
                    pairs |= {(name, output) for name in _reach(start, sources) & inputs for output in ends}
        return cls(frozenset(pairs), any(map(_runs_backwards, graph.nodes)))


def _sources(graph: Graph) -> dict[str, set[str]]:
    """Tensor -> the tensors that its numbers come from; for an If, the results of both branches."""
    sources: dict[str, set[str]] = defaultdict(set)
    for node in graph.nodes:
        if node.op_type in _MOVES:
            moved = node.input if node.op_type == "Concat" else node.input[:1]
            for output in node.output:
                sources[output] |= set(moved)
        elif node.op_type == "If":
            for branch in (attribute.g for attribute in node.attribute if attribute.HasField("g")):
                for output, inner in zip(node.output, branch.output, strict=True):
                    sources[output].add(inner.name)
    return sources


def _reach(name: str, sources: dict[str, set[str]]) -> set[str]:
    seen, todo = set(), [name]
    while todo:
        each = todo.pop()
        if each not in seen:
            seen.add(each)
            todo += sources.get(each, ())
    return seen


def _runs_backwards(node: onnx.NodeProto) -> bool:
    directions = (attribute.s for attribute in node.attribute if attribute.name == "direction")
    return node.op_type in _CELLS and next(directions, b"forward") != b"forward"


def _at(names: Sequence[str], place: int) -> str:
    return names[place] if place < len(names) else ""
