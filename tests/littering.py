"""The service, which says on SIGUSR1 what it has left to the garbage collector since the last time: types, and how many of each.

python -m tests.littering FLAGS
"""

import gc
import signal
import sys
from collections import Counter
from types import FrameType

from app.__main__ import main


def kinds() -> Counter[str]:
    """Of what the collector looks after; of dicts and tuples it stops to, where they hold nothing that could be in a cycle."""
    known = (each for each in gc.get_objects() if type(each) not in (dict, tuple))
    return Counter(each.f_code.co_qualname if isinstance(each, FrameType) else type(each).__qualname__ for each in known)


def tell(*_: object) -> None:
    before = kinds()  # `DEBUG_SAVEALL` would not show what is held by a generator, which the collector closes first
    gc.collect()
    left = before - kinds()
    gc.freeze()  # the next search is only through what has been made since
    print(f"Left: {sorted(left.items())}.", file=sys.stderr, flush=True)


if __name__ == "__main__":
    gc.disable()
    signal.signal(signal.SIGUSR1, tell)
    sys.exit(main())
