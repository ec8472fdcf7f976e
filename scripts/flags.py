"""The choices of a run as command-line flags, one for each field of its config, and the line that gives a config again.

Owns their spelling and their help. Knows nothing of what they do. Flags beat the file, the file beats the defaults.
"""

import csv
import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from dataclasses import fields
from io import StringIO
from pathlib import Path
from typing import Any, get_args

from scripts import config_file
from scripts.gyro.config import Config as GyroConfig
from scripts.gyro.sensor import PARTS
from scripts.series.config import SEGMENT, Channels, Normalise, segment_of
from scripts.series.config import Config as SeriesConfig
from scripts.tables.recording import Irregular, Missing, Task
from scripts.training.config import Precision, RunConfig
from scripts.training.reference import Kind

RUN = {field.name for field in fields(RunConfig)}
GYRO = {field.name for field in fields(GyroConfig)} - RUN
SERIES = {field.name for field in fields(SeriesConfig)} - RUN
FORECAST = {"context", "horizon", "segment", "channels", "normalise", "season", "quantiles"}


def add_options(parser: ArgumentParser) -> None:
    """Add a flag for every choice. None has a default here, so that `chosen` finds only what the user gave."""
    add = parser.add_argument_group
    run = add("the model and its fit")
    run.add_argument("--name", help="the model's name (gyro-denoiser, or of the first file)")
    run.add_argument("--seed", type=int, help=_of("same seed, same weights", "seed"))
    run.add_argument(
        "--cell",
        metavar="CELL[,CELL...]",
        help=_of(
            f"{', '.join(get_args(Kind))}: of every layer, or one for each, from the input up. reset_before is the paper's GRU, "
            "reset_after torch.nn.GRU",
            "cell",
        ),
    )
    run.add_argument("--layers", type=int, help=_of("recurrent layers", "layers"))
    run.add_argument("--hidden", type=int, help=_of("units in each", "hidden"))
    run.add_argument("--no-bias", dest="bias", action="store_const", const=False, help="no bias in cell and head")
    run.add_argument("--epochs", type=int, help=_of("at most", "epochs"))
    run.add_argument("--patience", type=int, help=_of("epochs without a better validation loss before it stops", "patience"))
    run.add_argument("--learning-rate", type=float, help=_of("at its highest", "learning_rate"))
    run.add_argument("--clip", type=float, help=_of("the largest norm of a gradient", "clip"))
    run.add_argument("--precision", choices=get_args(Precision), help=_of("bfloat16: mixed, for a GPU", "precision"))
    run.add_argument("--threads", type=int, help=_of("on the CPU; another number rounds otherwise", "threads"))
    run.add_argument("--batch", type=int, help=_of("sequences of an update", "batch"))
    run.add_argument("--chunk", type=int, help=_of("steps between two updates, where a stream is followed", "chunk"))

    data = add("your own data (--data; otherwise a gyroscope is simulated)")
    data.add_argument("--data", nargs="+", metavar="FILE", help="CSV and its kin, gzipped too, or Parquet; files or globs")
    data.add_argument("--task", choices=get_args(Task), help="what is learned (with --targets alone regress, else forecast)")
    data.add_argument("--time", metavar="COLUMN", help="the column of time (found by name, if there is one)")
    data.add_argument(
        "--features", type=names, metavar="A,B", help="columns that are read (all numeric ones that are nothing else)"
    )
    data.add_argument("--targets", type=names, metavar="C,D", help="columns to predict (of a forecast: the features)")
    data.add_argument("--group", metavar="COLUMN", help="the column that tells recordings apart (each file is one)")
    data.add_argument(
        "--split",
        type=names,
        metavar="TRAIN,VAL,TEST",
        help=_of("parts in the order of time: fractions, rows, or dates on which each ends, in UTC if times have offsets", "split"),
    )
    data.add_argument("--missing", choices=get_args(Missing), help=_of("empty cells; truth is never filled", "missing"))
    data.add_argument("--na", type=numbers, metavar="N,M", help="numbers that mean a missing value (--na=-999,9999)")
    data.add_argument("--irregular", choices=get_args(Irregular), help=_of("rows that are not evenly spaced", "irregular"))
    data.add_argument("--period", type=float, help="seconds between rows after resampling (the median of what was found)")

    forecast = add("a forecast")
    forecast.add_argument("--context", type=int, help=_of("rows that are read", "context"))
    forecast.add_argument("--horizon", type=int, help=_of("rows that are predicted", "horizon"))
    forecast.add_argument("--segment", type=int, help="rows that are one step of the recurrence (24, or what divides the context)")
    forecast.add_argument("--channels", choices=get_args(Channels), help=_of("a network for each, or one for all", "channels"))
    forecast.add_argument("--normalise", choices=get_args(Normalise), help=_of("what is taken off each window", "normalise"))
    forecast.add_argument("--season", type=int, help="rows of a season, for the baseline (a day, a week or a year; else 24)")
    forecast.add_argument("--quantiles", type=numbers, metavar="Q,R", help="forecast beside the mean, such as 0.1,0.9")

    gyro = add("the simulated gyroscope")
    gyro.add_argument("--part", choices=PARTS, help=_of("the sensor whose noise is simulated", "part"))
    gyro.add_argument("--sample-rate", type=float, help=_of("Hz", "sample_rate"))
    gyro.add_argument("--jitter", type=float, help=_of("seconds, 1 sigma of each sample's time", "jitter"))
    gyro.add_argument("--least-motion", type=float, help=_of("of the recording that moves least, of 1", "least_motion"))
    gyro.add_argument("--no-zero-rate", dest="zero_rate", action="store_const", const=False, help="rates at rest as they come")
    gyro.add_argument("--recordings", type=int, help=_of("simulated recordings an epoch", "recordings"))
    gyro.add_argument("--recording-seconds", type=float, help=_of("length of each", "recording_seconds"))
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="choices in a file, by the names of the flags")


