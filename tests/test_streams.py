"""What is stored of a stream, and which of its chunks is next."""

import multiprocessing
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import StreamConflict
from app.manifest import GOLDEN_NAME, ModelSpec, OutputSpec, Signal, StateSpec, Tolerance
from app.stores import TAG
from app.streaming import streams
from app.streaming.streams import Chunk, ChunkAnswer, Stream, digest_of
from app.tensors import Array, Prediction, pack_arrays

OUTPUTS = 3
SPEC = ModelSpec(
    name="gyro-denoiser",
    version="1",
    features=tuple(Signal(name=name) for name in "abcdef"),
    states=(StateSpec(input="h0", output="hn", shape=(2, 8), batch_axis=1),),
    outputs=(OutputSpec(shape=(OUTPUTS,)),),
    opset=20,
    graphs={"CPUExecutionProvider": "model.onnx"},
    files={"model.onnx": "0" * 64, GOLDEN_NAME: "0" * 64},
    tolerance=Tolerance(rtol=0, atol=0),
)


def begun(state: bytes = b"") -> Stream:
    return Stream("a", "gyro-denoiser", "1", ttl=600, created=1000, used=1000, tag=streams.new_tag(), state=state)


def chunk(length: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, length]).standard_normal((length, 6)).astype(np.float32)


def prediction(length: int, seed: int = 0) -> Prediction:
    rng = np.random.default_rng([seed, length, 1])
    output, state = rng.standard_normal((length, OUTPUTS)), rng.standard_normal((2, 8))
    return Prediction((output.astype(np.float32),), (state.astype(np.float32),))


def find(stream: Stream, seq: int | None, steps: Array) -> ChunkAnswer | None:
    """The stored answer to this chunk; None if the chunk is next."""
    known, following = stream.place([Chunk(steps, seq)], [digest_of(steps)], SPEC)
    assert len(known) + following == 1
    return known[0] if known else None


def done(lengths: list[int], *, numbered: bool = True, most: int = streams.MOST_ANSWERS) -> Stream:
    stream = begun()
    for number, length in enumerate(lengths):
        steps = chunk(length, number)
        chunks, now = [Chunk(steps, number if numbered else None)], 1001.0 + number
        stream, _ = stream.after(prediction(length, number), chunks, [digest_of(steps)], now, most=most)
    return stream


@given(st.lists(st.integers(1, 40), max_size=40))
def test_a_record_holds_all_of_a_stream(lengths: list[int]) -> None:
    stream = done(lengths)
    assert Stream.unpack("a", stream.pack()) == stream
    assert (stream.seq, stream.steps) == (len(lengths), sum(lengths))


def test_a_stream_goes_on_with_the_weights_that_it_began_with() -> None:
    """A version that was built again under its old number must not continue from a state of other weights."""
    other = SPEC.model_copy(update={"files": {**SPEC.files, "model.onnx": "f" * 64}})
    sample = SPEC.model_copy(update={"files": {**SPEC.files, GOLDEN_NAME: "f" * 64}})
    stream = done([3])._replace(weights=SPEC.weights)
    assert stream.after(prediction(3), [Chunk(chunk(3))], [digest_of(chunk(3))], now=1001.0)[0].weights == SPEC.weights
    for good in (SPEC, sample):
        assert stream.state_of(good) is not None
    with pytest.raises(StreamConflict, match="other files of gyro-denoiser version 1"):
        stream.state_of(other)
    assert stream._replace(weights="").state_of(other) is not None  # as an earlier release stored it


def test_a_stream_that_the_release_before_began_stays_readable_to_it() -> None:
    """Replicas are updated one after the other, and an update may be rolled back."""
    stream = done([3, 5])._replace(weights="")
    record = stream.pack()
    head = streams._HEAD.unpack_from(record)
    begin = streams._HEAD.size + 4 * head[-1]
    assert (head[1], record[begin : begin + head[7]]) == (2, b"gyro-denoiser\n1")
    assert Stream.unpack("a", record) == stream


