"""What the pictures show: everything that was asked for, with readable axes."""

import numpy as np
import pytest
from forecasts import CONTEXT, config, dataset, seasons
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.evaluation.pictures import MODEL, Line, Panel, figure_of
from scripts.evaluation.stretch import SHOWN, most_eventful, stretch
from scripts.forecasting import baselines, pictures
from scripts.forecasting.network import Network
from scripts.forecasting.problem import Forecasting
from scripts.forecasting.windows import Windows
from scripts.streaming.pictures import along
from scripts.streaming.rows import Piece
from scripts.tables.recording import Dataset, Recording
from scripts.training import fit


def axes_of(figure: Figure) -> list[Axes]:
    """The axes of a figure, after drawing."""
    figure.draw_without_rendering()
    return [axes for axes in figure.axes if isinstance(axes, Axes)]


def assert_points_are_seen(axes: Axes) -> None:
    """Assert that single points have markers, and that ticks are whole rows."""
    assert all(len(line.get_xdata()) > 1 or line.get_marker() == "o" for line in axes.lines)
    low, high = axes.get_xlim()
    assert all(float(tick).is_integer() for tick in axes.get_xticks() if low <= tick <= high)


def test_a_forecast_of_one_row_is_seen() -> None:
    """With its truth, its band and some of the past; and the legend fits."""
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


def recorded(rows: int, *, begin: float | None = 0.0, period: float = 3600.0, lead: int = 0) -> Recording:
    """A ramp in features and targets, from `begin` seconds on."""
    ramp = np.arange(rows, dtype=np.float32)[:, None]
    seconds = None if begin is None else begin + period * np.arange(rows)
    return Recording("runs.csv", ramp, ramp, seconds=seconds, lead=lead)


@pytest.mark.parametrize(
    ("period", "begin", "expected"),
    [
        (None, None, ((2, 401), "row")),
        (0.02, None, ((0.04, 8.02), "seconds")),
        (3600.0, 24 * 3600.0, ((1.5, 18.125), "days since the first row of the file")),
        (60.0, 0.0, ((0.2, 6.85), "hours since the first row of the file")),
    ],
    ids=["rows", "a-sensor", "hours", "minutes"],
)
def test_an_axis_tells_time_in_the_unit_that_fits(
    period: float | None, begin: float | None, expected: tuple[tuple[float, float], str]
) -> None:
    """An hourly series must not be shown in millions of seconds."""
    part = (recorded(500, begin=begin, period=period or 1.0, lead=10),)
    data = Dataset("regress", (), (), (), False, period, training=part, validation=part, test=part)
    across, label = along(Piece(0, 12, 412), data)
    assert ((pytest.approx(across[0]), pytest.approx(across[-1])), label) == expected


@pytest.mark.parametrize("timed", [True, False], ids=["times", "rows"])
def test_the_pieces_of_a_recording_stand_side_by_side_with_gaps(timed: bool) -> None:
    """No line is drawn where rows were dropped, and each piece is shown at its own time or row."""
    pieces = [recorded(20, begin=21 * 3600.0 * place if timed else None, lead=2) for place in range(10)]
    shown = stretch([(each, each.targets + 1) for each in pieces], truth=True, part="the test part of runs.csv")
    assert len(shown.across) == 10 * 18 + 9
    gaps = np.isnan(shown.across)
    assert np.flatnonzero(gaps).tolist() == [*range(18, 189, 19)]
    assert np.isnan(shown.answers[gaps]).all()
    assert not np.isnan(shown.answers[~gaps]).any()
    if timed:
        assert shown.label == "days since the first row of the file"
        np.testing.assert_allclose(shown.across[[0, -1]], [2 / 24, (9 * 21 + 19) / 24])
    else:
        assert shown.label == "row of the recording, in the test part of runs.csv"
        assert shown.across[~gaps].tolist() == [*range(1, 181)]
    (axes,) = axes_of(figure_of([Panel("y", (Line("model", shown.answers[:, 0], MODEL, shown.across),))], label=shown.label))
    assert np.isnan(axes.lines[0].get_xdata()).sum() == 9
    if not timed:
        assert_points_are_seen(axes)


def test_the_stretch_that_changes_most_is_shown() -> None:
    """Not a stretch with few rows, or one with a gap."""
    values = np.full((3 * SHOWN, 1), 5.0)
    values[SHOWN + 10 : SHOWN + 400] = np.nan
    values[2 * SHOWN :, 0] += np.sin(np.arange(SHOWN))
    assert most_eventful(values) == slice(2 * SHOWN, 3 * SHOWN)


def test_a_forecast_of_one_row_is_seen_among_what_was_evaluated() -> None:
    ahead, values = np.arange(-23.0, 2), np.arange(25.0)
    lines = (Line("past", values[:24], MODEL, ahead[:24]), Line("forecast", values[24:], MODEL, ahead[24:]))
    (axes,) = axes_of(figure_of([Panel("load", lines)], label="rows ahead"))
    assert_points_are_seen(axes)
