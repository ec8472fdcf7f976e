"""Where the parts of each recording end, settled before any value is filled in or drawn: nothing may be carried back across.

Owns whether recordings are cut in time or dealt out whole. Knows nothing of features, or of what is done about gaps.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scripts.tables.dealing import deal
from scripts.tables.recording import DataError
from scripts.tables.splits import PARTS, Split, ends
from scripts.tables.tracks import Span, Track


def one_label_each(tracks: Sequence[Track]) -> bool:
    """Whether each of several recordings has one label, and not all have the same."""
    found = [_labels(track) for track in tracks]
    return len(found) > 1 and all(len(each) == 1 for each in found) and len(set().union(*found)) > 1


def bordered(tracks: Sequence[Track], split: Split, classes: Sequence[str]) -> list[Track]:
    """With the rows at which their parts end; DataError where the split does not fit them.

    Recordings with one label each are dealt out whole, unless the split is by dates.
    """
    if not classes or split.dates or not one_label_each(tracks):
        return [replace(track, borders=ends(track, split, only=len(tracks) == 1)) for track in tracks]
    if not split.fractions:
        raise DataError("Recordings with one label each are dealt out whole: give the split in fractions or dates, not in rows.")
    dealt = deal([min(_labels(track)) for track in tracks], split.fractions, classes)
    return [
        replace(track, borders=tuple(len(track) if 0 <= to <= part else 0 for part in range(len(PARTS))))
        for track, to in zip(tracks, dealt, strict=True)
    ]


def limits(track: Track, part: int) -> Span:
    """The rows of one of its parts."""
    return (0, *track.borders)[part], track.borders[part]


def _labels(track: Track) -> set[int]:
    assert track.labels is not None
    return {int(label) for label in np.unique(track.labels) if label >= 0}
