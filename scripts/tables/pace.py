"""Measures how evenly the rows of a recording are spaced in time, and handles rows that are not.

Owns the measuring, the refusal and the sentences about it. Knows nothing of how values are interpolated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scripts.tables.mixed import groups, namers
from scripts.tables.months import Months
from scripts.tables.recording import DataError, Wanted
from scripts.tables.resampling import Resampled, resample
from scripts.tables.steps import GAP, TOLERANCE, is_monthly, usual_step, working_days
from scripts.tables.tracks import Track
from scripts.tables.wording import NANOSECONDS, count, every, few, seconds

_NOTICED = 1e-3  # of the period; below, nothing is said
_MIXED = 0.1  # of the steps; where more are uneven, the rows may be of several recordings
_MONTH = 2_629_746 * NANOSECONDS  # a twelfth of the year; any length would do
_CHOICES = (
    "Choose with --irregular: `keep` takes the rows as they follow each other, `resample` interpolates them onto an even grid"
    " (and cuts the recording at long gaps)."
)


@dataclass(frozen=True, slots=True)
class Pace:
    """The spacing of one recording's rows. The index of a step is that of the row after it."""

    period: float  # seconds; see steps.usual_step
    gaps: int  # steps across missing rows
    absent: int  # missing rows
    uneven: int  # other steps that are off by more than the tolerance
    first: int  # the first gap or uneven step, or -1
    jitter: float  # the largest deviation of the other steps, as a part of the period

    @property
    def even(self) -> bool:
        return self.first < 0


def measure(track: Track) -> Pace | None:
    """Measure a recording whose times rise; None if there are no times, or too few."""
    if track.nanoseconds is None or len(track) < 2:
        return None
    steps = np.diff(track.nanoseconds)
    period = usual_step(steps)
    assert period > 0
    if is_monthly(track, steps):
        return Pace(period / NANOSECONDS, 0, 0, 0, -1, 0.0)
    months = Months.of(track)
    ratio = steps / period if months is None else np.diff(months.counted) / np.median(np.diff(months.counted))
    gap = ratio > GAP
    off = np.abs(ratio - 1)
    uneven = (off > TOLERANCE) & ~gap
    wrong = gap | uneven
    return Pace(
        period=period / NANOSECONDS,
        gaps=int(gap.sum()),
        absent=int((np.rint(ratio[gap]) - 1).sum()),
        uneven=int(uneven.sum()),
        first=int(wrong.argmax()) + 1 if wrong.any() else -1,
        jitter=float(off[~wrong].max(initial=0.0)),
    )


def usual_period(tracks: Sequence[Track]) -> float | None:
    """The median of the recordings' usual steps, in seconds, also if times fall; None if there are no times.

    If recordings are split, it is the training part's: later rows must not influence the grid that training is resampled to.
    """
    times = [each.nanoseconds for each in tracks if each.nanoseconds is not None]
    first = [each.nanoseconds[: each.borders[0]] for each in tracks if each.nanoseconds is not None and each.borders]
    for some in (first, times):
        steps = [usual_step(np.abs(np.diff(each))) for each in some if len(each) > 1]
        if steps:
            return float(np.median(steps)) / NANOSECONDS
    return None


