"""The JSON codec: it says exactly what is wrong and where, and its two decoders agree."""

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.codecs import octets, plain
from app.codecs import pieces as reading
from app.codecs.json import Decoder, encode, hinted_timeout
from app.codecs.pieces import MOST_SINGLY
from app.codecs.request import Limits, Options, PredictRequest
from app.errors import InvalidRequest, MalformedBody, ModelNotFound, RecurveError, TooLarge
from app.manifest import GOLDEN_NAME, Cell, InputSpec, ModelSpec, OutputSpec, Signal, StateSpec, Tolerance
from app.streaming.streams import Chunk
from app.streaming.tokens import Tokens
from app.tensors import Prediction

SPEC = ModelSpec(
    name="pair",
    version="3",
    features=(Signal(name="left"), Signal(name="right")),
    outputs=(OutputSpec(shape=(1,), signals=(Signal(name="sum"),)),),
    states=(StateSpec(input="h0", output="hn", shape=(1, 4), batch_axis=1),),
    cell=Cell(variant="reset_before", hidden_size=4, num_layers=1, bias=True),
    opset=20,
    graphs={"CPUExecutionProvider": "model.onnx"},
    files={"model.onnx": "0" * 64, GOLDEN_NAME: "0" * 64},
    tolerance=Tolerance(rtol=0, atol=0),
)
TOKENS = Tokens([b"secret of the tests"])
LIMITS = Limits(max_instances=4, max_steps=6)


def choose(name: str | None, version: str | None) -> ModelSpec:
    if name not in (None, "pair") or version not in (None, "3"):
        raise ModelNotFound(f"There is no {name} {version}.")
    return SPEC


def decoder() -> Decoder:
    return Decoder(LIMITS, TOKENS)


def decode(body: bytes) -> PredictRequest:
    return decoder().decode(body, choose)


def refusal(body: bytes | dict[str, Any]) -> RecurveError:
    with pytest.raises(RecurveError) as caught:
        decode(body if isinstance(body, bytes) else json.dumps(body).encode())
    return caught.value


def pointers(body: bytes | dict[str, Any]) -> dict[str, str]:
    error = refusal(body)
    assert isinstance(error, InvalidRequest)
    return {violation.pointer: violation.detail for violation in error.violations}


def test_sequences_of_any_lengths_come_out_as_they_went_in() -> None:
    """Ragged batches are what the service is for."""
    body = {
        "instances": [[[1, 2.5]], {"input": [[3, 4], [5, -6e-3]]}],
        "model": "pair",
        "timeout_ms": 250,
        "return_sequences": False,
    }
    decoded = decode(json.dumps(body).encode())
    assert [instance.steps.tolist() for instance in decoded.instances] == [[[1, 2.5]], [[3, 4], [5, np.float32(-6e-3)]]]
    assert all(instance.steps.dtype == np.float32 for instance in decoded.instances)
    assert decoded.options == Options(model="pair", version=None, return_sequences=False, timeout=0.25)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"instances": [[[1, 2], [3, 4]], [[5, 6]]]}', id="bare"),
        pytest.param(b'{"model": "pair", "instances": [{"input": [[1, 2e3]]}], "timeout_ms": 5}', id="with-options"),
    ],
)
def test_an_ordinary_body_takes_the_fast_way(body: bytes) -> None:
    """Both decoders give the same result, so no other test would notice if the fast one were never used."""
    assert decoder()._decode(body, choose).instances


def test_null_is_the_same_as_absent() -> None:
    """Clients in typed languages send every member that they have, null or not."""
    body = {"instances": [[[1, 2]]], "model": None, "version": None, "return_sequences": None, "timeout_ms": None}
    assert decode(json.dumps(body).encode()).options == Options()


