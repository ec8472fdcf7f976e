"""Write a table of made-up time series, to try training on.

    python -m scripts.tables.example oil.csv                         hourly loads and the oil temperature of a transformer
    python -m scripts.tables.example shaft.csv --kind machine        a noisy 50 Hz sensor beside a clean reference
    python -m scripts.tables.example bearings.csv --kind classes     recordings of machines in three states

What to train on them:

    python -m scripts.train --task forecast --data oil.csv
    python -m scripts.train --task denoise  --data shaft.csv --features sensor --targets reference
    python -m scripts.train --task classify --data bearings.csv --targets state --group run

The same rows, kind and seed write the same file.
Exits 0 when written, 1 when the file cannot be written, 2 on wrong use, 130 when it was stopped.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.signal import lfilter

from scripts import command
from scripts.tables.wording import count

LOADS = ("high", "high_reactive", "middle", "middle_reactive", "low", "low_reactive")  # named by their side of the transformer
STATES = ("healthy", "loose", "unbalanced")
RATE = 50.0  # Hz, of machine and classes
RUN = 150  # rows of one recording of classes
LEAST = 200


def main(argv: list[str] | None = None) -> int:
    parser = command.Parser("scripts.tables.example", __doc__)
    parser.add_argument("file", type=Path, metavar="FILE.csv", help="what to write; an existing file is replaced")
    parser.add_argument("--kind", choices=list(KINDS), default="transformer", help="what it holds (transformer)")
    parser.add_argument("--rows", type=int, default=17420, help="its length (17420: two years of hours, less a week)")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (0)")
    args = parser.parse_args(argv)
    least = LEAST if args.kind != "classes" else 9 * RUN  # three recordings of each state, for the three parts
    if args.rows < least:
        parser.error(f"--rows must be {least} or more for {args.kind}, got {args.rows}")
    if args.seed < 0:
        parser.error(f"--seed must be 0 or more, got {args.seed}")
    frame = KINDS[args.kind](args.rows, np.random.default_rng(args.seed))
    try:
        frame.write_csv(args.file, datetime_format="%Y-%m-%d %H:%M:%S")
    except OSError as error:
        print(f"{args.file} cannot be written: {error.strerror or error}.", file=sys.stderr)
        return 1
    print(f"{args.file}: {count(len(frame), 'row')} of {', '.join(frame.columns)}.")
    return 0


def transformer(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Hourly: six loads with daily and weekly seasons, and an oil temperature that slowly follows them and the weather.

    Each load has its own daily shape, which is flatter at weekends. Heating below 15 degrees and cooling above 19 add to it, and
    its level jumps when customers come and go. So the second year differs from the first, and a forecast has to read level and
    shape from its context.
    """
    hours = np.arange(rows)
    day, year = 2 * np.pi * hours / 24, 2 * np.pi * hours / (24 * 365.25)
    clouds = 1 / (1 + np.exp(-2 * _red(rng, rows, memory=30.0)))
    swing = (2 + 4 * (1 - clouds)) * np.sin(day - 2.4)  # warm afternoons, most of all under a clear sky
    outside = 12 - 8 * np.cos(year) + 3.5 * _red(rng, rows, memory=80.0) + swing
    weekend = hours // 24 % 7 >= 5
    comfort = 0.25 * np.maximum(15 - outside, 0) + 0.35 * np.maximum(outside - 19, 0)
    columns: dict[str, pl.Series] = {}
    total = np.zeros(rows)
    for index, name in enumerate(LOADS):
        late = index / 12  # hours are shifted a little from load to load
        shape = np.sin(day - 1.8 - late) + 0.6 * np.sin(2 * day - 1.0 + index) + 0.3 * np.sin(3 * day)
        flat = np.where(weekend, 0.45 + 0.02 * index, 1.0)
        strength = 3 * (1 + 0.3 * _red(rng, rows, memory=500.0))
        level = 8 + np.cumsum(np.where(rng.random(rows) < 1 / 900, rng.normal(0, 1.2, rows), 0.0))
        own = (0.8 + 0.1 * index) * _red(rng, rows, memory=10.0)
        load = level + strength * shape * flat + (0.4 + 0.2 * index) * comfort + own
        columns[name] = pl.Series(values=(load * (0.4 if name.endswith("reactive") else 1.0)).round(3))
        total += 0.0 if name.endswith("reactive") else load
    heat = outside + 0.5 * np.maximum(total, 0)
    slow = lfilter([1 / 16], [1, -(1 - 1 / 16)], heat - heat[0]) + heat[0]  # oil takes half a day to warm up
    columns["oil"] = pl.Series(values=(slow + 0.25 * rng.normal(size=rows)).round(3))
    start = np.datetime64("2016-07-01T00:00:00", "us")
    date = pl.Series(values=start + hours * np.timedelta64(1, "h"))
    return pl.DataFrame({"date": date, **columns})


