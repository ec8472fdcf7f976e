"""How the pictures of a run and of a model look where they are alike. Knows nothing of what is drawn."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def save(figure: Figure, path: Path) -> Path:
    """Write it as a PNG, without the lines above and to the right of its plots; where it is."""
    for axes in figure.axes:
        assert isinstance(axes, Axes)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=90)
    return path
