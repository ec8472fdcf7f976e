"""The network and the simpler methods on the same windows: a pass over them for all at once.

Owns how they are run and which numbers are told. Knows nothing of training or of what a method does.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from tqdm import tqdm

from scripts.forecasting.baselines import Method
from scripts.forecasting.errors import Coverage, Errors, unit_of
from scripts.forecasting.network import Network
from scripts.forecasting.windows import Places, Windows
from scripts.tables.recording import Column
from scripts.training.scores import Metric, Row, Scores

MODEL = "the model"


@contextmanager
def answering(network: Network) -> Iterator[None]:
    """Without dropout and gradients; afterwards the network is as it was."""
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
    """The errors by name, the network's last, and how good its quantiles are. `bar`: what a progress bar is called, if any."""
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
    """The first metric decides: the mean square in units of the deviation in training."""
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
