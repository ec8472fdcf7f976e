"""What the NVIDIA driver says of this machine, asked of the driver itself.

Owns these questions. Where there is no driver nothing else of CUDA is touched. Knows nothing of ONNX Runtime.
Source of the names and codes: the CUDA driver API, and of the memory NVIDIA's management library (NVML), which starts no CUDA.
"""

import ctypes
import os
from functools import cache
from typing import Any

LIBRARY, MANAGEMENT = "libcuda.so.1", "libnvidia-ml.so.1"
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


class Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


@cache
def smallest_memory(library: Any = None) -> int | None:
    """Bytes that the smallest of this machine's GPUs has; None where that cannot be told.

    `library`: NVML, None for that of this machine.
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
    except (OSError, AttributeError):  # there is no such library, or no such function in it
        return None
    return min(filter(None, found), default=None)


def _memory_of(nvml: Any, index: int) -> int:
    """0 where it does not say."""
    device, its = ctypes.c_void_p(), Memory()
    if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)):
        return 0
    return 0 if nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(its)) else its.total


def _driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError:
        return None
