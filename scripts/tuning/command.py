"""The command line that trains with a config.

Owns how choices are spelled on a command line. Knows nothing of what they do: scripts.flags reads them.
"""

import csv
from dataclasses import fields
from io import StringIO
from typing import Any

from scripts.command import line
from scripts.series.config import Config


def arguments_of(config: Config) -> list[str]:
    """The arguments of scripts.train that give this config, without those that are defaults."""
    words: list[str] = []
    for field in fields(config):
        value = getattr(config, field.name)
        if value == field.default and field.name not in {"name", "task"}:  # their defaults depend on other choices
            continue
        flag = f"--{field.name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(f"--no-{field.name}")
        elif field.name == "data":
            words += [flag, *value]
        elif _told(value).startswith("-"):  # as a word of its own it would be taken for a flag
            words.append(f"{flag}={_told(value)}")
        else:
            words += [flag, _told(value)]
    return words


def line_of(config: Config) -> str:
    """The shell line that trains with this config."""
    return line("scripts.train", *arguments_of(config))


def _told(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value)
    row = StringIO()
    csv.writer(row, lineterminator="").writerow(value)  # quotes a name that contains a comma
    return row.getvalue()
