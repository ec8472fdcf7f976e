"""With how many threads torch computes on the CPU.

Owns that a run has its own number of them, whatever the machine has and whatever else is computed in the process: what a sum
rounds to hangs on it. Knows nothing of what is computed.
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
