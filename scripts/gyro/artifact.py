"""From a trained network to the files of a version: graphs, golden sample, manifest.

Owns what an artifact of the simulated gyroscope says about itself. Knows nothing of training or of where versions lie.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from app.golden import Golden
from app.manifest import ModelSpec, OutputSpec, Signal, StateSpec, Tolerance
from app.tensors import Batch, Instance, Prediction
from scripts.gyro import graph
from scripts.gyro.config import Config
from scripts.gyro.data import GOLDEN, GYRO_FEATURES, GYRO_OUTPUTS, Gyro
from scripts.gyro.model import Denoiser
from scripts.training import nodes, publish, recurrent, verify
from scripts.training.checkpoint import Checkpoint
from scripts.training.packages import installed

GOLDEN_LENGTHS = (1, 1, 2, 7, 33, 128)
# float32 rounds a rate of 1000 deg/s to 6e-5; a lost digit more than that is a defect
TOLERANCE = Tolerance(rtol=1e-6, atol=1e-4)
OUTPUTS = (OutputSpec(shape=(len(GYRO_OUTPUTS),), signals=tuple(Signal(name=name, unit=unit) for name, unit in GYRO_OUTPUTS)),)


class Denoised:
    """A problem.Artifact: the network with the best weights of a run."""

    outputs = OUTPUTS

    def __init__(self, checkpoint: Checkpoint) -> None:
        assert isinstance(checkpoint.config, Config)
        self.config = checkpoint.config
        self.network = Denoiser(self.config)
        self.network.load_state_dict(checkpoint.best_network)
        self.network.eval()
        self._checkpoint = checkpoint
        self._gyro = Gyro(self.config)
        self._graphs = recurrent.graphs_of(self.config.kinds, chunked=True)

    @property
    def states(self) -> tuple[StateSpec, ...]:
        return recurrent.states_of(self.config.kinds, self.config.hidden)

    def write_graphs(self, folder: Path) -> None:
        """The network's graph, once for each provider that needs its own."""
        for name in set(self._graphs.values()):
            chunk = recurrent.CHUNK if name == recurrent.CUDA_GRAPH_NAME else None
            onnx.save(graph.build(self.network, chunk=chunk), folder / name)

    def golden(self) -> Golden:
        """Held-out instances of several lengths, from random states, with the answers of the float64 equations."""
        rng = np.random.default_rng([self.config.seed, GOLDEN])
        features = self._gyro.test(count=8, seconds=20.0).features
        recording, moment, _ = np.unravel_index(np.abs(features[..., :3]).argmax(), features[..., :3].shape)
        begin = max(0, min(int(moment) - GOLDEN_LENGTHS[-1] // 2, features.shape[1] - GOLDEN_LENGTHS[-1]))
        steps = features[recording, begin : begin + GOLDEN_LENGTHS[-1]]  # around the fastest rotation: there digits are lost first
        found = verify.instances(steps, GOLDEN_LENGTHS, self.network.stack.shapes, rng)
        predictions = []
        for instance in found:
            state = [array.astype(np.float64) for array in instance.state or ()]
            output, ends = self.network.equations(instance.steps.astype(np.float64), state)
            final = tuple(end.astype(np.float32) for end in ends)
            predictions.append(Prediction(outputs=(output.astype(np.float32),), state=final))
        return Golden(found, predictions)

    def by_torch(self, instances: Sequence[Instance]) -> list[Prediction]:
        """The answers of the network in torch, all instances in one ragged batch."""
        batch = Batch.collate(instances, self.states)
        with torch.inference_mode():
            state = tuple(torch.tensor(array) for array in batch.states)
            output, ends = self.network(torch.tensor(batch.input), state, torch.tensor(batch.lengths))
        return batch.split([output.numpy()], [end.numpy() for end in ends], outputs=OUTPUTS, states=self.states)

    def spec(self, version: str, folder: Path) -> ModelSpec:
        """The manifest of the files in `folder`, as version `version`."""
        config = self.config
        return ModelSpec(
            name=config.name,
            version=version,
            description="Denoised angular rates of a MEMS gyroscope, causal, one per step.",
            task="denoise",
            sample_rate=config.sample_rate,
            features=tuple(Signal(name=name, unit=unit) for name, unit in GYRO_FEATURES),
            states=self.states,
            outputs=OUTPUTS,
            cell=recurrent.cell_of(config.kinds, config.hidden, config.bias),
            opset=nodes.OPSET,
            graphs=self._graphs,
            files=publish.checksums(folder),
            tolerance=TOLERANCE,
            provenance=self._provenance(),
        )

    def _provenance(self) -> dict[str, Any]:
        part, scores = self._gyro.specimen.part, self._checkpoint.facts.get("scores")
        return {
            "data": f"simulated {part.name}: {part.source}",
            "config": self.config.to_dict(),
            "metrics": self._checkpoint.best,
            **({"scores": scores} if scores else {}),
            "packages": installed(),
        }
