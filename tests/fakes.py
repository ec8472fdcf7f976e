"""Small real classes that stand in for large ones: the same interface and less work; and an interrupt at a chosen moment."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from scripts.gyro.data import VALIDATION, Gyro, Recordings
from scripts.gyro.model import Denoiser


class ShortGyro(Gyro):
    """The simulated device with validation and test sets of seconds instead of minutes."""

    def validation(self) -> Recordings:
        return self._record([VALIDATION], 3, 4.0)

    def test(self, *, count: int = 3, seconds: float = 25.0) -> Recordings:
        return super().test(count=count, seconds=seconds)


class OneEpoch(Gyro):
    """The simulated device with the same recordings in every epoch and in the validation set."""

    def training(self, epoch: int) -> Recordings:  # noqa: ARG002  # every epoch is the same
        return super().training(0)

    def validation(self) -> Recordings:
        return self.training(0)


@contextmanager
def interruption(*, after: int, of: type[nn.Module] = Denoiser) -> Iterator[None]:
    """Within the block, raise KeyboardInterrupt in a call of a network of class `of`, after `after` whole calls."""
    left = count(after, -1)

    def interrupt(module: nn.Module, _: Any) -> None:
        if isinstance(module, of) and next(left) == 0:
            raise KeyboardInterrupt

    handle = register_module_forward_pre_hook(interrupt)
    try:
        yield
    finally:
        handle.remove()
