"""Warns if the training part overlaps the test part in time, or shares recordings with it.

Owns the comparison, the warnings, and the dates that would split all recordings alike. Knows nothing of how parts are cut.
"""

from collections.abc import Sequence

import numpy as np

from scripts.tables.borders import limits
from scripts.tables.splits import Split
from scripts.tables.tracks import Track
from scripts.tables.wording import NANOSECONDS, count, instant

_UNITS = tuple(size * NANOSECONDS for size in (86_400, 3600, 60, 1))
_PARTED = 4  # dates are given in the largest unit of which each part has so many


def warn(tracks: Sequence[Track], split: Split) -> list[str]:
    """A warning if training ends after the test part begins, for recordings with dates that are split one by one."""
    held = [track for track in tracks if track.spans]
    if len(held) < 2 or split.dates or not all(track.dated for track in held):
        return []
    trained = [track.times[limits(track, 0)[1] - 1] for track in held if limits(track, 0)[1]]
    tested = [track.times[limits(track, 2)[0]] for track in held if limits(track, 2)[0] < limits(track, 2)[1]]
    if not trained or not tested or max(trained) <= min(tested):
        return []
    end, begin = (instant(int(each), dated=True) for each in (max(trained), min(tested)))
    return [
        f"Warning: training ends on {end}, after the test part begins on {begin}: each of the {count(len(held), 'recording')} is"
        " parted by itself. Where they are one series, or move together, the model has seen the times that it is tested on, and its"
        f" scores are better than they will be. Part all of them at the same dates: --split {','.join(_dates(held, split))}"
    ]


def warn_of_wholes(tracks: Sequence[Track]) -> list[str]:
    """A warning if recordings with one label each are in both training and test, because dates cut them."""
    cut = sum(limits(track, 0)[1] > 0 and limits(track, 2)[0] < limits(track, 2)[1] for track in tracks)
    if not cut:
        return []
    return [
        f"Warning: {cut:,} of {count(len(tracks), 'recording')} with one label each {'is' if cut == 1 else 'are'} cut by the dates"
        " of --split: training knows the label, wherever in the recording it stands, and scores are better than they will be of"
        " recordings that it has not seen. Fractions deal them out whole."
    ]


def _dates(tracks: Sequence[Track], split: Split) -> list[str]:
    """The dates at which the parts would end, so that each has about as many rows as the fractions say."""
    times = np.sort(np.concatenate([track.times for track in tracks]))
    last = int(times[-1])
    inner = [int(times[min(len(times) - 1, int(len(times) * fraction))]) for fraction in split.fractions[:2]]
    least = min(b - a for a, b in zip([int(times[0]), *inner], [*inner, last], strict=True))
    unit = next((unit for unit in _UNITS if least >= _PARTED * unit), _UNITS[-1])
    ends = [each // unit * unit for each in inner] + [(last // unit + 1) * unit]
    return [instant(each, dated=True).removesuffix(" 00:00").replace(" ", "T") for each in ends]
