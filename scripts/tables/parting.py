"""Cuts recordings into pieces for training, validation and test.

Owns the cutting, and the rows before a piece that may be read with it. Knows nothing of files; of columns only which are features
and which are targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.tables import room
from scripts.tables.borders import limits
from scripts.tables.recording import DataError, Recording
from scripts.tables.splits import PARTS, Split, check_filled
from scripts.tables.tracks import Span, Track
from scripts.tables.wording import NANOSECONDS, count

_ELSE = "another --split, or give more data."

Parts = tuple[tuple[Recording, ...], tuple[Recording, ...], tuple[Recording, ...]]


@dataclass(frozen=True, slots=True)
class Places:
    """Which columns of the values are features and which are targets."""

    features: tuple[int, ...]
    targets: tuple[int, ...]  # none where there are labels


def whole(tracks: Sequence[Track], places: Places) -> tuple[Recording, ...]:
    """Every piece of the recordings, without a split."""
    return tuple(_recording(track, span, places) for track in tracks for span in track.spans)


def part(
    tracks: Sequence[Track],
    places: Places,
    split: Split,
    *,
    lead: int,
    needed: int,
    horizon: int = 0,
    judged: Sequence[str] = PARTS,
) -> tuple[Parts, list[str]]:
    """The three parts, cut at the tracks' borders, and notes on where each of them lies; DataError if one has no usable row.

    split: what the borders were made from. lead: rows before the validation and the test part that may be read. needed: rows
    that every prediction reads before its own. horizon: rows that each of them tells, where every part must have room for one.
    judged: the parts that need some truth.
    """
    tracks = [track for track in tracks if track.spans]
    parts: list[tuple[Recording, ...]] = []
    notes: list[str] = []
    borders = [[limits(track, index) for track in tracks] for index in range(len(PARTS))]
    every = [_pieces(tracks, inside, places, lead=lead if index else 0) for index, inside in enumerate(borders)]
    if horizon:
        room.check(every, context=needed, horizon=horizon)
    for index, (name, inside, pieces) in enumerate(zip(PARTS, borders, every, strict=True)):
        long = [piece for piece in pieces if len(piece.features) > needed]
        # nothing is learned from training pieces without truth; in validation and test such pieces are at least read
        parts.append(tuple(piece for piece in long if index or needed or name not in judged or piece.told().any()))
        rows, told = _rows(parts[-1]), _told(parts[-1])
        short, silent = _rows(pieces) - _rows(long), _rows(long) - rows
        if short and not rows and name in judged:
            raise DataError(
                f"The {name} part has {count(short, 'row')}, in pieces of no more than the {needed:,} rows that a prediction"
                f" reads: choose {_ELSE}"
            )
        if short:
            notes.append(
                f"{count(short, 'row')} of the {name} part left out: in pieces of no more than the {needed:,} rows that a"
                " prediction reads."
            )
        if name in judged and (rows or silent) and not needed and not told:
            raise DataError(
                f"The {name} part has {count(rows + silent, 'row')}, and none with a truth: choose --missing hold where features"
                f" and truth stand in different rows, {_ELSE}"
            )
        if silent:
            notes.append(f"{count(silent, 'row')} of the {name} part left out: in pieces without any truth.")
        if rows:
            notes.append(_lies(name, tracks, inside, parts[-1], "" if needed or told == rows else f", {told:,} with a truth,"))
    check_filled([len(each) if name in judged else 1 for each, name in zip(parts, PARTS, strict=True)], tracks, split)
    if not needed and (read := max(each.lead for each in (*parts[1], *parts[2]))):
        notes.append(
            f"Scored as streams that run already: in each recording up to {count(read, 'row')} before the validation and the test"
            " part are read first, features only."
        )
    beyond = sum(len(track) - track.borders[-1] for track in tracks if track.borders[-1])
    if beyond:
        notes.append(f"{count(beyond, 'row')} after the test part not used.")
    return (parts[0], parts[1], parts[2]), notes


def _pieces(tracks: Sequence[Track], inside: Sequence[Span], places: Places, *, lead: int) -> list[Recording]:
    """Every unbroken piece of one part, with up to `lead` rows before it; inside: the rows of the part in each of the tracks."""
    return [
        _recording(track, common, places, lead=min(lead, common[0] - span[0]))
        for track, limit in zip(tracks, inside, strict=True)
        for span in track.spans
        if (common := (max(span[0], limit[0]), min(span[1], limit[1])))[0] < common[1]
    ]


def _rows(recordings: Sequence[Recording]) -> int:
    return sum(len(each.features) - each.lead for each in recordings)


def _told(recordings: Sequence[Recording]) -> int:
    """Rows with a truth."""
    return sum(int(each.told().sum()) for each in recordings)


def _lies(name: str, tracks: Sequence[Track], inside: Sequence[Span], recordings: Sequence[Recording], told: str) -> str:
    """A note on how long a part is, and from when to when. told: what to say of its truth."""
    held = [(track, start, stop) for track, (start, stop) in zip(tracks, inside, strict=True) if start < stop]
    pieces = f" in {count(len(recordings), 'piece')}" if len(recordings) > len(held) else ""
    text = f"{name.capitalize()}: {count(_rows(recordings), 'row')}{told}{pieces}"
    if len(held) > 1:
        text += f" of {count(len(held), 'recording')}"
    timed = [each for each in held if each[0].nanoseconds is not None]
    if len(held) == 1:
        track, start, stop = held[0]
        return f"{text} of {track.name}, from {track.when(start)} to {track.when(stop - 1)}."
    if timed and all(track.dated for track, _, _ in timed):
        first = min(timed, key=lambda each: int(each[0].times[each[1]]))
        last = max(timed, key=lambda each: int(each[0].times[each[2] - 1]))
        return f"{text}, from {first[0].when(first[1])} to {last[0].when(last[2] - 1)}."
    return text + "."


def _recording(track: Track, span: Span, places: Places, *, lead: int = 0) -> Recording:
    """The rows of the span as a recording, with `lead` rows before them that may be read."""
    rows = slice(span[0] - lead, span[1])
    seconds = None if track.nanoseconds is None else (track.nanoseconds[rows] - track.origin) / NANOSECONDS
    return Recording(
        name=track.name,
        features=_columns(track, rows, places.features),
        targets=_columns(track, rows, places.targets),
        labels=None if track.labels is None else track.labels[rows],
        seconds=seconds,
        lead=lead,
        filled=track.filled[rows] if track.filled is not None and track.filled[rows].any() else None,
    )


def _columns(track: Track, rows: slice, columns: Sequence[int]) -> NDArray[np.float32]:
    """These columns (rows, columns): a view if they are adjacent, as they mostly are."""
    if not columns:
        return np.empty((rows.stop - rows.start, 0), dtype=np.float32)
    if list(columns) == list(range(columns[0], columns[-1] + 1)):
        return track.values[rows, columns[0] : columns[-1] + 1]
    return track.values[rows, list(columns)]
