"""The choices of a run that learns from the user's own files.

Owns those about data, task and framing. Knows nothing of files, command lines or torch.
"""

from dataclasses import dataclass, fields
from typing import Literal, get_args

from scripts.tables.recording import Irregular, Missing, Task, Wanted
from scripts.training.config import RunConfig

Channels = Literal["independent", "joint"]
Normalise = Literal["last", "instance", "none"]

SEGMENT = 24  # rows that are one step of the recurrence of a forecast, if they divide its context
WARM_UP = 4096  # rows that a stream takes before its answers count, if there are so many


def segment_of(context: int, most: int) -> int:
    """The longest segment, up to `most` rows, that divides the context."""
    return next((each for each in range(min(most, context), 0, -1) if not context % each), 1)


@dataclass(frozen=True, slots=True)
class Config(RunConfig):
    """The choices of a run. Times are in rows unless a unit is named. What is empty is decided by the data."""

    task: Task = "regress"
    # the data
    data: tuple[str, ...] = ()  # files or globs
    time: str = ""  # a column's name
    features: tuple[str, ...] = ()  # columns; empty: all numeric ones that have no other role
    targets: tuple[str, ...] = ()  # columns; empty: the features, in a forecast
    group: str = ""  # the column that tells recordings apart; otherwise each file is one
    split: tuple[str, ...] = ("0.7", "0.15", "0.15")  # of training, validation, test: fractions, rows, or dates on which each ends
    missing: Missing = "error"  # what becomes of empty cells and NaN; drop: the recording is cut there
    na: tuple[float, ...] = ()  # numbers that mean a missing value
    irregular: Irregular = "error"  # what becomes of rows that are not evenly spaced in time
    period: float = 0.0  # seconds between rows after resampling; 0: the median of what was found
    # the framing of a forecast
    context: int = 336
    horizon: int = 96
    segment: int = SEGMENT  # rows that are one step of the recurrence; divides the context
    channels: Channels = "independent"
    normalise: Normalise = "last"
    season: int = 0  # rows, for the seasonal-naive baseline; 0: see framing.season_of
    quantiles: tuple[float, ...] = ()  # between 0 and 1, forecast beside the mean
    # the fit
    epochs: int = 30
    patience: int = 10
    learning_rate: float = 2e-3
    batch: int = 64  # sequences of an update
    chunk: int = 128  # steps between two updates of the tasks that follow a stream; the state is carried on, the gradient is not

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        choices = {"task": Task, "missing": Missing, "irregular": Irregular, "channels": Channels, "normalise": Normalise}
        for name, kind in choices.items():
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")
        if len(self.split) != 3:
            raise ValueError(f"split must be three numbers or dates, TRAIN,VAL,TEST, got {','.join(self.split)!r}")
        if self.task == "forecast" and self.context % self.segment:
            fits = max(1, self.context // self.segment) * self.segment
            divides = segment_of(self.context, self.segment)
            raise ValueError(
                f"segment must divide the context of {self.context} rows, got {self.segment}: --segment {divides} would do, or"
                f" --context {fits}; both need recordings that are longer than the context"
            )
        if any(not 0 < level < 1 for level in self.quantiles) or list(self.quantiles) != sorted(set(self.quantiles)):
            raise ValueError(f"quantiles must rise and lie between 0 and 1, got {self.quantiles}")

    @staticmethod
    def from_zero() -> frozenset[str]:
        """The numbers that may be 0."""
        return frozenset({"seed", "period", "season"})

    def wanted(self) -> Wanted:
        """What to read from the files for this run."""
        lead, horizon = (self.context, self.horizon) if self.task == "forecast" else (WARM_UP, 0)
        same = {field.name: getattr(self, field.name) for field in fields(Wanted) if field.name not in ("lead", "horizon")}
        return Wanted(**same, lead=lead, horizon=horizon)
