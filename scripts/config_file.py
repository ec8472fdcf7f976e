"""The choices of a run as a TOML file, by the names of its flags.

Owns how they are spelled there, and the refusal of what is no choice or of another kind. Knows nothing of command lines.
"""

import json
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from scripts.gyro.config import Config as GyroConfig
from scripts.series.config import Config as SeriesConfig
from scripts.training.config import RunConfig

NUMBERS = {"quantiles", "na"}  # fields that hold lists of numbers
_KINDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    tuple: "a list (of numbers: quantiles, na)",
}


def read(path: Path) -> dict[str, Any]:
    """The choices in a file, checked by name and kind; ValueError says what is wrong with it."""
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    kinds = {field.name: field for config in (GyroConfig, SeriesConfig) for field in fields(config)}
    values = {}
    for spelled, value in found.items():
        name = spelled.replace("-", "_")
        if name not in kinds:
            raise ValueError(f"{path}: there is no choice named {spelled!r}; they are {', '.join(sorted(kinds))}")
        default, of = kinds[name].default, float if name in NUMBERS else str
        assert default is not MISSING
        if isinstance(default, float) and type(value) is int:
            value = float(value)
        if isinstance(default, tuple) and isinstance(value, list):
            value = tuple((of if name in {"split", *NUMBERS} else int)(each) if type(each) is int else each for each in value)
        if type(value) is not type(default) or (isinstance(value, tuple) and not all(type(each) is of for each in value)):
            raise ValueError(f"{path}: {spelled} must be {_KINDS[type(default)]}, got {value!r}")
        values[name] = value
    if values.get("data") == ():
        raise ValueError(f"{path}: data names no file; without data, a gyroscope is simulated")
    return values


def text_of(config: RunConfig) -> str:
    """All its choices, as `read` takes them."""
    return "".join(f"{name} = {_spelled(value)}\n" for name, value in config.to_dict().items())


def _spelled(value: Any) -> str:
    """A value in TOML, which spells texts, whole numbers, true and false as JSON does, and other numbers as Python does."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_spelled, value))}]"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
