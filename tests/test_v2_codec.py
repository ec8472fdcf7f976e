"""The codec of the Open Inference Protocol: exact about sizes, shapes and numbers, in every layout that a graph may have."""

import json
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs import compression, v2, v2_model
from app.codecs.members import MOST_MEMBERS, read_object
from app.codecs.request import Limits
from app.errors import InvalidRequest, MalformedBody, TooLarge
from app.manifest import GOLDEN_NAME, ConstantSpec, InputSpec, LengthsSpec, ModelSpec, OutputSpec, Signal, StateSpec, Tolerance
from app.orders import VersionPolicy
from app.tensors import Prediction

LIMITS = Limits(max_instances=4, max_steps=6)
COMMON: dict[str, Any] = {
    "name": "pair",
    "version": "3",
    "features": (Signal(name="left"), Signal(name="right")),
    "opset": 20,
    "graphs": {"CPUExecutionProvider": "model.onnx"},
    "files": {"model.onnx": "0" * 64, GOLDEN_NAME: "0" * 64},
    "tolerance": Tolerance(rtol=0, atol=0),
}
STATE = StateSpec(input="h0", output="hn", shape=(1, 4), batch_axis=1)
PAIR = ModelSpec(**COMMON, outputs=(OutputSpec(name="sum", shape=(1,)),), states=(STATE,))
TIME_MAJOR = ModelSpec(
    **COMMON,
    input=InputSpec(name="x", batch_axis=1, time_axis=0),
    lengths=None,
    states=(StateSpec(input="c", output="c2", shape=(4,), batch_axis=0),),
    outputs=(
        OutputSpec(name="y", shape=(1, 5), batch_axis=2, time_axis=0),
        OutputSpec(name="last", shape=(), batch_axis=0, time_axis=None),
    ),
    constants=(ConstantSpec(name="rate", type="int64", value=16000), ConstantSpec(name="gain", type="float32", value=[0.5, 2.0])),
)
STEPWISE = ModelSpec(
    **COMMON,
    input=InputSpec(name="x", time_axis=None),
    lengths=None,
    states=(STATE,),
    outputs=(OutputSpec(name="y", shape=(3,), time_axis=None),),
)
FIXED = PAIR.model_copy(update={"max_batch_size": 1, "time_steps": 3})
ACAUSAL = PAIR.model_copy(update={"causal": False})

ROWS = [[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 10], [0, 0]]]


