"""The service on a Python without the functions that macOS lacks.

python -m tests.macos FLAGS
"""

import os
import sys

MISSING = ("memfd_create", "posix_fallocate", "sched_getaffinity")

if __name__ == "__main__":
    for name in MISSING:
        delattr(os, name)
    if hasattr(os, "process_cpu_count"):  # it would call `sched_getaffinity`
        os.process_cpu_count = os.cpu_count

    from app.__main__ import main

    sys.exit(main())
