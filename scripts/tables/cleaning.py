"""Turns the user's files into evenly spaced recordings without gaps; both training and evaluation read files this way.

Owns the order of the steps. Knows nothing of what the recordings are used for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.tables import gaps, holes, pace
from scripts.tables.borders import bordered, labelled_whole, one_label_each
from scripts.tables.files import find, labels
from scripts.tables.gathering import Gathered, gather
from scripts.tables.order import in_order, joined
from scripts.tables.parquet_sheet import is_parquet, open_parquet
from scripts.tables.recording import DataError, Wanted
from scripts.tables.roles import Roles, choose
from scripts.tables.sheet import Sheet
from scripts.tables.splits import Split
from scripts.tables.text_sheet import open_separated
from scripts.tables.tracks import Track
from scripts.tables.wording import few


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Recordings whose spans have no gaps, with borders if they are to be split."""

    roles: Roles
    gathered: Gathered  # as in the files, except for what was filled in
    tracks: tuple[Track, ...]
    label_per_recording: bool  # as asked for; else whether each of several recordings has one label
    period: float | None  # seconds
    found: tuple[str, ...]  # what was found in the files, a sentence each
    done: tuple[str, ...]  # what was done about it


def opened(data: Sequence[str]) -> tuple[Sheet, ...]:
    """Open the files that these names and globs match; DataError if there are none, or one cannot be read."""
    paths = find(data)
    return tuple(_opened(path, label) for path, label in zip(paths, labels(paths), strict=True))


def clean(
    sheets: Sequence[Sheet],
    wanted: Wanted,
    split: Split | None,
    *,
    truth: bool = True,
    untold: bool = False,
    by_recording: bool | None = None,
) -> Cleaned:
    """All recordings of the sheets, cleaned as wanted; with a split, no value of a later part is carried into an earlier one.

    truth: whether targets and labels will be learned from or compared with, so that none of them may be made up.
    untold: whether recordings without any of them are kept. by_recording: whether a label holds for all rows of its recording;
    None: it does if each recording has one label.
    Raises DataError, which names file, row and column, if the data cannot be used as they are.
    """
    roles = choose(wanted, sheets)
    gathered = gather(sheets, roles, wanted)
    judged, forecast = (gathered.truth, wanted.task == "forecast") if truth else ((), False)
    moved: list[str] = []
    whole = [joined(track, moved) for track in gathered.tracks]
    # before rows are reordered or resampled, so that the files' own cells are counted
    missing = holes.find(whole, gathered.columns, judged, wanted.missing, forecast=forecast)
    usable, done = holes.usable(whole, missing, untold=untold)
    tracks = [in_order(track, wanted.irregular, moved) for track in usable]
    done += few(moved)
    label_per_recording = bool(gathered.classes) and one_label_each(tracks) if by_recording is None else by_recording
    if gathered.classes and label_per_recording:
        tracks = list(map(labelled_whole, tracks))
    if split is not None:
        tracks = bordered(tracks, split, gathered.classes)
    tracks, period, said = pace.settle(tracks, wanted, () if missing.forecast else missing.truth)
    done += said
    tracks, said = gaps.settle(tracks, missing)
    done += said
    found = [*(note for sheet in sheets for note in sheet.notes), *roles.notes, *gathered.notes]
    return Cleaned(roles, gathered, tuple(tracks), label_per_recording, period, tuple(found), tuple(done))


def _opened(path: Path, label: str) -> Sheet:
    try:
        return open_parquet(path, label) if is_parquet(path) else open_separated(path, label)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
