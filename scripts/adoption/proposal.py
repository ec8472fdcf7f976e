"""Decides by experiments which reading of a graph is published, and says why.

Owns the decision. A reading is right if a row in a batch is answered like the row alone, and pieces of a sequence like the
whole. If no reading is right, the graph is not causal or its rows depend on each other, and the manifest says so. If
several are right and they differ, recurrent nodes may attest one; otherwise the user is asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from app.manifest import ModelSpec, OutputSpec
from app.tensors import Array
from scripts.adoption.difference import share
from scripts.adoption.hypotheses import Hypothesis
from scripts.adoption.reading import Readings, fixed_batch
from scripts.adoption.refusal import Refused
from scripts.adoption.trial import Trial, try_out

Tried = tuple[Hypothesis, Trial]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A manifest without its files, the evidence for it, and why it was chosen."""

    spec: ModelSpec
    chosen: Hypothesis
    trial: Trial
    axes: str  # why these axes are batch and time
    pairs: str  # why the states are paired so
    causal: str  # why it is causal, or not
    batch: str  # why rows may run together, or not


def propose(
    hypotheses: Sequence[Hypothesis],
    folder: Path,
    steps: Array,
    readings: Readings,
    *,
    given: bool,
    by_chance: str,
    backwards: bool,
) -> Proposal:
    """Try all hypotheses; Refused if none runs, or if several are right and differ in meaning.

    given: whether the user said how the states are paired. by_chance: the reason to refuse a graph whose answers do not repeat.
    backwards: whether a recurrent node runs from the last step to the first.
    """
    shown = tqdm(hypotheses, desc="trying readings", unit="reading", leave=False, delay=1.0)
    tried = [(each, try_out(each.spec, folder, steps)) for each in shown]
    ran = [(each, trial) for each, trial in tried if not trial.error]
    if not ran:
        raise Refused(f"No reading of its tensors fits the graph: {tried[0][1].error}.")
    first = [trial.error for each, trial in tried if each.reading == tried[0][0].reading]
    if readings.named and all(first):
        raise Refused(f"Read {tried[0][0].reading}, as its axes are named, the graph does not run: {first[0]}.")
    if not all(trial.repeats for _, trial in ran):
        raise Refused(by_chance)
    best = _best(ran)
    chosen, trial = best[0]
    _check_rows(chosen, trial, best, readings)
    asked = len({each.pairs for each, _ in tried}) > 1
    pairs = _why_pairs(chosen, trial, best, tried) if asked else "--state says so"
    if not asked and not given:
        pairs = "it is the only output of its shape"
    spec, causal = _causal(chosen, trial, given=given, backwards=backwards)
    spec, batch = _batch(spec, chosen, trial)
    return Proposal(spec, chosen, trial, _why_axes(chosen, trial, tried), pairs, causal, batch)


def _check_rows(chosen: Hypothesis, trial: Trial, best: Sequence[Tried], readings: Readings) -> None:
    """Refused if the axis taken for the batch is not one, or if nothing tells batch and time apart."""
    apart = f"a row in a batch differs from the row alone by {share(trial.batch)}" if trial.batch is not None else ""
    name = chosen.spec.input.name
    if chosen.spec.stepwise and not trial.rows_are_independent:
        raise Refused(f"The first axis of {name} is time, not batch: {apart}. Export it with a batch axis (batch, time, features).")
    taken_for_time = chosen.reading.batch is not None and chosen.reading.batch_axis == 1 and trial.forgets
    if readings.batch_of is not None and (taken_for_time or not trial.rows_are_independent):
        raise Refused(
            f"It seems that {fixed_batch(readings.batch_of)}. Export the graph with a free batch axis (dynamic_axes in PyTorch)."
        )
    undecided = not trial.rows_are_independent and not trial.pieces_are_the_whole
    if undecided and not readings.named and len({each.reading.batch_axis for each, _ in best}) > 1:
        raise Refused(
            f"Nothing tells which axis of {name} is the batch and which is time: read either way {apart}, and pieces of a sequence "
            "differ from the whole. Name the axes batch and time in the export (dynamic_axes in PyTorch)."
        )


def _best(ran: Sequence[Tried]) -> list[Tried]:
    """Those that pass most checks; independent rows count first: a reading that mixes up batch and time fails there."""
    by_rows = [(each, trial) for each, trial in ran if trial.rows_are_independent]
    by_pieces = [(each, trial) for each, trial in ran if trial.pieces_are_the_whole]
    by_both = [(each, trial) for each, trial in by_rows if trial.pieces_are_the_whole]
    return by_both or by_rows or by_pieces or list(ran)


