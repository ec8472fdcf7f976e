"""Following a stream, as the training loop sees it: denoising, regression and classification, an answer for every step.

Owns which modules a task uses. Knows nothing of the loop, of files or of artifacts. One label for each recording is learned
from whole recordings; everything else from recordings in lanes, with the states carried on as in a live stream.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from scripts.series.config import Config
from scripts.streaming import pictures, updates
from scripts.streaming.classes import Classes
from scripts.streaming.lanes import Lanes
from scripts.streaming.network import Network
from scripts.streaming.sample import sample_of
from scripts.streaming.targets import Targets
from scripts.streaming.wholes import Wholes
from scripts.tables.recording import DataError, Dataset, Recording
from scripts.tables.splits import PARTS
from scripts.training.scores import Scores


class Following:
    """A problem.Problem. Raises DataError if the data do not fit the config's task, or if a part of them is empty."""

    def __init__(self, config: Config, dataset: Dataset) -> None:
        _check(config, dataset)
        self._config, self._dataset = config, dataset
        self._known = Classes(dataset) if dataset.task == "classify" else Targets(dataset)
        lengths = [len(recording.features) for recording in dataset.training]
        self._order: Lanes | Wholes
        if dataset.label_per_recording:
            self._order = Wholes(lengths, batch=config.batch, seed=config.seed)
        else:
            self._order = Lanes(lengths, batch=config.batch, chunk=config.chunk, seed=config.seed)

    @property
    def config(self) -> Config:
        return self._config

    @property
    def updates_per_epoch(self) -> int:
        return self._order.updates

    @cached_property
    def facts(self) -> dict[str, Any]:
        data = self._dataset
        return {
            "features": [[column.name, column.unit] for column in data.features],
            "targets": [[column.name, column.unit] for column in data.targets],
            "classes": list(data.classes),
            "label_per_recording": data.label_per_recording,
            "deviations": self._known.deviations,
            "period": data.period,
            "rows": {part: sum(len(each.features) - each.lead for each in getattr(data, part)) for part in PARTS},
            "digest": data.digest(),
            "sample": torch.from_numpy(sample_of(data.test, self._known.scaling)),  # (rows, features)
        }

    def network(self) -> Network:
        """A new network, which starts from the best linear answer, or from the frequencies of the classes."""
        data = self._dataset
        network = Network(self.config, features=len(data.features), outputs=len(data.classes or data.targets))
        self._known.begin(network)
        return network

    def prepare(self, epoch: int) -> Any:
        return self._order.epoch(epoch)

    def losses(self, network: nn.Module, prepared: Any, device: str) -> Iterator[Tensor]:
        of = updates.by_wholes if self._dataset.label_per_recording else updates.by_lanes
        return of(cast("Network", network), self._dataset.training, prepared, device)

    def validate(self, network: nn.Module, device: str) -> dict[str, float]:
        """Loss and rmse, or loss, accuracy and macro_f1, each recording followed from the zero state at its first row."""
        return self._known.validate(cast("Network", network), device)

    def scores(self, network: nn.Module, device: str) -> Scores:
        return self._known.scores(cast("Network", network), device)

    def pictures(self, network: nn.Module, device: str, folder: Path) -> list[Path]:
        return pictures.draw(cast("Network", network), self._dataset, self._known, device, folder)


def _check(config: Config, data: Dataset) -> None:
    if config.task != data.task:
        raise DataError(f"The data were read for the task {data.task}, and the run's is {config.task}: read them anew for it.")
    for part in PARTS:
        recordings: tuple[Recording, ...] = getattr(data, part)
        if not any(each.told().any() for each in recordings):
            raise DataError(f"No rows are left for {part}: give it a larger share with --split, or give more data.")
    if data.task == "classify" and len(data.classes) < 2:
        raise DataError(f"There is one class only, {', '.join(data.classes)}: a classifier needs two classes or more.")
    if data.task == "denoise" and len(data.targets) > len(data.features):
        raise DataError(
            f"Denoising needs a feature for each target, in the same order: there are {len(data.features)} features "
            f"and {len(data.targets)} targets. Name the noisy column of each target first with --features."
        )
