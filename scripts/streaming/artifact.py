"""From a trained network to the files of a version: graphs, golden sample, manifest.

Owns what an artifact that follows a stream says about itself. Knows nothing of training or of where versions lie. What it says
about the data comes from the checkpoint: the files that it was trained on may be gone.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import torch

from app.golden import Golden
from app.manifest import ModelSpec, OutputSpec, Signal, StateSpec
from app.tensors import Batch, Instance, Prediction
from scripts.series.config import Config
from scripts.series.provenance import provenance
from scripts.streaming import graph
from scripts.streaming.network import Network
from scripts.streaming.tolerance import tolerance_of
from scripts.training import nodes, publish, verify
from scripts.training.checkpoint import Checkpoint
from scripts.training.recurrent import CHUNK, CUDA_GRAPH_NAME, cell_of, graphs_of, states_of

GOLDEN = 13  # seeds its random generator, together with the run's seed
GOLDEN_LENGTHS = (1, 1, 2, 7, 33, 128)
WORDS = {
    "denoise": "The clean signal of noisy measurements, causal, one per step.",
    "regress": "Estimates from measurements, causal, one per step.",
    "classify": "Probabilities of classes, causal, of every step.",
}
OF_RECORDINGS = "Probabilities of the class of a whole sequence, after every step; those after the last are its answer."


class Follower:
    """A problem.Artifact."""

    def __init__(self, config: Config, checkpoint: Checkpoint) -> None:
        """Load the best weights of the run."""
        self._config, self._checkpoint = config, checkpoint
        facts = checkpoint.facts
        self._features = [Signal(name=name, unit=unit) for name, unit in facts["features"]]
        answered = [(name, "") for name in facts["classes"]] or facts["targets"]
        self._outputs = (
            OutputSpec(shape=(len(answered),), signals=tuple(Signal(name=name, unit=unit) for name, unit in answered)),
        )
        self._network = Network(config, features=len(self._features), outputs=len(answered))
        self._network.load_state_dict(checkpoint.best_network)
        self._network.eval()
        self._states = states_of(config.kinds, config.hidden)
        self._graphs = graphs_of(config.kinds, chunked=True)

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        return self._outputs

    @property
    def states(self) -> tuple[StateSpec, ...]:
        return self._states

    def write_graphs(self, folder: Path) -> None:
        for name in sorted(set(self._graphs.values())):
            chunk = CHUNK if name == CUDA_GRAPH_NAME else None
            onnx.save(graph.build(self._network, chunk=chunk), folder / name)

    def golden(self) -> Golden:
        return self._golden

    @cached_property
    def _golden(self) -> Golden:
        rng = np.random.default_rng([self._config.seed, GOLDEN])
        sample = self._checkpoint.facts["sample"].numpy()
        instances = verify.instances(sample, GOLDEN_LENGTHS, self._network.stack.shapes, rng)
        predictions = []
        for instance in instances:
            state = tuple(array.astype(np.float64) for array in instance.state or ())
            output, end = self._network.equations(instance.steps.astype(np.float64), state)
            predictions.append(Prediction((output.astype(np.float32),), tuple(array.astype(np.float32) for array in end)))
        return Golden(instances, predictions)

    def by_torch(self, instances: Sequence[Instance]) -> list[Prediction]:
        batch = Batch.collate(instances, self._states)
        with torch.inference_mode():
            output, states = self._network.answers(
                torch.tensor(batch.input), tuple(map(torch.tensor, batch.states)), torch.tensor(batch.lengths)
            )
        ends = [array.numpy() for array in states]
        return batch.split([output.numpy()], ends, outputs=self._outputs, states=self._states)

    def spec(self, version: str, folder: Path) -> ModelSpec:
        config, facts = self._config, self._checkpoint.facts
        return ModelSpec(
            name=config.name,
            version=version,
            description=OF_RECORDINGS if facts["label_per_recording"] else WORDS[config.task],
            task=config.task,
            sample_rate=1 / facts["period"] if facts["period"] else None,
            features=tuple(self._features),
            states=self._states,
            outputs=self._outputs,
            cell=cell_of(config.kinds, config.hidden, config.bias),
            opset=nodes.OPSET,
            graphs=self._graphs,
            files=publish.checksums(folder),
            tolerance=tolerance_of(self._network, self._golden.instances),
            provenance=provenance(
                self._checkpoint,
                per_recording=facts["label_per_recording"],
                deviations=facts["deviations"],
                rows=facts["rows"],
            ),
        )