@pytest.mark.parametrize(
    ("sequence", "pointer", "detail"),
    [
        pytest.param([[1, 2], [1]], "/instances/0/1", "expected 2 features, got 1", id="ragged-step"),
        pytest.param([[1, 2, 3]], "/instances/0/0", "expected 2 features, got 3", id="too-many-features"),
        pytest.param([], "/instances/0", "got an empty sequence", id="empty-sequence"),
        pytest.param([[1, 2], 3], "/instances/0/1", "got a number", id="step-is-a-number"),
        pytest.param([[1, [2]]], "/instances/0/0/1", "right: expected a number, got an array", id="number-in-an-array-of-its-own"),
        pytest.param([[[1], [2]]], "/instances/0/0/0", "left: expected a number, got an array", id="one-level-too-deep"),
        pytest.param([[1, True]], "/instances/0/0/1", "got a boolean", id="boolean"),
        pytest.param([[1, "2"]], "/instances/0/0/1", "got a string", id="string"),
        pytest.param([[None, 2]], "/instances/0/0/0", "got null", id="null"),
        pytest.param([[{}, 2]], "/instances/0/0/0", "got an object", id="object"),
        pytest.param([[float("nan"), 2]], "/instances/0/0/0", "got NaN", id="nan"),
        pytest.param([[1, 2], [float("inf"), 2]], "/instances/0/1/0", "got inf", id="infinity"),
        pytest.param([[1, 1e39]], "/instances/0/0/1", "got 1e+39", id="beyond-float32"),
        pytest.param([[1, 10**400]], "/instances/0/0/1", "within float32", id="beyond-float64"),
        pytest.param([[1, 10**4000]], "/instances/0/0/1", "within float32", id="beyond-pythons-patience"),
        pytest.param([1, 2], "/instances/0", "put a single sequence into an array", id="sequence-not-wrapped"),
        pytest.param("1,2", "/instances/0", "expected a sequence, an array of time steps, got a string", id="sequence-is-a-string"),
        pytest.param({"inputs": [[1, 2]]}, "/instances/0/inputs", "did you mean input?", id="misspelt-input"),
    ],
)
def test_a_wrong_value_is_named_and_pointed_at(sequence: Any, pointer: str, detail: str) -> None:
    """The user has to find this value among thousands."""
    assert detail in pointers({"instances": [sequence]})[pointer]


def test_wrong_values_of_several_instances_are_told_at_once() -> None:
    """Otherwise the user would need one request for each mistake."""
    found = pointers({"instances": [[[1, 2]], [[1]], [["a", None]]]})
    assert list(found) == ["/instances/1/0", "/instances/2/0/0", "/instances/2/0/1"]


def test_the_list_of_wrong_values_is_bounded() -> None:
    """An answer must not be larger than the request."""
    assert len(pointers({"instances": [[[None, None]] * 6] * 4})) == 10


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        pytest.param({}, "", id="no-instances"),
        pytest.param({"instances": []}, "/instances", id="empty-instances"),
        pytest.param({"instances": {"0": []}}, "/instances", id="instances-is-an-object"),
        pytest.param({"instances": [[[1, 2]]], "return_sequnces": False}, "/return_sequnces", id="misspelt-option"),
        pytest.param({"instances": [[[1, 2]]], "return_sequences": 1}, "/return_sequences", id="flag-is-a-number"),
        pytest.param({"instances": [[[1, 2]]], "timeout_ms": 0}, "/timeout_ms", id="timeout-zero"),
        pytest.param({"instances": [[[1, 2]]], "timeout_ms": 10**400}, "/timeout_ms", id="timeout-beyond-float64"),
        pytest.param({"instances": [[[1, 2]]], "timeout_ms": True}, "/timeout_ms", id="timeout-is-a-boolean"),
        pytest.param({"instances": [[[1, 2]]], "version": 3}, "/version", id="version-is-a-number"),
        pytest.param({"instances": [[[1, 2]]], "a/b~c": 3}, "/a~1b~0c", id="pointer-is-escaped"),
        pytest.param(b"[1]", "", id="not-an-object"),
    ],
)
def test_a_wrong_request_is_pointed_at(body: bytes | dict[str, Any], pointer: str) -> None:
    """If a misspelt option were ignored, the answer would silently be wrong."""
    assert pointer in pointers(body)


