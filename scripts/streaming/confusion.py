"""The picture of a confusion matrix.

Owns how the picture looks with few classes and with many. Knows nothing of where the counts come from.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scripts.training.drawing import save

MOST_NUMBERED = 12  # classes: with more there is no room for the counts
MOST_NAMED = 30  # classes: with more only some of them are named, and the picture grows no more


def draw_confusion(counts: NDArray[np.int64], classes: Sequence[str], path: Path, *, title: str) -> Path:
    """Draw the counts (truth, prediction) as a PNG; the shade is the share of the true class."""
    size = 3.2 + 0.35 * min(len(classes), MOST_NAMED)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the class")
    numbered = len(classes) <= MOST_NUMBERED
    left_out = "" if numbered else f"\n(counts are shown up to {MOST_NUMBERED} classes)"
    axes.set_title(f"{title}{left_out}", fontsize="medium")
    axes.set(xlabel="the model's answer", ylabel="truth")
    places = range(0, len(classes), -(-len(classes) // MOST_NAMED))
    named = [classes[place] for place in places]
    axes.set_xticks(places, named, rotation=45 if len(classes) > 4 else 0)
    axes.set_yticks(places, named)
    if numbered:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour)
    return save(figure, path)