def tensor(name: str, shape: list[Any], data: Any, datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


INPUT = tensor("input", [2, 3, 2], ROWS)


def body(*inputs: Any, **members: Any) -> bytes:
    return json.dumps({"inputs": inputs, **members}).encode()


def decode(text: bytes, spec: ModelSpec = PAIR, *, header: bytes | None = None) -> v2.InferRequest:
    return v2.fit(v2.read(text, header), spec, LIMITS)


def refused(text: bytes, spec: ModelSpec = PAIR, *, header: bytes | None = None) -> str:
    with pytest.raises((InvalidRequest, MalformedBody, TooLarge)) as caught:
        decode(text, spec, header=header)
    return caught.value.detail


def prediction(seed: int, steps: int, spec: ModelSpec) -> Prediction:
    random = np.random.default_rng(seed)
    shapes = [(steps, *each.width) if spec.every_step(each) else each.width for each in spec.outputs]
    outputs, state = ([random.random(shape, np.float32) for shape in some] for some in (shapes, [s.shape for s in spec.states]))
    return Prediction(tuple(outputs), tuple(state))


def answered(predictions: list[Prediction], request: v2.InferRequest, spec: ModelSpec) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of an answer, decoded as the protocol says."""
    encoded = v2.encode(predictions, request, spec)
    head = json.loads(encoded.body[: encoded.header_length])
    at, found = encoded.header_length or len(encoded.body), {}
    for output in head["outputs"]:
        if "parameters" in output:
            size = output["parameters"]["binary_data_size"]
            numbers = np.frombuffer(encoded.body[at : at + size], "<f4")
            at += size
        else:
            numbers = np.array(output["data"], np.float32)
        found[output["name"]] = numbers.reshape(output["shape"])
    assert at == len(encoded.body)
    return found


def test_each_row_is_an_instance_cut_to_its_length() -> None:
    """Values beyond a row's length are padding, which the model must not see."""
    request = decode(body(INPUT, tensor("lengths", [2], [3, 2], "INT64")))
    assert [each.steps.tolist() for each in request.instances] == [ROWS[0], ROWS[1][:2]]
    assert [each.state for each in request.instances] == [None, None]


@pytest.mark.parametrize("data", [ROWS, np.ravel(ROWS).tolist()], ids=["nested", "flat"])
def test_data_may_be_nested_or_flat(data: Any) -> None:
    """Clients write it either way."""
    assert np.array_equal([each.steps for each in decode(body(tensor("input", [2, 3, 2], data))).instances], ROWS)


def test_binary_and_json_tensors_are_the_same_numbers() -> None:
    """Both formats may be mixed in one request; the bytes follow in the order of the inputs."""
    array = np.random.default_rng(0).standard_normal((2, 3, 2)).astype("<f4")
    lengths = np.array([1, 3], "<i4")
    inputs = [
        {"name": "lengths", "shape": [2], "datatype": "INT32", "parameters": {"binary_data_size": 8}},
        tensor("h0", [1, 2, 4], np.arange(8.0).reshape(1, 2, 4).tolist()),
        {"name": "input", "shape": [2, 3, 2], "datatype": "FP32", "parameters": {"binary_data_size": 48}},
    ]
    head = body(*inputs)
    mixed = decode(head + lengths.tobytes() + array.tobytes(), header=b"%d" % len(head)).instances
    inputs[0] = tensor("lengths", [2], [1, 3], "INT32")
    inputs[2] = tensor("input", [2, 3, 2], array.tolist())
    for a, b, length in zip(mixed, decode(body(*inputs)).instances, (1, 3), strict=True):
        assert a.steps.shape == (length, 2)
        assert np.array_equal(a.steps, b.steps)
        assert a.state is not None
        assert b.state is not None
        assert np.array_equal(a.state[0], b.state[0])


def test_a_graph_that_is_time_major_stays_so() -> None:
    """All tensors keep the graph's own layout: inputs, outputs, states, and outputs of the whole sequence."""
    x = np.arange(12.0).reshape(3, 2, 2)
    request = decode(
        body(tensor("x", [3, 2, 2], x.tolist()), tensor("c", [2, 4], np.arange(8.0).tolist()), outputs=None), TIME_MAJOR
    )
    assert np.array_equal([each.steps for each in request.instances], x.swapaxes(0, 1))
    assert [each.state[0].tolist() for each in request.instances if each.state] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    predictions = [prediction(seed, 3, TIME_MAJOR) for seed in (1, 2)]
    found = answered(predictions, request, TIME_MAJOR)
    assert list(found) == ["y", "last"]
    assert np.array_equal(found["y"], np.stack([each.outputs[0] for each in predictions], axis=2))
    assert found["y"].shape == (3, 1, 2, 5)
    assert np.array_equal(found["last"], [each.outputs[1][0] for each in predictions])


def test_a_stepwise_graph_takes_a_step_in_each_row() -> None:
    """The tensors of such a graph have no time axis."""
    request = decode(body(tensor("x", [2, 2], [1, 2, 3, 4])), STEPWISE)
    assert [each.steps.tolist() for each in request.instances] == [[[1, 2]], [[3, 4]]]
    predictions = [prediction(seed, 1, STEPWISE) for seed in (1, 2)]
    assert np.array_equal(answered(predictions, request, STEPWISE)["y"], [each.outputs[0][0] for each in predictions])


def test_rows_of_different_lengths_are_filled_up_with_zeros() -> None:
    """A tensor has one length; values beyond a row's own length are 0, as in the graph's own answer."""
    request = decode(body(INPUT, tensor("lengths", [2], [3, 2], "INT32"), outputs=[{"name": "sum"}, {"name": "hn"}]))
    predictions = [prediction(1, 3, PAIR), prediction(2, 2, PAIR)]
    found = answered(predictions, request, PAIR)
    assert np.array_equal(found["sum"][0], predictions[0].output)
    assert np.array_equal(found["sum"][1], [*predictions[1].output, [0]])
    assert np.array_equal(found["hn"], np.stack([each.state[0] for each in predictions], axis=1))


@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("own", [True, False, None])
def test_an_output_comes_back_as_it_is_asked_for(every: bool, own: bool | None) -> None:
    """binary_data of one output takes precedence over binary_data_output of all."""
    parameters = {} if own is None else {"binary_data": own}
    request = decode(body(INPUT, outputs=[{"name": "sum", "parameters": parameters}], parameters={"binary_data_output": every}))
    assert [each.binary for each in request.wanted] == [every if own is None else own]


def test_a_constant_may_be_given_and_must_be_what_it_is() -> None:
    """A client may send every input of the graph, but another value than the constant must not be ignored."""
    x = tensor("x", [1, 1, 2], [1, 2])
    for shape in ([], [1]):
        assert decode(body(x, tensor("rate", shape, [16000], "INT64"), tensor("gain", [2], [0.5, 2])), TIME_MAJOR)
    assert "fixed value 16000" in refused(body(x, tensor("rate", [], [8000], "INT64")), TIME_MAJOR)
    assert "shape [2]" in refused(body(x, tensor("gain", [1], [0.5])), TIME_MAJOR)


def test_unknown_members_and_parameters_are_passed_over() -> None:
    """A client of a later version of the protocol then still works, as with Triton."""
    strange = {"name": "sum", "colon:ed": "a:b", "parameters": {"classification": 3}}
    request = decode(body(INPUT, outputs=[strange], parameters={"priority": 3, "x:y": {"data": [":"]}}, note="a: \\u003a"))
    assert [each.name for each in request.wanted] == ["sum"]


def memory(work: Callable[[], object]) -> int:
    """The peak memory of `work`, in bytes."""
    tracemalloc.start()
    try:
        with suppress(InvalidRequest, MalformedBody):
            work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("ends", [b'{"a": 1}', b'{"a": 1, "a": 2}'])
def test_a_member_that_stands_there_twice_is_looked_for_without_making_objects_of_all_once_more(ends: bytes) -> None:
    """Objects take twenty times the memory of their text, so the search must not build all of them a second time."""
    text = b'{"data": [":", ' + b"[]," * 2**17 + ends + b"]}"
    assert text.count(b":") > 2
    assert memory(lambda: read_object(text)) < memory(lambda: orjson.loads(text)) + 3 * len(text)
    if b"2" in ends:
        with pytest.raises(MalformedBody, match="a is in one object twice"):
            read_object(text)
    else:
        assert len(read_object(text)["data"]) == 2**17 + 2


@pytest.mark.parametrize("each", [b'{"a":1},', b"{},"])
def test_more_members_than_any_request_has_are_refused_before_they_are_made(each: bytes) -> None:
    """Parsed, a body of objects takes forty times its size; compressed, it is sent as a thousandth of it."""
    text = b'{"inputs":[' + each * (MOST_MEMBERS // max(1, 2 * each.count(b":"))) + b"{}]}"
    assert memory(lambda: read_object(text)) < 2 * len(text)
    with pytest.raises(InvalidRequest, match="too many to look through"):
        read_object(text)


def test_text_of_many_braces_and_colons_is_no_object() -> None:
    """Text that only looks like members must not count as members."""
    text = json.dumps({"id": "{:" * MOST_MEMBERS, "inputs": []}).encode()
    assert read_object(text)["inputs"] == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "expected an object"),
        (b'{"inputs": [], "inputs": []}', "inputs is in one object twice"),
        (b'{"inputs": [{"name": "a", "n\\u0061me": "a"}]}', "name is in one object twice"),
        (b'{"id": "\\u003a", "inputs": [], "inputs": []}', "inputs is in one object twice"),  # as many colons as with one `inputs`
        (b'{"inputs": []}', "the input input is missing"),
        (b'{"x": ' + b"[" * 1100 + b"]" * 1100 + b"}", "JSON"),
        (b'{"x": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}", "nested too deeply"),
        (b'{"id": 3, "inputs": []}', "/id: expected a string"),
        (body(7), "/inputs/0: expected an object"),
        (body(INPUT, INPUT), "there twice"),
        (body({"name": "input", "datatype": "FP32", "data": []}), "shape is missing"),
        (body(tensor("output", [1], [1])), "no such input"),
        (body(tensor("input", [2, 3, 2], ROWS, "FP64")), "expected the datatype FP32, got 'FP64'"),
        (body(tensor("input", [12], [0] * 12)), "expected the shape [-1, -1, 2]"),
        (body(tensor("input", [2, 2, 3], [0] * 12)), "expected the shape"),
        (body(tensor("input", [2, -3, 2], [])), "/inputs/0/shape/1"),
        (body(tensor("input", [2, True, 2], [0] * 4)), "/inputs/0/shape/1"),
        (body(tensor("input", [2, 3.0, 2], ROWS)), "/inputs/0/shape/1"),
        (body(tensor("input", [2**70, 3, 2], ROWS)), "/inputs/0/shape/0"),
        (body(tensor("input", [2**62, 2**62, 2], [])), "the request holds"),
        (body(tensor("input", [0, 3, 2], [])), "any number from 1 up"),
        (body(tensor("input", [5, 1, 2], [0] * 10)), "5 instances"),
        (body(tensor("input", [1, 7, 2], [0] * 14)), "7 time steps"),
        (body(tensor("input", [2, 3, 2], [0] * 11)), "12 elements, data 11"),
        (body(tensor("input", [2, 3, 2], [ROWS[0], [[7, 8], [9], [0, 0]]])), "/data/1/1: input: expected an array of 2"),
        (body(tensor("input", [2, 3, 2], [ROWS[0], ROWS[1][:2]])), "/data/1: input: expected an array of 3"),
        (body(tensor("input", [2, 3, 2], [*ROWS, ROWS[0]])), "/data: input: expected an array of 2"),
        (body(tensor("input", [2, 3, 2], [ROWS[0], 7])), "/data/1: input: expected an array of 3 here"),
        (body(tensor("input", [1, 1, 2], [1, True])), "/data/1: input: expected a number, got a boolean"),
        (body(tensor("input", [1, 1, 2], [[[1, "2"]]])), "/data/0/0/1: input: expected a number, got a string"),
        (body(tensor("input", [1, 1, 2], [[[None, 2]]])), "/data/0/0/0: input: expected a number, got null"),
        (body(tensor("input", [1, 1, 2], [1, [2]])), "/data/1: input: expected a number, got an array"),
        (body(tensor("input", [1, 1, 2], [1, 1e39])), "/data/1: input: expected a number within float32"),
        (body(tensor("input", [1, 1, 2], [1, float("nan")])), "not valid JSON"),
        (body(tensor("input", [1, 1, 2], {"a": 1})), "/data: input: expected an array"),
        (body({**INPUT, "data": None}), "neither data nor"),
        (body(INPUT, tensor("lengths", [2], [3, 4], "INT32")), "row 1: expected a length from 1 to the 3 steps"),
        (body(INPUT, tensor("lengths", [2], [0, 3], "INT32")), "row 0: expected a length"),
        (body(INPUT, tensor("lengths", [2], [3, 2.0], "INT32")), "expected an integer, got a number"),
        (body(INPUT, tensor("lengths", [2], [3, 2**31], "INT32")), "expected an integer within INT32"),
        (body(INPUT, tensor("lengths", [2], [3, 2**63], "INT64")), "expected an integer within INT64"),
        (body(INPUT, tensor("lengths", [2], [3, 3])), "expected the datatype INT32 or INT64"),
        (body(INPUT, tensor("h0", [1, 3, 4], [0] * 12)), "expected the shape [1, 2, 4]"),
        (body(INPUT, outputs=[{"name": "x"}]), "no output x; it gives sum, hn"),
        (body(INPUT, outputs=[{"name": "sum"}, {"name": "sum"}]), "the output sum is there twice"),
        (body(INPUT, outputs=[{"name": "sum", "parameters": {"binary_data": 1}}]), "expected true or false"),
        (body(INPUT, parameters=[]), "/parameters: expected an object"),
        (body(INPUT, parameters={"timeout": -1}), "/parameters/timeout"),
        (body(INPUT, parameters={"timeout": True}), "/parameters/timeout"),
        (body(INPUT, parameters={"sequence_id": -1}), "/parameters/sequence_id"),
        (body(INPUT, parameters={"sequence_id": 2**64}), "/parameters/sequence_id"),
        (body(INPUT, parameters={"sequence_id": False}), "/parameters/sequence_id"),
        (body(INPUT, parameters={"sequence_id": "a b"}), "/parameters/sequence_id"),
        (body(INPUT, parameters={"sequence_start": True}), "sequence_id, which is missing"),
        (body(INPUT, parameters={"sequence_id": 1, "sequence_start": 1}), "/parameters/sequence_start"),
        (body(INPUT, parameters={"sequence_id": 1}), "has one row, got 2"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(text: bytes, says: str) -> None:
    """The author of the client must be able to find the mistake."""
    assert says.lower() in refused(text).lower()


@pytest.mark.parametrize(
    ("header", "inputs", "extra", "says"),
    [
        (b"x", [INPUT], b"", "must be a number"),
        (b"-1", [INPUT], b"", "must be a number"),
        (b"", [INPUT], b"", "must be a number"),
        ("²".encode("latin-1"), [INPUT], b"", "must be a number"),
        (b"9" * 5000, [INPUT], b"", "has only"),
        (b"999", [INPUT], b"", "has only"),
        (None, [{**INPUT, "data": None, "parameters": {"binary_data_size": 48}}], b"", "48 bytes should follow"),
        (b"all", [{**INPUT, "parameters": {"binary_data_size": 48}}], bytes(48), "both data and"),
        (b"all", [{**INPUT, "data": None, "parameters": {"binary_data_size": -48}}], bytes(48), "from 0 up"),
        (b"all", [{**INPUT, "data": None, "parameters": {"binary_data_size": 48.0}}], bytes(48), "from 0 up"),
        (b"all", [{**INPUT, "data": None, "parameters": {"binary_data_size": 44}}], bytes(44), "has 48 bytes"),
        (b"all", [{**INPUT, "data": None, "parameters": {"binary_data_size": 48}}], bytes(49), "49 bytes follow"),
        (b"all", [{**INPUT, "data": None, "parameters": {"binary_data_size": 48}}], bytes(47), "47 are left"),
        (b"all", [INPUT], bytes(4), "4 bytes follow"),
        (
            b"all",
            [{**INPUT, "data": None, "shape": [4, 2**40, 2], "parameters": {"binary_data_size": 48}}],
            bytes(48),
            "1099511627776 time steps",
        ),
    ],
)
def test_sizes_must_add_up(header: bytes | None, inputs: list[Any], extra: bytes, says: str) -> None:
    """Claimed sizes are checked against the bytes received before anything is built from them."""
    head = body(*inputs)
    assert says in refused(head + extra, header=b"%d" % len(head) if header == b"all" else header)


def test_numbers_that_are_not_finite_are_refused_unless_they_are_padding() -> None:
    """Padding makes no difference, whatever it holds; a state has no padding."""
    array = np.ones((2, 3, 2), "<f4")
    array[1, 2, 1] = np.nan
    given = {"name": "input", "shape": [2, 3, 2], "datatype": "FP32", "parameters": {"binary_data_size": 48}}
    head = body(given)
    assert "row 1, step 2, right: expected a finite number, got nan" in refused(head + array.tobytes(), header=b"%d" % len(head))
    head = body(given, tensor("lengths", [2], [3, 2], "INT32"))
    assert len(decode(head + array.tobytes(), header=b"%d" % len(head)).instances[1]) == 2
    state = np.full(8, np.inf, "<f4")
    head = body(INPUT, {"name": "h0", "shape": [1, 2, 4], "datatype": "FP32", "parameters": {"binary_data_size": 32}})
    assert "h0: at [0, 0, 0]: expected a finite number" in refused(head + state.tobytes(), header=b"%d" % len(head))


def test_fixed_axes_are_what_they_are() -> None:
    """A graph with fixed axes accepts nothing else, and its metadata says so."""
    assert v2_model.metadata(FIXED, ["3"])["inputs"][0]["shape"] == [1, 3, 2]
    assert "expected the shape [1, 3, 2]" in refused(body(INPUT), FIXED)
    short = tensor("lengths", [1], [2], "INT32")
    assert "exactly 3 time steps" in refused(body(tensor("input", [1, 3, 2], ROWS[:1]), short), FIXED)


@pytest.mark.parametrize(("id", "kept"), [(7, "7"), (2**64 - 1, str(2**64 - 1)), ("wrist-7", "wrist-7"), (0, None), ("", None)])
def test_a_sequence_is_a_stream_of_this_id(id: Any, kept: str | None) -> None:
    """A number is stored as its decimal digits; 0 and the empty string mean no sequence."""
    asked = v2.read(body(INPUT, parameters={"sequence_id": id, "sequence_end": kept is not None}), None)
    assert asked.sequence == (v2.SequenceFlags(kept, start=False, end=True) if kept else None)


def test_states_are_not_for_a_sequence() -> None:
    """The service keeps the states of a sequence; states from the client would contradict them."""
    one, turn = tensor("input", [1, 1, 2], [1, 2]), {"sequence_id": 1}
    assert "h0: it is a state" in refused(body(one, tensor("h0", [1, 1, 4], [0] * 4), parameters=turn))
    assert "hn is a state" in refused(body(one, outputs=[{"name": "hn"}], parameters=turn))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "data", "shape", "x"]), inner, max_size=4),
    max_leaves=8,
)
INPUTS = st.fixed_dictionaries(
    {"name": st.sampled_from(["input", "lengths", "h0"])},
    optional={
        "shape": st.lists(st.integers(-1, 4), max_size=4) | JSON_VALUES,
        "datatype": st.sampled_from(["FP32", "INT32", "INT64", "FP64", "BOOL", "x"]) | JSON_VALUES,
        "data": st.lists(st.integers(0, 3) | st.floats(), max_size=16) | JSON_VALUES,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-4, 40)}) | JSON_VALUES,
    },
)


