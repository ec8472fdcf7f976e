"""Which versions of its packages a run or a measurement was made with."""

import platform
from importlib.metadata import PackageNotFoundError, version

# ONNX Runtime is one module under two names: one of them is installed.
PACKAGES = ("torch", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "scipy", "allantools")


def installed() -> dict[str, str]:
    """Name -> version, Python's too; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
