"""The flags of an evaluation: which model, which data, what is written.

Owns their names and their help. Knows nothing of what they do.
"""

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from math import inf
from pathlib import Path
from typing import get_args

from scripts import command, flags, results
from scripts.evaluation.choice import Part
from scripts.evaluation.written import SUFFIXES
from scripts.tables.recording import Irregular, Missing, Task

KEY = "EVALUATE_KEY"  # not RECURVE_...: the service reads such variables as settings


def add(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="model/NAME/VERSION, or http://HOST:PORT")
    service = parser.add_argument_group("a running service")
    service.add_argument("--model", dest="name", default="", metavar="NAME", help="of those it serves (its default)")
    service.add_argument("--version", default="", metavar="N", help="of the model (the newest that is served)")
    service.add_argument("--key", default=os.environ.get(KEY, ""), metavar="SECRET", help=f"of an API key (the variable {KEY})")
    service.add_argument("--chunk", type=command.count, default=128, metavar="STEPS", help="of a stream in one request (128)")

    data = parser.add_argument_group("the data (what is not said is as in training, where the manifest tells it)")
    data.add_argument("--data", nargs="+", required=True, metavar="FILE", help="CSV and its kin, gzipped too, or Parquet; or globs")
    data.add_argument("--task", choices=get_args(Task), help="what it is judged as, where its manifest does not say")
    data.add_argument("--time", metavar="COLUMN", help="the column of time (found by name, if there is one)")
    data.add_argument("--features", type=flags.names, default=(), metavar="A,B", help="columns, in the model's order (its names)")
    data.add_argument("--targets", type=flags.names, default=(), metavar="C,D", help="columns with the truth (its outputs' names)")
    data.add_argument("--group", metavar="COLUMN", help="the column that tells recordings apart (each file is one)")
    data.add_argument(
        "--missing",
        choices=get_args(Missing),
        help="empty cells of what is read: drop cuts the recording, the truth is never filled (error)",
    )
    data.add_argument("--na", type=flags.numbers, metavar="N,M", help="numbers that mean a missing value (none)")
    data.add_argument("--irregular", choices=get_args(Irregular), help="rows not evenly spaced in time (error)")
    data.add_argument("--period", type=_seconds, metavar="SECONDS", help="between rows after resampling (0: the median)")
    data.add_argument("--part", choices=get_args(Part), default="all", help="all rows, or the test part of --split (all)")
    data.add_argument("--split", type=flags.names, metavar="TRAIN,VAL,TEST", help="as of scripts.train (0.7,0.15,0.15)")
    data.add_argument(
        "--every",
        type=command.count,
        metavar="ROWS",
        help="between two windows of a forecast (1; in the table the horizon, so that every row is forecast once)",
    )
    data.add_argument(
        "--season", type=command.count, metavar="ROWS", help="of the seasonal forecast beside it (as of scripts.train)"
    )

    parser.add_argument("--csv", type=_table, metavar="FILE", help="write predictions beside the truth, as .csv or .parquet")
    parser.add_argument("--picture", type=_picture, metavar="FILE.png", help="draw some of them")
    results.add_option(parser)


def parsed(parser: ArgumentParser, argv: list[str] | None) -> Namespace:
    """The arguments; a usage error if they do not go together."""
    args = parser.parse_args(argv)
    if not is_url(args.model) and (args.name or args.version):
        parser.error("--model and --version choose among the models of a service: a folder is one version of one model")
    return args


def is_url(model: str) -> bool:
    return "://" in model


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < inf:
        raise ArgumentTypeError(f"seconds, 0 or more, got {text!r}")
    return found


def _picture(text: str) -> Path:
    if not text.endswith(".png"):
        raise ArgumentTypeError(f"a picture is a PNG file, got {text!r}")
    return results.target(text)


def _table(text: str) -> Path:
    if Path(text).suffix.lower() not in SUFFIXES:
        raise ArgumentTypeError(f"predictions are written as {' or '.join(SUFFIXES)}, got {text!r}")
    return results.target(text)
