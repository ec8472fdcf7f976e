"""The windows of recordings that a forecaster is asked about.

Owns where windows begin and which truth belongs to each. Knows nothing of models. A window is given by its origin, the first row
that is forecast; its context ends before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from app.tensors import Array
from scripts.tables.recording import Recording


@dataclass(frozen=True, slots=True)
class Window:
    """A window of a recording, which is given by its index."""

    recording: int
    origin: int


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of these recordings, one every `every` rows."""

    recordings: Sequence[Recording]
    context: int
    horizon: int
    every: int = 1

    def known(self) -> list[Window]:
        """The windows whose horizon is all in the recording, and not in its lead."""
        return [
            Window(index, origin)
            for index, recording in enumerate(self.recordings)
            for origin in range(max(self.context, recording.lead), len(recording.features) - self.horizon + 1, self.every)
        ]

    def coming(self) -> list[Window]:
        """For each recording the window that begins where it ends: its truth is not known yet."""
        lengths = [len(recording.features) for recording in self.recordings]
        return [Window(index, length) for index, length in enumerate(lengths) if length >= self.context]

    def contexts(self, windows: Sequence[Window]) -> Iterator[Array]:
        """What the model reads for each window, (context, features)."""
        for window in windows:
            yield self.recordings[window.recording].features[window.origin - self.context : window.origin]

    def is_true(self, window: Window) -> bool:
        """Whether none of the rows that it forecasts was filled in."""
        filled = self.recordings[window.recording].filled
        return filled is None or not filled[window.origin : window.origin + self.horizon].any()

    def truth(self, window: Window) -> Array:
        """The truth (horizon, targets), or as many of its rows as there are."""
        return self.recordings[window.recording].targets[window.origin : window.origin + self.horizon]

    def past(self, window: Window) -> Array:
        """The targets' own values in the context (context, targets)."""
        return self.recordings[window.recording].targets[window.origin - self.context : window.origin]


def spread_evenly(windows: Sequence[Window], most: int) -> list[Window]:
    """At most `most` of the windows, evenly spaced from the first to the last."""
    places = np.unique(np.linspace(0, len(windows) - 1, min(most, len(windows))).round().astype(int))
    return [windows[place] for place in places]
