"""The curves of a run as a picture. Knows nothing of where the numbers come from."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from scripts.training.checkpoint import Checkpoint


def draw(checkpoint: Checkpoint, path: Path) -> None:
    """Write the losses and every metric of the validation over the epochs to a PNG."""
    figure_of(checkpoint).savefig(path, dpi=110)


def figure_of(checkpoint: Checkpoint) -> Figure:
    history = checkpoint.history
    epochs = [row["epoch"] for row in history]
    metrics = [name for name in history[0] if name.startswith("validation_") and name != "validation_loss"]
    figure = Figure(figsize=(5 * (1 + len(metrics)), 3.6), layout="constrained")
    axes: list[Axes] = list(figure.subplots(1, 1 + len(metrics), squeeze=False)[0])
    for name in ("training", "validation"):
        axes[0].plot(epochs, [row[f"{name}_loss"] for row in history], label=name)
    for axis, name in zip(axes[1:], metrics, strict=True):
        axis.plot(epochs, [row[name] for row in history], color="C1", label="validation")
    for axis, title in zip(axes, ("loss", *metrics), strict=True):
        _scale(axis)
        axis.axvline(checkpoint.best_epoch, color="grey", linestyle=":", label=f"best: epoch {checkpoint.best_epoch}")
        axis.set(title=title.removeprefix("validation_").replace("_", " "), xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        axis.legend()
    return figure


def _scale(axis: Axes) -> None:
    """Make the axis logarithmic if the lines span a decade or more: less would show one power of ten, or none."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in axis.lines])
    finite = values[np.isfinite(values)]
    if not len(finite) or (least := finite.min()) <= 0 or (most := finite.max()) < 10 * least:
        return
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if most < 1000 * least else (1,)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())
