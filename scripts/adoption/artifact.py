"""The files of an adopted version: graph and golden sample, and what the manifest says of both.

Owns how exact the answers must be, and on which execution providers the graph may run. Knows nothing of how the graph
was read.

Tolerance: float32 keeps 6e-8 of a number. What sums, activations and steps make of that is some hundred times as much at
most, relative to the largest number around, since small answers come of the cancellation of large ones; so
atol is 1e-5 of the largest output or state. A graph that amplifies rounding, as long recurrences may, cannot be reproduced
better than its own input is rounded: what moving every input and state by its last bit does to the answers is measured,
and atol is eight times that where it is more.
"""

from pathlib import Path

import numpy as np
import onnx

from app.engine import CPU, CUDA, Engine
from app.golden import Golden
from app.manifest import ModelSpec, Tolerance
from app.tensors import Array, Instance, Prediction
from scripts.adoption.hypotheses import GRAPH_NAME
from scripts.adoption.inspection import Graph
from scripts.adoption.refusal import Refused
from scripts.training.verify import instances

SEED = 23
LENGTHS = (1, 1, 2, 7, 33, 128)
RELATIVE = 1e-5
LAST_BIT = 2.0**-23
MARGIN = 8
MOST_AMPLIFIED = 1e-2  # of the largest number: beyond, equality would mean nothing

_ONE_FILE = 2**31 - 2**20  # protobuf holds no more
_ACTIVATIONS = [b"sigmoid", b"tanh"]  # of a GRU, per direction: with others ONNX Runtime has no CUDA kernel


def write_graph(graph: Graph, folder: Path, *, one_file: int = _ONE_FILE) -> None:
    """The file as it was, if it is whole; external data is packed into it, or beside it where that makes more than `one_file`."""
    target = folder / GRAPH_NAME
    if not graph.external and not graph.changed:
        target.write_bytes(graph.path.read_bytes())
    elif graph.size < one_file:
        onnx.save(graph.proto, target)
    else:
        proto = onnx.ModelProto()
        proto.CopyFrom(graph.proto)  # saving takes the weights out of it
        data = f"{GRAPH_NAME}.data"
        (folder / data).unlink(missing_ok=True)  # or they would be appended
        onnx.save(proto, target, save_as_external_data=True, location=data, size_threshold=0)


def golden_of(engine: Engine, steps: Array) -> Golden:
    """What the graph itself answers, instance by instance; Refused when that is no number."""
    spec = engine.spec
    rng = np.random.default_rng(SEED)
    lengths = (spec.time_steps,) * 3 if spec.time_steps else LENGTHS
    found = instances(steps, lengths, [state.shape for state in spec.states], rng)
    found[0] = Instance(found[0].steps, tuple(np.zeros(state.shape, np.float32) for state in spec.states))
    if not spec.causal:  # nobody carries its states on
        found = [Instance(each.steps) for each in found]
    predictions = [engine.predict([instance])[0] for instance in found]
    for instance, prediction in zip(found, predictions, strict=True):
        if not all(np.isfinite(array).all() for array in (*prediction.outputs, *prediction.state)):
            steps_given = f"{len(instance)} {'step' if len(instance) == 1 else 'steps'}"
            raise Refused(
                f"The graph answers NaN or Infinity to an input of {steps_given}. If it needs typical input, give "
                "--sample FILE; if not, the model is broken: look for a division by zero, or a logarithm, in it."
            )
    return Golden(found, predictions)


def tolerance_of(engine: Engine, golden: Golden) -> tuple[Tolerance, float, float]:
    """How far two runs may differ; the largest number in the answers, and how far the last bit of the input moves them."""
    rng = np.random.default_rng(SEED)
    moved = [_moved(instance, rng) for instance in golden.instances]
    answers = [engine.predict([instance])[0] for instance in moved]
    largest = max(_largest(prediction) for prediction in golden.predictions)
    apart = max(_apart(a, b) for a, b in zip(answers, golden.predictions, strict=True))
    atol = max(RELATIVE * largest, min(MARGIN * apart, MOST_AMPLIFIED * largest), 1e-30)
    return Tolerance(rtol=RELATIVE, atol=float(f"{atol:.2g}")), largest, apart


def providers_of(graph: Graph) -> tuple[tuple[str, ...], str]:
    """Where the graph may run, and why not everywhere."""
    nodes = [node for node in graph.nodes if node.op_type == "GRU"]
    for node in nodes:
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        activations = [each.lower() for each in given.get("activations", _ACTIVATIONS)]
        if not given.get("linear_before_reset"):
            why = "resets before the product (linear_before_reset=0)"
        elif "clip" in given:
            why = "clips"
        elif activations[:2] != _ACTIVATIONS or activations[2:] not in ([], _ACTIVATIONS):
            why = f"has other activations ({', '.join(each.decode() for each in activations)})"
        else:
            continue
        return (
            CPU,
        ), f"CPU only: a GRU in it {why}; ONNX Runtime has no CUDA kernel for that, and would run it on the CPU in silence"
    return (CPU, CUDA), "CPU and CUDA: no node in it is known to be without a CUDA kernel"


def with_tolerance(spec: ModelSpec, tolerance: Tolerance) -> ModelSpec:
    return spec.model_copy(update={"tolerance": tolerance})


def _moved(instance: Instance, rng: np.random.Generator) -> Instance:
    def nudge(array: Array) -> Array:
        signs = rng.choice([-1.0, 1.0], array.shape)
        return (array * (1 + LAST_BIT * signs)).astype(np.float32)

    return Instance(nudge(instance.steps), None if instance.state is None else tuple(map(nudge, instance.state)))


def _largest(prediction: Prediction) -> float:
    return max(float(np.abs(array).max(initial=0.0)) for array in (*prediction.outputs, *prediction.state))


def _apart(actual: Prediction, expected: Prediction) -> float:
    pairs = zip((*actual.outputs, *actual.state), (*expected.outputs, *expected.state), strict=True)
    return max(float(np.abs(a - b).max(initial=0.0)) for a, b in pairs)
