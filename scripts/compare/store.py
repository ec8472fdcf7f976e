"""Keeps outcomes in a folder: a file with the settings, and one with a line for every trial that is done.

Owns the two files, and which run may be resumed in a folder. A killed run leaves at most one broken line, which is cut off.
Knows nothing of how a trial runs.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scripts.compare.budget import Budget
from scripts.compare.task import Task
from scripts.compare.trial import Job, Outcome
from scripts.files import write_whole


class Store:
    """The outcomes in `folder`, by job; ValueError if they are of a run with other settings."""

    def __init__(self, folder: Path, budget: Budget, tasks: Iterable[Task], *, jobs: int, machine: dict[str, Any]) -> None:
        self._settings, self._lines = folder / "settings.json", folder / "outcomes.jsonl"
        settings = _settings(budget, tasks)
        found: dict[str, Any] = {"settings": {}, "jobs": [], "machine": machine}
        if self._settings.exists():
            found = json.loads(self._settings.read_text())
            for name, value in settings.items():
                if found["settings"].get(name, value) != value:
                    raise ValueError(
                        f"{folder} holds a run whose {name} is {found['settings'][name]}, and {value} was asked for: "
                        "ask for the same, or name another folder with --resume."
                    )
        elif self._lines.exists():
            raise ValueError(f"{folder} holds outcomes without {self._settings.name}, so that nobody can tell what they are of.")
        self.machine: dict[str, Any] = found["machine"]
        self.jobs: list[int] = sorted({*found["jobs"], jobs})  # how many trials ran at the same time, in this run and those before
        self.outcomes: dict[Job, Outcome] = {}
        folder.mkdir(parents=True, exist_ok=True)
        found |= {"settings": found["settings"] | settings, "jobs": self.jobs}
        write_whole(self._settings, (json.dumps(found, indent=2) + "\n").encode())
        if self._lines.exists():
            self._read()

    def _read(self) -> None:
        content = self._lines.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.splitlines():
            outcome = Outcome.from_dict(json.loads(line))
            self.outcomes[outcome.job] = outcome
        os.truncate(self._lines, len(whole))

    def add(self, outcome: Outcome) -> None:
        self.outcomes[outcome.job] = outcome
        with self._lines.open("a") as file:
            file.write(json.dumps(outcome.to_dict()) + "\n")

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        return [job for job in jobs if job not in self.outcomes]


def _settings(budget: Budget, tasks: Iterable[Task]) -> dict[str, Any]:
    """What outcomes depend on beside their jobs, in the form in which it is read back from JSON."""
    asked = {"hidden": budget.hidden, "learning_rates": budget.learning_rates, "tuning_seeds": budget.tuning_seeds}
    asked |= {task.name: asdict(task) for task in tasks}  # type: ignore[call-overload]  # every task is a dataclass; a protocol cannot say so
    plain: dict[str, Any] = json.loads(json.dumps(asked))
    return plain
