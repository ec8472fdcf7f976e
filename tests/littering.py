"""The service, which says on SIGUSR1 what it has left to the garbage collector since the last time: types, and how many of each.

python -m tests.littering FLAGS
"""

import gc
import signal
import sys
from collections import Counter

from app.__main__ import main


def tell(*_: object) -> None:
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    left = Counter(each.f_code.co_qualname if hasattr(each, "f_code") else type(each).__qualname__ for each in gc.garbage)
    gc.garbage.clear()
    gc.collect()
    gc.freeze()  # the next search is only through what has been made since
    print(f"Left: {sorted(left.items())}.", file=sys.stderr, flush=True)


if __name__ == "__main__":
    gc.disable()
    signal.signal(signal.SIGUSR1, tell)
    sys.exit(main())
