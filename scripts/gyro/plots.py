"""The two pictures of a model card: Allan deviation of a still device, and the errors in a few seconds of motion.

Owns how they look, and which seconds are shown. Knows nothing of how the curves were made.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scripts.gyro.data import Recordings
from scripts.gyro.evaluate import SETTLE_SECONDS, Allan
from scripts.gyro.motion import Activity
from scripts.training.drawing import save

Array = NDArray[np.float64]

SHOWN_SECONDS = 8.0
STRIDE = 10  # samples between the starts that are tried
# The first curve is the raw signal, the last is the model; those between are compared with it.
COLOURS = ("#b9bec6", "#4c9be8", "#1f8a70", "#c8553d")


def draw_allan(curves: Mapping[str, Allan], white: float, path: Path) -> None:
    """Allan deviations by name, and the line of the part's white noise N, u/sqrt(Hz), as a PNG."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    measured = next(iter(curves.values()))
    axes.loglog(
        measured.tau, white / np.sqrt(measured.tau), color="black", linewidth=0.8, linestyle=":", label="white noise N / √τ"
    )
    for (name, allan), colour, width in zip(curves.items(), COLOURS, _widths(len(curves)), strict=True):
        axes.loglog(allan.tau, allan.deviation, color=colour, linewidth=width, label=name)
    axes.set(title="Allan deviation, device lying still", xlabel="averaging time τ, s", ylabel="deg/s")
    axes.grid(alpha=0.3, which="major")
    axes.legend(frameon=False)
    save(figure, path)


def draw_motion(truth: Array, errors: Mapping[str, Array], sample_rate: float, path: Path) -> None:
    """The true rate (time,) of one axis and the errors (time,) of methods by name, as a PNG."""
    figure = Figure(figsize=(8, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    seconds = np.arange(len(truth)) / sample_rate
    above.plot(seconds, truth, color="black", linewidth=1.2)
    above.set(title="One axis in slow and fast motion and at rest", ylabel="true rate, deg/s")
    for (name, error), colour, width in zip(errors.items(), COLOURS, _widths(len(errors)), strict=True):
        below.plot(seconds, error, color=colour, linewidth=width, label=name)
    lowest, highest = np.percentile(np.stack(list(errors.values())), (0.1, 99.9))
    margin = 0.1 * (highest - lowest)
    below.set(xlabel="s", ylabel="error, deg/s", xlim=(0, seconds[-1]), ylim=(lowest - margin, highest + margin))
    for axes in (above, below):
        axes.grid(alpha=0.3)
    figure.legend(*below.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    save(figure, path)


def eventful(recordings: Recordings, sample_rate: float) -> tuple[int, slice]:
    """The recording, and the samples of it, in which rest, swaying and fast motion share SHOWN_SECONDS most evenly."""
    length = round(SHOWN_SECONDS * sample_rate)
    starts = np.arange(round(SETTLE_SECONDS * sample_rate), recordings.activity.shape[1] - length, STRIDE)
    shares = []
    for activity in Activity:
        total = np.cumsum(recordings.activity == activity, axis=1)
        shares.append(total[:, starts + length] - total[:, starts])
    index, start = np.unravel_index(np.min(shares, axis=0).argmax(), shares[0].shape)
    return int(index), slice(int(starts[start]), int(starts[start]) + length)


def _widths(count: int) -> list[float]:
    return [1.0] + [1.3] * (count - 2) + [1.6]