@given(
    st.lists(INPUTS, max_size=3) | JSON_VALUES,
    st.dictionaries(st.sampled_from(["sequence_id", "timeout", "binary_data_output"]), JSON_VALUES) | JSON_VALUES,
    st.binary(max_size=40),
    st.sampled_from([PAIR, TIME_MAJOR, STEPWISE, FIXED, ACAUSAL]),
)
def test_whatever_comes_is_decoded_or_refused(inputs: Any, parameters: Any, extra: bytes, spec: ModelSpec) -> None:
    """Decoding never crashes, and what it returns fits the model and the limits."""
    head = json.dumps({"inputs": inputs, "parameters": parameters}).encode()
    with suppress(MalformedBody, InvalidRequest, TooLarge):
        request = decode(head + extra, spec, header=b"%d" % len(head))
        for instance in request.instances:
            assert instance.steps.dtype == np.float32
            assert instance.steps.shape[1] == 2
            assert 1 <= len(instance) <= LIMITS.max_steps
            assert np.isfinite(instance.steps).all()


def test_the_configuration_has_the_layout_that_tritons_tools_expect() -> None:
    """The batch axis is left out only if it comes first in sequences and outputs; state inputs are optional."""
    serving = v2_model.Serving(versions=["3", "2"], max_instances=64, lanes=2, gpu=True, graph="model.onnx", idle_seconds=600)
    config = v2_model.config(PAIR, serving)
    assert config["max_batch_size"] == 64
    assert config["input"] == [
        {"name": "input", "data_type": "TYPE_FP32", "dims": [-1, 2]},
        {"name": "lengths", "data_type": "TYPE_INT32", "dims": [], "optional": True},
        {"name": "h0", "data_type": "TYPE_FP32", "dims": [1, 4], "optional": True},
    ]
    assert config["output"] == [{"name": "sum", "data_type": "TYPE_FP32", "dims": [-1, 1]}]
    assert config["instance_group"] == [{"name": "pair", "kind": "KIND_GPU", "count": 2}]
    state = {"input_name": "h0", "output_name": "hn", "data_type": "TYPE_FP32", "dims": [1, 4]}
    assert config["sequence_batching"] == {"max_sequence_idle_microseconds": 600_000_000, "state": [state]}
    for spec, shape in ((TIME_MAJOR, [-1, -1, 2]), (FIXED, [1, 3, 2])):
        found = v2_model.config(spec, serving)
        assert found["max_batch_size"] == 0
        assert found["input"][0]["dims"] == shape
    assert "sequence_batching" not in v2_model.config(ACAUSAL, serving)


