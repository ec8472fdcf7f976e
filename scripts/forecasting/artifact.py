"""From a trained forecast to the files of a version: graph, golden sample, manifest.

Owns what a forecaster's artifact says about itself. Knows nothing of training or of where versions lie. What it says about the
data comes from the checkpoint: the files that it was trained on may be gone.
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
from scripts.forecasting import graph
from scripts.forecasting.framing import Framing
from scripts.forecasting.network import Network
from scripts.forecasting.tolerance import tolerance_of
from scripts.series.config import Config
from scripts.series.provenance import provenance
from scripts.training import nodes, publish
from scripts.training.checkpoint import Checkpoint
from scripts.training.recurrent import cell_of, graphs_of


class Forecaster:
    """A problem.Artifact, with the best weights of the run. It has no states: an instance is a whole context."""

    def __init__(self, config: Config, checkpoint: Checkpoint) -> None:
        self._config, self._checkpoint = config, checkpoint
        facts = checkpoint.facts
        self._framing = Framing.from_dict(facts["framing"])
        self._network = Network(config, self._framing)
        self._network.load_state_dict(checkpoint.best_network)
        self._network.eval()
        self._features = tuple(Signal(name=name, unit=unit) for name, unit in facts["features"])
        self._targets = tuple(Signal(name=name, unit=unit) for name, unit in facts["targets"])
        self._graphs = graphs_of(config.kinds)

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """The forecast and, where they were asked for, its quantiles, whose signals are named by their levels."""
        shape, levels = (self._framing.horizon, self._framing.targets), self._framing.quantiles
        found = [OutputSpec(shape=shape, time_axis=None, signals=self._targets)]
        if levels:
            named = tuple(Signal(name=f"{level:g}") for level in levels)
            found.append(OutputSpec(name="quantiles", shape=(*shape, len(levels)), time_axis=None, signals=named))
        return tuple(found)

    @property
    def states(self) -> tuple[StateSpec, ...]:
        return ()

    def write_graphs(self, folder: Path) -> None:
        proto = graph.build(self._network, self._config.name)
        for name in sorted(set(self._graphs.values())):
            onnx.save(proto, folder / name)

    def golden(self) -> Golden:
        return self._golden

    @cached_property
    def _golden(self) -> Golden:
        instances = [Instance(steps) for steps in self._checkpoint.facts["sample"].numpy()]
        predictions = []
        for instance in instances:
            answers = self._network.equations(instance.steps.astype(np.float64))
            predictions.append(Prediction(tuple(answer.astype(np.float32) for answer in answers), ()))
        return Golden(instances, predictions)

    def by_torch(self, instances: Sequence[Instance]) -> list[Prediction]:
        batch = Batch.collate(instances, ())
        with torch.inference_mode():
            answers = [answer.numpy() for answer in self._network(torch.tensor(batch.input))]
        return batch.split(answers, [], outputs=self.outputs, states=())

    def spec(self, version: str, folder: Path) -> ModelSpec:
        config, framing, facts = self._config, self._framing, self._checkpoint.facts
        ahead = "row" if framing.horizon == 1 else f"{framing.horizon} rows"
        return ModelSpec(
            name=config.name,
            version=version,
            description=f"The next {ahead} of a series from the last {framing.context}, all at once.",
            task="forecast",
            sample_rate=1 / facts["period"] if facts["period"] else None,
            features=self._features,
            lengths=None,
            states=(),
            outputs=self.outputs,
            time_steps=framing.context,
            causal=False,
            cell=cell_of(config.kinds, config.hidden, config.bias),
            opset=nodes.OPSET,
            graphs=self._graphs,
            files=publish.checksums(folder),
            tolerance=tolerance_of(self._network, self._golden.instances),
            provenance=provenance(
                self._checkpoint, deviations=self._network.normal.target_scale.tolist(), channels=self._framing.channels
            ),
        )
