"""Runs the network and the simpler methods on the same windows, all in one pass.

Owns how they are run and which metrics are reported. Knows nothing of training or of what a method does.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from tqdm import tqdm

from scripts.forecasting.baselines import Method
from scripts.forecasting.errors import Coverage, Errors
from scripts.forecasting.network import Network
from scripts.forecasting.windows import Places, Windows
from scripts.tables.recording import Column, unit_of
from scripts.training.scores import Metric, Row, Scores

MODEL = "the model"


@contextmanager
def answering(network: Network) -> Iterator[None]:
    """Run the block without dropout and gradients; afterwards the network is in the mode that it was in."""
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.train(training)


def measure(
    network: Network, methods: Sequence[Method], windows: Windows, places: Places, *, device: str, bar: str = ""
) -> tuple[dict[str, Errors], Coverage | None]:
    """The errors by method, the network's last, and its quantiles' coverage, if any. `bar`: the progress bar's name, if any."""
    scale = network.normal.target_scale.cpu()
    found = {name: Errors(windows.horizon, scale) for name in (*(method.name for method in methods), MODEL)}
    levels = network.framing.quantiles
    coverage = Coverage(levels, scale) if levels else None
    with answering(network), tqdm(total=len(places), desc=bar, unit="window", disable=not bar) as progress:
        for some in windows.batches(places):
            context, past, truth = windows.take(some)
            for method in methods:
                found[method.name].add(method.run(past, context), truth)
            forecast, *quantiles = network(context.to(device))
            found[MODEL].add(forecast, truth)
            if coverage is not None:
                coverage.add(quantiles[0], truth)
            progress.update(len(some))
    return found, coverage


def table(
    errors: dict[str, Errors], coverage: Coverage | None, *, data: str, targets: Sequence[Column], levels: Sequence[float]
) -> Scores:
    """The scores. The first metric decides: the mean square error in units of the standard deviation in training."""
    unit = unit_of(targets)
    metrics = [Metric("MSE, standardised"), Metric("MAE, standardised")]
    if unit is not None:
        metrics.append(Metric("RMSE", unit))
    of_quantiles: tuple[float, ...] = ()
    if coverage is not None:
        within = f"from {levels[0]:g} to {levels[-1]:g}" if len(levels) > 1 else f"below {levels[0]:g}"
        metrics += [Metric("pinball, standardised"), Metric(f"truth {within}", higher=True)]
        of_quantiles = coverage.pinball, coverage.share
    rows = []
    for name, each in errors.items():
        values = [each.mse, each.mae] + ([each.rmse] if unit is not None else [])
        values += of_quantiles if name == MODEL else [float("nan")] * len(of_quantiles)
        rows.append(Row(name, tuple(values)))
    return Scores(data, tuple(metrics), tuple(rows))
