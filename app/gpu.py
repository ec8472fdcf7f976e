"""What the NVIDIA driver says of this machine, asked of the driver itself.

Owns these questions. Where there is no driver nothing else of CUDA is touched. Knows nothing of ONNX Runtime.
Source of the names and codes: the CUDA driver API.
"""

import ctypes
import os
from typing import Any

LIBRARY = "libcuda.so.1"
NO_DEVICE = 100
NO_DRIVER = f"this machine has no NVIDIA driver ({LIBRARY} cannot be loaded)"


def has_driver() -> bool:
    """Whether there is one; it is not started."""
    return _driver() is not None


def obstacle(needed: int, driver: Any = None) -> str | None:
    """Why CUDA of this major version cannot run here, as far as the driver knows; None: nothing that it knows of.

    `driver`: its library, None for the one of this machine.
    """
    driver = driver or _driver()
    if driver is None:
        return NO_DRIVER
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = "" if visible is None else f"; CUDA_VISIBLE_DEVICES is {visible!r}"
    if code := driver.cuInit(0):
        what = "finds no GPU" if code == NO_DEVICE else "cannot be started"
        return f"the NVIDIA driver {what} (CUDA error {code}{hidden})"
    number = ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(number)) or not number.value:
        return f"the NVIDIA driver finds no GPU{hidden}"
    if not driver.cuDriverGetVersion(ctypes.byref(number)) and number.value // 1000 < needed:
        has = f"{number.value // 1000}.{number.value % 1000 // 10}"
        return f"the NVIDIA driver is for CUDA {has} at most, and ONNX Runtime is built for CUDA {needed}: a newer driver is needed"
    return None


def _driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError:
        return None
