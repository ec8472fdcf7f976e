"""Finds which execution provider runs each node of a graph, from the profile of a run: ONNX Runtime tells it nowhere else.

Owns the profiling and how it is read. Knows nothing of how fast a graph is. Nodes that ONNX Runtime's CUDA provider does not
take run on the CPU without a message, with copies both ways.
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime as ort

from app import manifest
from app.manifest import ModelSpec
from app.runtime import CPU, CUDA, CUDA_OPTIONS, Runtime
from scripts.bench_gpu import child, grid
from scripts.bench_gpu.child import Job, Result

SIZE, STEPS = 4, 32
COPIES = ("MemcpyFromHost", "MemcpyToHost")


@dataclass(frozen=True, slots=True)
class Ran:
    """A node that ran."""

    name: str
    operator: str
    provider: str


def measure(job: Job) -> Result:
    """For each graph: how many nodes each provider ran, which did not run on CUDA, and whether all had to."""
    if job.device == "cuda":
        Runtime().cuda(Path(job.reference) / manifest.read(Path(job.reference)).graphs[CUDA])  # it loads the libraries, or says why
    folders = grid.folders(job)
    plan = [
        ("reset_before, chunks of ordinary operators", grid.REFERENCE, CUDA, True),
        ("reset_after, GRU operator", grid.AFTER, CUDA, True),
        ("reset_before, GRU operator, which is not served on CUDA", grid.REFERENCE, CPU, False),
    ]
    graphs, faults = [], []
    for title, model, graph_for, served in plan:
        child.say(title)
        spec = manifest.read(folders[model])
        nodes = profiled(spec, folders[model] / spec.graphs[graph_for], [CUDA, CPU] if job.device == "cuda" else [CPU])
        found = summary(nodes) | {"title": title, "served": served}
        if job.device == "cuda" and served and found["elsewhere"]:
            faults.append(f"{title}: {', '.join(found['elsewhere'])} ran on the CPU")
        graphs.append(found)
    return {"graphs": graphs, "faults": faults}


def summary(nodes: Sequence[Ran]) -> Result:
    """The number of nodes by provider. Copies between the two memories are counted separately: they compute nothing."""
    compute = [node for node in nodes if node.operator not in COPIES]
    return {
        "providers": dict(Counter(node.provider for node in compute)),
        "copies": len(nodes) - len(compute),
        "elsewhere": [f"{node.operator} {node.name}" for node in compute if node.provider != CUDA],
    }


def profiled(spec: ModelSpec, path: Path, providers: Sequence[str]) -> list[Ran]:
    """The nodes that ran, each once, in a session that is opened as in the service, but with profiling."""
    with TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        given = [(CUDA, CUDA_OPTIONS) if provider == CUDA else provider for provider in providers]
        session = ort.InferenceSession(str(path), options, providers=given)
        if missing := set(providers) - set(session.get_providers()):
            raise RuntimeError(f"ONNX Runtime could not start {', '.join(missing)}")
        feeds = {node.name: _feed(spec, node.name, node.shape) for node in session.get_inputs()}
        session.run(None, feeds)
        return read(Path(session.end_profiling()))


def read(profile: Path) -> list[Ran]:
    """The nodes in a profile, each once however often it ran."""
    found = {}
    for event in json.loads(profile.read_text()):
        arguments = event.get("args", {})
        if event.get("cat") == "Node" and "provider" in arguments:
            ran = Ran(event["name"].removesuffix("_kernel_time"), arguments.get("op_name", ""), arguments["provider"])
            found[ran.name, ran.operator] = ran
    return list(found.values())


def _feed(spec: ModelSpec, name: str, shape: Sequence[int | str]) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
    sizes = {"batch": SIZE, "time": STEPS}
    if spec.lengths is not None and name == spec.lengths.name:
        return np.full(SIZE, STEPS, spec.lengths.type)
    return np.zeros([axis if isinstance(axis, int) else sizes[axis] for axis in shape], np.float32)


if __name__ == "__main__":
    sys.exit(child.answer(measure))
