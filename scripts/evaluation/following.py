"""Runs a model over recordings, whether it answers every step or a sequence as a whole.

Owns which answer belongs to which row, and which rows count. Knows nothing of where the model is or of how good its answers are.
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

    The answer to a sequence as a whole is put into its last row. A streamable model is streamed. For any other, a sequence is a
    whole recording, or as many rows of it as the model takes.
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
    """The rows whose answers count: those with an answer and a truth; if `last`, only the last row with an answer."""
    answered = ~np.isnan(placed).any(axis=1)
    return np.flatnonzero(answered)[-1:] if last else np.flatnonzero(answered & recording.told())


def names_of(output: Output) -> list[str]:
    """What to call each number of an answer."""
    if output.signals and output.width == (len(output.signals),):
        return [signal.name for signal in output.signals]
    if output.numbers == 1:
        return [output.name]
    return [f"{output.name}_{'_'.join(map(str, place))}" for place in np.ndindex(output.width)]
