"""Small real classes that stand in for large ones: the same seams, less work, and ends that a test decides on."""

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
    """The simulated device with nothing new to show: every epoch is the first, and so is the validation set."""

    def training(self, epoch: int) -> Recordings:  # noqa: ARG002  # that is the point
        return super().training(0)

    def validation(self) -> Recordings:
        return self.training(0)


@contextmanager
def interruption(*, after: int, of: type[nn.Module] = Denoiser) -> Iterator[None]:
    """Within the block, Ctrl-C in the middle of the call of such a network that follows `after` whole ones."""
    left = count(after, -1)

    def interrupt(module: nn.Module, _: Any) -> None:
        if isinstance(module, of) and next(left) == 0:
            raise KeyboardInterrupt

    handle = register_module_forward_pre_hook(interrupt)
    try:
        yield
    finally:
        handle.remove()
