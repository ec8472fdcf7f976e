"""Predictions beside the truth as a picture.

Owns how it looks, and which stretch is shown. Knows nothing of where predictions come from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from app.tensors import Array

SHOWN = 600  # rows
PANELS = 4
TRUTH, RAW, MODEL = "black", "#b9bec6", "#c8553d"


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: values (rows,) from the row `begin` on."""

    name: str
    values: Array
    colour: str
    begin: int = 0


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves over the same rows."""

    title: str
    lines: tuple[Line, ...]


def draw(panels: Sequence[Panel], path: Path, *, rows: str) -> None:
    """The first few of the panels, one below the other, as a PNG; `rows`: what the horizontal axis counts."""
    shown = panels[:PANELS]
    figure = Figure(figsize=(9, 0.8 + 2.2 * len(shown)), layout="constrained")
    for axes, panel in zip(figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown, strict=True):
        for line in panel.lines:
            width = 1.0 if line.colour == RAW else 1.5
            there = np.flatnonzero(~np.isnan(line.values))  # a truth that is there now and then only is to be seen
            axes.plot(line.begin + there, line.values[there], color=line.colour, linewidth=width, label=line.name)
        axes.set_title(panel.title, loc="left", fontsize="medium")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="best")
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(rows)
    figure.savefig(path, dpi=110)


def most_eventful(truth: Array) -> slice:
    """The SHOWN rows in which the truth (rows, targets) changes most, of stretches that lie side by side."""
    begins = range(0, max(1, len(truth) - SHOWN + 1), SHOWN)
    changes = [float(np.nan_to_num(truth[begin : begin + SHOWN]).std(axis=0).sum()) for begin in begins]
    begin = int(np.argmax(changes)) * SHOWN
    return slice(begin, begin + SHOWN)
