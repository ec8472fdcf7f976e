"""What a model says about its training: how the data were read, and how good it and simpler methods were.

Owns which of those choices an evaluation adopts, and the notes on that. Knows nothing of files or of answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from shlex import quote
from typing import Any, Self

from scripts.series.config import Config
from scripts.training.scores import Scores

READING = ("time", "group", "missing", "na", "irregular", "period", "split", "season")
DEFAULTS = {name: getattr(Config(), name) for name in READING}
FITTED = {
    "forecast": "ridge regression, the mean of training",
    "denoise": "moving averages, linear fits",
    "regress": "the mean of training, linear fits",
    "classify": "the most frequent class of training, nearest means, linear fits",
}


@dataclass(frozen=True, slots=True)
class Training:
    """None: not known."""

    reading: Mapping[str, Any] | None = None  # those of READING that differ from the defaults
    scores: Scores | None = None

    @classmethod
    def of(cls, provenance: Mapping[str, Any]) -> Self:
        """What can be read of it: a manifest's provenance may hold anything."""
        return cls(_reading(provenance.get("config")), _scores(provenance.get("scores")))

    def settled(self, said: Mapping[str, Any], *, parted: bool) -> tuple[dict[str, Any], list[str]]:
        """The choices of READING as the user made them; those not made (None) as in training; and notes.

        parted: whether the split matters.
        """
        own = self.reading or {}
        found = {name: said[name] if said[name] is not None else own.get(name, DEFAULTS[name]) for name in READING}
        taken = [name for name in READING if said[name] is None and name in own and (parted or name != "split")]
        notes = []
        if taken:
            flags = " ".join(_flag(name, _spelled(found[name])) for name in taken)
            none = "".join(f', --{name} "" for none' for name in taken if name in ("time", "group", "na"))
            notes.append(f"As in training: {flags} (a flag of your own takes its place{none}).")
        if self.reading is None and None in (said[name] for name in READING if parted or name != "split"):
            part = f", and the test part is that of --split {_spelled(found['split'])}" if parted else ""
            notes.append(f"How training read its files is not known here: what you do not say is read as by default{part}.")
        return found, notes

    def beside(self, task: str | None) -> str:
        """A note on the methods that a model is compared with in training only: a sentence, and their table if it is known."""
        if task not in FITTED:
            return ""
        left_out = f"Methods that have to be fitted ({FITTED[task]}) are not measured here"
        if self.scores is None:
            return f"{left_out}: that takes the training part."
        return f"{left_out}. In training it stood beside them, on {self.scores.data}:\n\n{self.scores}\n"


def _reading(config: object) -> dict[str, Any] | None:
    """The choices in a config of a manifest or of GET /models; None if it is not one of a training on a user's files."""
    if not isinstance(config, dict) or "split" not in config:
        return None
    try:
        known = Config.from_dict({name: config[name] for name in READING if name in config})
    except (TypeError, ValueError):
        return None
    return {name: getattr(known, name) for name in READING if getattr(known, name) != DEFAULTS[name]}


def _scores(told: object) -> Scores | None:
    try:
        return Scores.from_dict(told) if isinstance(told, dict) else None
    except ValueError:
        return None


def _flag(name: str, value: str) -> str:
    return f"--{name}{'=' if value.startswith('-') else ' '}{quote(value)}"


def _spelled(value: object) -> str:
    """A value as it is written behind a flag."""
    if isinstance(value, tuple):
        return ",".join(map(_spelled, value))
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
