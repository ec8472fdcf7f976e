"""NVIDIA's Multi-Process Service: with it several processes use a GPU at once, without it in turns.

Owns its start and its end. Knows nothing of what uses it.
Source: NVIDIA, "Multi-Process Service", https://docs.nvidia.com/deploy/mps/.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import which
from tempfile import TemporaryDirectory

CONTROL = "nvidia-cuda-mps-control"  # comes with the driver
PATIENCE = 20.0  # seconds


def installed() -> bool:
    return which(CONTROL) is not None


@contextmanager
def running() -> Iterator[None]:
    """Run MPS for processes that are started in the block, and no others; subprocess.SubprocessError if it does not start."""
    before = os.environ.copy()
    with TemporaryDirectory(prefix="recurve-mps-", ignore_cleanup_errors=True) as folder:  # its log may still be written to
        os.environ |= {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        try:
            _control("-d")
            try:
                yield
            finally:
                _control(tell="quit -t 5\n")
        finally:
            os.environ.clear()
            os.environ |= before


def _control(*flags: str, tell: str = "") -> None:
    subprocess.run([CONTROL, *flags], input=tell, text=True, check=True, timeout=PATIENCE, stdout=subprocess.DEVNULL)  # noqa: S603  # constants
