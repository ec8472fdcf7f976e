"""Evaluates a forecaster window by window, beside the truth and simple forecasts.

Owns which windows are scored, written and drawn. Knows nothing of where the model is.
"""

from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from tqdm import tqdm

from app.tensors import Array
from scripts.evaluation.card import Card, Model, Outputs
from scripts.evaluation.choice import measured
from scripts.evaluation.found import Found
from scripts.evaluation.material import Material
from scripts.evaluation.pictures import MODEL as MODEL_COLOUR
from scripts.evaluation.pictures import PANELS, RAW, TRUTH, Line, Panel, draw
from scripts.evaluation.scoring import deviations_of
from scripts.evaluation.windows import Window, Windows, spread_evenly
from scripts.evaluation.written import Table
from scripts.forecasting.baselines import Method, repeat, seasonal
from scripts.forecasting.errors import Coverage, Errors
from scripts.forecasting.evaluate import MODEL, table
from scripts.forecasting.framing import season_of
from scripts.forecasting.pictures import LEAST_PAST
from scripts.series.config import Config
from scripts.tables.recording import DataError
from scripts.tables.wording import count
from scripts.training.scores import Scores

QUANTILES = "quantiles"  # the trainer's name for the output of quantiles
TOGETHER = 256  # windows whose errors are computed at once


class Judge:
    """Scores the model's forecasts and simple ones on the same windows."""

    def __init__(self, card: Card, material: Material, windows: Windows, methods: list[Method]) -> None:
        self._windows, self._methods, self._targets = windows, methods, measured(card, material.targets)
        self._levels = levels_of(card)
        deviations, whose = deviations_of(card, [recording.measured.targets for recording in material.recordings])
        self.note = f"Standardised: in units of each target's standard deviation {whose}."
        scale = torch.from_numpy(deviations)
        self._errors = {name: Errors(windows.horizon, scale) for name in (*(method.name for method in methods), MODEL)}
        self._coverage = Coverage(self._levels, scale) if self._levels else None
        self._waiting: list[tuple[Window, Outputs]] = []

    def add(self, window: Window, outputs: Outputs) -> None:
        self._waiting.append((window, outputs))
        if len(self._waiting) >= TOGETHER:
            self._settle()

    def scores(self, data: str) -> Scores:
        self._settle()
        return table(self._errors, self._coverage, data=data, targets=self._targets, levels=self._levels)

    def _settle(self) -> None:
        if not self._waiting:
            return
        windows, outputs = zip(*self._waiting, strict=True)
        self._waiting.clear()
        truth = torch.from_numpy(np.stack([self._windows.truth(window) for window in windows]))
        past = torch.from_numpy(np.stack([self._windows.past(window) for window in windows]))
        self._errors[MODEL].add(torch.from_numpy(np.stack([each[0] for each in outputs])).reshape(truth.shape), truth)
        if self._coverage is not None:
            quantiles = np.stack([each[1] for each in outputs])
            self._coverage.add(torch.from_numpy(quantiles).reshape(*truth.shape, len(self._levels)), truth)
        for method in self._methods:
            self._errors[method.name].add(method.run(past, past), truth)


def levels_of(card: Card) -> tuple[float, ...]:
    """The levels of the quantiles that the model forecasts too; empty if it does not."""
    if len(card.outputs) < 2 or card.outputs[1].name != QUANTILES:
        return ()
    return tuple(float(signal.name) for signal in card.outputs[1].signals)