def test_a_member_that_stands_there_twice_is_refused() -> None:
    """JSON readers differ in which of the two they take."""
    assert "version is there twice" in refusal(b'{"instances": [[[1, 2]]], "version": "3", "version": "4"}').detail
    assert "instances is there twice" in refusal(b'{"instances": [[[1, 2]]], "instances": null}').detail


def test_many_wrong_members_cost_no_more_than_a_few() -> None:
    """Only a bounded number of members is examined closely: a body of a million names must not hold up the service."""
    body = {f"k{index}": 0 for index in range(50_000)} | {"instances": [[[1, 2]]]}
    assert list(pointers(body)) == [f"/k{index}" for index in range(10)]


@pytest.mark.parametrize("name", ["\ud800", "\0", "x" * 100_000])
def test_a_strange_name_can_be_told(name: str) -> None:
    """The error must be valid text, whatever the request contains."""
    (pointer,) = pointers({name: 0, "instances": [[[1, 2]]]})
    pointer.encode()
    assert len(pointer) < 100


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"instances": [[[1, 2]]]} x',
        b"\xff\xfe",
        b"[" * 100_000,
        b"nul",
        b'{"instances": [[[01, 2]]]}',
        '{"instances": [[[1, 2]]]}'.encode("utf-16"),
    ],
)
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    """400 means that the client's serializer is broken; 422 means that its data are wrong."""
    assert isinstance(refusal(body), MalformedBody)


def test_limits_are_refused_by_name() -> None:
    """The user needs to know which limit was exceeded, and by how much."""
    assert "5 instances; at most 4" in refusal({"instances": [[[1, 2]]] * 5}).detail
    long = refusal({"instances": [[[1, 2]] * 7]})
    assert isinstance(long, TooLarge)
    assert "7 time steps; at most 6" in long.detail


def test_an_unknown_model_is_told_before_its_instances_are_judged() -> None:
    """Instances for an unknown model cannot be checked against another model's features."""
    assert isinstance(refusal({"instances": [[[1, 2, 3]]], "model": "other"}), ModelNotFound)


def test_a_refusal_does_not_disturb_the_next_request() -> None:
    """The parser is shared: an error that is still being answered must not hold on to it."""
    shared = decoder()
    good = b'{"instances": [[[1, 2]]]}'
    with pytest.raises(InvalidRequest) as kept:
        shared.decode(b'{"instances": [[[1, 2, 3]]]}', choose)
    assert len(shared.decode(good, choose).instances) == 1
    assert kept.value.violations


numbers = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.integers(-(10**40), 10**40), st.integers(-9, 9))
values = st.one_of(numbers, numbers, numbers, st.none(), st.booleans(), st.text(max_size=3), st.lists(numbers, max_size=2))
good_step = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2)
steps = st.one_of(good_step, good_step, st.lists(values, max_size=3), values)
sequences = st.one_of(st.lists(good_step, min_size=1, max_size=6), st.lists(steps, max_size=8), values)
instances = st.one_of(sequences, sequences, st.fixed_dictionaries({"input": sequences}, optional={"x": values}))
bodies = st.fixed_dictionaries(
    {"instances": st.one_of(st.lists(instances, max_size=6), values)},
    optional={
        "model": st.sampled_from(["pair", "other", "[", 3]),
        "version": st.sampled_from(["3", "[4"]),
        "return_sequences": st.one_of(st.booleans(), values),
        "timeout_ms": numbers,
        "extra": values,
        "instances\0": values,
    },
)


def outcome(decode: Any, body: bytes) -> tuple[Any, ...]:
    try:
        decoded: PredictRequest = decode(body)
    except RecurveError as error:
        return type(error), error.detail, getattr(error, "violations", None)
    return [instance.steps.tolist() for instance in decoded.instances], decoded.options


