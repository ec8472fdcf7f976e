"""The framing of a forecast: which rows go in and come out, and which feature is the past of which target.

Owns what is decided once the columns are known. Knows nothing of torch, of rows or of how a forecast is made.
"""

from dataclasses import asdict, dataclass, replace
from math import isqrt
from typing import Any, Self

from scripts.series.config import Channels, Config, Normalise
from scripts.tables.recording import DataError, Dataset

DAY = 86_400.0  # seconds
SEASON = 24  # rows, if no calendar period fits the data
CALENDAR = (((1, 1), 7), ((7, 7), 52), ((28, 31), 12), ((90, 92), 4))  # days per row, from and to: rows of a week or a year
# The most that fitting a line from all features may cost: products of its inputs, and coefficients
PRODUCTS, COEFFICIENTS = 2500**2, 2_000_000


@dataclass(frozen=True, slots=True)
class Framing:
    """What a network and its artifact need to know of the data, beside the config."""

    context: int  # rows
    horizon: int  # rows
    segment: int  # rows
    features: int
    sources: tuple[int | None, ...]  # for each target, the feature that is its past; None: the target is not among the features
    channels: Channels
    normalise: Normalise
    quantiles: tuple[float, ...] = ()
    wide: bool = False  # whether the line reads all features, not the targets' own past alone

    @property
    def targets(self) -> int:
        return len(self.sources)

    @property
    def steps(self) -> int:
        """The number of steps of the recurrence."""
        return self.context // self.segment

    @property
    def picked(self) -> list[int]:
        """The feature of each target, with 0 in place of None, as an array must have an index there."""
        return [source or 0 for source in self.sources]

    @property
    def known(self) -> list[bool]:
        """Whether each target is among the features."""
        return [source is not None for source in self.sources]

    @property
    def solved(self) -> int:
        """How many linear systems a line from all features solves: a window's own spread weighs each target differently."""
        return self.targets if self.normalise == "instance" else 1

    @property
    def relative(self) -> list[bool]:
        """Whether each feature is taken relative to its window. One that is not forecast is not: its level may be informative."""
        return [self.normalise != "none" and feature in self.sources for feature in range(self.features)]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return cls(**values)


def framing_of(config: Config, dataset: Dataset) -> tuple[Framing, str]:
    """The framing, and a note on where and why it is not what the config asks for, empty if it is."""
    places = {column.name: index for index, column in enumerate(dataset.features)}
    sources = tuple(places.get(column.name) for column in dataset.targets)
    channels, note = config.channels, ""
    if channels == "independent":
        outside = [column.name for column, source in zip(dataset.targets, sources, strict=True) if source is None]
        beside = [column.name for index, column in enumerate(dataset.features) if index not in sources]
        if outside:
            note = (
                f"{outside[0]} is forecast from other columns only: its own past is not among the features."
                if len(outside) == 1
                else f"{', '.join(outside)} are forecast from other columns only: their own past is not among the features."
            )
        elif beside:
            note = f"{', '.join(beside)} {'is' if len(beside) == 1 else 'are'} read, and not forecast."
        if note:
            channels, note = "joint", f"{note} So all columns are read together (channels: joint)."
    framing = Framing(
        context=config.context,
        horizon=config.horizon,
        segment=config.segment,
        features=len(dataset.features),
        sources=sources,
        channels=channels,
        normalise=config.normalise,
        quantiles=config.quantiles,
    )
    if channels != "joint":
        return framing, note
    inputs = framing.context * framing.features
    most = min(isqrt(PRODUCTS // framing.solved), COEFFICIENTS // (framing.targets * framing.horizon))
    small = inputs <= most
    if not small:
        more = f"A line from all columns would have {inputs:,} inputs (context times columns), and {most:,} are the most here"
        note = f"{note} {more}: it reads each target's own past alone.".strip()
    return replace(framing, wide=small), note


def season_of(config: Config, period: float | None) -> int | None:
    """The season that the seasonal-naive forecast repeats, in rows; None if it is longer than the context.

    Raises DataError if the config asks for a season that is longer than the context.
    """
    if config.season > config.context:
        raise DataError(
            f"A season of {config.season:,} rows is longer than the context of {config.context:,} rows, from which the seasonal "
            "forecast repeats it: give a shorter --season, or train with a longer --context."
        )
    if config.season:
        return config.season
    rows = SEASON
    day = DAY / period if period else 0.0
    days = 1 / day if day else 0.0
    slow = [own for (least, most), own in CALENDAR if least - 1e-6 < days < most + 1e-6]
    if slow:
        rows = slow[0]
    elif day > 2 and abs(day - round(day)) < 1e-6 * day and round(day) <= config.context:
        rows = round(day)
    return rows if rows <= config.context else None
