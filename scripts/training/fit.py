"""The training loop: updates, the schedule of the learning rate, when to stop, and what is kept after every epoch.

Owns how a network is trained, whatever it learns. Knows nothing of data, losses or graphs: those are the problem's.
"""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import cos, isfinite, pi
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from scripts.training.checkpoint import Checkpoint
from scripts.training.config import RunConfig
from scripts.training.problem import Problem

WARM_UP = 50  # updates

Told = Callable[[dict[str, float]], Exception | None]


@dataclass(frozen=True, slots=True)
class End:
    """Why training ended. diverged: a loss was not finite, and no later one would be, since the weights are not either."""

    reason: str
    diverged: bool = False


def learning_rate(config: RunConfig, update: int, updates: int) -> float:
    """A linear warm-up, then half a cosine down to one hundredth."""
    decay = 0.01 + 0.99 * (1 + cos(pi * update / updates)) / 2
    return config.learning_rate * min(1.0, (update + 1) / WARM_UP) * decay


def start(problem: Problem) -> tuple[nn.Module, Checkpoint]:
    """A new network and the checkpoint of epoch 0."""
    torch.manual_seed(problem.config.seed)
    network = problem.network()
    weights = _copy(network)
    checkpoint = Checkpoint(
        config=problem.config,
        epoch=0,
        network=weights,
        optimizer={},
        best_epoch=0,
        best_loss=float("inf"),
        best_network=weights,
        facts=problem.facts,
    )
    return network, checkpoint


def fit(
    network: nn.Module, problem: Problem, checkpoint: Checkpoint, run: Path, *, device: str, told: Told = lambda _: None
) -> End:
    """Train from `checkpoint` on, and save it into `run` after every epoch. An epoch that diverges is not saved.

    `told` gets the history's row of every epoch that is saved; an exception that it returns is raised before the next begins.
    """
    config = checkpoint.config
    stop: Exception | None = None
    network.to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))  # few updates: a shorter memory
    if checkpoint.optimizer:
        optimizer.load_state_dict(checkpoint.optimizer)
    updates = config.epochs * problem.updates_per_epoch
    since = perf_counter()
    with (
        ThreadPoolExecutor(1) as ahead,
        tqdm(
            total=updates,
            initial=checkpoint.epoch * problem.updates_per_epoch,
            desc="training",
            unit="update",
            smoothing=0.05,
            mininterval=0.1 if sys.stderr.isatty() else 30,  # seconds: a log file keeps every line
        ) as bar,
    ):
        upcoming = ahead.submit(problem.prepare, checkpoint.epoch)
        while checkpoint.epoch < config.epochs:
            if checkpoint.epoch - checkpoint.best_epoch >= config.patience:
                return End(f"no better validation loss in {config.patience} epochs")
            if stop is not None:
                raise stop
            prepared = upcoming.result()
            if checkpoint.epoch + 1 < config.epochs:
                upcoming = ahead.submit(problem.prepare, checkpoint.epoch + 1)  # while this epoch trains
            drawn = np.random.SeedSequence([config.seed, checkpoint.epoch]).generate_state(1, np.uint64)
            torch.manual_seed(int(drawn[0]))  # what a network draws depends on this epoch, not on those before
            losses: list[float] = []
            for loss in _in_precision(problem.losses(network, prepared, device), config, device):
                update = checkpoint.epoch * problem.updates_per_epoch + len(losses)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(config, update, updates)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves `backward` untyped
                nn.utils.clip_grad_norm_(network.parameters(), config.clip)
                optimizer.step()
                losses.append(loss.item())
                if not isfinite(losses[-1]):
                    return End(f"the training loss became {losses[-1]} in epoch {checkpoint.epoch + 1}", diverged=True)
                best = f", best {checkpoint.best_loss:.3g}" if checkpoint.best_epoch else ""
                bar.set_postfix_str(f"epoch {checkpoint.epoch + 1}, loss {losses[-1]:.3g}{best}", refresh=False)
                bar.update()
            found = problem.validate(network, device)
            if not isfinite(found["loss"]):
                return End(f"the validation loss became {found['loss']} in epoch {checkpoint.epoch + 1}", diverged=True)
            _record(checkpoint, network, optimizer, float(np.mean(losses)), found)
            now = perf_counter()
            checkpoint.seconds, since = checkpoint.seconds + now - since, now
            checkpoint.save(run)
            stop = told(checkpoint.history[-1])
    return End(f"all {config.epochs} epochs are done")


def _in_precision(losses: Iterator[Tensor], config: RunConfig, device: str) -> Iterator[Tensor]:
    """The losses, computed in the precision that was chosen."""
    mixed = torch.autocast(device, dtype=torch.bfloat16, enabled=config.precision == "bfloat16")
    while True:
        with mixed:
            loss = next(losses, None)
        if loss is None:
            return
        yield loss


def _record(
    checkpoint: Checkpoint, network: nn.Module, optimizer: torch.optim.Optimizer, training: float, found: dict[str, float]
) -> None:
    checkpoint.epoch += 1
    checkpoint.network = _copy(network)
    checkpoint.optimizer = optimizer.state_dict()
    validation = {f"validation_{name}": value for name, value in found.items()}
    checkpoint.history.append({"epoch": checkpoint.epoch, "training_loss": training, **validation})
    if found["loss"] < checkpoint.best_loss:
        checkpoint.best_epoch, checkpoint.best_loss, checkpoint.best_network = checkpoint.epoch, found["loss"], checkpoint.network


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
