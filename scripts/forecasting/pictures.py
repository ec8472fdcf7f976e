"""Forecasts beside the truth, and how the error grows with the time ahead, drawn into PNG files.

Owns which windows are shown and how they look. Knows nothing of how a forecast is made.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scripts.forecasting.baselines import Method
from scripts.forecasting.evaluate import MODEL, answering
from scripts.forecasting.network import Network
from scripts.forecasting.windows import Windows
from scripts.tables.recording import Column
from scripts.training.drawing import count_along, marked, save

SHOWN = 3  # windows
LEAST_PAST = 24  # rows shown before the horizon, if the context has so many
WIDE = 2.3  # inches of an entry of the legend
MOST_TARGETS = 3
COLOUR, BAND = "#c8553d", "#c8553d33"
COLOURS = ("#b9bec6", "#4c9be8", "#1f8a70", "#8d6cab")  # of the other methods

Array = NDArray[np.float64]


def draw_forecasts(
    network: Network, methods: Sequence[Method], windows: Windows, targets: Sequence[Column], path: Path, *, device: str
) -> Path:
    """Write the picture of some windows."""
    return save(forecasts(network, methods, windows, targets, device=device), path)


def forecasts(network: Network, methods: Sequence[Method], windows: Windows, targets: Sequence[Column], *, device: str) -> Figure:
    """Some windows, spread over the part: the end of the context, and over the horizon the truth and the forecasts."""
    places = windows.evenly(SHOWN + 2)[1:-1] if len(windows) > SHOWN + 2 else windows.evenly(SHOWN)
    context, past, truth = windows.take(places)
    with answering(network):
        forecast, *quantiles = (each.cpu() for each in network(context.to(device)))
        others = {method.name: method.run(past, context) for method in methods}
    columns = min(MOST_TARGETS, len(targets))
    figure = Figure(figsize=(1 + 4.6 * columns, 1 + 2.4 * len(places)), layout="constrained")
    grid = figure.subplots(len(places), columns, sharex=True, squeeze=False)
    before = min(windows.context, max(LEAST_PAST, 2 * windows.horizon))
    ahead, marker = np.arange(1, windows.horizon + 1), marked(windows.horizon)
    for row, line in enumerate(grid):
        for target, axes in enumerate(line):
            axes.plot(np.arange(-before + 1, 1), past[row, -before:, target], color="black", linewidth=0.8)
            axes.plot(ahead, truth[row, :, target], color="black", linewidth=1.4, marker=marker, label="truth")
            for colour, (name, values) in zip(COLOURS, others.items(), strict=False):
                axes.plot(ahead, values[row, :, target], color=colour, linewidth=1.0, marker=marker, label=name)
            if quantiles and len(network.framing.quantiles) > 1:
                low, high = (quantiles[0][row, :, target, level] for level in (0, -1))
                label = f"{network.framing.quantiles[0]:g} to {network.framing.quantiles[-1]:g}"
                if marker:
                    axes.vlines(ahead, low, high, color=BAND, linewidth=8, label=label)
                else:
                    axes.fill_between(ahead, low, high, color=BAND, linewidth=0, label=label)
            axes.plot(ahead, forecast[row, :, target], color=COLOUR, linewidth=1.4, marker=marker, label=MODEL)
            axes.axvline(0, color="black", linewidth=0.6, linestyle=":")
            if not row:
                axes.set_title(str(targets[target]))
    for axes in grid[-1]:
        axes.set_xlabel("rows ahead")
        count_along(axes)
    beside = int(figure.get_figwidth() / WIDE)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=beside, frameon=False)
    return figure


def draw_errors(by_step: Mapping[str, Array], path: Path) -> Path:
    """Write the picture of the errors."""
    return save(errors(by_step), path)


def errors(by_step: Mapping[str, Array]) -> Figure:
    """The mean square error of each row ahead (horizon,), by the names of the methods."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for colour, (name, each) in zip((*COLOURS[: len(by_step) - 1], COLOUR), by_step.items(), strict=True):
        width = 1.6 if name == MODEL else 1.1
        axes.plot(np.arange(1, len(each) + 1), each, color=colour, linewidth=width, marker=marked(len(each)), label=name)
    count_along(axes)
    axes.set(title="The test part", xlabel="rows ahead", ylabel="MSE, standardised", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure
