"""The number of threads that torch uses on the CPU.

Each run has its own number, whatever the machine has and whatever else the process computes: the rounding of sums depends on it.
Knows nothing of what is computed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def limited(count: int) -> Iterator[None]:
    """Compute on `count` threads of torch within the block, and after it on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