@given(st.lists(st.integers(1, 60), min_size=1, max_size=45))
def test_a_chunk_that_was_done_is_answered_as_then(lengths: list[int]) -> None:
    """After a lost connection, a client sends again all the chunks that it may have under way."""
    stream = done(lengths)
    for back in range(min(len(lengths), streams.MOST_ANSWERS)):
        seq = len(lengths) - 1 - back
        answer = find(stream, seq, chunk(lengths[seq], seq))
        assert answer is not None
        np.testing.assert_array_equal(answer.output, prediction(lengths[seq], seq).output)
        assert (answer.seq, answer.steps) == (seq + 1, sum(lengths[: seq + 1]))


def test_the_answers_that_are_kept_are_bounded_but_the_last_is_kept_however_long() -> None:
    """A stream must not grow without end, and its last chunk can always be retried."""
    many, long = done([1] * 100), done([5, 100_000])
    assert len(many.pack()) < 2**11
    with pytest.raises(StreamConflict, match="not kept any more"):
        find(many, 100 - streams.MOST_ANSWERS - 1, chunk(1))
    last = find(long, 1, chunk(100_000, 1))
    assert last is not None
    assert len(last.output) == 100_000
    with pytest.raises(StreamConflict, match="not kept any more"):
        find(long, 0, chunk(5, 0))


@pytest.mark.parametrize("options", [{"numbered": False}, {"most": 1}], ids=["not-numbered", "one-is-to-be-kept"])
def test_only_the_last_answer_is_kept_where_no_more_are_needed(options: dict[str, Any]) -> None:
    """Every write to the store carries all kept answers, which may be many times as much as the state."""
    stream = done([3, 4, 5], **options)
    last = find(stream, 2, chunk(5, 2))
    assert last is not None
    np.testing.assert_array_equal(last.output, prediction(5, 2).output)
    with pytest.raises(StreamConflict, match="not kept any more") as refused:
        find(stream, 1, chunk(4, 1))
    assert refused.value.expected == 3


def test_chunks_that_run_together_leave_the_answers_that_they_leave_one_after_the_other() -> None:
    """Whether chunks run together depends on the moment, so nothing may depend on it that a client can see."""
    numbers, lengths = (0, 1, None, 3), (2, 3, 1, 4)
    chunks = [Chunk(chunk(length, index), seq) for index, (length, seq) in enumerate(zip(lengths, numbers, strict=True))]
    digests = [digest_of(each.steps) for each in chunks]
    one_by_one = begun()
    for each, digest in zip(chunks, digests, strict=True):
        one_by_one, _ = one_by_one.after(prediction(len(each.steps)), [each], [digest], now=1001.0)
    together, _ = begun().after(prediction(sum(lengths)), chunks, digests, now=1001.0)
    assert together.sizes == one_by_one.sizes
    assert len(together.sizes) == 2


@pytest.mark.parametrize("seq", [None, 3])
def test_a_chunk_without_a_number_is_next_and_so_is_the_one_with_the_next_number(seq: int | None) -> None:
    assert find(done([4, 4, 4]), seq, chunk(4)) is None


def test_a_gap_names_the_chunk_that_is_next() -> None:
    with pytest.raises(StreamConflict, match="Chunk 5 is out of order: chunk 3 is next") as refused:
        find(done([4, 4, 4]), 5, chunk(4))
    assert refused.value.expected == 3


def test_other_steps_under_a_number_that_was_done_are_refused() -> None:
    """If they were given the stored answer, these steps would be lost without a word."""
    with pytest.raises(StreamConflict, match="done with other steps") as refused:
        find(done([4, 4, 4]), 2, chunk(4, seed=9))
    assert refused.value.expected == 3


