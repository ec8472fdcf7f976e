"""Which windows a recording gives, and the baseline forecasts of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from forecasts import CONTEXT, HORIZON, NAMES, config, dataset, seasons
from numpy.typing import NDArray

from scripts.forecasting import baselines, linear, whole
from scripts.forecasting.errors import Coverage, Errors, pinball
from scripts.forecasting.framing import framing_of, season_of
from scripts.forecasting.normal import Normal, moments
from scripts.forecasting.problem import Forecasting
from scripts.forecasting.windows import Windows
from scripts.tables.recording import Column, DataError, Recording, unit_of


def recording(begin: int, end: int, *, lead: int = 0) -> Recording:
    """A recording whose values are the numbers of its rows; the second feature is their negative."""
    rows = np.arange(begin, end, dtype=np.float32)[:, None]
    return Recording("rows", np.concatenate([rows, -rows], axis=1), rows, lead=lead)


def windows(*recordings: Recording, context: int = 5, horizon: int = 3) -> Windows:
    return Windows(recordings, context=context, horizon=horizon, part="training")


def everything(found: Windows) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    context, past, truth = (each.numpy() for each in found.take(np.arange(len(found))))
    return context, past, truth


# -- windows ----------------------------------------------------------------------------------------------------------


def test_every_window_is_found_once() -> None:
    """20 rows hold 20 - 8 + 1 windows of 5 + 3 rows; each equals a slice of the rows."""
    found = windows(recording(100, 120))
    context, past, truth = everything(found)
    assert len(found) == 20 - 8 + 1
    for begin, (seen, own, ahead) in enumerate(zip(context, past, truth, strict=True), start=100):
        assert seen[:, 0].tolist() == own[:, 0].tolist() == list(range(begin, begin + 5))
        assert seen[:, 1].tolist() == [-row for row in range(begin, begin + 5)]
        assert ahead[:, 0].tolist() == list(range(begin + 5, begin + 8))


@pytest.mark.parametrize("lead", [0, 2, 5, 9])
def test_rows_that_lead_into_a_part_are_never_forecast(lead: int) -> None:
    """They are the truth of the part before. A context, though, may begin as far back as they go."""
    _, past, truth = everything(windows(recording(0, 30, lead=lead)))
    assert truth.min() == max(lead, 5)
    assert past.min() == max(0, lead - 5)
    assert sorted(set(truth[:, 0, 0])) == list(range(max(lead, 5), 28))


def test_no_window_reaches_from_one_recording_into_the_next() -> None:
    """The rows between two recordings were not measured."""
    found = windows(recording(0, 10), recording(50, 55), recording(100, 109))  # the second is too short for a window
    _, past, truth = everything(found)
    assert len(found) == 3 + 0 + 2
    whole = np.concatenate([past, truth], axis=1)[..., 0]
    assert np.all(np.diff(whole, axis=1) == 1)


def test_no_row_of_validation_or_test_is_in_training() -> None:
    """Nor is validation's truth in the test part's: a score must be of rows that were never seen."""
    data = dataset(np.arange(400, dtype=np.float32)[:, None])
    rows = []
    for part in (data.training, data.validation, data.test):
        context, _, truth = everything(Windows(part, context=CONTEXT, horizon=HORIZON, part="any"))
        rows.append((set(context.ravel()), set(truth.ravel())))
    (seen, told), (_, validated), (_, tested) = rows
    assert not (seen | told) & (validated | tested)
    assert not validated & tested
    assert validated == set(range(280, 340))  # the whole part
    assert tested == set(range(340, 400))


def test_a_part_without_a_window_is_an_error_that_says_how_long_it_must_be() -> None:
    """The user can shorten the horizon or context only if told how many rows are needed."""
    says = "The training part has no window: a forecast of 3 rows from 5 needs 8 rows of one recording, and its longest has 7"
    with pytest.raises(DataError, match=says):
        windows(recording(0, 7), recording(0, 6))
    with pytest.raises(DataError, match="its longest has 0"):
        windows()


def test_batches_are_bounded_and_miss_none() -> None:
    """The arrays of 100,000 windows of many columns would not fit in memory."""
    wide = Recording("wide", np.zeros((3000, 100), np.float32), np.zeros((3000, 100), np.float32))
    found = windows(wide, context=500, horizon=100)
    batches = list(found.batches(np.arange(len(found))))
    assert np.concatenate(batches).tolist() == list(range(2401))
    assert max(len(batch) for batch in batches) * 600 * 200 <= 2**22


def test_some_windows_are_spread_over_all() -> None:
    """The first few windows might all be of one season of the year."""
    found = windows(recording(0, 1007))
    assert found.evenly(5).tolist() == [0, 250, 500, 749, 999]
    assert found.evenly(5000).tolist() == list(range(1000))


def test_no_window_forecasts_a_row_that_was_filled() -> None:
    """Its context may hold such rows. All other windows are kept, and those left out are counted."""
    rng = np.random.default_rng(0)
    recordings = [replace(recording(begin, begin + 60, lead=9), filled=rng.random(60) < 0.08) for begin in (0, 100)]
    recordings.append(recording(200, 240))
    found = windows(*recordings)
    _, past, truth = everything(found)
    filled = {int(row) for each in recordings if each.filled is not None for row in each.targets[each.filled, 0]}
    origins = [origin for begin, end in ((9, 58), (109, 158), (205, 238)) for origin in range(begin, end)]
    whole = [origin for origin in origins if not filled & {origin, origin + 1, origin + 2}]
    assert truth[:, 0, 0].tolist() == whole
    assert found.untrue == len(origins) - len(whole) > 0
    assert filled & set(past.ravel())


def test_a_part_of_filled_rows_only_is_an_error_that_says_so() -> None:
    """The message must not ask for more data, which would not help."""
    filled = np.arange(30) % 3 == 0
    with pytest.raises(DataError, match="no window whose truth is whole: each of its 23 forecasts rows of which a target"):
        windows(replace(recording(0, 30), filled=filled))


def test_filled_rows_do_not_count_in_what_a_window_is_measured_by(capsys: pytest.CaptureFixture[str]) -> None:
    """They count neither in training's mean and spread nor in any score; and the user is told how many windows are lost."""
    values = seasons(400)
    data = dataset(values)
    filled = np.zeros(280, bool)
    filled[100:104] = True
    wrong = values[:280].copy()
    wrong[100:104] = 1e6
    training = Recording("series.csv", wrong, wrong, filled=filled)
    normal = Normal(framing_of(config(), data)[0])
    normal.fit([training])
    measured = np.concatenate([values[:100], values[104:280]])
    np.testing.assert_allclose(normal.target_mean, measured.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(normal.target_scale, measured.std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(normal.scale, normal.target_scale)
    Forecasting(config(), replace(data, training=(training,)))
    assert f"{4 + HORIZON - 1} of {280 - CONTEXT - HORIZON + 1} of the training part" in capsys.readouterr().out
    Forecasting(config(), data)
    assert "left out" not in capsys.readouterr().out


# -- framing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "sources", "channels", "said"),
    [
        (NAMES, (0, 1, 2), "independent", ""),
        (("heat", "load", "flow"), (2, 0, 1), "independent", ""),
        (("load",), (0,), "joint", "flow, heat are read, and not forecast"),
        (("load", "sum"), (0, None), "joint", "sum is forecast from other columns only"),
    ],
    ids=["all", "all, in another order", "one of them", "another"],
)
def test_columns_that_are_not_both_read_and_forecast_are_taken_together(
    targets: tuple[str, ...], sources: tuple[int | None, ...], channels: str, said: str
) -> None:
    """A network that reads one channel at a time cannot use a column that is not forecast; the user is told so."""
    framing, note = framing_of(config(), dataset(seasons(), targets))
    assert (framing.sources, framing.channels) == (sources, channels)
    assert said in note
    assert bool(note) == bool(said)


@pytest.mark.parametrize(
    ("season", "period", "rows"),
    [(0, 3600.0, 24), (0, 1800.0, 48), (0, 7000.0, 24), (0, None, 24), (0, 60.0, 24), (12, 3600.0, 12)],
)
def test_a_season_is_a_day_where_that_is_a_number_of_rows(season: int, period: float | None, rows: int) -> None:
    """It is 24 rows where a day is not a whole number of rows, or longer than the context."""
    assert season_of(config(season=season), period) == rows


@pytest.mark.parametrize(("days", "rows"), [(1, 7), (7, 52), (28, 12), (30.5, 12), (31, 12), (91, 4), (10, 24), (365, 24)])
def test_a_season_of_slow_rows_is_a_week_or_a_year(days: float, rows: int) -> None:
    """24 months are a season too, but a poorer forecast than 12: the model would look better than it is."""
    assert season_of(config(context=96), days * 86_400.0) == rows


def test_a_season_that_no_context_reaches_back_to_is_none_or_refused() -> None:
    """A default season that is too long is dropped; one that the user asked for is an error."""
    assert season_of(config(context=12), 3600.0) is None
    with pytest.raises(DataError, match="A season of 49 rows is longer than the context of 48 rows"):
        season_of(config(season=49), 3600.0)


# -- baselines --------------------------------------------------------------------------------------------------------


def test_repeat_seasonal_and_mean_answer_what_a_loop_would() -> None:
    """The slower truth is brute force over single values."""
    past = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 12, 2)).astype(np.float32))
    level = torch.tensor([3.0, -1.0])
    repeat, seasonal, mean = (
        method.run(past, past) for method in (baselines.repeat(11), baselines.seasonal(11, 5), baselines.mean(11, level))
    )
    for window in range(4):
        for ahead in range(11):
            for target in range(2):
                assert repeat[window, ahead, target] == past[window, 11, target]
                assert seasonal[window, ahead, target] == past[window, 7 + ahead % 5, target]
                assert mean[window, ahead, target] == level[target]


