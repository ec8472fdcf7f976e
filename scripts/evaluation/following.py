"""A model that answers the steps of a recording, or the recording as a whole, gone through beside the truth.

Owns which answer belongs to which row. Knows nothing of where the model is or of what its answers are worth.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from app.tensors import Array
from scripts.evaluation.card import Model, Output, Progress, pieces
from scripts.tables.recording import Recording

Placed = tuple[Array, ...]  # of each output: (rows, numbers), NaN in rows that have no answer of their own


def answered(model: Model, recordings: Sequence[Recording], progress: Progress) -> Iterator[Placed]:
    """The answers to each recording, row by row, in order.

    An output that answers a sequence as a whole stands in its last row. A model that can be streamed is; of one that cannot, a
    sequence is a whole recording, or as many rows of it as the model takes.
    """
    card = model.card
    features = [recording.features for recording in recordings]
    if card.streamable:
        for steps, outputs in zip(features, model.follow(features, progress), strict=True):
            done = len(steps) if card.time_steps is None else len(steps) // card.time_steps * card.time_steps
            yield tuple(
                _placed(output, len(steps), [(slice(0, done), array)] if done else [])
                for output, array in zip(card.outputs, outputs, strict=True)
            )
        return
    cuts = [pieces(len(steps), len(steps), card.time_steps) for steps in features]
    sequences = (steps[cut] for steps, own in zip(features, cuts, strict=True) for cut in own)
    answers = model.answer(sequences, progress, count=sum(map(len, cuts)))
    for steps, own in zip(features, cuts, strict=True):
        given = [(cut, next(answers)) for cut in own]
        yield tuple(
            _placed(output, len(steps), [(cut, outputs[index]) for cut, outputs in given])
            for index, output in enumerate(card.outputs)
        )


def _placed(output: Output, rows: int, given: Sequence[tuple[slice, Array]]) -> Array:
    found = np.full((rows, output.numbers), np.nan, np.float32)
    for cut, array in given:
        if output.every_step:
            found[cut] = array.reshape(-1, output.numbers)
        else:
            found[cut.stop - 1] = array.reshape(output.numbers)
    return found


def judged(placed: Array, recording: Recording, *, last: bool) -> NDArray[np.int64]:
    """The rows whose answers count: those that have one and a truth, or the last that has one where it is the recording's."""
    answered = ~np.isnan(placed).any(axis=1)
    return np.flatnonzero(answered)[-1:] if last else np.flatnonzero(answered & recording.told())


def names_of(output: Output) -> list[str]:
    """What to call each number of an answer."""
    if output.signals and output.width == (len(output.signals),):
        return [signal.name for signal in output.signals]
    if output.numbers == 1:
        return [output.name]
    return [f"{output.name}_{'_'.join(map(str, place))}" for place in np.ndindex(output.width)]
