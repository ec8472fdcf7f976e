"""What pictures show: everything that was asked for, over axes that can be read."""

import numpy as np
from forecasts import CONTEXT, config, dataset, seasons
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.forecasting import baselines, pictures
from scripts.forecasting.network import Network
from scripts.forecasting.problem import Forecasting
from scripts.forecasting.windows import Windows
from scripts.training import fit


def axes_of(figure: Figure) -> list[Axes]:
    """As they are drawn."""
    figure.draw_without_rendering()
    return [axes for axes in figure.axes if isinstance(axes, Axes)]


def assert_points_are_seen(axes: Axes) -> None:
    """Whatever is one point has a marker, and rows are counted in whole numbers."""
    assert all(len(line.get_xdata()) > 1 or line.get_marker() == "o" for line in axes.lines)
    low, high = axes.get_xlim()
    assert all(float(tick).is_integer() for tick in axes.get_xticks() if low <= tick <= high)


def test_a_forecast_of_one_row_is_seen() -> None:
    """With its truth, its band, some of the past, and a legend that has room."""
    data = dataset(seasons()[:, :1])
    network, _ = fit.start(Forecasting(config(horizon=1, quantiles=(0.1, 0.9)), data))
    assert isinstance(network, Network)
    methods = [baselines.repeat(1), baselines.seasonal(1, 24)]
    windows = Windows(data.test, context=CONTEXT, horizon=1, part="test")
    figure = pictures.forecasts(network, methods, windows, data.targets, device="cpu")
    for axes in axes_of(figure):
        assert_points_are_seen(axes)
        assert {line.get_label() for line in axes.lines} >= {"truth", "the model"}
        assert len(axes.lines[0].get_xdata()) == pictures.LEAST_PAST
        assert [each.get_label() for each in axes.collections] == ["0.1 to 0.9"]
    (legend,) = figure.legends
    assert figure.bbox.x0 <= legend.get_window_extent().x0 <= legend.get_window_extent().x1 <= figure.bbox.x1


def test_the_error_of_one_row_is_seen() -> None:
    (axes,) = axes_of(pictures.errors({"the season before": np.array([2.0]), "the model": np.array([1.0])}))
    assert_points_are_seen(axes)
    assert [tick for tick in axes.get_xticks() if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]] == [1]
