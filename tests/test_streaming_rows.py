"""Which rows are trained on, from which states: every row once a pass, never with the state of another recording."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.series.config import Config
from scripts.streaming import updates
from scripts.streaming.evaluate import LONGEST, STEPS, WARM_UP, follow
from scripts.streaming.lanes import LEAST_UPDATES, Lanes, Update
from scripts.streaming.network import Network
from scripts.streaming.rows import BLOCK, Piece, blocks, gather
from scripts.streaming.wholes import LONGEST as LONGEST_GRADIENT
from scripts.streaming.wholes import Wholes
from scripts.tables.recording import Recording
from tests.recordings import Summing, labelled, numbered, sums_of

SIZES = {
    "one_recording": [300],
    "one_row": [1],
    "many_short": [20] * 500,
    "one_long": [200_000],
    "whole_chunks": [256, 128, 384],
    "mixed": [1, 5000, 129, 17, 128, 2],
}


def rows_of(updates: Sequence[Update]) -> Counter[tuple[int, int]]:
    """How often each row is trained on."""
    return Counter((piece.recording, row) for update in updates for piece in update.pieces for row in range(piece.begin, piece.end))


def network(*, features: int = 2, kind: type[Network] = Network, **choices: object) -> Network:
    torch.manual_seed(0)
    made = kind(Config(**{"task": "regress", "hidden": 5, **choices}), features=features, outputs=1)  # type: ignore[arg-type]  # fields
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.uniform_(-0.5, 0.5)
        made.scale.fill_(100.0)
    return made


# -- lanes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIZES)
def test_every_row_is_trained_on_once_a_pass(name: str) -> None:
    """Whatever the sizes, no row is left out or counted twice."""
    lanes = Lanes(SIZES[name], batch=64, chunk=128, seed=0)
    expected = {(index, row): 1 for index, length in enumerate(SIZES[name]) for row in range(length)}
    for each in lanes.epoch(3)[:2]:
        assert rows_of(list(each)) == expected


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=12),
    batch=st.integers(1, 9),
    chunk=st.integers(1, 64),
    epoch=st.integers(0, 5),
)
def test_pieces_of_a_recording_follow_one_another_in_its_lane(lengths: list[int], batch: int, chunk: int, epoch: int) -> None:
    """A state is carried only to the row that directly follows; and each row is trained on."""
    lanes = Lanes(lengths, batch=batch, chunk=chunk, seed=0)
    first = list(lanes.epoch(epoch)[0])
    assert rows_of(first) == {(index, row): 1 for index, length in enumerate(lengths) for row in range(length)}
    assert all(len(update.pieces) == lanes.count <= batch for update in first)
    assert all(len(piece) <= chunk for update in first for piece in update.pieces)
    assert not first[0].carried.any()
    for before, after in pairwise(first):
        for old, new, carried in zip(before.pieces, after.pieces, after.carried, strict=True):
            if carried:
                assert (old.recording, old.end) == (new.recording, new.begin)
            elif len(new):
                assert new.begin == 0


@pytest.mark.parametrize("name", SIZES)
def test_an_epoch_has_as_many_updates_as_it_says_and_enough_of_them(name: str) -> None:
    """The learning-rate schedule depends on this number; with little data, an epoch makes several passes."""
    lanes = Lanes(SIZES[name], batch=64, chunk=128, seed=0)
    assert lanes.updates >= LEAST_UPDATES
    for epoch in (0, 1):
        passes = lanes.epoch(epoch)
        assert len(passes) == lanes.passes
        assert sum(1 for each in passes for _ in each) == lanes.updates


def test_order_and_cuts_hang_on_seed_and_epoch_only() -> None:
    """A run can be reproduced, and no two passes are alike."""

    def drawn(seed: int, epoch: int, turn: int = 0) -> list[list[Piece]]:
        return [update.pieces for update in Lanes([3000, 500, 70], batch=4, chunk=64, seed=seed).epoch(epoch)[turn]]

    assert drawn(0, 1) == drawn(0, 1)
    assert len({str(drawn(*key)) for key in ((0, 1), (1, 1), (0, 2), (0, 1, 1))}) == 4
    begins = {piece.begin % 64 for pieces in drawn(0, 1) for piece in pieces if piece.recording == 0}
    assert begins != {0}  # the gradient is not always cut at the same rows


def test_a_long_recording_runs_in_several_lanes_and_a_lane_takes_several_short_ones() -> None:
    """Without either of these, most of an update would be empty."""
    assert Lanes([100_000], batch=64, chunk=128, seed=0).count > 32
    short = Lanes([20] * 10_000, batch=64, chunk=128, seed=0)
    assert (short.chunk, short.count) == (20, 64)
    full = sum(len(piece) for update in short.epoch(0)[0] for piece in update.pieces)
    assert full > 0.98 * short.count * short.chunk * (short.updates // short.passes)


def test_an_epoch_of_millions_of_rows_is_laid_out_without_copying_them() -> None:
    """Only the positions of pieces are made ahead of an epoch, some bytes each."""
    lanes = Lanes([10_000_000], batch=64, chunk=128, seed=0)
    assert lanes.passes == 1
    first = next(iter(lanes.epoch(0)[0]))
    assert sum(map(len, first.pieces)) >= 63 * 128


# -- states -----------------------------------------------------------------------------------------------------------


def test_a_state_is_carried_within_a_recording_and_reset_where_the_lane_goes_to_another() -> None:
    """The answers to a recording must not depend on the recording that was in its lane before."""
    recordings = numbered([700, 30, 1, 260, 90, 90])
    lanes = Lanes([len(each.features) for each in recordings], batch=3, chunk=50, seed=0)
    summing = network(kind=Summing)
    answered: list[torch.Tensor] = []
    summing.register_forward_hook(lambda _, __, result: answered.append(result[0]))
    once = lanes.epoch(0)[0]
    assert len(list(updates.by_lanes(summing, recordings, [once], "cpu"))) == len(answered) == len(list(once))
    begun: dict[int, float] = {}  # for each lane: the sum of the recording's values before the row at which the lane began it
    carried = 0
    for update, output in zip(once, answered, strict=True):
        for lane, piece in enumerate(update.pieces):
            sums = sums_of(recordings[piece.recording])
            if not update.carried[lane]:
                begun[lane] = sums[piece.begin - 1, 0] if piece.begin else 0.0
            carried += bool(update.carried[lane])
            expected = sums[piece.begin : piece.end] - begun[lane]
            np.testing.assert_allclose(output[lane, : len(piece)], expected, rtol=1e-9)
    assert carried > 10


@pytest.mark.parametrize("cell", ["reset_before", "reset_after", "lstm", "rnn", "lstm,reset_before"])
def test_chunks_with_the_state_carried_equal_one_long_pass(cell: str) -> None:
    """The gradient is cut, but the result does not change; a short first piece changes nothing either."""
    (recording,) = numbered([200])
    made = network(cell=cell, layers=2)
    lanes = Lanes([200], batch=1, chunk=24, seed=0)
    answered: list[torch.Tensor] = []
    made.register_forward_hook(lambda _, __, result: answered.append(result[0].detach()))
    with torch.no_grad():
        whole, _ = made(torch.from_numpy(recording.features)[None])
    answered.clear()
    tried = 0
    for once in lanes.epoch(0)[:2]:
        pieces = [(update.pieces[0], bool(update.carried[0])) for update in once]
        list(updates.by_lanes(made, [recording], [once], "cpu"))
        begin = next(place for place, (_, carried) in enumerate(pieces) if not carried and pieces[place][0].begin == 0)
        for (piece, _), output in zip(pieces[begin:], answered[begin:], strict=True):
            if len(piece):
                torch.testing.assert_close(output[0, : len(piece)], whole[0, piece.begin : piece.end], rtol=1e-5, atol=1e-5)
                tried += 1
        answered.clear()
    assert tried > 4


def test_the_gradient_ends_where_its_update_begins() -> None:
    """This bounds the memory of training; besides, the weights change between two updates."""
    (recording,) = numbered([300])
    made = network()
    lanes = Lanes([300], batch=1, chunk=30, seed=0)
    for loss in updates.by_lanes(made, [recording], lanes.epoch(0)[:1], "cpu"):
        # a second time through the graph of an earlier update would raise
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves `backward` untyped


# -- rows -------------------------------------------------------------------------------------------------------------


def test_padding_and_lead_do_not_count() -> None:
    """A lead is read but not scored; padding is neither."""
    recordings = numbered([10, 6], lead=2)
    rows = gather(recordings, [Piece(0, 0, 5), Piece(1, 4, 6), Piece(0, 0, 0)], "cpu")
    assert rows.counts.tolist() == [[False, False, True, True, True], [True, True, False, False, False], [False] * 5]
    assert rows.lengths is not None
    assert rows.lengths.tolist() == [5, 2, 1]
    assert rows.features[1, :2, 0].tolist() == [15, 16]
    assert rows.targets[0, :, 0].tolist() == [-1, -2, -3, -4, -5]
    assert gather(recordings, [Piece(0, 0, 5), Piece(0, 5, 10)], "cpu").lengths is None


@pytest.mark.parametrize("most", [1, 7, 1000, BLOCK + 5])
def test_fewer_rows_are_spread_over_all_recordings(most: int) -> None:
    """A linear map must be fitted to all of the data, not only to its beginning."""
    recordings = numbered([BLOCK + 100, 300, BLOCK], lead=3)
    everything = list(blocks(recordings))
    assert sum(map(len, everything)) == 2 * BLOCK + 400 - 9
    assert all(piece.begin >= 3 for piece in everything)
    found = list(blocks(recordings, most=most))
    assert sum(map(len, found)) == most
    if most >= 1000:
        assert {piece.recording for piece in found} >= {0, 2}


# -- whole recordings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "batch"), [(1, 64), (5, 2), (30, 64), (1000, 64)])
def test_every_recording_is_in_one_batch_a_pass(count: int, batch: int) -> None:
    """A batch holds recordings of similar length, or most of it would be padding."""
    lengths = [20 + (37 * index) % 200 for index in range(count)]
    wholes = Wholes(lengths, batch=batch, seed=0)
    batches = wholes.epoch(0)
    assert len(batches) == wholes.updates >= LEAST_UPDATES
    assert max(map(len, batches)) <= batch
    per_pass = len(batches) // wholes.passes
    for begin in range(0, len(batches), per_pass):
        seen = [piece.recording for chosen in batches[begin : begin + per_pass] for piece in chosen]
        assert sorted(seen) == list(range(count))
    assert wholes.epoch(0) == batches
    if count == 1000:
        assert wholes.epoch(1) != batches
        padded = sum(len(chosen) * max(map(len, chosen)) for chosen in batches)
        assert padded < 1.3 * wholes.passes * sum(lengths)


def test_long_recordings_make_small_batches() -> None:
    """Memory is bounded however long the recordings are."""
    assert Wholes([100_000] * 500, batch=64, seed=0).size * LONGEST_GRADIENT <= 65_536
    assert Wholes([100] * 500, batch=64, seed=0).size == 63


def test_what_was_before_the_gradient_makes_the_state() -> None:
    """The answer to a long recording depends on all its rows, though the gradient goes through the last of them only."""
    recordings = [
        Recording(each.name, each.features, np.zeros((len(each.features), 0), np.float32), np.zeros(len(each.features), np.int64))
        for each in numbered([LONGEST_GRADIENT + 300, 40, LONGEST_GRADIENT + 7])
    ]
    torch.manual_seed(0)
    summing = Summing(Config(task="classify", hidden=5), features=2, outputs=1)
    answered: list[torch.Tensor] = []
    summing.register_forward_hook(lambda _, __, result: answered.append(result[0]))
    batch = [Piece(index, 0, len(each.features)) for index, each in enumerate(recordings)]
    list(updates.by_wholes(summing, recordings, [batch], "cpu"))
    ends = [min(len(each.features), LONGEST_GRADIENT) for each in recordings]
    for output, end, recording in zip(answered[-1], ends, recordings, strict=True):
        np.testing.assert_allclose(output[end - 1], sums_of(recording)[-1], rtol=1e-9)


# -- following --------------------------------------------------------------------------------------------------------


def test_following_recordings_side_by_side_equals_each_alone() -> None:
    """Recordings run together and in pieces, to save time and memory; this must not change the answers."""
    recordings = numbered([STEPS + 30, 1, 2 * STEPS, 77, STEPS], lead=1) + numbered([90])
    made = network(cell="lstm,reset_before")
    found: dict[int, list[np.ndarray]] = {}
    for answers in follow(made, recordings, "cpu"):
        assert answers.piece.begin == recordings[answers.piece.recording].lead + sum(
            map(len, found.get(answers.piece.recording, []))
        )
        found.setdefault(answers.piece.recording, []).append(answers.values)
    assert sorted(found) == [0, 2, 3, 4, 5]  # recording 1 has only a lead
    for index, values in found.items():
        with torch.inference_mode():
            alone, _ = made(torch.from_numpy(recordings[index].features)[None])
        np.testing.assert_allclose(np.concatenate(values), alone[0, recordings[index].lead :], rtol=1e-5, atol=1e-5)


def test_a_very_long_recording_is_answered_once_in_parts_that_have_warmed_up() -> None:
    """As one piece it would run for hours; started cold, each part would begin with errors that a stream does not have."""
    (recording,) = numbered([2 * LONGEST + 10])
    summing = network(kind=Summing)
    sums, rows = sums_of(recording), np.zeros(len(recording.features), int)
    for answers in follow(summing, [recording], "cpu"):
        piece = answers.piece
        rows[piece.begin : piece.end] += 1
        begin = 0 if piece.begin < LONGEST else piece.begin // LONGEST * LONGEST - WARM_UP
        expected = sums[piece.begin : piece.end] - (sums[begin - 1] if begin else 0.0)
        np.testing.assert_allclose(answers.values, expected, rtol=1e-6)
    assert (rows == 1).all()


def test_answers_to_classes_are_probabilities() -> None:
    """The service returns these probabilities."""
    data = labelled(per_recording=False, count=3)
    torch.manual_seed(0)
    made = Network(Config(task="classify", hidden=4), features=2, outputs=2)
    for answers in follow(made, data.test, "cpu"):
        np.testing.assert_allclose(answers.values.sum(axis=1), 1, rtol=1e-6)