@pytest.mark.parametrize(
    ("numbers", "known", "following"),
    [
        pytest.param([3, 4, 5], 0, 3, id="next"),
        pytest.param([None, None], 0, 2, id="not-numbered"),
        pytest.param([1, 2, 3, 4], 2, 2, id="some-were-done"),
        pytest.param([3, 5], 0, 1, id="a-gap-behind-the-first"),
        pytest.param([3, 5, 4], 0, 1, id="the-next-behind-a-gap"),
        pytest.param([2, 9], 1, 0, id="a-gap-behind-one-that-was-done"),
        pytest.param([2, 9, 1], 1, 0, id="one-that-was-done-behind-a-gap"),
        pytest.param([3, 2], 0, 1, id="one-that-was-done-behind-a-new-one"),
        pytest.param([3, None, 5], 0, 3, id="mixed"),
    ],
)
def test_chunks_that_wait_together_are_taken_as_far_as_they_follow_each_other(
    numbers: list[int | None], known: int, following: int
) -> None:
    """The error of a later chunk is reported when that chunk is the first."""
    stream = done([4, 4, 4])
    steps = [chunk(4, number if number is not None and number < 3 else 9) for number in numbers]
    placed, new = stream.place([Chunk(*each) for each in zip(steps, numbers, strict=True)], [*map(digest_of, steps)], SPEC)
    assert (len(placed), new) == (known, following)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(0, 5))
def test_chunks_that_ran_as_one_are_kept_and_answered_as_if_they_had_come_one_by_one(lengths: list[int], before: int) -> None:
    whole = prediction(sum(lengths), 7)
    start = done([2] * before)
    chunks = [Chunk(chunk(length, seed)) for seed, length in enumerate(lengths)]
    digests = [digest_of(each.steps) for each in chunks]
    together, answers = start.after(whole, chunks, digests, now=2000.0)
    one_by_one = start
    begins = [*accumulate(lengths, initial=0)]
    for index, each in enumerate(chunks):
        part = Prediction((whole.output[begins[index] : begins[index + 1]],), whole.state)
        one_by_one, (answer,) = one_by_one.after(part, [each], [digests[index]], now=2000.0)
        assert (answer.seq, answer.steps) == (answers[index].seq, answers[index].steps)
        np.testing.assert_array_equal(answer.output, answers[index].output)
    assert together._replace(tag=b"") == one_by_one._replace(tag=b"")


def test_every_output_of_a_chunk_is_kept_and_given_again() -> None:
    """A model may answer each step and the chunk as a whole in one call."""
    outputs = (OutputSpec(name="whole", shape=(2, 2), time_axis=None), OutputSpec(name="each", shape=(3,)))
    spec = SPEC.model_copy(update={"outputs": outputs})
    assert not spec.divisible
    stream, said = begun(), []
    for seq, length in enumerate((3, 1, 5)):
        rng = np.random.default_rng(seq)
        given = tuple(rng.standard_normal(shape).astype(np.float32) for shape in ((2, 2), (length, 3)))
        steps = chunk(length, seq)
        stream, answers = stream.after(Prediction(given, ()), [Chunk(steps, seq)], [digest_of(steps)], now=1001.0)
        said += answers
    for seq, length in enumerate((3, 1, 5)):
        steps = chunk(length, seq)
        ((again,), _) = stream.place([Chunk(steps, seq)], [digest_of(steps)], spec)
        assert (again.seq, again.steps) == (said[seq].seq, said[seq].steps)
        for one, other in zip(again.outputs, said[seq].outputs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_state_comes_back_as_the_model_takes_it(spec: ModelSpec) -> None:
    state = prediction(1).state
    (array,) = begun(pack_arrays(state)).state_of(spec) or ()
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
    """A store tells two writes of one number apart by their tags; workers are forked."""
    streams.new_tag()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        tags = pool.map(_a_tag, range(100), chunksize=10) + [streams.new_tag() for _ in range(100)]
    assert len({*tags}) == 200
    assert {len(tag) for tag in tags} == {TAG}
