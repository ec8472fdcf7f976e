"""The checks of a version's graph for CUDA that need no GPU.

Owns what is checked: every node of the graph has a CUDA kernel, and a graph that is not the CPU's computes the same function.
Both graphs run on the CPU here. Knows nothing of what the graph is made of.
"""

from pathlib import Path

import onnx

from app.engine import Engine
from app.golden import Golden
from app.manifest import ModelSpec
from app.runtime import CPU, CUDA
from app.tensors import Instance
from scripts.training import placement
from scripts.training.apart import Compare, Compared, compare, farthest
from scripts.training.verify import Check, by_runtime, drawn


def verify(spec: ModelSpec, folder: Path, golden: Golden) -> list[Check]:
    """Run every check; there are none if the version in `folder` has no graph for CUDA."""
    if CUDA not in spec.graphs:
        return []
    name, other = spec.graphs[CUDA], spec.graphs[CPU]
    proto = onnx.load(folder / name, load_external_data=False)
    chunk = steps_of(proto, spec)
    wrong = [misfit for misfit in placement.misfits(proto) if chunk is not None or not misfit.runs]  # only chunks are recorded
    checks = [Check.of(f"{name} runs on CUDA, every node of it", "; ".join(map(str, wrong)))]
    if name == other:
        return checks
    for_cuda, for_cpu = (Engine(spec.model_copy(update={"graphs": {CPU: each}}), folder, device="cpu") for each in (name, other))
    apart = compare(for_cpu, golden)
    checks.append(Check.by(f"{name} equals the golden sample", by_runtime(for_cuda, golden, apart)))
    checks.append(Check.by(f"{name} equals {other}", _by_graph(for_cuda, for_cpu, golden, apart, chunk or 1)))
    if chunk is not None:
        fault = "" if _state_is_kept(for_cuda, golden, chunk) else "a chunk in which it has no steps changes it"
        checks.append(Check.of(f"{name} keeps the state of a sequence that has ended", fault))
    return checks


def steps_of(proto: onnx.ModelProto, spec: ModelSpec) -> int | None:
    """How many steps a graph in chunks takes in each call, for sequences of any length; None for any other graph."""
    if spec.time_steps is not None or spec.input.time_axis is None:
        return None
    (dims,) = (each.type.tensor_type.shape.dim for each in proto.graph.input if each.name == spec.input.name)
    return dims[spec.input.time_axis].dim_value or None


def _by_graph(for_cuda: Engine, for_cpu: Engine, golden: Golden, apart: Compare, chunk: int) -> Compared:
    """The largest differences between the two graphs, for lengths around the ends of chunks, alone and in batches."""
    ends = [max(1, end + off) for end in (chunk, 2 * chunk) for off in (-1, 0, 1)]
    batches = [(1,), (1, 1, 1), *((end,) for end in ends), tuple(ends), (1, 128), (128, 1, chunk, 2 * chunk, 2)]
    return farthest(apart(for_cuda.predict(batch), for_cpu.predict(batch)) for batch in drawn(for_cpu, golden, batches))


def _state_is_kept(engine: Engine, golden: Golden, chunk: int) -> bool:
    """Whether a sequence of one step ends in the same state, to the last bit, if its neighbour takes one chunk or more."""
    ((long, short),) = drawn(engine, golden, [(4 * chunk, 1)])
    ends = [engine.predict([neighbour, short])[1].state for neighbour in (Instance(long.steps[:chunk]), long)]
    return all(before.tobytes() == after.tobytes() for before, after in zip(*ends, strict=True))
