"""Decides at which rows the parts of each recording end, before any value is filled in or interpolated.

No value of a later part may be carried back into an earlier one. Owns whether recordings are cut in time or dealt out whole.
Knows nothing of features, or of what is done about gaps.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scripts.tables.dealing import deal
from scripts.tables.recording import DataError
from scripts.tables.splits import PARTS, Split, ends
from scripts.tables.tracks import Span, Track


def one_label_each(tracks: Sequence[Track]) -> bool:
    """Whether several recordings have labels, each has one, and not all have the same; recordings without any are ignored."""
    found = [labels for track in tracks if (labels := _labels(track))]
    return len(found) > 1 and all(len(each) == 1 for each in found) and len(set().union(*found)) > 1


def labelled_whole(track: Track) -> Track:
    """Fill the rows that have no label with the recording's label: the last one, if it has several."""
    assert track.labels is not None
    told = track.labels[track.labels >= 0]
    return replace(track, labels=np.where(track.labels < 0, told[-1], track.labels)) if len(told) else track


def bordered(tracks: Sequence[Track], split: Split, classes: Sequence[str]) -> list[Track]:
    """Set the `borders` of the tracks: the rows at which their parts end. DataError if the split does not fit them.

    Recordings with one label each are dealt out whole, unless the split is by dates; those without a label then are in no part.
    """
    if not classes or split.dates or not one_label_each(tracks):
        return [replace(track, borders=ends(track, split, only=len(tracks) == 1)) for track in tracks]
    if not split.fractions:
        raise DataError("Recordings with one label each are dealt out whole: give the split in fractions or dates, not in rows.")
    found = [_labels(track) for track in tracks]
    dealt = iter(deal([min(labels) for labels in found if labels], split.fractions, classes))
    to = [next(dealt) if labels else -1 for labels in found]
    return [
        replace(track, borders=tuple(len(track) if 0 <= own <= part else 0 for part in range(len(PARTS))))
        for track, own in zip(tracks, to, strict=True)
    ]


def limits(track: Track, part: int) -> Span:
    """The rows of one part of the track."""
    return (0, *track.borders)[part], track.borders[part]


def _labels(track: Track) -> set[int]:
    assert track.labels is not None
    return {int(label) for label in np.unique(track.labels) if label >= 0}