def chosen(args: Namespace) -> dict[str, Any]:
    """The flags that were given, by the names of the config's fields."""
    return {name: value for name in RUN | GYRO | SERIES if (value := getattr(args, name, None)) is not None}


def config_of(args: Namespace) -> GyroConfig | SeriesConfig:
    """The config that the flags and the file ask for; raises ValueError if a choice is wrong or does not fit the others."""
    given = chosen(args)
    values = (config_file.read(args.config) if args.config else {}) | given
    own, others = (SERIES, GYRO) if "data" in values else (GYRO, SERIES)
    if foreign := sorted(values.keys() & (others - own)):
        needs = "needs --data" if "data" not in values else "is for the simulated gyroscope, without --data"
        raise ValueError(f"{_flags(foreign)} {needs}")
    if "," in values.get("cell", ""):
        values |= {"layers": values["cell"].count(",") + 1} if "cell" in given and "layers" not in given else {}
        values.setdefault("layers", values["cell"].count(",") + 1)
    if "data" not in values:
        return GyroConfig(**values)
    values["data"] = tuple(str(Path(file).expanduser().absolute()) for file in values["data"])
    values.setdefault("task", "regress" if "targets" in values and not given.keys() & FORECAST else "forecast")
    others, told = (
        ({"chunk"}, "for tasks that follow a stream") if values["task"] == "forecast" else (FORECAST, "for --task forecast")
    )
    if foreign := sorted(given.keys() & others):
        raise ValueError(f"{_flags(foreign)}: {told}, and the task is {values['task']}")
    values.setdefault("name", _name_of(values["data"][0], values["task"]))
    values.setdefault("segment", segment_of(values.get("context", SEGMENT), SEGMENT))
    return SeriesConfig(**values)


def arguments_of(config: RunConfig) -> list[str]:
    """The arguments of scripts.train that give this config, without those that are defaults."""
    words: list[str] = []
    derived = {"name", "task"} if isinstance(config, SeriesConfig) else set()  # their defaults depend on other choices
    for field in fields(config):
        value = getattr(config, field.name)
        if value == field.default and field.name not in derived:
            continue
        flag = _flags([field.name])
        if isinstance(value, bool):
            words.append(flag.replace("--", "--no-", 1))
        elif field.name == "data":
            words += [flag, *value]
        elif _told(value).startswith("-"):  # as a word of its own it would be taken for a flag
            words.append(f"{flag}={_told(value)}")
        else:
            words += [flag, _told(value)]
    return words


def _told(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value)
    row = StringIO()
    csv.writer(row, lineterminator="").writerow(value)  # quotes a name that contains a comma
    return row.getvalue()


def _of(text: str, name: str) -> str:
    """The help of a flag with its default, or with both if the default is another with --data."""
    found = [field.default for config in (GyroConfig, SeriesConfig) for field in fields(config) if field.name == name]
    told = [",".join(map(str, default)) if isinstance(default, tuple) else str(default) for default in found]
    return f"{text} ({told[0]})" if len(set(told)) == 1 else f"{text} ({told[0]}; with --data {told[1]})"


def _flags(names: Sequence[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _name_of(file: str, task: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(file).name.split(".")[0]).strip("-._")
    return f"{stem or 'series'}-{task}"


def names(text: str) -> tuple[str, ...]:
    """Names separated by commas; a name that contains a comma stands in double quotes."""
    found = tuple(name.strip() for name in next(csv.reader([text], skipinitialspace=True), []))
    if not found or not all(found):
        raise ArgumentTypeError(f"names between commas, got {text!r}")
    return found


def numbers(text: str) -> tuple[float, ...]:
    """Numbers separated by commas; none in an empty text."""
    try:
        return tuple(float(each) for each in text.split(",")) if text else ()
    except ValueError:
        raise ArgumentTypeError(f"numbers between commas, got {text!r}") from None
