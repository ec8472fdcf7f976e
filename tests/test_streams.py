"""What is kept of a stream, and which of its chunks is next."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import manifest, streams
from app.errors import StreamConflict
from app.manifest import ModelSpec
from app.stores import TAG
from app.streams import Stream, digest_of
from app.tensors import Array, Prediction

OUTPUTS = 3


@pytest.fixture(scope="module")
def spec(repository: Path) -> ModelSpec:
    return manifest.read(repository / "gyro-denoiser" / "1")


def begun(state: bytes = b"") -> Stream:
    return Stream("a", "gyro-denoiser", "1", ttl=600, created=1000, used=1000, tag=streams.new_tag(), state=state)


def chunk(length: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, length]).standard_normal((length, 6)).astype(np.float32)


def prediction(length: int, seed: int = 0) -> Prediction:
    rng = np.random.default_rng([seed, length, 1])
    output, state = rng.standard_normal((length, OUTPUTS)), rng.standard_normal((2, 8))
    return Prediction(output.astype(np.float32), (state.astype(np.float32),))


def done(lengths: list[int]) -> Stream:
    stream = begun()
    for seq, length in enumerate(lengths):
        stream = stream.after(prediction(length, seq), digest_of(chunk(length, seq)), now=1001.0 + seq)
    return stream


@given(st.lists(st.integers(1, 40), max_size=40))
def test_a_record_holds_all_of_a_stream(lengths: list[int]) -> None:
    stream = done(lengths)
    assert Stream.unpack("a", stream.pack()) == stream
    assert (stream.seq, stream.steps) == (len(lengths), sum(lengths))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=45))
def test_a_chunk_that_was_done_is_answered_as_then(lengths: list[int]) -> None:
    """As many as a caller may have under way: after a lost connection it sends them all again."""
    stream = done(lengths)
    for back in range(min(len(lengths), streams.MOST_ANSWERS)):
        seq = len(lengths) - 1 - back
        answer = stream.find(seq, digest_of(chunk(lengths[seq], seq)), OUTPUTS)
        assert answer is not None
        np.testing.assert_array_equal(answer.output, prediction(lengths[seq], seq).output)
        assert (answer.seq, answer.steps) == (seq + 1, sum(lengths[: seq + 1]))


def test_the_answers_that_are_kept_are_bounded_but_the_last_is_kept_however_long() -> None:
    """Or a stream would grow without end, and its retries would not be safe."""
    many, long = done([1] * 100), done([5, 100_000])
    assert len(many.pack()) < 2**11
    with pytest.raises(StreamConflict, match="not kept any more"):
        many.find(100 - streams.MOST_ANSWERS - 1, b"", OUTPUTS)
    last = long.find(1, digest_of(chunk(100_000, 1)), OUTPUTS)
    assert last is not None
    assert len(last.output) == 100_000
    with pytest.raises(StreamConflict, match="not kept any more"):
        long.find(0, digest_of(chunk(5, 0)), OUTPUTS)


@pytest.mark.parametrize("seq", [None, 3])
def test_a_chunk_without_a_number_is_next_and_so_is_the_one_with_the_next_number(seq: int | None) -> None:
    assert done([4, 4, 4]).find(seq, b"", OUTPUTS) is None


def test_a_gap_names_the_chunk_that_is_next() -> None:
    with pytest.raises(StreamConflict, match="Chunk 5 cannot be next: 3 is") as refused:
        done([4, 4, 4]).find(5, b"", OUTPUTS)
    assert refused.value.expected == 3


def test_other_steps_under_a_number_that_was_done_are_refused() -> None:
    """Were they given the stored answer, they would be lost without a word."""
    with pytest.raises(StreamConflict, match="done with other steps") as refused:
        done([4, 4, 4]).find(2, digest_of(chunk(4, seed=9)), OUTPUTS)
    assert refused.value.expected == 3


def test_a_state_comes_back_as_the_model_takes_it(spec: ModelSpec) -> None:
    state = prediction(1).state
    (array,) = begun(streams.pack_state(state)).state_of(spec) or ()
    np.testing.assert_array_equal(array, state[0])
    assert begun().state_of(spec) is None


def test_a_state_of_another_layout_is_not_taken(spec: ModelSpec) -> None:
    with pytest.raises(StreamConflict, match="a state of 3 numbers"):
        begun(bytes(12)).state_of(spec)


def test_a_record_of_another_format_is_not_read() -> None:
    record = begun().pack()
    with pytest.raises(StreamConflict, match="format 9"):
        Stream.unpack("a", record[:TAG] + b"\x09" + record[TAG + 1 :])


def _a_tag(_: int) -> bytes:
    return streams.new_tag()


def test_no_two_writes_have_the_same_tag_in_any_process() -> None:
    """A tag is how a store tells two writes of one number apart; workers are forked."""
    streams.new_tag()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        tags = pool.map(_a_tag, range(100), chunksize=10) + [streams.new_tag() for _ in range(100)]
    assert len({*tags}) == 200
    assert {len(tag) for tag in tags} == {TAG}
