"""How the pictures of a run and of a model look where they are alike. Knows nothing of what is drawn."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def marked(points: int) -> str:
    """The marker of a line of so many points: one alone would not be seen."""
    return "o" if points == 1 else ""


def count_along(axes: Axes) -> None:
    """Have the axis below marked with whole numbers."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def save(figure: Figure, path: Path) -> Path:
    """Write it as a PNG, without the lines above and to the right of its plots; where it is."""
    for axes in figure.axes:
        assert isinstance(axes, Axes)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=90)
    return path