@given(bodies)
@example({"instances": [[[1, [2]]]]})
@example({"instances": [[[[1], 2]], [[1, 2]]]})
@example({"instances": [[1, 2], [[[1, 2], [3, 4]], [5, 6]]]})
@example({"instances": [[[[1, 2], [3, 4]], [5, 6]], [1, 2]]})
@example({"instances": [[[1, 2], 3], [[1, 2], [3]]]})
@example({"instances": [[[1, 2]]], "model": "["})
def test_both_decoders_mean_the_same(body: dict[str, Any]) -> None:
    """The fast decoder may give up but never guess: what it accepts must be what the exact one accepts."""
    encoded = json.dumps(body).encode()
    assert outcome(decode, encoded) == outcome(lambda raw: plain.decode(raw, LIMITS, choose, TOKENS), encoded)


def test_text_that_cannot_be_cut_at_its_commas_is_read_in_few_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last comma of each piece is inside a string: to try each comma again would take seconds for a mebibyte."""
    attempts = []
    cut = reading.Reader._cut
    monkeypatch.setattr(reading.Reader, "_cut", lambda *arguments: attempts.append(1) or cut(*arguments))
    strings = [",,,"] * 20_000
    assert list(reading.read(json.dumps(strings, separators=(",", ":")), dict)) == strings
    assert len(attempts) < 500


pieces = st.sampled_from([1, 7, 30, 200])


@given(bodies, pieces, st.integers(0, 3), st.sampled_from([None, (", ", ": "), (" , ", " : ")]), st.integers(0, 400))
@example({"instances": [[[3.4028234663852886e38, 1]]]}, 1, 0, None, 400)
@example({"instances": [[[340282346638528859811704183484516925441, 1]]]}, 1, 0, None, 400)
@example({"instances": [[[10**1500, -(10**999)]]]}, 200, 0, None, 10_000)
@example({"instances": [{"input": [[1, 2]], "state": [{"a": {"a": 1}}]}], "model": {"a": [1]}}, 1, 0, None, 400)
@example({"instances": [[["],", 2], [1, ",["]]]}, 30, 0, None, 400)
@example({"instances": [[[1, 2], [3, 4]], [[1, float("nan")]]]}, 7, 2, (" , ", " : "), 400)
def test_a_body_that_is_read_piece_by_piece_means_the_same(
    body: dict[str, Any], at_once: int, indent: int, separators: Any, cut: int
) -> None:
    """Long bodies are read in pieces to bound the memory. The result is the same wherever the body is cut off, too."""
    encoded = json.dumps(body, indent=indent or None, separators=separators).encode()[:cut]
    whole = outcome(lambda raw: plain.decode(raw, LIMITS, choose, TOKENS, at_once=len(encoded) + 1), encoded)
    assert outcome(lambda raw: plain.decode(raw, LIMITS, choose, TOKENS, at_once=at_once), encoded) == whole


@pytest.mark.parametrize("at_once", [1, 7, 30, 200])
@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [[[1, 2]]], "version": "3", "version": "4"}',
        b'{"instances": [{"input": [[1, 2]], "input": [[1, 2]]}], "model": ]}',
        b'{"instances": [[[1, {"a": 1, "a": 2}]]]}',
        b'{"instances": [[[1, 2] [3, 4]]]}',
        b'{"instances": [[[1, 2], nul]]}',
        b'{"instances": [[[1, 2]]]} x',
        b'{"instances" [[[1, 2]]]}',
        b'{"instances": [[[1, 2]]] "model": null}',
        b'{"instances": [[[1, 2]]], model: null}',
        b'{"instances": [[[1, 01]]]}',
        b'{"instances": [[["\\ud800", "\\x"]]]}',
        b'{"instances": [[[1, 2]], [[1, "2]]]}',
        b'{"instances": [[[1, ' + b"9" * 5000 + b"]]]}",
        b'{"instances": [[[1, -' + b"9" * 1200 + b"]]]}",
        b'\xef\xbb\xbf{"instances": [[[1, 2], [3, true]]]}',
        b"[[1, 2], [3, 4]]",
        b" [ ] ",
        b' { "instances" : [ ] } ',
        b"{}",
        b'"instances"',
        b"[" * 100_000,
        b'{"instances":[' * 100_000,
    ],
)
def test_what_is_wrong_with_a_body_is_said_alike_where_it_is_read_piece_by_piece(body: bytes, at_once: int) -> None:
    """The same line and column, the same duplicate member, and the same first of several mistakes."""
    whole = outcome(lambda raw: plain.decode(raw, LIMITS, choose, TOKENS, at_once=10**7), body)
    assert outcome(lambda raw: plain.decode(raw, LIMITS, choose, TOKENS, at_once=at_once), body) == whole


MEMBERS = b",".join(b'"%x":0' % number for number in range(MOST_SINGLY // 4))


@pytest.mark.parametrize(
    "elements",
    [
        pytest.param((b"{" + MEMBERS + b"},") * 4, id="the members of objects"),
        pytest.param(b'"],[",' * MOST_SINGLY, id="strings"),
    ],
)
def test_more_values_than_can_be_read_one_by_one_are_refused_for_that(elements: bytes) -> None:
    """Each takes some microseconds: a body full of them would keep the one thread that looks for errors busy for half a minute."""
    assert isinstance(error := refusal(b'{"instances": [[[' + elements + b"0]]]}"), InvalidRequest)
    assert "cannot be told" in error.violations[0].detail


MANY = 2**20
STEPS = b"[0,0]," * (MANY // 6)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b'{"instances":[[' + STEPS + b'[0,"x"]]]}', "/instances/0/174762/1", id="a wrong value at the end"),
        pytest.param(b'{"instances":[[' + STEPS + b"[0,NaN]]]}", "/instances/0/174762/1", id="NaN"),
        pytest.param(b'{"instances":[[' + STEPS, f"line 1 column {len(STEPS) + 16}", id="cut off"),
        pytest.param(b'{"instances":[[' + b"[]," * (MANY // 3) + b"[]]]}", "got 0", id="empty steps"),
        pytest.param(b'{"instances":[[[' + b"[]," * (MANY // 3) + b"[]]]]}", "got 349526", id="a long step"),
        pytest.param(b'{"instances":[[' + b"0," * (MANY // 2) + b"0]]}", "an array of numbers", id="no steps"),
        pytest.param(b'{"model":[' + b"[]," * (MANY // 3) + b"[]]}", "/instances is missing", id="no model"),
        pytest.param(b'{"instances":[[' + STEPS + b"[0,100000000000000000000]]]}", "", id="nothing, but a large integer"),
    ],
)
def test_what_is_wrong_with_a_large_body_is_found_in_little_memory(body: bytes, said: str) -> None:
    """A body takes twenty times its size as Python objects, and a body of zeros compresses to a thousandth of its size."""

    def search() -> str:
        try:
            decoded = plain.decode(body, Limits(10, 10**7), choose, TOKENS)
        except InvalidRequest as error:
            return f"{error.violations[0].pointer} {error.detail}"
        except MalformedBody as error:
            return error.detail
        assert decoded.instances[0].steps[-1].tolist() == [0, np.float32(1e20)]
        return ""

    tracemalloc.start()
    try:
        found = search()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert said.removeprefix("/instances is ") in found
    assert most < 6 * len(body)  # the text, one piece of it, and float32


chunk_bodies = st.fixed_dictionaries(
    {"input": sequences},
    optional={"seq": st.one_of(st.integers(-2, 2**54), values), "return_sequences": st.one_of(st.booleans(), values), "x": values},
)


def outcome_of_a_chunk(decode: Any, body: bytes) -> tuple[Any, ...]:
    try:
        chunk: Chunk = decode(body)
    except RecurveError as error:
        return type(error), error.detail, getattr(error, "violations", None)
    return chunk.steps.tolist(), chunk.steps.dtype, chunk.seq, chunk.return_sequences


@given(chunk_bodies)
@example({"input": [[1, [2]]]})
@example({"input": [[[1], 2], [1, 2]]})
@example({"input": [1, 2]})
def test_both_decoders_of_a_chunk_mean_the_same(body: dict[str, Any]) -> None:
    """Both also say where each wrong value is."""
    encoded = json.dumps(body).encode()
    exact = outcome_of_a_chunk(lambda raw: plain.decode_chunk(raw, LIMITS, SPEC), encoded)
    assert outcome_of_a_chunk(lambda raw: decoder().decode_chunk(raw, SPEC), encoded) == exact


def test_an_ordinary_chunk_takes_the_fast_way() -> None:
    assert len(decoder()._decode_chunk(b'{"input": [[1, 2], [3, 4]], "seq": 7, "return_sequences": false}', SPEC).steps) == 2


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"instances": [[5], [[[7]]]]}, id="what-one-lacks-the-other-has-too-much"),
        pytest.param({"instances": [[[5], 6], [[[], [7]]]]}, id="within-an-instance"),
        pytest.param({"instances": [[[5], []]]}, id="empty-step"),
        pytest.param({"instances": [[[5], [6]], {"input": [[7]]}]}, id="good"),
    ],
)
def test_both_decoders_agree_on_one_feature(body: dict[str, Any]) -> None:
    """A step of one number is the hardest to tell from a wrong shape."""
    spec = SPEC.model_copy(update={"features": (Signal(name="only"),)})
    encoded = json.dumps(body).encode()
    fast = Decoder(LIMITS, TOKENS)
    assert outcome(lambda raw: fast.decode(raw, lambda *_: spec), encoded) == outcome(
        lambda raw: plain.decode(raw, LIMITS, lambda *_: spec, TOKENS), encoded
    )


OTHER_KINDS = {
    "stepwise": SPEC.model_copy(update={"input": InputSpec(time_axis=None), "lengths": None}),
    "stepwise-of-one-feature": SPEC.model_copy(
        update={"input": InputSpec(time_axis=None), "lengths": None, "features": (Signal(name="only"),)}
    ),
    "exactly-three-steps": SPEC.model_copy(update={"time_steps": 3}),
    "not-causal": SPEC.model_copy(update={"causal": False}),
}
flat = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=3)
kinds = st.one_of(sequences, flat, st.fixed_dictionaries({"input": st.one_of(sequences, flat)}, optional={"state": st.just("x")}))


@pytest.mark.parametrize("kind", OTHER_KINDS)
@given(st.lists(kinds, min_size=1, max_size=4), st.booleans())
@example([[1, 2]], False)
@example([[1, 2], [[3, 4], [5, 6]]], False)
@example([[[1, 2], 3], [4, [5]]], False)
@example([[1], [[2]], [[3], [4]]], False)
def test_both_decoders_mean_the_same_for_every_kind_of_model(kind: str, given_instances: list[Any], return_state: bool) -> None:
    """A step may stand alone where the graph takes one step per call, and nowhere else."""
    encoded = json.dumps({"instances": given_instances, "return_state": return_state}).encode()
    spec, fast = OTHER_KINDS[kind], Decoder(LIMITS, TOKENS)
    exact = outcome(lambda raw: plain.decode(raw, LIMITS, lambda *_: spec, TOKENS), encoded)
    assert outcome(lambda raw: fast.decode(raw, lambda *_: spec), encoded) == exact


def test_a_step_may_stand_alone_where_the_graph_takes_one_a_call() -> None:
    spec = OTHER_KINDS["stepwise"]
    decoded = decoder()._decode(b'{"instances": [[1, 2], [[3, 4], [5, 6]]]}', lambda *_: spec)
    assert [instance.steps.tolist() for instance in decoded.instances] == [[[1, 2]], [[3, 4], [5, 6]]]
    assert decoder()._decode_chunk(b'{"input": [1, 2]}', spec).steps.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        pytest.param("exactly-three-steps", {"instances": [[[1, 2]]]}, "expected exactly 3 time steps", id="wrong-length"),
        pytest.param("not-causal", {"instances": [[[1, 2]]], "return_state": True}, "no state to go on from", id="wants-a-state"),
        pytest.param(
            "not-causal", {"instances": [{"input": [[1, 2]], "state": "x"}]}, "no state to go on from", id="gives-a-state"
        ),
        pytest.param("stepwise", {"instances": [[1, 2, 3]]}, "expected 2 features, got 3", id="wrong-width"),
        pytest.param("stepwise", {"instances": [[1, "2"]]}, "right: expected a number", id="wrong-value"),
    ],
)
def test_what_a_model_does_not_take_is_refused_with_the_reason(kind: str, body: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        decoder().decode(json.dumps(body).encode(), lambda *_: OTHER_KINDS[kind])


def test_several_outputs_are_told_apart_by_their_names() -> None:
    """Outputs for every step obey return_sequences; outputs for the whole sequence do not depend on it."""
    outputs = (OutputSpec(name="each", shape=(2,)), OutputSpec(name="whole", shape=(), time_axis=None))
    spec = SPEC.model_copy(update={"outputs": outputs})
    prediction = Prediction((np.array([[1, 2], [3, 4]], np.float32), np.array([5], np.float32)), ())
    for return_sequences, each in ((True, [[1, 2], [3, 4]]), (False, [3, 4])):
        body = encode([prediction], Options(return_sequences=return_sequences), spec, "CPUExecutionProvider", TOKENS)
        assert json.loads(body)["predictions"] == [{"each": each, "whole": [5]}]
        binary = octets.encode(prediction.outputs, Options(return_sequences=return_sequences), spec)
        assert np.frombuffer(binary, "<f4").tolist() == [*np.ravel(each).tolist(), 5]


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (b'{"instances": [], "timeout_ms": 250}', 0.25),
        (b'{"timeout_ms":9 ,"instances": []}', 0.009),
        (b'{"instances": [], "timeout_ms": 1e4}', None),
        (b'{"instances": [], "timeout_ms": 2.5}', None),
        (b'{"instances": []}', None),
    ],
)
def test_a_glance_at_the_timeout_is_right_or_sees_nothing(body: bytes, seconds: float | None) -> None:
    """A request that is refused early because of the hint must not have asked for more time."""
    assert hinted_timeout(body) == seconds


@given(st.binary(max_size=60) | st.text(alphabet='[]{}:,"0123456789.eE+-nulltruefalse ', max_size=60).map(str.encode))
def test_no_body_is_a_defect(body: bytes) -> None:
    """Whatever a client sends is answered with a status below 500."""
    decoded = outcome(decode, body)
    assert isinstance(decoded[0], list) or decoded[0].status < 500


def test_an_answer_reads_back_as_the_same_float32() -> None:
    """No digit is lost, and no meaningless digit is written."""
    outputs = np.random.default_rng(0).standard_normal((3, 1)).astype(np.float32) * np.float32(1e-3)
    body = encode([Prediction(outputs=(outputs,), state=())], Options(), SPEC, "CPUExecutionProvider", TOKENS)
    answer = json.loads(body)
    np.testing.assert_array_equal(np.array(answer["predictions"][0], dtype=np.float32), outputs)
    assert len(body) < 150
    assert (answer["model"], answer["version"], answer["provider"]) == ("pair", "3", "CPUExecutionProvider")


def test_the_last_step_alone_is_a_vector() -> None:
    """The name return_sequences=false comes from Keras, which returns a vector then."""
    outputs = np.array([[1.0], [2.0]], dtype=np.float32)
    body = encode([Prediction(outputs=(outputs,), state=())], Options(return_sequences=False), SPEC, "CPUExecutionProvider", TOKENS)
    assert json.loads(body)["predictions"] == [[2.0]]
