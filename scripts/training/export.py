"""From a trained network to the files of a version: graph, golden sample, manifest.

Owns what an artifact of the gyro task says about itself. Knows nothing of training or of where versions lie.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from app.golden import Golden
from app.manifest import Cell, ModelSpec, OutputSpec, Signal, StateSpec, Tolerance
from app.runtime import CPU, CUDA
from app.tensors import Batch, Instance, Prediction
from scripts.training import graph, publish, verify
from scripts.training.checkpoint import Checkpoint
from scripts.training.config import Config
from scripts.training.data import GOLDEN, GYRO_FEATURES, GYRO_OUTPUTS, Gyro
from scripts.training.model import Denoiser
from scripts.training.packages import installed

GRAPH_NAME, CUDA_GRAPH_NAME = "model.onnx", "model.cuda.onnx"
CHUNK = 32  # steps a call of the graph for CUDA: it joins no more tensors while it records
GOLDEN_LENGTHS = (1, 1, 2, 7, 33, 128)
# float32 rounds a rate of 1000 deg/s to 6e-5; a lost digit more than that is a defect
TOLERANCE = Tolerance(rtol=1e-6, atol=1e-4)
OUTPUTS = (OutputSpec(shape=(len(GYRO_OUTPUTS),), signals=tuple(Signal(name=name, unit=unit) for name, unit in GYRO_OUTPUTS)),)
GRAPHS = {
    "reset_before": {CPU: GRAPH_NAME, CUDA: CUDA_GRAPH_NAME},  # CUDA has no kernel for its GRU operator
    "reset_after": {CPU: GRAPH_NAME, CUDA: GRAPH_NAME},
}


def network_of(checkpoint: Checkpoint) -> Denoiser:
    """The network with the best weights of the run."""
    network = Denoiser(checkpoint.config)
    network.load_state_dict(checkpoint.best_network)
    return network.eval()


def write_graph(network: Denoiser, checkpoint: Checkpoint, folder: Path) -> None:
    """The network's graph, once for each provider that needs its own."""
    config = checkpoint.config
    for name in set(GRAPHS[config.cell].values()):
        chunk = CHUNK if name == CUDA_GRAPH_NAME else None
        parts = network.gru.weights(), network.calibration.numpy(), *network.head_weights()
        onnx.save(graph.build(config, *parts, chunk=chunk), folder / name)


def golden_of(network: Denoiser, gyro: Gyro) -> Golden:
    """Held-out instances of several lengths, from random states, with what the float64 equations answer."""
    config = gyro.config
    rng = np.random.default_rng([config.seed, GOLDEN])
    features = gyro.test(count=8, seconds=20.0).features
    recording, moment, _ = np.unravel_index(np.abs(features[..., :3]).argmax(), features[..., :3].shape)
    begin = max(0, min(int(moment) - GOLDEN_LENGTHS[-1] // 2, features.shape[1] - GOLDEN_LENGTHS[-1]))
    steps = features[recording, begin : begin + GOLDEN_LENGTHS[-1]]  # around the fastest rotation: there digits are lost first
    found = verify.instances(steps, GOLDEN_LENGTHS, [(config.layers, config.hidden)], rng)
    predictions = []
    for instance in found:
        (h0,) = instance.state or ()
        output, hn = network.equations(instance.steps.astype(np.float64), h0.astype(np.float64))
        predictions.append(Prediction(outputs=(output.astype(np.float32),), state=(hn.astype(np.float32),)))
    return Golden(found, predictions)


def by_torch(network: Denoiser, instances: Sequence[Instance]) -> list[Prediction]:
    """What the network answers in torch, all instances in one ragged batch."""
    states = states_of(network.config)
    batch = Batch.collate(instances, states)
    with torch.inference_mode():
        output, hn = network(*(torch.tensor(array) for array in (batch.input, *batch.states, batch.lengths)))
    return batch.split([output.numpy()], [hn.numpy()], outputs=OUTPUTS, states=states)


def states_of(config: Config) -> tuple[StateSpec, ...]:
    return (StateSpec(input="h0", output="hn", shape=(config.layers, config.hidden), batch_axis=1),)


def spec_of(version: str, checkpoint: Checkpoint, gyro: Gyro, folder: Path) -> ModelSpec:
    """The manifest of the files in `folder`, as version `version`."""
    config = checkpoint.config
    return ModelSpec(
        name=config.name,
        version=version,
        description="Denoised angular rates of a MEMS gyroscope, causal, one per step.",
        sample_rate=config.sample_rate,
        features=tuple(Signal(name=name, unit=unit) for name, unit in GYRO_FEATURES),
        states=states_of(config),
        outputs=OUTPUTS,
        cell=Cell(variant=config.cell, hidden_size=config.hidden, num_layers=config.layers, bias=config.bias),
        opset=graph.OPSET,
        graphs=GRAPHS[config.cell],
        files=publish.checksums(folder),
        tolerance=TOLERANCE,
        provenance=_provenance(checkpoint, gyro),
    )


def _provenance(checkpoint: Checkpoint, gyro: Gyro) -> dict[str, Any]:
    return {
        "data": f"simulated {gyro.specimen.part.name}: {gyro.specimen.part.source}",
        "config": checkpoint.config.to_dict(),
        "metrics": checkpoint.best,
        "packages": installed(),
    }
