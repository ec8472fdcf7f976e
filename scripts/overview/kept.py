"""The runs in a folder, read from their checkpoints and results, without their weights.

Owns which state a run is in (finished, diverged, stopped, running or broken), and which baseline is its best. Knows nothing of how
a run is shown.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from scripts import problems
from scripts.overview import presence
from scripts.series.config import Config as SeriesConfig
from scripts.training.checkpoint import FILE_NAME as CHECKPOINT
from scripts.training.checkpoint import Checkpoint
from scripts.training.config import RunConfig
from scripts.training.scores import Row, Scores
from scripts.tuning.study import DATABASE

RESULT = "result.json"

State = Literal["finished", "diverged", "stopped", "running", "broken"]


@dataclass(frozen=True, slots=True)
class Learned:
    """The content of a run's checkpoint, without the weights."""

    config: RunConfig
    epoch: int
    best_epoch: int
    best: dict[str, float] | None  # the numbers of the best epoch
    history: list[dict[str, float]]
    scores: Scores | None = None  # on the test part, once the run is done


@dataclass(frozen=True, slots=True)
class Run:
    """One run. reason: why it ended, or what is wrong with it."""

    folder: Path
    state: State
    when: datetime  # of the last change
    reason: str = ""
    seconds: float | None = None
    learned: Learned | None = None
    files: dict[str, int] = field(default_factory=dict)  # name -> bytes

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def task(self) -> str:
        """The task, or the simulated device."""
        if self.learned is None:
            return ""
        config = self.learned.config
        return config.task if isinstance(config, SeriesConfig) else "gyroscope"


def is_run(folder: Path) -> bool:
    """Whether the folder is one run, not a folder of runs."""
    return (folder / CHECKPOINT).exists() or (folder / RESULT).exists()


def is_study(folder: Path) -> bool:
    """Whether the folder is a study of scripts.tune, which holds a run for each trial."""
    return (folder / DATABASE).exists()


def runs_in(folder: Path) -> list[Run]:
    """Every run in the folder, by the time of its last change, the newest last; raises OSError if the folder cannot be read."""
    folders = [each for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".") and not is_study(each)]
    runs = [read(each) for each in tqdm(folders, desc="reading", unit="run", leave=False, disable=None)]
    return sorted(runs, key=lambda run: (run.when, run.name))


def read(folder: Path) -> Run:
    """The run in a folder; its state is "broken" if it cannot be read."""
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file() and path.name[0] != "."}
    newest = max((path for path in (folder / CHECKPOINT, folder / RESULT, folder) if path.exists()), key=_changed)
    when = datetime.fromtimestamp(_changed(newest))
    try:
        learned = _learned(problems.checkpoint_of(folder))
        result = _result(folder)
    except FileNotFoundError:
        return Run(folder, "broken", when, f"it holds no {CHECKPOINT}", files=files)
    except (OSError, ValueError) as error:
        return Run(folder, "broken", when, " ".join(str(error).split()), files=files)
    if presence.is_held(folder):
        return Run(folder, "running", when, learned=learned, files=files)
    if result is None:
        return Run(folder, "stopped", when, learned=learned, files=files)
    state: State = "diverged" if result.get("diverged") else "finished"
    return Run(folder, state, when, str(result.get("reason", "")), result.get("seconds"), learned, files)


def lead(scores: Scores) -> Row | None:
    """The best baseline by the first metric, which decides; None if no baseline has a finite value."""
    finite = [row for row in scores.rows[:-1] if isfinite(row.values[0])]
    best = max if scores.metrics[0].higher else min
    return best(finite, key=lambda row: row.values[0], default=None)


def _learned(checkpoint: Checkpoint) -> Learned:
    """A copy without the weights, which are most of a checkpoint."""
    told = checkpoint.facts.get("scores")
    return Learned(
        config=checkpoint.config,
        epoch=checkpoint.epoch,
        best_epoch=checkpoint.best_epoch,
        best=checkpoint.best,
        history=checkpoint.history,
        scores=None if told is None else Scores.from_dict(told),
    )


def _result(folder: Path) -> dict[str, Any] | None:
    """The result that the run wrote when it was done; None before that."""
    path = folder / RESULT
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no object")
    return found


def _changed(path: Path) -> float:
    return path.stat().st_mtime
