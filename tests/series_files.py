"""Small data files for the tests, written as text like a user's."""

from pathlib import Path

import numpy as np


def regression(path: Path, *, rows: int = 240, seed: int = 0) -> Path:
    """Columns time, a, b and y, one row a second; y follows from the last three values of a."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, rows))
    y = np.convolve(a, [0.5, 0.3, 0.2])[:rows]
    lines = (f"{time},{x:.5f},{z:.5f},{target:.5f}\n" for time, (x, z, target) in enumerate(zip(a, b, y, strict=True)))
    path.write_text("time,a,b,y\n" + "".join(lines))
    return path


def hourly(path: Path, *, rows: int = 400, seed: int = 0) -> Path:
    """Columns date, load and heat with a daily season: one row an hour, from 1 January 2024."""
    rng = np.random.default_rng(seed)
    hours = np.arange(rows)
    day = np.sin(2 * np.pi * hours / 24)
    load, heat = 10 + 3 * day + rng.normal(0, 0.3, rows), 20 - 5 * day + rng.normal(0, 0.3, rows)
    dates = np.datetime64("2024-01-01T00:00:00") + hours.astype("timedelta64[h]")
    lines = (f"{str(date).replace('T', ' ')},{x:.4f},{z:.4f}\n" for date, x, z in zip(dates, load, heat, strict=True))
    path.write_text("date,load,heat\n" + "".join(lines))
    return path


def gestures(path: Path, *, recordings: int = 24, rows: int = 12, seed: int = 0) -> Path:
    """Columns trial, x and gesture: recordings of two classes, which rise or fall."""
    rng = np.random.default_rng(seed)
    lines = ["trial,x,gesture\n"]
    for trial in range(recordings):
        rises = trial % 2
        values = (2 * rises - 1) * np.linspace(0, 2, rows) + rng.normal(0, 0.3, rows)
        lines += [f"t{trial},{value:.4f},{'rise' if rises else 'fall'}\n" for value in values]
    path.write_text("".join(lines))
    return path


def states(path: Path, *, rows: int = 120, seed: int = 0) -> Path:
    """Columns time, x and state: one recording whose rows are of two classes, ten rows of each in turn."""
    rng = np.random.default_rng(seed)
    high = np.arange(rows) // 10 % 2
    values = high + rng.normal(0, 0.3, rows)
    lines = (f"{time},{value:.4f},{('low', 'high')[state]}\n" for time, (value, state) in enumerate(zip(values, high, strict=True)))
    path.write_text("time,x,state\n" + "".join(lines))
    return path
