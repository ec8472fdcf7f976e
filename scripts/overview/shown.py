"""Runs as text and as plain values: a table with a line for each run, or one run in full.

Owns the columns and how they are ordered. Knows nothing of files.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

from scripts import config_file
from scripts.overview.kept import Learned, Run, lead

Value = str | float | None


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table."""

    name: str
    meaning: str
    value: Callable[[Run], Value]

    def text(self, run: Run) -> str:
        value = self.value(run)
        if value is None or not _is_known(value):
            return "-"
        return value if isinstance(value, str) else f"{value:.4g}"


def _of(value: Callable[[Learned], Value]) -> Callable[[Run], Value]:
    return lambda run: None if run.learned is None else value(run.learned)


def _metric(learned: Learned) -> tuple[str, float] | None:
    """The first validation metric of the best epoch beside the loss: its name and value."""
    named = (
        (name.removeprefix("validation_"), value)
        for name, value in (learned.best or {}).items()
        if name.startswith("validation_") and name != "validation_loss"
    )
    return next(named, None)


def _validation(learned: Learned) -> Value:
    found = _metric(learned)
    return found and f"{found[0]} {found[1]:.4g}"


def _test(learned: Learned) -> Value:
    """The model's value of the metric that decides."""
    return f"{learned.scores.metrics[0].name} {_decided(learned):.4g}" if learned.scores else None


def _decided(learned: Learned) -> float:
    return learned.scores.model.values[0] if learned.scores else nan


def _ahead(learned: Learned) -> float:
    best = lead(learned.scores) if learned.scores else None
    return best.values[0] if best else nan


def _loss(learned: Learned) -> float:
    return learned.best["validation_loss"] if learned.best else nan


def _baseline(learned: Learned) -> Value:
    """The best baseline's value of the metric that decides, and whether the model beats it."""
    scores = learned.scores
    if scores is None or (best := lead(scores)) is None:
        return None
    verdict = {"ahead": "", "level": " (as good)", "behind": " (not beaten)"}[scores.stand(best)]
    return f"{best.values[0]:.4g} {best.name}{verdict}"


COLUMNS = (
    Column("run", "its folder", lambda run: run.name),
    Column("task", "what it learns", lambda run: run.task),
    Column("cell", "of its layers", _of(lambda learned: learned.config.cell)),
    Column("size", "layers x units in each", _of(lambda learned: f"{learned.config.layers} x {learned.config.hidden}")),
    Column("epochs", "done, of those it may take", _of(lambda learned: f"{learned.epoch}/{learned.config.epochs}")),
    Column("best", "epoch with the least validation loss", _of(lambda learned: learned.best_epoch or None)),
    Column("loss", "on validation, of that epoch", _of(_loss)),
    Column("validation", "the metric beside it", _of(_validation)),
    Column("test", "the metric that decides, on data that nothing was chosen by", _of(_test)),
    Column("baseline", "the same of the best simple method", _of(_baseline)),
    Column("when", "the last change", lambda run: f"{run.when:%Y-%m-%d %H:%M}"),
    Column("state", "finished, diverged, running, stopped (go on with scripts.train --resume), or broken", lambda run: run.state),
)


def ordered(runs: Sequence[Run], name: str) -> list[Run]:
    """The runs in ascending order of a column, numbers by their value; runs without a value come last."""
    keys: dict[str, Callable[[Run], Value]] = {column.name: column.value for column in COLUMNS}
    keys |= {
        "when": lambda run: run.when.timestamp(),
        "epochs": _of(lambda learned: learned.epoch),
        "size": _of(lambda learned: learned.config.layers * learned.config.hidden**2),  # as the number of weights grows
        "validation": _of(lambda learned: (_metric(learned) or ("", nan))[1]),
        "test": _of(_decided),
        "baseline": _of(_ahead),
    }
    key = keys[name]
    known = [run for run in runs if _is_known(key(run))]
    numbers = [run for run in known if not isinstance(key(run), str)]
    texts = [run for run in known if isinstance(key(run), str)]
    ends = [run for run in runs if not _is_known(key(run))]
    return [*sorted(numbers, key=lambda run: float(key(run) or 0)), *sorted(texts, key=lambda run: str(key(run))), *ends]


def _is_known(value: Value) -> bool:
    return value != "" if isinstance(value, str) else value is not None and isfinite(value)


def table(runs: Sequence[Run]) -> str:
    """A line for each run, and below it what is wrong with those that are broken or have diverged."""
    lines = [[column.name for column in COLUMNS], *([column.text(run) for column in COLUMNS] for run in runs)]
    wrong = {"broken": "is broken", "diverged": "has diverged"}
    return "\n".join([_aligned(lines), *(f"{run.name} {wrong[run.state]}: {run.reason}" for run in runs if run.state in wrong)])


def in_full(run: Run) -> str:
    """Everything about one run except its weights."""
    parts = [f"{run.folder}: {run.state}{f', {run.reason}' if run.reason else ''}"]
    parts[0] += f", {run.seconds:.0f} s" if run.seconds else ""
    if run.learned is not None:
        learned = run.learned
        parts.append(f"Config:\n\n{config_file.text_of(learned.config)}")
        if learned.history:
            names = list(learned.history[-1])
            rows = [[f"{row[name]:.4g}" if name in row else "-" for name in names] for row in learned.history]
            marked = [[*row, "best" if index + 1 == learned.best_epoch else ""] for index, row in enumerate(rows)]
            parts.append(f"History:\n\n{_aligned([[*names, ''], *marked])}\n")
        if learned.scores is not None:
            warnings = "".join(f"\nWarning: {warning}" for warning in learned.scores.warnings())
            parts.append(f"On {learned.scores.data}:\n\n{learned.scores}\n{warnings}")
    files = [[name, f"{size:,} bytes"] for name, size in run.files.items()]
    parts.append(f"Files:\n\n{_aligned(files)}" if files else "Files: none")
    return "\n".join(parts)


def to_dict(run: Run) -> dict[str, Any]:
    """One run in plain values."""
    told: dict[str, Any] = {"run": str(run.folder), "state": run.state, "reason": run.reason, "when": run.when.isoformat()}
    if run.learned is None:
        return told | {"files": run.files}
    learned = run.learned
    best = learned.scores and lead(learned.scores)
    return told | {
        "task": run.task,
        "config": learned.config.to_dict(),
        "epoch": learned.epoch,
        "best_epoch": learned.best_epoch,
        "best": learned.best,
        "history": learned.history,
        "seconds": run.seconds,
        "test": learned.scores and learned.scores.to_dict(),
        "best_baseline": best and best.name,
        "files": run.files,
    }


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
