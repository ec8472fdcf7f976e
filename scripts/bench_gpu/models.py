"""Makes the models that are measured beside the committed one, with random weights, and publishes them into a repository.

Owns how they are built. Knows nothing of what is measured. Uses torch, on the CPU only, and so runs in its own process.
"""

import sys
from math import sqrt
from pathlib import Path

import numpy as np
import onnx
import torch

from app import manifest
from app.golden import Golden
from app.manifest import ModelSpec
from app.runtime import CPU, CUDA
from app.tensors import Instance, Prediction
from scripts.bench_gpu import child, grid
from scripts.bench_gpu.child import Job, Result
from scripts.bench_gpu.grid import Model
from scripts.gyro import graph
from scripts.gyro.config import Config
from scripts.gyro.model import Denoiser
from scripts.training import cuda_graph, publish, recurrent

GOLDEN_LENGTHS = (1, 1, 2, 7, 33, 128)
SEED = 31


def measure(job: Job) -> Result:
    """Publish all models; returns their folders by name."""
    reference = Path(job.reference)
    spec = manifest.read(reference)
    chunk = cuda_graph.steps_of(onnx.load(reference / spec.graphs[CUDA]), spec) if CUDA in spec.graphs else None
    folders = {}
    for model in grid.made(quick=job.quick):
        child.say(f"{model.name}: {model.layers} layers of {model.hidden}, {model.cell}")
        folders[model.name] = str(build(Path(job.models), model, spec, chunk))
    return {"folders": folders}


def build(repository: Path, model: Model, like: ModelSpec, chunk: int | None) -> Path:
    """Publish one model; `like`: a version with the same features and outputs, `chunk`: steps per call of its CUDA graph."""
    config = Config(name=model.name, cell=model.cell, layers=model.layers, hidden=model.hidden, seed=SEED)
    network = _network(config)
    names = recurrent.graphs_of(config.kinds, chunked=True)
    states = recurrent.states_of(config.kinds, config.hidden)
    with publish.staging(repository, model.name) as folder:
        onnx.save(graph.build(network), folder / names[CPU])
        if names[CUDA] != names[CPU]:
            onnx.save(graph.build(network, chunk=chunk), folder / names[CUDA])
        _golden(network).save(folder, outputs=like.outputs, states=states)
        cell = recurrent.cell_of(config.kinds, config.hidden, config.bias)

        def spec_of(version: str) -> ModelSpec:
            own = {"name": model.name, "version": version, "states": states, "cell": cell, "graphs": names, "provenance": {}}
            return like.model_copy(update=own | {"description": "Random weights.", "files": publish.checksums(folder)})

        return publish.publish(folder, spec_of)


def _network(config: Config) -> Denoiser:
    """A network initialised as torch's own GRU: larger weights would make it chaotic, and amplify rounding."""
    torch.manual_seed(config.seed)
    network = Denoiser(config)
    bound = 1 / sqrt(config.hidden)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-bound, bound)
    return network.eval()


def _golden(network: Denoiser) -> Golden:
    """Sequences from random states, with what the float64 equations answer."""
    rng = np.random.default_rng(SEED)
    config = network.config
    instances, predictions = [], []
    for length in GOLDEN_LENGTHS:
        steps = (50 * rng.standard_normal((length, 6))).astype(np.float32)
        h0 = rng.uniform(-1, 1, (config.layers, config.hidden)).astype(np.float32)
        output, (hn,) = network.equations(steps.astype(np.float64), [h0.astype(np.float64)])
        instances.append(Instance(steps, (h0,)))
        predictions.append(Prediction((output.astype(np.float32),), (hn.astype(np.float32),)))
    return Golden(instances, predictions)


if __name__ == "__main__":
    sys.exit(child.answer(measure))
