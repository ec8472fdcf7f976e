"""The linear errors of a device, scale factor and misalignment, fitted in closed form.

Owns the least-squares fit and its sign: a calibration is what is added to a measured rate. Knows nothing of filters or
networks, both of which start from it.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def calibration(features: NDArray[np.floating], targets: NDArray[np.floating]) -> Array:
    """The matrix (3, 6) that gives rate = gyro + matrix x, fitted on features (count, time, 6) and true rates (count, time, 3).

    Each recording keeps a bias of its own, which is not part of the calibration: means over a recording are taken out.
    Otherwise the fit would attribute the bias to gravity, which is as steady.
    """
    x = features.astype(np.float64)
    errors = targets.astype(np.float64) - x[..., :3]
    x -= x.mean(axis=1, keepdims=True)
    errors -= errors.mean(axis=1, keepdims=True)
    solution, *_ = np.linalg.lstsq(x.reshape(-1, 6), errors.reshape(-1, 3), rcond=None)
    return np.asarray(solution.T)


def calibrate(features: NDArray[np.floating], matrix: Array) -> Array:
    """Rates (count, time, 3) in deg/s from features (count, time, 6)."""
    x = features.astype(np.float64)
    return np.asarray(x[..., :3] + x @ matrix.T)
