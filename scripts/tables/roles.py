"""Decides the role of each column: time, group, feature or target.

Owns the choice if the user has made none, and the refusal of impossible choices. Knows nothing of the values beyond a file's
first rows.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scripts.tables.cells import is_grouped
from scripts.tables.columns import grouped
from scripts.tables.mixed import blocks
from scripts.tables.recording import DataError, Wanted
from scripts.tables.sheet import Field, Sheet
from scripts.tables.time_column import find_clock, find_time, unread
from scripts.tables.wording import count, listed

_COUNTERS = {"", "index", "unnamed: 0", "row", "row_id", "id", "#", "no", "no."}


@dataclass(frozen=True, slots=True)
class Roles:
    """The columns of each role; empty where there is none."""

    time: str
    clock: str  # the time of day, where `time` holds days only
    group: str
    features: tuple[str, ...]
    targets: tuple[str, ...]
    named: frozenset[str]  # the features and targets that the user asked for by name
    notes: tuple[str, ...]


def choose(wanted: Wanted, sheets: Sequence[Sheet]) -> Roles:
    """The roles, as asked for or as the first file suggests; DataError if a column is missing or does not fit its role."""
    first = sheets[0]
    group = first.find(wanted.group, role="the group") if wanted.group else ""
    features = tuple(first.find(name, role="a feature") for name in wanted.features)
    targets = tuple(first.find(name, role="a target") for name in wanted.targets)
    taken = {group, *features, *targets}
    notes = []
    time = first.find(wanted.time, role="the time") if wanted.time else find_time(first, taken, group)
    clock = find_clock(first, time) if time and all(time in sheet.fields for sheet in sheets) else ""
    if time and not wanted.time:
        if all(time in sheet.fields for sheet in sheets):
            notes.append(
                f"The time is taken from `{time}`"
                + (f" and `{clock}`." if clock else ": name another column with --time if it is not.")
            )
        else:
            time = ""
    elif not time:
        notes += [*unread(first, taken), *([] if group else blocks(first, taken))]
    elif clock:
        notes.append(f"`{time}` holds days: the time of day is taken from `{clock}`.")
    _check_targets(wanted, targets, first, {time, clock, group, *features})
    roles = {"time": (time, clock), "group": (group,), "features": features, "targets": targets}
    _check_doubles(roles, forecast=wanted.task == "forecast")
    asked = frozenset({*features, *targets})
    if not features:
        spare = {time, clock, group} | (set() if wanted.task == "forecast" else set(targets))
        features, more = _default(sheets, spare)
        notes += more
    targets = targets or features
    for sheet in sheets[1:]:
        _check_sheet(sheet, first, [name for name in (time, clock, group, *features, *targets) if name])
    return Roles(time, clock, group, features, targets, asked, tuple(notes))


def pair(features: Sequence[str], targets: Sequence[str]) -> str:
    """The note on which feature is cleaned into which target; DataError if there are fewer features than targets."""
    if len(targets) > len(features):
        raise DataError(
            "To denoise, target 1 is the clean version of feature 1 and so on:"
            f" {count(len(targets), 'target')} ({listed(targets)}) but {count(len(features), 'feature')} ({listed(features)})."
            " Name them in pairs with --features and --targets."
        )
    pairs = ", ".join(f"`{feature}` as `{target}`" for feature, target in zip(features, targets, strict=False))
    return f"To be cleaned: {pairs}."


def _check_targets(wanted: Wanted, targets: Sequence[str], sheet: Sheet, others: set[str]) -> None:
    if wanted.task == "classify" and len(targets) != 1:
        raise DataError(
            f"To classify takes exactly one target, the column of labels; {len(targets)} are named. {_columns(sheet, others)}"
        )
    if wanted.task in {"regress", "denoise"} and not targets:
        raise DataError(
            f"The task {wanted.task} needs targets: name the columns to be told with --targets. {_columns(sheet, others)}"
        )


def _columns(sheet: Sheet, others: set[str]) -> str:
    return f"{sheet.label} has {listed([name for name in sheet.names if name not in others], limit=40)}."


def _check_doubles(roles: dict[str, tuple[str, ...]], *, forecast: bool) -> None:
    for role, names in roles.items():
        twice = [name for name, times in Counter(name for name in names if name).items() if times > 1]
        if twice:
            raise DataError(f"{listed(twice)} is named twice among the {role}: once is enough.")
    pairs = [("time", "group"), ("time", "features"), ("time", "targets"), ("group", "features"), ("group", "targets")]
    for one, other in pairs if forecast else [*pairs, ("features", "targets")]:
        both = sorted((set(roles[one]) & set(roles[other])) - {""})
        if both:
            hint = " A feature that is the target itself gives the answer away." if one == "features" else ""
            raise DataError(f"{listed(both)} cannot be both of the {one} and of the {other}.{hint}")


def _default(sheets: Sequence[Sheet], spare: set[str]) -> tuple[tuple[str, ...], list[str]]:
    """All columns that look numeric in all files and are nothing else; and a sentence on each kind that was left out."""
    first, notes = sheets[0], []
    free = [each for each in first.fields.values() if each.name not in spare]
    texts = [each.name for each in free if each.kind not in {"number", "empty"}]
    for each in free:
        parted = [row for row, cell in enumerate(each.head) if is_grouped(cell)] if each.kind == "text" else []
        if len(parted) > len(each.head) / 2:
            raise grouped(each.head[parted[0]].strip(), parted[0], first, each.name)
    counters = [each.name for each in free if _counts(each)]
    absent = [each.name for each in free if not all(each.name in sheet.fields for sheet in sheets)]
    mixed = [
        each.name
        for each in free
        if each.name not in {*texts, *absent} and any(sheet.fields[each.name].kind not in {"number", "empty"} for sheet in sheets)
    ]
    if texts or mixed:
        notes.append(f"Left out of the features, since they hold text: {listed([*texts, *mixed])}.")
    if counters:
        notes.append(f"Left out of the features, since it counts the rows: {listed(counters)}.")
    if absent:
        notes.append(f"Left out of the features, since not all files have them: {listed(absent)}.")
    left_out = {*texts, *counters, *absent, *mixed}
    chosen = tuple(each.name for each in free if each.name not in left_out)
    if not chosen:
        kinds = ", ".join(
            f"`{each.name}` ({'numbers' if each.kind == 'number' else each.kind})" for each in list(first.fields.values())[:20]
        )
        raise DataError(f"{first.label} has no column of numbers to be a feature: {kinds}.")
    return chosen, notes


def _counts(field: Field) -> bool:
    """Whether a column without a meaningful name only numbers the rows."""
    if (
        field.heading.spelled.casefold() not in _COUNTERS
        or len(field.head) < 3
        or not all(cell.strip().isdecimal() for cell in field.head)
    ):
        return False
    values = [int(cell) for cell in field.head]
    return values == list(range(values[0], values[0] + len(values)))


def _check_sheet(sheet: Sheet, first: Sheet, names: Sequence[str]) -> None:
    """Check that a further file has the same columns, in the same units."""
    for name in dict.fromkeys(names):
        if name not in sheet.fields:
            sheet.find(name, role=f"as {first.label} has")
            raise DataError(f"{sheet.label} spells the column `{name}` of {first.label} otherwise: call it the same in all files.")
        units = [each.fields[name].column.unit for each in (first, sheet)]
        if units[0] != units[1]:
            raise DataError(
                f"The unit of `{name}` is {units[0] or 'not told'} in {first.label} and {units[1] or 'not told'} in {sheet.label}:"
                " bring them to the same unit."
            )
