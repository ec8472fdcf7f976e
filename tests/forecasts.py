"""Small series to forecast, and small networks of every kind."""

import numpy as np
import torch
from numpy.typing import NDArray

from scripts.forecasting.artifact import Forecaster
from scripts.forecasting.network import Network
from scripts.forecasting.problem import Forecasting
from scripts.series.config import Config
from scripts.tables.recording import Column, Dataset, Recording
from scripts.training import fit
from scripts.training.checkpoint import Checkpoint

NAMES = ("load", "flow", "heat")
UNITS = ("kW", "l/s", "°C")
CONTEXT, HORIZON = 48, 7


def config(**changes: object) -> Config:
    small = {"context": CONTEXT, "horizon": HORIZON, "segment": 12, "hidden": 8, "batch": 16, "epochs": 1}
    return Config(**{"task": "forecast", **small, **changes})  # type: ignore[arg-type]  # fields have many types


def seasons(rows: int = 400, *, seed: int = 0, noise: float = 1.0) -> NDArray[np.float32]:
    """Three columns (rows, 3) of very different magnitudes with a season of 24 rows."""
    rng, time = np.random.default_rng(seed), np.arange(rows)
    columns = [100 * k + 10 * (k + 1) * np.sin(2 * np.pi * time / 24 + k) for k in range(3)]
    return (np.stack(columns, axis=1) + rng.normal(0, noise, (rows, 3))).astype(np.float32)


def dataset(
    features: NDArray[np.float32],
    targets: tuple[str, ...] | None = None,
    *,
    cuts: tuple[int, int] | None = None,
    lead: int = CONTEXT,
    period: float | None = 3600.0,
) -> Dataset:
    """A dataset split at these rows. The targets are the features unless named; a target that is no feature is their sum."""
    names = NAMES[: features.shape[1]]
    targets = targets or names
    wanted = [features[:, names.index(name)] if name in names else features.sum(axis=1) for name in targets]
    values = np.stack(wanted, axis=1)
    first, second = cuts or (int(0.7 * len(features)), int(0.85 * len(features)))

    def part(begin: int, end: int, before: int) -> tuple[Recording, ...]:
        return (Recording("series.csv", features[begin - before : end], values[begin - before : end], lead=before),)

    columns = {name: Column(name, unit) for name, unit in zip(NAMES, UNITS, strict=True)}
    return Dataset(
        task="forecast",
        features=tuple(columns[name] for name in names),
        targets=tuple(columns.get(name, Column(name)) for name in targets),
        classes=(),
        label_per_recording=False,
        period=period,
        training=part(0, first, 0),
        validation=part(first, second, lead),
        test=part(second, len(features), lead),
    )


def shaken(config: Config, data: Dataset) -> tuple[Network, Checkpoint]:
    """A network with random weights, including its trust, and its checkpoint: a new network hardly uses its recurrence."""
    network, checkpoint = fit.start(Forecasting(config, data))
    assert isinstance(network, Network)
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        network.trust.uniform_(0.3, 1.0)
    checkpoint.best_network = network.state_dict()
    return network.eval(), checkpoint


def forecaster(config: Config, data: Dataset) -> Forecaster:
    return Forecaster(config, shaken(config, data)[1])
