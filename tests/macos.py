"""The service as it finds Python on macOS, which lacks some functions of Linux.

python -m tests.macos FLAGS
"""

import os
import sys

MISSING = ("memfd_create", "posix_fallocate", "sched_getaffinity")

if __name__ == "__main__":
    for name in MISSING:
        delattr(os, name)
    if hasattr(os, "process_cpu_count"):  # which would ask the last of them
        os.process_cpu_count = os.cpu_count

    from app.__main__ import main

    sys.exit(main())
