"""On what the trials ran: the processor, how many of it, the versions.

Knows nothing of what is tried. What cannot be found out reads "an unknown processor".
"""

import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app import cpus
from scripts.training.packages import installed

USED = ("python", "torch", "numpy")  # by trials, and scikit-learn


def facts() -> dict[str, Any]:
    packages = {name: number for name, number in installed().items() if name in USED}
    return {"cpu": _processor(), "cpus": cpus.available(), "packages": packages | {"scikit-learn": version("scikit-learn")}}


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or "an unknown processor"
