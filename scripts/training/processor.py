"""Which processor this is. Knows nothing of what is measured on it."""

import platform
import re
from pathlib import Path


def name() -> str | None:
    """The processor's own name; None if it cannot be found out."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or None
