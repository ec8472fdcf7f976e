"""Evaluates a model that denoises, regresses or classifies, row by row beside the truth.

Owns what is scored, written and drawn of its answers. Knows nothing of where the model is.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from app.tensors import Array
from scripts.evaluation.card import Card, Model
from scripts.evaluation.choice import measured
from scripts.evaluation.following import Placed, answered, judged, names_of
from scripts.evaluation.found import Found
from scripts.evaluation.material import Material
from scripts.evaluation.pictures import MODEL, RAW, TRUTH, Line, Panel, draw
from scripts.evaluation.scoring import RAW as RAW_SIGNAL
from scripts.evaluation.scoring import OfClasses, OfNumbers, deviations_of, places_of
from scripts.evaluation.stretch import Piece, Stretch, stretch
from scripts.evaluation.written import Columns, Table
from scripts.streaming.confusion import draw_confusion
from scripts.tables.wording import count


def evaluate(model: Model, material: Material, table: Table, picture: Path | None) -> Found:
    """Evaluate every row of the material, each recording from the zero state at its first row; rows of a lead are only read."""
    card = model.card
    steps = sum(len(recording.features) for recording in material.recordings)
    judge, notes = _judge(card, material)
    places = places_of(material.classes, material.known_classes, material.targets[0].name) if material.classes else None
    judged_rows, silent = 0, 0
    shown: list[Piece] = []
    worth = (False, False)
    begin = perf_counter()
    with tqdm(total=steps, desc="predicting", unit="step", unit_scale=True, disable=None) as bar:
        answers = answered(model, material.recordings, bar.update)
        for index, (recording, placed) in enumerate(zip(material.recordings, answers, strict=True)):
            rows = judged(placed[0], recording, last=material.label_per_recording)
            unanswered = np.isnan(placed[0][recording.lead :]).any(axis=1)
            silent += int(unanswered.sum())
            told = rows[recording.told()[rows]]
            judged_rows += len(told)
            telling = len(told) > 0, not unanswered.all()
            if not shown or telling > worth:
                shown, worth = [(recording, placed[0])], telling
            elif recording.name == shown[0][0].name and telling == worth:
                shown.append((recording, placed[0]))
            if len(told) and isinstance(judge, OfClasses) and places is not None and recording.labels is not None:
                judge.add(placed[0][told], places[recording.labels[told]])
            elif len(told) and isinstance(judge, OfNumbers):
                raw = recording.features[told, : len(material.targets)]
                judge.add(placed[0][told], recording.targets[told], {RAW_SIGNAL: raw} if material.task == "denoise" else {})
            if table and material.label_per_recording:
                _write_recording(table, model, material, index, [array[rows] for array in placed])
            elif table:
                _write(table, model, material, index, placed)
    seconds = perf_counter() - begin
    if picture is not None and shown:
        _draw(picture, model, material if judged_rows else replace(material, truth=False), judge if judged_rows else None, shown)
    scores = None
    if judge is not None and judged_rows:
        what = "recording" if material.label_per_recording else "row"
        scores = judge.scores(f"{material.part}, {count(judged_rows, what)}")
    if silent and card.outputs[0].every_step:
        notes.append(f"{count(silent, 'row')} had no answer: the model takes {card.time_steps:,} steps at a time.")
    return Found(scores, steps, seconds, tuple(notes), model.limited)


def _judge(card: Card, material: Material) -> tuple[OfNumbers | OfClasses | None, list[str]]:
    """What scores the answers, None if there is no truth; and notes."""
    if not material.truth:
        return None, []
    if material.task == "classify":
        return OfClasses(len(material.known_classes)), []
    truth = [recording.targets[recording.told()] for recording in material.recordings]
    if not any(map(len, truth)):
        return None, []
    deviations, whose = deviations_of(card, truth)
    methods = [RAW_SIGNAL] if material.task == "denoise" else []
    judge = OfNumbers(material.task or "regress", measured(card, material.targets), deviations, methods=methods)
    return judge, [f"RMSE and MAE: in units of each target's standard deviation {whose}."] if judge.standardised else []


def _write(table: Table, model: Model, material: Material, index: int, placed: Placed) -> None:
    """Write a line for each row of the recording except its lead, in order, whether it has an answer or not."""
    recording, times = material.recordings[index], material.times[index]
    own = slice(recording.lead, None)
    placed = tuple(array[own] for array in placed)
    columns = [*material.names_of(index, len(recording.features) - recording.lead), (times.name, times.values[own])]
    if material.task == "classify":
        columns += _of_classes(material, None if recording.labels is None else recording.labels[own], placed[0])
    elif material.truth:
        columns += [(target.name, recording.targets[own, place]) for place, target in enumerate(material.targets)]
    table.add(columns + _answers(model, material, placed))


def _of_classes(material: Material, labels: NDArray[np.int64] | None, probabilities: Array) -> Columns:
    """The right class of each row, where it is known, and the one that the model finds most likely."""
    name = material.targets[0].name if material.targets else "class"
    predicted = (f"{name}_predicted", [_most_likely(row, material.known_classes) for row in probabilities])
    return (
        [predicted] if labels is None else [(name, [material.classes[each] if each >= 0 else None for each in labels]), predicted]
    )


def _answers(model: Model, material: Material, placed: Placed) -> Columns:
    """The numbers of each output."""
    columns: Columns = []
    for output, array in zip(model.card.outputs, placed, strict=True):
        ending = "_probability" if material.task == "classify" and output is model.card.outputs[0] else "_predicted"
        columns += [(f"{name}{ending}", array[:, place]) for place, name in enumerate(names_of(output))]
    return columns


def _write_recording(table: Table, model: Model, material: Material, index: int, told: Sequence[Array]) -> None:
    """Write one line for the recording. told: of each output the row that counts, or no row if none has an answer."""
    recording = material.recordings[index]
    columns: Columns = [("recording", [recording.name]), ("rows", len(recording.features))]
    last = tuple(array if len(array) else np.full((1, array.shape[1]), np.nan, np.float32) for array in told)
    labels = None if recording.labels is None else np.append(-1, recording.labels[recording.told()])[-1:]
    table.add(columns + _of_classes(material, labels, last[0]) + _answers(model, material, last))


def _most_likely(probabilities: Array, classes: Sequence[str]) -> str | None:
    """The most likely class; None if there is no answer."""
    return None if np.isnan(probabilities).any() else classes[int(probabilities.argmax())]


def _draw(path: Path, model: Model, material: Material, judge: OfNumbers | OfClasses | None, pieces: Sequence[Piece]) -> None:
    """Draw the confusion of classes; otherwise the stretch of a recording that changes most."""
    if isinstance(judge, OfClasses):
        draw_confusion(judge.counts, material.known_classes, path, title=f"On {material.part}")
        return
    shown = stretch(pieces, truth=material.truth, part=material.part)
    panels = [
        Panel(f"{pieces[0][0].name}: {name}", tuple(_lines(material, shown, place)))
        for place, name in enumerate(_named(model, material))
    ]
    draw(panels, path, label=shown.label)


def _named(model: Model, material: Material) -> Sequence[str]:
    """What is drawn: the targets, with their units, or if there is no truth the numbers of the first output."""
    return [*map(str, material.targets)] if material.truth else names_of(model.card.outputs[0])


def _lines(material: Material, shown: Stretch, place: int) -> list[Line]:
    lines = []
    if material.task == "denoise" and place < shown.features.shape[1]:
        lines.append(Line("raw", shown.features[:, place], RAW, shown.across))
    if material.truth:
        lines.append(Line("truth", shown.targets[:, place], TRUTH, shown.across))
    lines.append(Line("model", shown.answers[:, place], MODEL, shown.across))
    return lines