Data = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]  # numbers, wanted, spread: as in linear.Pairs


def lines(count: int, *, targets: int, apart: float, seed: int) -> Data:
    """Windows of targets whose true lines differ by `apart`, with noise; rounded to float32, as the fitted data are."""
    rng = np.random.default_rng(seed)
    context, horizon = 6, 3
    true = np.linspace(-1, 1, context * horizon).reshape(context, horizon)
    own = true + apart * np.random.default_rng(99).normal(size=(targets, context, horizon))
    x = rng.normal(size=(count, context, targets)).astype(np.float32)
    y = np.einsum("bct,tch->bht", x, own) + 0.5 * rng.normal(size=(count, horizon, targets)) + 2.0
    spread = rng.uniform(0.5, 2, (count, 1, targets)).astype(np.float32)
    return x.astype(np.float64), y.astype(np.float32).astype(np.float64), spread.astype(np.float64)


def batches(data: Data) -> list[linear.Pairs]:
    x, y, spread = (torch.from_numpy(each).float() for each in data)
    half = len(x) // 2
    return [(x[:half], y[:half], spread[:half]), (x[half:], y[half:], spread[half:])]


def solved(data: Data, which: list[int], penalty: float, start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve (X'X / n + penalty) d = X'(y - X start) / n directly for these targets' windows; start + d (context + 1, horizon)."""
    x, y, spread = data
    rows = np.concatenate([np.column_stack([x[..., t], np.ones(len(x))]) * spread[..., t] for t in which])
    wanted = np.concatenate([y[..., t] * spread[..., t] for t in which]) - rows @ start
    return start + np.linalg.solve(rows.T @ rows / len(rows) + penalty * np.eye(rows.shape[1]), rows.T @ wanted / len(rows))


def error(data: Data, solutions: list[NDArray[np.float64]]) -> float:
    x, y, spread = data
    found = np.stack([x[..., t] @ each[:-1] + each[-1] for t, each in enumerate(solutions)], axis=-1)
    return float((((found - y) * spread) ** 2).sum())


@pytest.mark.parametrize("targets", [1, 2, 40], ids=["one target", "two", "more than may have their own"])
@pytest.mark.parametrize("apart", [0.0, 0.3, 3.0], ids=["alike", "similar", "different"])
def test_ridge_is_the_textbooks(targets: int, apart: float) -> None:
    """Solved directly for every penalty, for the shared line and then for differences from it; the best on validation counts."""
    training, validation = (lines(count, targets=targets, apart=apart, seed=count) for count in (40, 30))
    found = linear.fit(batches(training), batches(validation))
    everyone = [*range(targets)]
    zero = np.zeros((7, 3))
    shared = {penalty: solved(training, everyone, penalty, zero) for penalty in linear.PENALTIES}
    best = shared[found.penalty]
    assert error(validation, [best] * targets) <= (1 + 1e-5) * min(error(validation, [each] * targets) for each in shared.values())
    chosen = [best] * targets
    if targets == 2:
        own = {penalty: [solved(training, [t], penalty, best) for t in everyone] for penalty in linear.PENALTIES}
        least = min(error(validation, each) for each in own.values())
        assert (found.of_own is not None) == (least < error(validation, chosen))
        if found.of_own is not None:
            chosen = own[found.of_own]
            assert error(validation, chosen) <= (1 + 1e-5) * least
    else:
        assert found.of_own is None
    assert len(found.weight) == (targets if found.of_own is not None else 1)
    for weight, offset, each in zip(found.weight, found.offset, chosen, strict=False):
        np.testing.assert_allclose(weight, each[:-1], atol=1e-4)
        np.testing.assert_allclose(offset, each[-1], atol=1e-4)


def test_targets_that_differ_have_lines_of_their_own() -> None:
    """Only where it is allowed: the baseline has one line for all."""
    training, validation = (batches(lines(count, targets=2, apart=3.0, seed=count)) for count in (40, 30))
    assert len(linear.fit(training, validation).weight) == 2


def test_the_linear_baseline_is_relative_to_the_last_value() -> None:
    """So it can forecast at a level that training has not seen."""
    line = linear.Linear(torch.randn(1, 6, 3), torch.randn(1, 3), 0.1)
    method = baselines.linear(line, torch.tensor([2.0, 5.0]))
    past = torch.randn(4, 6, 2)
    torch.testing.assert_close(method.run(past + 10, past), method.run(past, past) + 10)
    by_hand = past[1, -1, 1] + 5.0 * (line.offset[0] + ((past[1, :, 1] - past[1, -1, 1]) / 5.0) @ line.weight[0])
    torch.testing.assert_close(method.run(past, past)[1, :, 1], by_hand)


@pytest.mark.parametrize("targets", [(0,), (1, None), (2, 0, None)], ids=["one", "one outside", "three"])
@pytest.mark.parametrize("weighed", [False, True], ids=["alike", "weighed"])
def test_the_line_from_all_features_is_the_textbooks(targets: tuple[int | None, ...], weighed: bool) -> None:
    """Solved directly for each target and penalty, from zero and from the lines of own pasts; the best on validation is taken."""
    rng = np.random.default_rng(len(targets))
    true = rng.normal(size=(12, 2, len(targets)))  # for 4 rows of 3 features

    def made(count: int) -> linear.Pairs:
        x = rng.normal(size=(count, 4, 3))
        y = np.einsum("bi,iht->bht", x.reshape(count, 12), true) + rng.normal(size=(count, 2, len(targets))) + 1.0
        spread = rng.uniform(0.5, 2, (count, 1, len(targets))) if weighed else np.ones((count, 1, len(targets)))
        return torch.from_numpy(x).float(), torch.from_numpy(y).float(), torch.from_numpy(spread).float()

    training, validation = made(40), made(30)
    known = [index for index, source in enumerate(targets) if source is not None]
    own = linear.Linear(torch.randn(len(known), 4, 2), torch.randn(len(known), 2), 1.0)
    found = whole.fit([training], [validation], own, targets)
    assert found.weight.shape == (len(targets), 12, 2)

    def judged(solutions: list[NDArray[np.float64]]) -> float:
        x, y, spread = (each.double().numpy() for each in validation)
        answer = np.stack([np.column_stack([x.reshape(30, 12), np.ones(30)]) @ each for each in solutions], axis=-1)
        return float((((answer - y) * spread) ** 2).sum())

    begins = [np.zeros((len(targets), 13, 2)), np.zeros((len(targets), 13, 2))]
    for line, target in enumerate(known):
        begins[1][target, targets[target] : 12 : 3], begins[1][target, 12] = own.weight[line], own.offset[line]
    x, y, spread = (each.double().numpy() for each in training)
    flat: Data = x.reshape(40, 12)[..., None].repeat(len(targets), axis=-1), y, spread
    tried = [[*begins[1]]] + [
        [solved(flat, [target], penalty, begin[target]) for target in range(len(targets))]
        for begin in begins
        for penalty in linear.PENALTIES
    ]
    mine = [np.vstack([weight, offset]) for weight, offset in zip(found.weight.numpy(), found.offset.numpy(), strict=True)]
    assert judged(mine) <= (1 + 1e-5) * min(map(judged, tried))


def test_the_line_from_all_features_is_the_own_pasts_where_the_rest_tells_nothing() -> None:
    """Features that are noise on validation must not make it worse."""
    rng = np.random.default_rng(4)
    x, own = torch.from_numpy(rng.normal(size=(16, 6, 2))).float(), linear.Linear(torch.ones(1, 6, 2), torch.zeros(1, 2), 1.0)
    y = (x[..., 1] @ own.weight[0])[..., None]
    found = whole.fit([(x, y + torch.randn(16, 2, 1), torch.ones(16, 1, 1))], [(x, y, torch.ones(16, 1, 1))], own, (1,))
    torch.testing.assert_close(whole.forecast(found, x), y)


# -- errors -----------------------------------------------------------------------------------------------------------


def test_errors_are_those_of_all_windows_at_once() -> None:
    """In batches of any size, in units of the deviation, and for each row ahead."""
    rng = np.random.default_rng(2)
    forecast, truth = rng.normal(size=(2, 9, 4, 3))
    scale = np.array([1.0, 2.0, 10.0])
    errors = Errors(4, torch.from_numpy(scale))
    for some in (slice(0, 5), slice(5, 6), slice(6, 9)):
        errors.add(torch.from_numpy(forecast[some]), torch.from_numpy(truth[some]))
    off = (forecast - truth) / scale
    np.testing.assert_allclose(errors.mse, (off**2).mean())
    np.testing.assert_allclose(errors.mae, np.abs(off).mean())
    np.testing.assert_allclose(errors.rmse, np.sqrt(((forecast - truth) ** 2).mean()))
    np.testing.assert_allclose(errors.by_step, (off**2).mean(axis=(0, 2)))


def test_coverage_counts_the_truth_between_the_outer_levels() -> None:
    """And pinball is the mean of the textbook's piecewise linear loss."""
    rng = np.random.default_rng(3)
    truth = rng.normal(size=(50, 4, 2))
    quantiles = np.sort(rng.normal(size=(50, 4, 2, 3)), axis=-1)
    levels, scale = (0.1, 0.5, 0.9), np.array([1.0, 3.0])
    coverage = Coverage(levels, torch.from_numpy(scale))
    for some in (slice(0, 20), slice(20, 50)):
        coverage.add(torch.from_numpy(quantiles[some]), torch.from_numpy(truth[some]))
    inside = (truth >= quantiles[..., 0]) & (truth <= quantiles[..., -1])
    off = (truth[..., None] - quantiles) / scale[:, None]
    lines = np.where(off > 0, np.array(levels) * off, (np.array(levels) - 1) * off)
    np.testing.assert_allclose(coverage.share, inside.mean())
    np.testing.assert_allclose(coverage.pinball, lines.mean())


def test_pinball_is_least_at_the_quantile() -> None:
    """That is why a network that is trained on this loss finds the quantile."""
    values = torch.arange(101, dtype=torch.float64)
    losses_at = [float(pinball((values - guess)[:, None], (0.9,))) for guess in range(101)]
    assert int(np.argmin(losses_at)) == 90


@pytest.mark.parametrize(
    ("units", "unit"), [(("kW", "kW"), "kW"), (("kW", "°C"), None), (("", ""), None), (("",), ""), (("kW", ""), None)]
)
def test_raw_units_are_told_where_there_is_one(units: tuple[str, ...], unit: str | None) -> None:
    """A mean of kilowatts and degrees means nothing."""
    assert unit_of([Column(str(index), each) for index, each in enumerate(units)]) == unit


def test_moments_are_those_of_all_rows() -> None:
    """A constant gets the scale 1: its deviation in float32 is only rounding error, and must not be a divisor."""
    rng = np.random.default_rng(4)
    arrays = [rng.normal(5, 3, (n, 3)).astype(np.float32) for n in (10, 70_000)]
    for array in arrays:
        array[:, 1] = 0.1
        array[:, 2] = 1e9 + 64 * rng.integers(0, 2, len(array))
    mean, scale = moments(arrays)
    whole = np.concatenate(arrays).astype(np.float64)
    np.testing.assert_allclose(mean, whole.mean(axis=0))
    np.testing.assert_allclose(scale, [whole[:, 0].std(), 1.0, 1.0])
