"""The --json option of every script: the file for its result. That its folder exists is checked before the work begins."""

import json
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any


def add_option(parser: ArgumentParser) -> None:
    parser.add_argument("--json", type=target, metavar="FILE", help="write the result as JSON")


def write(path: Path | None, result: dict[str, Any]) -> None:
    """Write a result of plain values and arrays as JSON, NaN as null; do nothing if `path` is None."""
    if path is not None:
        plain = json.loads(json.dumps(result, default=lambda array: array.tolist()), parse_constant=lambda _: None)
        path.write_text(json.dumps(plain, indent=2, allow_nan=False) + "\n")


def target(text: str) -> Path:
    """A file in a folder that exists, for argparse."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise ArgumentTypeError(f"{text} cannot be written: its folder must exist")
    return path