def settle(tracks: Sequence[Track], wanted: Wanted, truth: Sequence[int]) -> tuple[list[Track], float | None, list[str]]:
    """The recordings with rows as even as was asked for, their period in seconds if that is known, and notes.

    truth: the columns of their values that are never read.
    The tracks' times must rise. A row of the grid is never in an earlier part than a row that it is drawn from.
    """
    if all(track.nanoseconds is None for track in tracks):
        if wanted.irregular == "resample":
            raise DataError("To resample takes a column of time, and none was found: name it with --time.")
        return list(tracks), wanted.period or None, []
    usual = usual_period(tracks)
    if usual is None:
        return list(tracks), wanted.period or None, []
    notes: list[str] = []
    found = [(track, pace) for track in tracks if (pace := measure(track)) is not None]
    trouble = [_trouble(track, pace, usual) for track, pace in found]
    said = [text for text in trouble if text]
    if wanted.irregular == "resample":
        period = wanted.period or usual
        needed = said or abs(period - usual) > 1e-6 * usual
        return (_resampled(tracks, period, usual, truth, notes) if needed else list(tracks)), period, notes
    if said and wanted.irregular == "error":
        more = (
            f" {count(len(said) - 1, 'other recording')} {'is' if len(said) == 2 else 'are'} not even either."
            if len(said) > 1
            else ""
        )
        track, pace = next(each for each, text in zip(found, trouble, strict=True) if text)
        mixed = not wanted.group and pace.gaps + pace.uneven > _MIXED * len(track) and namers(track)
        told = f" {groups(track)}" if mixed else ""
        raise DataError(f"{said[0]}{more}{told} {_CHOICES}")
    if wanted.period and abs(wanted.period - usual) > TOLERANCE * usual:
        raise DataError(
            f"The rows are {seconds(usual)} apart, and a period of {seconds(wanted.period)} is asked for: add --irregular resample,"
            " or leave out --period."
        )
    notes += few(f"{text} They are kept as they are." for text in said)
    if wanted.task == "forecast" and (days := working_days(tracks, usual)):
        notes.append(f"Rows are of {days} days of the week: --season {days} repeats the week before.")
    worst = max((pace.jitter for _, pace in found), default=0.0)
    if worst > _NOTICED:
        notes.append(f"Times waver by up to {worst:.1%} of the period: the rows are taken as even.")
    return list(tracks), usual, notes


def _trouble(track: Track, pace: Pace, usual: float) -> str:
    """A sentence on what is uneven about a recording; empty if nothing is."""
    if pace.even:
        if abs(pace.period - usual) <= TOLERANCE * usual:
            return ""
        return f"{track.name} has {every(pace.period)}, and recordings have {every(usual)} otherwise."
    parts = []
    if pace.gaps:
        parts.append(f"{count(pace.gaps, 'gap')} ({count(pace.absent, 'row')} missing)")
    if pace.uneven:
        parts.append(f"{count(pace.uneven, 'step')} of another length")
    step = seconds(float(track.times[pace.first] - track.times[pace.first - 1]) / NANOSECONDS)
    return (
        f"{track.name}: the rows are not even in time: there is {every(pace.period)}, but {' and '.join(parts)}; first at"
        f" {track.at(pace.first)}: {step} from {track.when(pace.first - 1)} to {track.when(pace.first)}."
    )


def _by_months(track: Track, months: Months, truth: Sequence[int]) -> Resampled:
    """A recording whose rows come by the calendar, with a row in each of its months, quarters or years."""
    apart = max(int(np.median(np.diff(months.counted))), 1)
    period = apart * _MONTH / NANOSECONDS
    done = resample(replace(track, nanoseconds=months.counted * _MONTH), period, period, truth)
    assert done.track.nanoseconds is not None
    return replace(done, track=replace(done.track, nanoseconds=months.nanoseconds(done.track.nanoseconds // _MONTH)))


def _resampled(tracks: Sequence[Track], period: float, usual: float, truth: Sequence[int], notes: list[str]) -> list[Track]:
    months = [Months.of(track) for track in tracks] if abs(period - usual) <= 1e-6 * usual else [None] * len(tracks)
    done = [
        resample(track, period, usual, truth) if own is None else _by_months(track, own, truth)
        for track, own in zip(tracks, months, strict=True)
    ]
    before, after = sum(map(len, tracks)), sum(len(each.track) for each in done)
    labels = "" if all(track.labels is None for track in tracks) else "; labels are those of the nearer row"
    nearest = f"; one of truth in the nearest, up to {seconds(period / 2)} before or after" if truth or labels else ""
    notes.append(
        f"Resampled to {every(period, days=None in months)}: {count(before, 'row')} became {after:,}. Numbers lie on straight lines"
        f" between the two rows around them, so that a row tells something of the next one that was measured{labels}."
        f" A value whose neighbours are missing stands in the next row, less than {seconds(period)} later{nearest}."
    )
    if period < (1 - TOLERANCE) * usual:
        notes.append(
            f"The rows were {seconds(usual)} apart: most of those between are drawn, not measured, and count as true all the same."
            f" A --period of {usual:g} or longer avoids that."
        )
    if cuts := sum(each.cuts for each in done):
        first = next(each.first for each in done if each.cuts)
        notes.append(f"Cut at {count(cuts, 'gap')} too long to interpolate across (first: {first}).")
    return [each.track for each in done if len(each.track)]
