"""Pictures of a network's answers beside the truth: signals and errors of a telling stretch, or the confusion of classes.

Owns which stretch is shown, and how pictures look. Knows nothing of how answers are made.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scripts.streaming.classes import Classes
from scripts.streaming.confusion import draw_confusion
from scripts.streaming.evaluate import follow
from scripts.streaming.network import Network
from scripts.streaming.rows import Piece, truth_of
from scripts.streaming.targets import Targets
from scripts.tables.recording import Dataset, Recording
from scripts.tables.wording import axis
from scripts.training.drawing import count_along, save

SHOWN = 400  # rows
STRIDE = 50  # rows between the starts that are tried
REACH = 50_000  # rows, from the start of a recording's part, in which the stretch is searched: the network must run up to it
MOST_SIGNALS = 4
MOST_NAMED = 12  # classes: with more there is no room for names
RAW, SIMPLE, MODEL = "#b9bec6", "#4c9be8", "#c8553d"

Array = NDArray[np.float64]


def draw(network: Network, data: Dataset, known: Targets | Classes, device: str, folder: Path) -> list[Path]:
    """The pictures of the test part, PNG files in `folder`."""
    if isinstance(known, Classes):
        counts = known.confusion(network, data.test, device, what="pictures").counts
        paths = [draw_confusion(counts, data.classes, folder / "confusion.png", title="The test part")]
        where, answers = _answered(network, data.test, device)
        return [*paths, _draw_probabilities(where, answers, data, folder / "probabilities.png")]
    where, answers = _answered(network, data.test, device)
    simple = known.linear.linear(data.test[where.recording], where)
    return [_draw_signals(where, answers, simple, data, folder / "predictions.png")]


def telling(recordings: Sequence[Recording]) -> Piece:
    """The stretch in which the truth changes most: of targets by their variance, of labels by how often they change."""
    masks = [recording.told(recording.lead, min(recording.lead + REACH, len(recording.features))) for recording in recordings]
    truths = [
        truth_of(recording)[recording.lead :][: len(told)][told].astype(np.float64)
        for recording, told in zip(recordings, masks, strict=True)
    ]
    largest = np.max([truth.std(axis=0) for truth in truths if len(truth)], axis=0)
    best, found = -1.0, None
    for index, (recording, told, truth) in enumerate(zip(recordings, masks, truths, strict=True)):
        if recording.labels is None:
            moved = (truth - truth.mean(axis=0)) / np.where(largest > 0, largest, 1.0) if len(truth) else truth
        else:
            moved = np.diff(truth, prepend=truth[:1])[:, None] != 0
        before = np.concatenate([[0], np.cumsum(told)])  # rows with a truth before each
        for begin in range(0, max(1, len(told) - SHOWN + 1), STRIDE):
            end = min(begin + SHOWN, len(told))
            shown = moved[before[begin] : before[end]]
            score = len(shown) * float(shown.var(axis=0).sum()) if len(shown) else -1.0  # a short recording shows little
            if score > best:
                best, found = score, Piece(index, recording.lead + begin, recording.lead + end)
    assert found is not None
    return found


def _answered(network: Network, recordings: Sequence[Recording], device: str) -> tuple[Piece, Array]:
    """A telling stretch, and the answers in it (rows, targets or classes) of the network, which has run from the first row."""
    where = telling(recordings)
    whole = recordings[where.recording]
    labels = None if whole.labels is None else whole.labels[: where.end]
    before = Recording(whole.name, whole.features[: where.end], whole.targets[: where.end], labels, lead=whole.lead)
    values = np.concatenate([answers.values for answers in follow(network, [before], device)])
    return where, values[where.begin - whole.lead :].astype(np.float64)


def _draw_signals(where: Piece, answers: Array, simple: Array, data: Dataset, path: Path) -> Path:
    recording = data.test[where.recording]
    told = recording.told(where.begin, where.end)
    truth = recording.targets[where.begin : where.end][told]
    shown = data.targets[:MOST_SIGNALS]
    figure = Figure(figsize=(11, 1 + 2.6 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), 2, sharex=True, squeeze=False, width_ratios=(3, 2))
    across, label = along(where, data)
    for k, (column, (signals, errors)) in enumerate(zip(shown, grid, strict=True)):
        if data.task == "denoise":
            raw = recording.features[where.begin : where.end, k]
            signals.plot(across, raw, color=RAW, linewidth=0.8, label="raw signal")
            errors.plot(across[told], raw[told] - truth[:, k], color=RAW, linewidth=0.8)
        signals.plot(across[told], truth[:, k], color="black", linewidth=1.4, label="truth")
        for values, colour, name in ((simple, SIMPLE, "linear fit of the row"), (answers, MODEL, "the model")):
            signals.plot(across, values[:, k], color=colour, linewidth=1.0, label=name)
            errors.plot(across[told], values[told, k] - truth[:, k], color=colour, linewidth=1.0)
        signals.set(ylabel=str(column))
        errors.set(ylabel="error" + (f", {column.unit}" if column.unit else ""))
    for axes in grid[-1]:
        axes.set(xlabel=label, xlim=(across[0], across[-1] if len(across) > 1 else across[0] + 1))
        if data.period is None:
            count_along(axes)
    figure.suptitle(f"A stretch of the test part: {recording.name}")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return save(figure, path)


def _draw_probabilities(where: Piece, answers: Array, data: Dataset, path: Path) -> Path:
    """The probabilities of the classes along the stretch, and below them which is right."""
    recording = data.test[where.recording]
    assert recording.labels is not None
    labels = recording.labels[where.begin : where.end]
    figure = Figure(figsize=(10, 4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
    across, label = along(where, data)
    above.stackplot(across, answers.T, labels=data.classes, alpha=0.8)
    above.set(ylabel="probability", ylim=(0, 1), title=f"A stretch of the test part: {recording.name}")
    right = np.eye(len(data.classes))[labels] * recording.told(where.begin, where.end)[:, None]
    below.stackplot(across, right.T, alpha=0.8)
    below.set(ylabel="truth", yticks=[], ylim=(0, 1), xlabel=label)
    below.set_xlim(across[0], across[-1] if len(across) > 1 else across[0] + 1)
    if data.period is None:
        count_along(below)
    if len(data.classes) <= MOST_NAMED:
        figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    return save(figure, path)


def along(where: Piece, data: Dataset) -> tuple[Array, str]:
    """The places of a stretch's rows on the x axis, and the label of this axis."""
    recording, rows = data.test[where.recording], np.arange(where.begin, where.end, dtype=np.float64)
    if data.period is None:
        return rows - recording.lead, "row"
    size, unit = axis(len(rows) * data.period)
    if recording.seconds is None:
        return (rows - recording.lead) * data.period / size, unit
    return recording.seconds[where.begin : where.end] / size, f"{unit} since the first row of the file"