def evaluate(
    model: Model, material: Material, written: Table, picture: Path | None, *, every: int | None = None, season: int = 0
) -> Found:
    """Forecast the windows of the material; those that begin where a recording ends are written too, and not scored.

    every: rows between two windows; None: all are scored, and only as many are written as forecast every row once.
    season: rows, of the seasonal forecast beside the model's; 0: as the period suggests. DataError if no recording is long
    enough for one window.
    """
    card, context = model.card, model.card.time_steps or 0
    windows = Windows(material.recordings, context, card.horizon, every or 1)
    known, coming = windows.known(), windows.coming() if written else []
    if not known and not coming:
        longest = max((len(recording.features) for recording in material.recordings), default=0)
        needed = f"{card} reads {context:,} rows and forecasts {card.horizon:,}"
        raise DataError(f"No recording is long enough: {needed}, and the longest has {count(longest, 'row')}.")
    methods = [repeat(card.horizon)]
    asked = Config(task="forecast", context=context, segment=context, horizon=card.horizon, season=season)
    if (rows := season_of(asked, material.period)) is not None:
        methods.append(seasonal(card.horizon, rows))
    scored = {window for window in known if windows.is_true(window)} if material.truth else set()
    judge = Judge(card, material, windows, methods) if scored else None
    kept = {*replace(windows, every=every or card.horizon).known(), *coming} if written else set()
    if written:
        print(_size(card.horizon, len(kept), len(known) + len(coming)))
    drawn, panels = set(spread_evenly(known or coming, PANELS)) if picture else set(), []
    steps = (len(known) + len(coming)) * context
    begin = perf_counter()
    with tqdm(total=steps, desc="forecasting", unit="step", unit_scale=True, disable=None) as bar:
        answers = model.answer(windows.contexts([*known, *coming]), bar.update, count=len(known) + len(coming))
        for window, outputs in zip([*known, *coming], answers, strict=True):
            if judge is not None and window in scored:
                judge.add(window, outputs)
            if window in kept:
                _write(written, card, material, window, outputs)
            if window in drawn:
                panels.append(_panel(windows, material, window, outputs[0]))
        scores = judge.scores(f"{material.part}, {count(len(scored), 'window')}") if judge else None
    seconds = perf_counter() - begin
    if picture is not None and panels:
        draw(panels, picture, label="rows ahead")
    notes = [judge.note] if judge else []
    notes += [f"A window begins every {every} rows."] if every and every > 1 else []
    if material.truth and (untrue := len(known) - len(scored)):
        empty = "; the table has no truth there" if written else ""
        notes.append(
            f"Not scored: {count(untrue, 'window')}, since a target in their horizon was missing and was filled in{empty}."
        )
    if rows is None:
        notes.append(f"No seasonal forecast stands beside it: no season fits into a context of {context:,} rows.")
    if coming:
        notes.append("The last window of each recording begins where it ends: it is written without truth, and not scored.")
    return Found(scores, steps, seconds, tuple(notes), model.limited)


def _size(horizon: int, kept: int, asked: int) -> str:
    """A sentence on how long the table will be."""
    text = f"The table gets {count(kept * horizon, 'line')}: {count(kept, 'window')} of {count(horizon, 'row')}"
    return f"{text}." if kept == asked else f"{text} that lie end to end; all, with --every 1, would be {asked * horizon:,}."


def _write(written: Table, card: Card, material: Material, window: Window, outputs: Outputs) -> None:
    """Write a line for every row of the horizon."""
    horizon, end = card.horizon, window.origin + card.horizon
    recording, times = material.recordings[window.recording], material.times[window.recording]
    truth = np.full((horizon, len(material.targets)), np.nan, np.float32)
    known = recording.targets[window.origin : end]
    truth[: len(known)] = known
    if recording.filled is not None:
        truth[: len(known)][recording.filled[window.origin : end]] = np.nan
    columns = material.names_of(window.recording, horizon)
    columns.append((f"{times.name}_of_last_row_read", [times.values[window.origin - 1]] * horizon))
    columns.append(("step", np.arange(1, horizon + 1)))
    columns.append((times.name, times.values[window.origin : end] + [None] * (horizon - len(known))))
    forecast = outputs[0].reshape(truth.shape)
    for index, target in enumerate(material.targets):
        columns += [(target.name, truth[:, index]), (f"{target.name}_predicted", forecast[:, index])]
    for output, array in zip(card.outputs[1:], outputs[1:], strict=True):
        if output.width[0] == horizon:
            flat = array.reshape(horizon, -1)
            columns += zip(_further(card, material, output.name, flat.shape[1]), flat.T, strict=True)
    written.add(columns)


def _further(card: Card, material: Material, name: str, width: int) -> list[str]:
    """Names for the numbers of a further output at one row: for each target, each of its signals."""
    signals = next(output.signals for output in card.outputs if output.name == name)
    if signals and len(material.targets) * len(signals) == width:
        return [f"{target.name}_{signal.name}" for target in material.targets for signal in signals]
    return [f"{name}_{index}" for index in range(width)]


def _panel(windows: Windows, material: Material, window: Window, answer: Array) -> Panel:
    """The first target in a window, with as much of its past as is worth showing."""
    recording, target = material.recordings[window.recording], material.targets[0]
    shown = min(windows.context, max(LEAST_PAST, 2 * windows.horizon))
    ahead = np.arange(1 - shown, windows.horizon + 1, dtype=np.float64)
    truth = windows.truth(window)[:, 0]
    lines = [
        Line("past", windows.past(window)[-shown:, 0], RAW, ahead[:shown]),
        Line("truth", truth, TRUTH, ahead[shown : shown + len(truth)]),
        Line("forecast", answer.reshape(windows.horizon, -1)[:, 0], MODEL_COLOUR, ahead[shown:]),
    ]
    times = material.times[window.recording]
    last = times.values[window.origin - 1]
    title = f"{recording.name}: {target}; the last row read is {last if isinstance(last, str) else f'{times.name} {last}'}"
    return Panel(title, tuple(line for line in lines if not np.isnan(line.values).all()))
