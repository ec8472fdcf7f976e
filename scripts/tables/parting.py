"""Recordings parted for training, validation and test.

Owns the cutting of what was read into pieces of the three parts, with the rows before them that may be read. Knows nothing
of files or of what columns are for, but for which of them are features and which targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.tables.dealing import deal
from scripts.tables.recording import DataError, Recording
from scripts.tables.splits import PARTS, Split, bounds, check_filled
from scripts.tables.tracks import Span, Track
from scripts.tables.wording import NANOSECONDS, count

Parts = tuple[tuple[Recording, ...], tuple[Recording, ...], tuple[Recording, ...]]


@dataclass(frozen=True, slots=True)
class Parting:
    """How recordings are to be parted."""

    split: Split
    lead: int  # rows before the validation and the test part that may be read
    features: tuple[int, ...]  # columns of the values
    targets: tuple[int, ...]
    classes: tuple[str, ...]


def one_label_each(tracks: Sequence[Track]) -> bool:
    """Whether each of several recordings has one label, and not all have the same."""
    found = [_labels(track) for track in tracks if track.spans]
    return len(found) > 1 and all(len(each) == 1 for each in found) and len(set().union(*found)) > 1


def part(tracks: Sequence[Track], parting: Parting) -> tuple[Parts, list[str]]:
    """The three parts, and notes on where each of them lies."""
    tracks = [track for track in tracks if track.spans]
    limits = _limits(tracks, parting)
    parts: list[tuple[Recording, ...]] = []
    notes: list[str] = []
    for index, name in enumerate(PARTS):
        inside = [each[index] for each in limits]
        made = [
            _recording(track, span, limit, parting, first=not index)
            for track, limit in zip(tracks, inside, strict=True)
            for span in track.spans
        ]
        pieces = [piece for piece in made if piece is not None]
        parts.append(tuple(piece for piece in pieces if len(piece.features) > parting.lead))
        rows = _rows(parts[-1])
        short = _rows(pieces) - rows
        if short and not rows:
            raise DataError(
                f"The {name} part has {count(short, 'row')}, in pieces of no more than the {parting.lead:,} rows that a prediction"
                " reads: choose a shorter --context, another --split, or give more data."
            )
        if short:
            notes.append(
                f"{count(short, 'row')} of the {name} part left out: in pieces of no more than the {parting.lead:,} rows that a"
                " prediction reads."
            )
        if rows:
            notes.append(_lies(name, tracks, inside, parts[-1]))
    check_filled([len(each) for each in parts], tracks, parting.split)
    beyond = sum(
        len(track) - max(limit[1] for limit in each) for track, each in zip(tracks, limits, strict=True) if any(map(any, each))
    )
    if beyond:
        notes.append(f"{count(beyond, 'row')} after the test part not used.")
    return (parts[0], parts[1], parts[2]), notes


def _limits(tracks: Sequence[Track], parting: Parting) -> list[tuple[Span, Span, Span]]:
    """The rows of the three parts of each recording."""
    split = parting.split
    if not parting.classes or split.dates or not one_label_each(tracks):
        return [bounds(track, split, only=len(tracks) == 1) for track in tracks]
    if not split.fractions:
        raise DataError("Recordings with one label each are dealt out whole: give the split in fractions or dates, not in rows.")
    dealt = deal([min(_labels(track)) for track in tracks], split.fractions, parting.classes)
    nothing, limits = (0, 0), []
    for track, to in zip(tracks, dealt, strict=True):
        all_ = (0, len(track))
        limits.append((all_ if to == 0 else nothing, all_ if to == 1 else nothing, all_ if to == 2 else nothing))
    return limits


def _rows(recordings: Sequence[Recording]) -> int:
    return sum(len(each.features) - each.lead for each in recordings)


def _lies(name: str, tracks: Sequence[Track], limits: Sequence[Span], recordings: Sequence[Recording]) -> str:
    """From when to when a part goes."""
    held = [(track, start, stop) for track, (start, stop) in zip(tracks, limits, strict=True) if start < stop]
    pieces = f" in {count(len(recordings), 'piece')}" if len(recordings) > len(held) else ""
    text = f"{name.capitalize()}: {count(_rows(recordings), 'row')}{pieces}"
    if len(held) > 1:
        text += f" of {count(len(held), 'recording')}"
    timed = [each for each in held if each[0].nanoseconds is not None]
    if len(held) == 1:
        track, start, stop = held[0]
        return f"{text} of {track.name}, from {track.when(start)} to {track.when(stop - 1)}."
    if timed and all(track.dated for track, _, _ in timed):
        first = min(timed, key=lambda each: int(_times(each[0])[each[1]]))
        last = max(timed, key=lambda each: int(_times(each[0])[each[2] - 1]))
        return f"{text}, from {first[0].when(first[1])} to {last[0].when(last[2] - 1)}."
    return text + "."


def _times(track: Track) -> NDArray[np.int64]:
    assert track.nanoseconds is not None
    return track.nanoseconds


def _labels(track: Track) -> set[int]:
    assert track.labels is not None
    return {int(label) for start, stop in track.spans for label in np.unique(track.labels[start:stop])}


def _recording(track: Track, span: Span, limit: Span, parting: Parting, *, first: bool) -> Recording | None:
    """The part of a whole piece that lies within the limits, with the rows before that may be read; None where there is none."""
    start, stop = max(span[0], limit[0]), min(span[1], limit[1])
    if start >= stop:
        return None
    lead = 0 if first else min(parting.lead, start - span[0])
    rows = slice(start - lead, stop)
    seconds = None if track.nanoseconds is None else (track.nanoseconds[rows] - track.origin) / NANOSECONDS
    return Recording(
        name=track.name,
        features=_columns(track, rows, parting.features),
        targets=_columns(track, rows, parting.targets),
        labels=None if track.labels is None else track.labels[rows],
        seconds=seconds,
        lead=lead,
    )


def _columns(track: Track, rows: slice, columns: Sequence[int]) -> NDArray[np.float32]:
    """A view where the columns are neighbours, as they mostly are."""
    if not columns:
        return np.empty((rows.stop - rows.start, 0), dtype=np.float32)
    if list(columns) == list(range(columns[0], columns[-1] + 1)):
        return track.values[rows, columns[0] : columns[-1] + 1]
    return track.values[rows, list(columns)]
