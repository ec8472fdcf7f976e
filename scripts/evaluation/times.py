"""When each row of a recording was taken, as its file spells it.

Owns which row of a file a row of a recording is. Knows nothing of how times are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from scripts.tables.recording import Recording
from scripts.tables.roles import Roles
from scripts.tables.sheet import Sheet
from scripts.tables.tracks import Track
from scripts.tables.wording import NANOSECONDS, instant


@dataclass(frozen=True, slots=True)
class Times:
    """The time of each row; without a column of time, the row's number in the recording, from 1."""

    name: str
    values: list[Any]


class Clock:
    """Gives the times of recordings that were made from these tracks. resampled: their times are not those of the files' rows."""

    def __init__(self, tracks: Sequence[Track], roles: Roles, *, resampled: bool) -> None:
        self._tracks = {track.name: track for track in tracks}
        self._roles = roles
        self._resampled = resampled
        self._spelled: dict[str, pl.Series] = {}  # by the label of the file

    def of(self, recording: Recording) -> Times:
        track = self._tracks[recording.name]
        if recording.seconds is None or track.nanoseconds is None:
            return Times("row", [*range(1, len(recording.features) + 1)])
        nanoseconds = np.rint(recording.seconds * NANOSECONDS).astype(np.int64) + track.origin
        if self._resampled:
            told = [instant(int(each), dated=True) if track.dated else float(each) / NANOSECONDS for each in nanoseconds]
            return Times(self._roles.time, told)
        first = int(np.abs(track.nanoseconds - nanoseconds[0]).argmin())  # seconds are rounded
        rows = track.rows[first : first + len(nanoseconds)]
        return Times(self._roles.time, self._texts(track.sheet).gather(rows).to_list())

    def _texts(self, sheet: Sheet) -> pl.Series:
        """The column of time, of the rows that are used."""
        if sheet.label not in self._spelled:
            names = [name for name in (self._roles.time, self._roles.clock) if name]
            frame = sheet.read(names, texts=names)
            texts = frame[names[0]] if len(names) == 1 else frame[names[0]] + " " + frame[names[1]]
            self._spelled[sheet.label] = texts if sheet.kept is None else texts.gather(sheet.kept)
        return self._spelled[sheet.label]
