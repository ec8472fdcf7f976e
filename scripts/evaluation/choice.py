"""Decides which columns of the files are the model's features and targets, and as which task it is scored.

Owns the choice if the user has made none, and the refusal of choices that do not fit the model. Knows nothing of the values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scripts.evaluation.card import Card, WrongUse
from scripts.tables.recording import Column, Irregular, Missing, Task
from scripts.tables.sheet import Sheet
from scripts.tables.wording import count, listed

Part = Literal["all", "test"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user has asked for. What is empty is decided by the model and the data."""

    data: tuple[str, ...]
    task: Task | None = None
    time: str = ""
    features: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    group: str = ""
    missing: Missing = "error"
    na: tuple[float, ...] = ()
    irregular: Irregular = "error"
    period: float = 0.0
    part: Part = "all"
    split: tuple[str, ...] = ("0.7", "0.15", "0.15")


def task_of(card: Card, wish: Wish) -> Task | None:
    """The task that the manifest names; if it names none, the one that is asked for. WrongUse if they differ."""
    if card.task and wish.task and wish.task != card.task:
        raise WrongUse(f"{card} was trained for the task {card.task}: it cannot be judged by --task {wish.task}.")
    task = card.task or wish.task
    if task == "forecast" and (card.time_steps is None or card.outputs[0].every_step):
        raise WrongUse(f"{card} is no forecaster: it does not answer a context of a fixed length as a whole.")
    if task == "denoise" and card.outputs[0].numbers > len(card.features):
        answers = f"{count(card.outputs[0].numbers, 'number')} to {count(len(card.features), 'feature')}"
        raise WrongUse(f"{card} answers {answers}, so that not each is the clean version of one: judge it by --task regress.")
    return task


def features_of(card: Card, wish: Wish) -> tuple[str, ...]:
    """The columns that are read, in the model's order."""
    features = wish.features or tuple(signal.name for signal in card.features)
    if len(features) != len(card.features):
        takes = listed([signal.name for signal in card.features])
        raise WrongUse(f"{card} takes {count(len(card.features), 'feature')} ({takes}), and --features names {len(features)}.")
    return features


def targets_of(card: Card, task: Task | None, wish: Wish, sheets: Sequence[Sheet]) -> tuple[tuple[str, ...], list[str]]:
    """The columns with the truth, or none if the files do not have all of them; and notes."""
    output = card.outputs[0]
    expected = card.targets if task == "forecast" else output.numbers
    names: tuple[str, ...] = tuple(signal.name for signal in output.signals) if len(output.signals) == expected else ()
    if task == "classify":
        expected, names = 1, (card.label,) if card.label else ()
    if wish.targets:
        if len(wish.targets) != expected:
            raise WrongUse(f"{card} answers {count(expected, 'target')}, and --targets names {len(wish.targets)}.")
        return wish.targets, []
    missing = [name for name in names if name not in sheets[0].names]
    if names and not missing:
        return names, []
    if not names and task == "classify":
        return (), ["Nothing can be scored: the model does not tell in which column its labels were. Name it with --targets."]
    why = f"{sheets[0].label} has no column {listed(missing)}" if names else "the model does not name what it predicts"
    return (), [f"Nothing can be scored: {why}. Name the columns with the truth with --targets."]


def targets_without_truth(card: Card, task: Task | None) -> tuple[Column, ...]:
    """The targets if there is no truth: those of a forecast, as the model names them; none for another task."""
    output = card.outputs[0]
    if task != "forecast":
        return ()
    if len(output.signals) == card.targets:
        return tuple(Column(signal.name, signal.unit) for signal in output.signals)
    return tuple(Column(f"{output.name}_{index}") for index in range(card.targets))


def classes_of(card: Card) -> tuple[str, ...]:
    output = card.outputs[0]
    return tuple(signal.name for signal in output.signals) or tuple(map(str, range(output.numbers)))


def units_of(card: Card, features: Sequence[str], sheet: Sheet) -> list[str]:
    """A warning for each column whose unit is another than the model's; training refuses such files."""
    read = [sheet.find(name, role="a feature") for name in features]
    pairs = dict(zip(read, card.features, strict=True))
    pairs |= {each.name: each for each in card.outputs[0].signals if each.name in sheet.fields and each.name not in pairs}
    return [
        f"Warning: the unit of `{name}` is {unit} in {sheet.label}, and that of {signal.name} is {signal.unit} in the model: bring"
        " them to the same unit. Answers and errors here mix the two."
        for name, signal in pairs.items()
        if (unit := sheet.fields[name].column.unit) and signal.unit and unit != signal.unit
    ]


def measured(card: Card, targets: Sequence[Column]) -> tuple[Column, ...]:
    """The targets as the scores name them: if truth and answers have different units, the unit names both."""
    signals = card.outputs[0].signals
    if len(signals) != len(targets):
        return tuple(targets)
    return tuple(
        replace(column, unit=f"{column.unit} beside {signal.unit}")
        if column.unit and signal.unit and column.unit != signal.unit
        else column
        for column, signal in zip(targets, signals, strict=True)
    )
