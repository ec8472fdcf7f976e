"""The service, which prints on SIGUSR1 how many objects of each type it has left to the garbage collector since the last time.

python -m tests.littering FLAGS
"""

import gc
import signal
import sys
from collections import Counter
from types import FrameType

from app.__main__ import main


def kinds() -> Counter[str]:
    """Counts tracked objects by type. Without dicts and tuples: the collector stops tracking those that cannot be in a cycle."""
    known = (each for each in gc.get_objects() if type(each) not in (dict, tuple))
    return Counter(each.f_code.co_qualname if isinstance(each, FrameType) else type(each).__qualname__ for each in known)


def tell(*_: object) -> None:
    before = kinds()  # `DEBUG_SAVEALL` would miss what a generator holds: the collector closes it first
    gc.collect()
    left = before - kinds()
    gc.freeze()  # the next collection searches only objects made after this one
    print(f"Left: {sorted(left.items())}.", file=sys.stderr, flush=True)


if __name__ == "__main__":
    gc.disable()
    signal.signal(signal.SIGUSR1, tell)
    sys.exit(main())
