"""A published version in this process, run by the engine that serves it.

Owns how much of the data is run at once. Knows nothing of files of data, of HTTP or of scores.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from app import manifest
from app.engine import Engine
from app.errors import BadArtifact, NotFinite
from app.tensors import Array, Instance, Prediction, State
from scripts.evaluation.card import Card, EvaluationError, Outputs, Progress, WrongUse, pieces

SIDE_BY_SIDE = 32  # recordings, or sequences, in one call of the engine
STEPS = 256  # of each recording in one call; the state is carried on


class Local:
    """A card.Model: the version in `folder`, on the CPU. EvaluationError if it cannot be opened."""

    limited = False

    def __init__(self, folder: Path) -> None:
        folder = folder.resolve()
        if not (folder / manifest.FILE_NAME).is_file():
            raise WrongUse(f"{folder} holds no {manifest.FILE_NAME}{_instead(folder)}")
        try:
            self._spec = manifest.read(folder)
            self._engine = Engine(self._spec, folder, device="cpu")
        except BadArtifact as error:
            raise EvaluationError(str(error)) from error
        self.card = Card.of(self._spec)

    @property
    def where(self) -> str:
        return f"in this process, on {self._engine.provider.in_use}"

    def follow(self, recordings: Sequence[Array], progress: Progress) -> Iterator[Outputs]:
        for first in range(0, len(recordings), SIDE_BY_SIDE):
            yield from self._together(recordings[first : first + SIDE_BY_SIDE], progress)

    def answer(
        self,
        sequences: Iterable[Array],
        progress: Progress,
        *,
        count: int,  # noqa: ARG002  # a Model's signature
    ) -> Iterator[Outputs]:
        remaining = iter(sequences)
        while some := [Instance(np.ascontiguousarray(each)) for each in islice(remaining, SIDE_BY_SIDE)]:
            for prediction in self._predicted(some):
                yield tuple(output.copy() for output in prediction.outputs)  # else each would keep its whole batch in memory
            progress(sum(map(len, some)))

    def close(self) -> None:
        self._engine.close()

    def _predicted(self, some: Sequence[Instance]) -> list[Prediction]:
        """One prediction for each, as the service gives it; EvaluationError if one overflows float32."""
        predictions = []
        for answer in self._engine.answer(some):
            if isinstance(answer, NotFinite):
                raise EvaluationError(str(answer))
            predictions.append(answer)
        return predictions

    def _together(self, recordings: Sequence[Array], progress: Progress) -> Iterator[Outputs]:
        cuts = [pieces(len(each), STEPS, self.card.time_steps) for each in recordings]
        states: list[State | None] = [None] * len(recordings)
        answers: list[list[Outputs]] = [[] for _ in recordings]
        for step in range(max(map(len, cuts), default=0)):
            live = [index for index, cut in enumerate(cuts) if step < len(cut)]
            some = [Instance(np.ascontiguousarray(recordings[index][cuts[index][step]]), states[index]) for index in live]
            for index, prediction in zip(live, self._predicted(some), strict=True):
                states[index] = tuple(state.copy() for state in prediction.state)
                answers[index].append(tuple(output.copy() for output in prediction.outputs))
            progress(sum(map(len, some)))
        for given in answers:
            yield joined(self.card, given)


def joined(card: Card, answers: Sequence[Outputs]) -> Outputs:
    """One answer from those to the pieces of a recording; of an output for a whole sequence, the last piece's."""
    if not answers:
        return tuple(np.zeros((0, *output.width), np.float32) for output in card.outputs)
    columns = zip(card.outputs, zip(*answers, strict=True), strict=True)
    return tuple(np.concatenate(given) if output.every_step else given[-1] for output, given in columns)


def _instead(folder: Path) -> str:
    """What the user may have meant, as the end of a sentence."""
    versions = sorted(
        (each.parent for each in folder.glob(f"*/{manifest.FILE_NAME}")), key=lambda each: (len(each.name), each.name)
    )
    if versions:
        return f": it is a model, name one of its versions: {', '.join(map(str, versions))}."
    models = sorted({str(each.parent) for each in folder.glob(f"*/*/{manifest.FILE_NAME}")})
    if models:
        return f": it is a model repository, name one version in it: {', '.join(models)}."
    return ": name the folder of one version, such as model/gyro-denoiser/1, or the URL of a running service."
