"""The curves of a run as a picture. Knows nothing of where the numbers come from."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws to files: no display is needed
from matplotlib import pyplot as plt

from scripts.training.checkpoint import Checkpoint


def draw(checkpoint: Checkpoint, path: Path) -> None:
    """Write losses and validation RMSE over the epochs to a PNG."""
    history = checkpoint.history
    epochs = [row["epoch"] for row in history]
    figure, (losses, rmse) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    losses.plot(epochs, [row["training_loss"] for row in history], label="training")
    losses.plot(epochs, [row["validation_loss"] for row in history], label="validation")
    rmse.plot(epochs, [row["validation_rmse"] for row in history], color="C1", label="validation")
    for axis, title in ((losses, "loss"), (rmse, "RMSE, deg/s")):
        axis.axvline(checkpoint.best_epoch, color="grey", linestyle=":", label=f"best: epoch {checkpoint.best_epoch}")
        axis.set(title=title, xlabel="epoch", yscale="log")
        axis.grid(alpha=0.3, which="both")
        axis.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)
