"""Pictures of how cells learn: error over updates with the range of the seeds, and over processor seconds.

Owns how they look. Knows nothing of how the curves were made.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from scripts.compare.summary import Group
from scripts.compare.task import Task

COLOURS = {
    "reset_before": "#c8553d",
    "reset_after": "#e8a33d",
    "lstm": "#2f6fb0",
    "rnn": "#8a8f98",
    "reset_before-memory": "#8c2f6b",
    "lstm-memory": "#1f8a70",
    "lstm+reset_before-memory": "#6b4fa0",
    "reset_before+lstm-memory": "#4c9b4a",
}
COLOURS_KEPT = 96
POINTS = 200  # at which curves are read


def draw(task: Task, sizes: Sequence[Sequence[Group]], path: Path) -> None:
    """A PNG: a row of two pictures for each size, over updates and over seconds."""
    figure = Figure(figsize=(11, 3.7 * len(sizes)), layout="constrained")
    rows = figure.subplots(len(sizes), 2, sharey=True, squeeze=False)
    for (over_updates, over_seconds), groups in zip(rows, sizes, strict=True):
        for group in groups:
            colour = COLOURS.get(group.entry.cell.name, "#000000")
            _band(over_updates, group, colour, seconds=False)
            _band(over_seconds, group, colour, seconds=True)
        over_updates.set(title=f"{task.name}, {groups[0].entry.mode}", xlabel="updates", ylabel=task.error_name, yscale="log")
        over_seconds.set(title="the same, over processor time", xlabel="processor seconds of updates")
        for axes in (over_updates, over_seconds):
            axes.axhline(task.solved, color="black", linewidth=0.8, linestyle=":")
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
    handles = {label: handle for axes in rows[:, 0] for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=75)
    Image.open(path).convert("RGB").quantize(COLOURS_KEPT).save(path, optimize=True)  # a third of the bytes


def _band(axes: Axes, group: Group, colour: str, *, seconds: bool) -> None:
    curves = [outcome.curve for outcome in group.outcomes if outcome.curve]
    if not curves:
        return
    ends = [point.seconds if seconds else point.update for curve in curves for point in curve]
    places = np.linspace(min(ends), max(ends), POINTS)
    # after its end, a curve keeps its last error
    rows = [np.interp(places, [p.seconds if seconds else p.update for p in curve], [p.error for p in curve]) for curve in curves]
    errors = np.stack(rows)
    axes.fill_between(places, errors.min(axis=0), errors.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    axes.plot(places, np.median(errors, axis=0), color=colour, linewidth=1.4, label=group.entry.cell.title)