def _why_pairs(chosen: Hypothesis, trial: Trial, best: Sequence[Tried], tried: Sequence[Tried]) -> str:
    """Why the states are paired this way; Refused if nothing decides it."""
    ways = list(dict.fromkeys(each.pairs for each, _ in best))
    decided = trial.pieces_are_the_whole and not chosen.spec.stepwise
    if decided and len(ways) == 1:
        others = [other.split for each, other in tried if each.pairs != chosen.pairs and other.split is not None]
        least = f"; other pairs are off by {share(min(others))} or more" if others else ""
        return f"only so does a sequence in pieces equal the whole{least}"
    attested = [each for each, _ in best if each.attested]
    if len({each.pairs for each in attested}) == 1 and chosen.attested and (decided or trial.split is None or chosen.spec.stepwise):
        return "a recurrent node starts with the one and ends with the other"
    if trial.sees_the_future:
        return "they are named alike; it makes no difference, for the states are not carried on"
    candidates = "\n  ".join(dict.fromkeys(each.flags for each, _ in best))
    if chosen.spec.stepwise or chosen.spec.time_steps:
        why = "A graph that takes a fixed number of steps a call cannot be asked whether pieces equal the whole"
    else:
        why = f"{'In each of these ways' if decided else 'In none of the possible ways'} a sequence in pieces equals the whole"
    raise Refused(f"The states can be paired in several ways. {why}, so say which is right:\n  {candidates}")


def _why_axes(chosen: Hypothesis, trial: Trial, tried: Sequence[Tried]) -> str:
    if chosen.spec.stepwise:
        return "two axes: batch and features, one step a call"
    others = [other for each, other in tried if each.reading != chosen.reading]
    if not others:
        return "it is the only reading of its axes that the graph runs with"
    apart = [other.batch for other in others if other.batch is not None and not other.rows_are_independent]
    if trial.rows_are_independent and len(apart) == len(others):
        return f"only so does a row in a batch equal the row alone; the other way it is off by {share(min(apart))}"
    if trial.rows_are_independent and all(other.error for other in others):
        return "it is the only reading of its axes that the graph runs with"
    return "it is the usual order, or that of the axes' names; both readings answer alike"


def _causal(chosen: Hypothesis, trial: Trial, *, given: bool, backwards: bool) -> tuple[ModelSpec, str]:
    """The manifest with what the trial shows about time, and the reason."""
    spec = chosen.spec
    if spec.time_steps and trial.sees_the_future:
        outputs = tuple(_as_whole(output, spec.time_steps) for output in spec.outputs)
        spec = spec.model_copy(update={"outputs": outputs})
    remembers = not spec.states and trial.past is not None and not trial.forgets
    if trial.pieces_are_the_whole and not (trial.sees_the_future or remembers):
        word = "every step is a call of its own" if spec.stepwise else "a sequence in pieces equals the whole"
        return spec, f"{word}{', without a state' if not spec.states else ''}"
    not_causal = spec.model_copy(update={"causal": False})
    if trial.sees_the_future:
        assert trial.future is not None
        return (
            not_causal,
            f"the answer to a step depends on later steps: changing the last moved others by {share(trial.future)}",
        )
    if not spec.states:
        mend = "to stream it, export those of its recurrent layers (h and c of an LSTM) as inputs and outputs"
        return not_causal, f"it has no states to carry from one piece of a sequence to the next: {mend}"
    if spec.time_steps == 1:
        return _of_one_step(spec, not_causal, backwards=backwards)
    if spec.time_steps and trial.future is not None:
        return spec, f"earlier answers do not change with the last of its {spec.time_steps} steps, and its states carry on"
    if spec.time_steps and not any(map(spec.every_step, spec.outputs)):
        return spec, f"it answers its {spec.time_steps} steps as one, and its states carry on"
    if trial.split is None:
        return not_causal, "it could not be asked: no answer changes with the last step (--sample FILE gives typical input)"
    doubt = "; or are the pairs that --state gives wrong?" if given else ""
    return not_causal, f"a sequence in pieces differs from the whole by {share(trial.split)}, with its states carried on{doubt}"


def _of_one_step(spec: ModelSpec, not_causal: ModelSpec, *, backwards: bool) -> tuple[ModelSpec, str]:
    if backwards:
        return not_causal, "a recurrent node runs backwards, from the last step to the first, and one step a call cannot show it"
    return spec, "its one step is a call of its own, and its states carry on"


def _as_whole(output: OutputSpec, time: int) -> OutputSpec:
    """The output with its time axis made part of its shape: it answers the sequence as a whole."""
    if output.time_axis is None:
        return output
    place = output.time_axis - (output.batch_axis < output.time_axis)
    shape = (*output.shape[:place], time, *output.shape[place:])
    return output.model_copy(update={"time_axis": None, "shape": shape})


def _batch(spec: ModelSpec, chosen: Hypothesis, trial: Trial) -> tuple[ModelSpec, str]:
    """The manifest with what the trial shows about batches, and the reason."""
    if chosen.reading.batch is not None:
        return spec, "the graph fixes its batch at 1"
    if trial.rows_are_independent:
        return spec, "a row in a batch equals the row alone"
    assert trial.batch is not None
    return spec.model_copy(update={"max_batch_size": 1}), (
        f"rows depend on the batch they are in: in company they differ by {share(trial.batch)}"
    )