def test_metadata_lists_the_graphs_own_tensors() -> None:
    """Clients learn from the metadata what to send, for example that a lengths tensor is int64."""
    found = v2_model.metadata(TIME_MAJOR, ["3"])
    assert [(each["name"], each["shape"]) for each in found["inputs"]] == [("x", [-1, -1, 2]), ("c", [-1, 4])]
    assert [(each["name"], each["shape"]) for each in found["outputs"]] == [("y", [-1, 1, -1, 5]), ("last", [-1]), ("c2", [-1, 4])]
    wide = PAIR.model_copy(update={"lengths": LengthsSpec(type="int64")})
    assert v2_model.metadata(wide, ["3"])["inputs"][1]["datatype"] == "INT64"


@pytest.mark.parametrize(
    ("config", "policy"),
    [
        ({"version_policy": {"latest": {"num_versions": 2}}}, VersionPolicy(latest=2)),
        ({"version_policy": {"all": {}}}, VersionPolicy(latest=None)),
        ({"version_policy": {"specific": {"versions": [1, "3"]}}}, VersionPolicy(latest=None, specific=("1", "3"))),
        ({}, None),
    ],
)
def test_a_load_may_say_which_versions(config: Any, policy: VersionPolicy | None) -> None:
    """The policy is written as in Triton's ModelConfig, as JSON text."""
    assert v2_model.policy_in({"parameters": {"config": json.dumps(config)}}) == policy


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"config": "{"}, "expected an object as JSON text"),
        ({"config": "[]"}, "expected an object as JSON text"),
        ({"config": {}}, "/parameters/config: expected a string"),
        ({"config": '{"max_batch_size": 3}'}, "only version_policy is accepted"),
        ({"config": '{"version_policy": {"latest": {"num_versions": 0}}}'}, "version_policy: expected"),
        ({"config": '{"version_policy": {"latest": {"num_versions": true}}}'}, "version_policy: expected"),
        ({"config": '{"version_policy": {"specific": {"versions": []}}}'}, "version_policy: expected"),
        ({"config": '{"version_policy": {"all": {}, "latest": {"num_versions": 1}}}'}, "version_policy: expected"),
        ({"file:1/model.onnx": "AAAA"}, "come from the repository"),
    ],
)
def test_a_load_that_asks_for_more_is_told_so(parameters: Any, says: str) -> None:
    """To ignore a part of the order would be worse than to refuse it."""
    with pytest.raises(InvalidRequest, match=says):
        v2_model.policy_in({"parameters": parameters})


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_packed_body_is_never_unpacked_beyond_its_limit(coding: compression.Coding) -> None:
    """A small compressed body may expand to gigabytes."""
    packed = compression.deflate(bytes(10_000), coding)
    assert compression.inflate(packed, 10_000, coding) == bytes(10_000)
    with pytest.raises(TooLarge):
        compression.inflate(packed, 9_999, coding)
    with pytest.raises(MalformedBody, match="cut off"):
        compression.inflate(packed[:-1], 10_000, coding)
    with pytest.raises(MalformedBody, match=f"not {coding}"):
        compression.inflate(b"no" + packed, 10_000, coding)


def test_deflate_may_come_without_the_head_of_zlib() -> None:
    """Some clients send raw deflate, without zlib's header; no bytes may follow it."""
    packed = compression.deflate(b"recurrent" * 9, "deflate")
    assert compression.inflate(packed[2:-4], 100, "deflate") == b"recurrent" * 9
    with pytest.raises(MalformedBody, match="goes on after the end"):
        compression.inflate(packed + packed, 200, "deflate")
