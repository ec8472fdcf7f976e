"""From the user's files to recordings that are even and whole: the one way of reading, for learning and for measuring.

Owns the order of the steps. Knows nothing of what is made of the recordings.
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
    """Recordings whose spans are whole, with borders where they are to be parted."""

    roles: Roles
    gathered: Gathered  # as the files have them, but for what was filled in
    tracks: tuple[Track, ...]
    label_per_recording: bool  # as asked for; else whether each of several recordings has one label
    period: float | None  # seconds
    found: tuple[str, ...]  # what was found in the files, a sentence each
    done: tuple[str, ...]  # what was done about it


def opened(data: Sequence[str]) -> tuple[Sheet, ...]:
    """The files that these names and globs mean; DataError where there are none, or one cannot be read."""
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
    """All recordings of the sheets, as is wanted; with a split nothing of a later part is carried into an earlier one.

    truth: whether targets and labels will be learned from or compared with, so that none of them may be made up.
    untold: whether recordings without any stay. by_recording: whether a label is of a recording, in all of its rows; None: where
    each has one.
    Raises DataError, which names file, row and column, where the data cannot be used as they are.
    """
    roles = choose(wanted, sheets)
    gathered = gather(sheets, roles, wanted)
    judged, forecast = (gathered.truth, wanted.task == "forecast") if truth else ((), False)
    moved: list[str] = []
    whole = [joined(track, moved) for track in gathered.tracks]
    # before rows are moved, so that it is the files' cells that are counted
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
