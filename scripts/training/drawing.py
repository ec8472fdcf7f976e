"""What the pictures of runs and of models have in common. Knows nothing of what is drawn."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def marked(points: int) -> str:
    """The marker of a line of this many points: a single point is invisible without one."""
    return "o" if points == 1 else ""


def count_along(axes: Axes) -> None:
    """Mark the x axis with whole numbers."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as a PNG, without the top and right borders of its plots; returns `path`."""
    for axes in figure.axes:
        assert isinstance(axes, Axes)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=90)
    return path
