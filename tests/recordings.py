"""Small datasets for the tests: recordings whose targets depend on earlier rows, and networks with random weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scripts.series.config import Config
from scripts.streaming.network import Network
from scripts.streaming.problem import Following
from scripts.tables.recording import Column, Dataset, Recording, Task
from scripts.training import fit
from scripts.training.checkpoint import Checkpoint

PARTS = ("training", "validation", "test")


def numbered(lengths: Sequence[int], *, features: int = 2, lead: int = 0) -> tuple[Recording, ...]:
    """Recordings in which no two rows are the same: the first feature counts all rows, the target is its negative."""
    found, total = [], 0
    for index, length in enumerate(lengths):
        count = np.arange(total + 1, total + length + 1, dtype=np.float32)
        total += length
        columns = np.stack([count, *[np.sin(count + k) for k in range(1, features)]], axis=1)
        found.append(Recording(f"recording {index}", columns.astype(np.float32), -count[:, None], lead=lead))
    return tuple(found)


def smoothed(*, rows: int = 600, seed: int = 0, denoise: bool = False) -> Dataset:
    """The target is the running mean of the first feature, or, to denoise, the slow signal in it: one row does not tell it."""
    parts = []
    for part in range(3):
        rng = np.random.default_rng([seed, part])
        noise = rng.standard_normal((rows, 3))
        mean = np.zeros(rows)
        for row in range(1, rows):
            mean[row] = 0.8 * mean[row - 1] + 0.2 * noise[row, 0]
        raw = 1000 + 20 * (mean + 0.2 * noise[:, 1] if denoise else noise[:, 0])
        features = np.stack([raw, np.full(rows, 7.0), noise[:, 2]], axis=1)
        truth = 1000 + 20 * mean if denoise else -3 + 0.5 * mean
        parts.append((Recording("a", features.astype(np.float32), truth[:, None].astype(np.float32)),))
    task: Task = "denoise" if denoise else "regress"
    columns = (Column("raw", "mV"), Column("constant"), Column("other"))
    training, validation, test = parts
    target = Column("mean", "mV" if denoise else "A")
    return Dataset(task, columns, (target,), (), False, 0.02, training, validation, test)


def labelled(*, per_recording: bool, count: int = 24, rows: int = 30, seed: int = 0) -> Dataset:
    """Two classes: whether the signal rises or falls. A single row, or statistics of the rows, do not tell them apart."""
    parts = []
    for part in range(3):
        rng = np.random.default_rng([seed, part])
        found = []
        for index in range(count):
            length = rows + index % 5
            falls = np.full(length, index % 2) if per_recording else (np.arange(length) // 10 + index) % 2
            walk = np.cumsum(np.where(falls, -0.3, 0.3)) + 0.1 * rng.standard_normal(length)
            # centred, so that the level does not tell the class
            features = (walk - walk.mean())[:, None] * [1.0, 2.0] + rng.standard_normal((length, 2)) * [0.05, 1.0]
            name = f"recording {index}"
            found.append(Recording(name, features.astype(np.float32), np.zeros((length, 0), np.float32), falls.astype(np.int64)))
        parts.append(tuple(found))
    columns = (Column("height", "m"), Column("vague"))
    training, validation, test = parts
    ways = ("rises", "falls")
    return Dataset("classify", columns, (Column("way"),), ways, per_recording, None, training, validation, test)


def of_task(task: str, **choices: Any) -> Dataset:
    """`labelled` or `smoothed` data for this task."""
    if task == "classify":
        return labelled(**{"per_recording": False, **choices})
    return smoothed(denoise=task == "denoise", **choices)


def checkpoint(data: Dataset, **choices: Any) -> Checkpoint:
    """The checkpoint of a run after one epoch; no weight is zero, not even in the head."""
    config = Config(**{"task": data.task, "hidden": 6, **choices})
    with torch.random.fork_rng(), torch.no_grad():
        network, made = fit.start(Following(config, data))
        for parameter in network.parameters():
            parameter.uniform_(-0.7, 0.7)
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    made.epoch, made.network, made.best_epoch, made.best_loss, made.best_network = 1, weights, 1, 0.5, weights
    made.history.append({"epoch": 1, "training_loss": 1.0, "validation_loss": 0.5})
    return made


def network_of(made: Checkpoint) -> Network:
    """The best network of this checkpoint."""
    assert isinstance(made.config, Config)
    network = Network(
        made.config, features=len(made.facts["features"]), outputs=len(made.facts["classes"] or made.facts["targets"])
    )
    network.load_state_dict(made.best_network)
    return network.eval()


class Summing(Network):
    """A network whose state and output at every step are the sum of the first feature since the zero state."""

    def forward(
        self, input: torch.Tensor, state: tuple[torch.Tensor, ...] | None = None, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        begin = input.new_zeros(1, len(input), 1) if state is None else state[0]
        sums = input[..., :1].double().cumsum(dim=1) + begin[0][:, None]
        last = [-1] * len(input) if lengths is None else (lengths - 1).tolist()
        ends = torch.stack([row[place] for row, place in zip(sums, last, strict=True)])
        return sums, (ends[None],)


def sums_of(recording: Recording) -> NDArray[np.float64]:
    """The outputs of `Summing` for a recording from its first row on: (rows, 1)."""
    return recording.features[:, :1].astype(np.float64).cumsum(axis=0)
