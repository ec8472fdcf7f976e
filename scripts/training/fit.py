"""The training loop: truncated back-propagation through time over long recordings.

Owns the loss, the schedule and when to stop. Knows nothing of how data are made or of what a graph is. The state is
carried from chunk to chunk of a recording, as it is when a live stream is served; only the gradient is cut.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import cos, pi
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss
from tqdm import tqdm

from scripts.training.checkpoint import Checkpoint
from scripts.training.config import INCREMENTS, Config
from scripts.training.data import Gyro, Recordings
from scripts.training.model import Denoiser

NOISE = 0.05  # deg/s: errors above it count by their size, below it by their square
WARM_UP = 50  # updates


def loss_of(rates: Tensor, truth: Tensor) -> Tensor:
    """The loss of rates (batch, time, 3) in deg/s: on themselves and on the angle they add up to."""
    error = (rates - truth) / NOISE
    zero = torch.zeros((), dtype=error.dtype, device=error.device)
    total = smooth_l1_loss(error, zero.expand_as(error))
    for window in INCREMENTS:
        whole = error.shape[1] // window * window
        # divided by the root of the window, the sum of white noise counts as much as the noise itself
        summed = error[:, :whole].reshape(len(error), -1, window, error.shape[2]).sum(dim=2) / window**0.5
        total = total + smooth_l1_loss(summed, zero.expand_as(summed)) / 2
    return total


def learning_rate(config: Config, update: int, updates: int) -> float:
    """A linear warm-up, then half a cosine down to one hundredth."""
    decay = 0.01 + 0.99 * (1 + cos(pi * update / updates)) / 2
    return config.learning_rate * min(1.0, (update + 1) / WARM_UP) * decay


def start(config: Config, gyro: Gyro) -> tuple[Denoiser, Checkpoint]:
    """A new network, its linear part fitted, and the checkpoint of epoch 0."""
    torch.manual_seed(config.seed)
    network = Denoiser(config)
    first = gyro.training(0)
    network.calibrate(first.features, first.targets)
    weights = _copy(network)
    checkpoint = Checkpoint(
        config=config, epoch=0, network=weights, optimizer={}, best_epoch=0, best_loss=float("inf"), best_network=weights
    )
    return network, checkpoint


def fit(network: Denoiser, gyro: Gyro, checkpoint: Checkpoint, run: Path, *, device: str) -> str:
    """Train from `checkpoint` on, saving it into `run` after every epoch; the reason why it ended."""
    config = checkpoint.config
    network.to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))  # few updates: a short memory
    if checkpoint.optimizer:
        optimizer.load_state_dict(checkpoint.optimizer)
    validation = gyro.validation()
    per_epoch = round(config.recording_seconds * config.sample_rate) // config.chunk
    updates = config.epochs * per_epoch
    with (
        ThreadPoolExecutor(1) as ahead,
        tqdm(total=updates, initial=checkpoint.epoch * per_epoch, desc="training", unit="update", smoothing=0.05) as bar,
    ):
        upcoming = ahead.submit(gyro.training, checkpoint.epoch)
        while checkpoint.epoch < config.epochs:
            if checkpoint.epoch - checkpoint.best_epoch >= config.patience:
                return f"no better validation loss in {config.patience} epochs"
            recordings = upcoming.result()
            if checkpoint.epoch + 1 < config.epochs:
                upcoming = ahead.submit(gyro.training, checkpoint.epoch + 1)  # simulated while this epoch trains
            losses = []
            for loss in _epoch(network, optimizer, recordings, config, checkpoint.epoch * per_epoch, updates, device):
                losses.append(loss)
                bar.set_postfix_str(
                    f"epoch {checkpoint.epoch + 1}, loss {loss:.3f}, best {checkpoint.best_loss:.3f}", refresh=False
                )
                bar.update()
            _record(checkpoint, network, optimizer, float(np.mean(losses)), *evaluate(network, validation, device=device))
            checkpoint.save(run)
    return f"all {config.epochs} epochs are done"


def evaluate(network: nn.Module, recordings: Recordings, *, device: str) -> tuple[float, float]:
    """Loss and RMSE (deg/s) over whole recordings, each from the zero state."""
    with torch.inference_mode():
        truth = torch.from_numpy(recordings.targets).to(device)
        rates, _ = network(torch.from_numpy(recordings.features).to(device))
        return loss_of(rates, truth).item(), (rates - truth).square().mean().sqrt().item()


def _epoch(
    network: Denoiser,
    optimizer: torch.optim.Optimizer,
    recordings: Recordings,
    config: Config,
    update: int,
    updates: int,
    device: str,
) -> Iterator[float]:
    features = torch.from_numpy(recordings.features).to(device)
    targets = torch.from_numpy(recordings.targets).to(device)
    state = None
    for begin in range(0, features.shape[1] - config.chunk + 1, config.chunk):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, update, updates)
        rates, state = network(features[:, begin : begin + config.chunk], state)
        state = state.detach()
        loss = loss_of(rates, targets[:, begin : begin + config.chunk])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves `backward` untyped
        nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        optimizer.step()
        update += 1
        yield loss.item()


def _record(
    checkpoint: Checkpoint, network: Denoiser, optimizer: torch.optim.Optimizer, training: float, loss: float, rmse: float
) -> None:
    checkpoint.epoch += 1
    checkpoint.network = _copy(network)
    checkpoint.optimizer = optimizer.state_dict()
    checkpoint.history.append(
        {"epoch": checkpoint.epoch, "training_loss": training, "validation_loss": loss, "validation_rmse": rmse}
    )
    if loss < checkpoint.best_loss:
        checkpoint.best_epoch, checkpoint.best_loss, checkpoint.best_network = checkpoint.epoch, loss, checkpoint.network


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
