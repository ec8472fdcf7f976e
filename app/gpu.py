"""Asks the NVIDIA driver whether CUDA can run on this machine, and how much memory its GPUs have.

Owns these questions. Without a driver it touches nothing else of CUDA. Knows nothing of ONNX Runtime.
The names and codes are those of the CUDA driver API and, for the memory, of NVIDIA's management library (NVML), which does not
start CUDA.
"""

import ctypes
import os
from functools import cache
from typing import Any

LIBRARY, MANAGEMENT = "libcuda.so.1", "libnvidia-ml.so.1"
NO_DEVICE = 100
NO_DRIVER = f"this machine has no NVIDIA driver ({LIBRARY} cannot be loaded)"


def has_driver() -> bool:
    """Whether the driver's library can be loaded; does not start the driver."""
    return _driver() is not None


def obstacle(needed: int, driver: Any = None) -> str | None:
    """Why CUDA of the major version `needed` cannot run here; None: the driver knows no reason.

    `driver`: the driver's library; None: this machine's.
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


class Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


@cache
def smallest_memory(library: Any = None) -> int | None:
    """Bytes of memory of this machine's smallest GPU; None when that is not known.

    `library`: NVML; None: this machine's.
    """
    try:
        nvml = library or ctypes.CDLL(MANAGEMENT)
        if nvml.nvmlInit_v2():
            return None
        try:
            number = ctypes.c_uint()
            nvml.nvmlDeviceGetCount_v2(ctypes.byref(number))
            found = [_memory_of(nvml, index) for index in range(number.value)]
        finally:
            nvml.nvmlShutdown()
    except (OSError, AttributeError):  # no such library, or no such function in it
        return None
    return min(filter(None, found), default=None)


def _memory_of(nvml: Any, index: int) -> int:
    """Bytes of memory of one GPU; 0 when NVML does not say."""
    device, its = ctypes.c_void_p(), Memory()
    if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)):
        return 0
    return 0 if nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(its)) else its.total


def _driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError:
        return None
