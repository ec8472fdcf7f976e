"""Predictions beside the truth as a picture.

Owns how it looks. Knows nothing of where predictions come from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scripts.training.drawing import count_along, marked, save

PANELS = 4
TRUTH, RAW, MODEL = "black", "#b9bec6", "#c8553d"


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: values (rows,), and where they stand (rows,), NaN where it is interrupted."""

    name: str
    values: NDArray[np.floating]
    colour: str
    across: NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves over the same rows."""

    title: str
    lines: tuple[Line, ...]


def draw(panels: Sequence[Panel], path: Path, *, label: str) -> None:
    """Write the picture of the panels."""
    save(figure_of(panels, label=label), path)


def figure_of(panels: Sequence[Panel], *, label: str) -> Figure:
    """The first few of the panels, one below the other; `label`: of the horizontal axis."""
    shown = panels[:PANELS]
    figure = Figure(figsize=(9, 0.8 + 2.2 * len(shown)), layout="constrained")
    for axes, panel in zip(figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown, strict=True):
        for line in panel.lines:
            width = 1.0 if line.colour == RAW else 1.5
            there = ~np.isnan(line.values) | np.isnan(line.across)  # so that a sparse truth is drawn as a line
            marker = marked(int((~np.isnan(line.values)).sum()))
            axes.plot(line.across[there], line.values[there], color=line.colour, linewidth=width, marker=marker, label=line.name)
        axes.set_title(panel.title, loc="left", fontsize="medium")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="best")
        if label.startswith("row"):
            count_along(axes)
    axes.set_xlabel(label)
    return figure
