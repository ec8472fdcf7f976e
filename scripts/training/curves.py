"""The curves of a run as a picture. Knows nothing of where the numbers come from."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws to files: no display is needed
from matplotlib import pyplot as plt

from scripts.training.checkpoint import Checkpoint


def draw(checkpoint: Checkpoint, path: Path) -> None:
    """Write the losses and every metric of the validation over the epochs to a PNG."""
    history = checkpoint.history
    epochs = [row["epoch"] for row in history]
    metrics = [name for name in history[0] if name.startswith("validation_") and name != "validation_loss"]
    figure, axes = plt.subplots(1, 1 + len(metrics), figsize=(5 * (1 + len(metrics)), 3.6), layout="constrained", squeeze=False)
    losses, *others = axes[0]
    for name in ("training", "validation"):
        losses.plot(epochs, [row[f"{name}_loss"] for row in history], label=name)
    for axis, name in zip(others, metrics, strict=True):
        axis.plot(epochs, [row[name] for row in history], color="C1", label="validation")
    for axis, title in zip(axes[0], ("loss", *metrics), strict=True):
        axis.axvline(checkpoint.best_epoch, color="grey", linestyle=":", label=f"best: epoch {checkpoint.best_epoch}")
        positive = all(value > 0 for line in axis.lines[:-1] for value in line.get_ydata())
        axis.set(title=title.removeprefix("validation_").replace("_", " "), xlabel="epoch", yscale="log" if positive else "linear")
        axis.grid(alpha=0.3, which="both")
        axis.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)
