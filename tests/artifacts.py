"""Real artifacts for the tests: small untrained networks with random weights, written by the code that exports trained ones."""

from pathlib import Path
from typing import Any

import torch

from scripts.gyro.artifact import Denoised
from scripts.gyro.config import Config
from scripts.gyro.model import MOVING, Denoiser
from scripts.training import publish
from scripts.training.checkpoint import Checkpoint


def checkpoint(**config: Any) -> Checkpoint:
    """The checkpoint of a small network with these choices after one epoch; no weight is zero, not even in the head."""
    chosen = Config(**{"hidden": 8, **config})
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(chosen.seed)
        network = Denoiser(chosen)
        for parameter in network.parameters():
            parameter.uniform_(-0.7, 0.7)
        network.calibration.uniform_(-0.01, 0.01)
        if network.head.bias is not None:
            network.head.bias[3:] += MOVING  # as often at rest as not
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    history = [{"epoch": 1, "training_loss": 1.0, "validation_loss": 0.5, "validation_rmse": 0.25}]
    return Checkpoint(
        config=chosen,
        epoch=1,
        network=weights,
        optimizer={},
        best_epoch=1,
        best_loss=0.5,
        best_network=weights,
        history=history,
    )


def build(model_dir: Path, *, name: str = "gyro-denoiser", **config: Any) -> Path:
    """Publish the next version of a model into a repository and return its folder. Same arguments, same predictions."""
    denoised = Denoised(checkpoint(name=name, **config))
    with publish.staging(model_dir, name) as folder:
        write(denoised, folder)
        return publish.publish(folder, lambda version: denoised.spec(version, folder))


def write(denoised: Denoised, folder: Path) -> None:
    """Write every file of a version except its manifest."""
    denoised.write_graphs(folder)
    denoised.golden().save(folder, outputs=denoised.outputs, states=denoised.states)


def network(**config: Any) -> Denoiser:
    """The network of a checkpoint with these choices."""
    return Denoised(checkpoint(**config)).network
