"""Describes what the trials ran on: the processor, the number of CPUs, the versions.

Knows nothing of what is tried. What cannot be found out reads "an unknown processor".
"""

from importlib.metadata import version
from typing import Any

from app import cpus
from scripts.training import processor
from scripts.training.packages import installed

USED = ("python", "torch", "numpy")  # by the trials, beside scikit-learn


def facts() -> dict[str, Any]:
    packages = {name: number for name, number in installed().items() if name in USED}
    return {
        "cpu": processor.name() or "an unknown processor",
        "cpus": cpus.available(),
        "packages": packages | {"scikit-learn": version("scikit-learn")},
    }