def machine(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """50 Hz: a speed, measured by a good instrument (`reference`) and by a cheap one with bias, lag and noise (`sensor`)."""
    times = np.arange(rows) / RATE
    phase = 2 * np.pi * np.cumsum(0.6 + 0.25 * _red(rng, rows, memory=400.0)) / RATE
    moves = 3 * _red(rng, rows, memory=90.0) * (_red(rng, rows, memory=1500.0) > -0.4)
    reference = moves + 1.5 * np.sin(phase) + 0.5 * np.sin(3 * phase + 0.4)
    bias = 0.4 * _red(rng, rows, memory=20_000.0)
    noise = rng.normal(0, 0.6, rows) * (1 + 0.5 * np.abs(reference) / 3)
    spikes = np.where(rng.random(rows) < 0.002, rng.normal(0, 4, rows), 0.0)
    hum = 0.3 * np.sin(2 * np.pi * 16.7 * times + 0.3)
    sensor = 1.02 * lfilter([0.6], [1, -0.4], reference) + bias + noise + spikes + hum
    return pl.DataFrame({"time [s]": times.round(3), "sensor [deg/s]": sensor.round(4), "reference [deg/s]": reference.round(4)})


def classes(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """50 Hz: recordings (`run`) of a vibrating machine in one of three states (`state`), at speeds independent of the state."""
    runs = rows // RUN
    states = np.concatenate([rng.permutation(len(STATES)) for _ in range(-(-runs // len(STATES)))])[:runs]
    frames = []
    for run, state in enumerate(states):
        size = RUN if run < runs - 1 else rows - RUN * (runs - 1)
        times = np.arange(size) / RATE
        turn = 2 * np.pi * rng.uniform(2.5, 4.0) * times + rng.uniform(0, 2 * np.pi)
        side, up = np.sin(turn), np.cos(turn)
        if STATES[state] == "unbalanced":
            side = 1.8 * side
        if STATES[state] == "loose":
            side = side + 0.8 * np.sin(2 * turn + 0.5) + 0.4 * np.sin(3 * turn)
        strength = rng.uniform(0.6, 1.5)
        frames.append(
            pl.DataFrame(
                {
                    "run": np.full(size, run + 1),
                    "time [s]": times.round(3),
                    "side [m/s^2]": (strength * side + 0.5 * rng.normal(size=size) + rng.normal(0, 0.2)).round(4),
                    "up [m/s^2]": (strength * up + 0.5 * rng.normal(size=size) + rng.normal(0, 0.2)).round(4),
                    "state": [STATES[state]] * size,
                }
            )
        )
    return pl.concat(frames)


def _red(rng: np.random.Generator, rows: int, *, memory: float) -> NDArray[np.float64]:
    """Noise of variance 1 whose correlation falls to 1/e over `memory` rows: a first-order autoregression."""
    keep = float(np.exp(-1 / memory))
    drive = rng.normal(size=rows) * np.sqrt(1 - keep**2)
    drive[0] = rng.normal()
    return np.asarray(lfilter([1.0], [1.0, -keep], drive))


KINDS: dict[str, Callable[[int, np.random.Generator], pl.DataFrame]] = {
    "transformer": transformer,
    "machine": machine,
    "classes": classes,
}

if __name__ == "__main__":
    sys.exit(command.run(main))
