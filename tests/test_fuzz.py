"""Malformed bytes for everything that reads input: whatever arrives is answered soon, and in little memory.

The answer is a request that fits the model and the limits, or one of our errors with a status below 500 that can be written as
JSON. About 20 s, with the same examples each time; `FUZZ_EXAMPLES=20000 pytest tests/test_fuzz.py` tries 20,000 other ones a test.
"""

import gzip
import json
import os
import socket
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from time import thread_time
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.codecs import compression, octets, plain, v2, v2_model
from app.codecs.json import Decoder, hinted_timeout
from app.codecs.members import read_object
from app.codecs.request import LONGEST_TIMEOUT, Limits, Options, PredictRequest
from app.errors import MalformedBody, RecurveError, TooLarge
from app.manifest import ModelSpec
from app.streaming.streams import Chunk
from app.streaming.tokens import BadToken, Tokens
from app.tensors import Instance, Prediction
from tests import test_json_codec, test_v2_codec
from tests.servers import Server, serve
from tests.test_v2_codec import prediction

T = TypeVar("T")

MORE = int(os.environ.get("FUZZ_EXAMPLES", "0"))
SECONDS = 2.0  # of CPU time for one body
MEMORY = 4 * 2**20  # bytes, plus FACTOR times the size of the body
FACTOR = 200  # the exact decoder makes a Python object for each character
TOKENS = Tokens([b"a secret of the tests"])
# built anew: a spec caches values that model_copy would pass on to the copies that other tests make
SPEC, *OTHER_KINDS = (
    ModelSpec.model_construct(**dict(each)) for each in (test_json_codec.SPEC, *test_json_codec.OTHER_KINDS.values())
)
PAIR, *OTHER_LAYOUTS = (
    ModelSpec.model_construct(**dict(each))
    for each in (test_v2_codec.PAIR, test_v2_codec.TIME_MAJOR, test_v2_codec.STEPWISE, test_v2_codec.FIXED, test_v2_codec.ACAUSAL)
)
LIMITS = Limits(max_instances=4, max_steps=6)
STATE = tuple(np.arange(np.prod(each.shape), dtype=np.float32).reshape(each.shape) for each in SPEC.states)
TOKEN = TOKENS.encode(STATE, SPEC)
KINDS = [SPEC, *OTHER_KINDS, SPEC.model_copy(update={"features": SPEC.features[:1]})]  # the last has the same states
V2_KINDS = [PAIR, *OTHER_LAYOUTS]


def fuzz(examples: int, *, slow: int = 1) -> settings:
    """`examples` for each test, unless FUZZ_EXAMPLES asks for another number of random ones, divided by `slow`."""
    return settings(
        max_examples=ceil(MORE / slow) or examples,
        derandomize=not MORE,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


def peak(work: Callable[[], T]) -> tuple[T, int]:
    """The result of `work`, and the most bytes that it held."""
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def attempt(work: Callable[[], T]) -> T | RecurveError:
    try:
        return work()
    except RecurveError as error:
        return error


def answer(work: Callable[[], T], size: int) -> T | RecurveError:
    """The result of `work` on a body of `size` bytes, or the error it raises; any other exception fails the test."""
    begin = thread_time()
    found, memory = peak(lambda: attempt(work))
    assert thread_time() - begin < SECONDS
    assert memory < MEMORY + FACTOR * size
    if isinstance(found, RecurveError):
        assert 400 <= found.status < 500, found
        wrong = getattr(found, "violations", ())
        told = orjson.dumps([found.detail, *((each.pointer, each.detail) for each in wrong)])  # as in an answer
        assert len(told) < 20_000
        assert len(wrong) <= 10
    return found


# -- bytes that are nearly valid ---------------------------------------------------------------------------------------

PIECES = [
    *(b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b" ", b"\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc3\xa9"),
    *(b"null", b"true", b"NaN", b"Infinity", b"-Infinity", b"-", b"-0", b"0", b"00", b"1.", b".5", b"+1", b"1e", b"0x1", b"1_0"),
    *(b"1e400", b"-1e309", b"1e39", b"3.4028236e38", b"1e-46", b"5e-324", b"1e-400", b"2.5", b"9" * 30, b"9" * 400, b"9" * 5000),
    *(b"9007199254740993", b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"4294967296", b"-1"),
    *(b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\u0000"', b'"[1, 2]"', b'"\\"', b'"1"', b"[" * 3000, b'{"a":' * 3000, b"[]", b"{}"),
    *(b'"instances": ', b'"input": ', b'"state": ', b'"model": ', b'"version": ', b'"timeout_ms": ', b'"seq": ', b'"extra": 1, '),
    *(b'"return_state": true, ', b'"return_sequences": 0, ', b'"data": ', b'"shape": ', b'"datatype": ', b'"binary_data_size": '),
    *(b'"parameters": {', b'"inputs": [', b'"outputs": [', b'"name": ', b'"sequence_id": ', b'"FP32"', b'"INT64"', b'"BYTES"'),
]
EDITS = ("cut", "put", "over", "twice", "flip", "end")
edits = st.lists(
    st.tuples(st.sampled_from(EDITS), st.integers(0, 2**16), st.integers(0, 64), st.sampled_from(PIECES)), min_size=0, max_size=4
)


def edited(body: bytes, changes: list[tuple[str, int, int, bytes]]) -> bytes:
    """A body that a faulty serializer, the network or an attacker has changed."""
    for kind, place, length, piece in changes:
        at = place % (len(body) + 1)
        before, middle, after = body[:at], body[at : at + length], body[at + length :]
        match kind:
            case "cut":
                body = before + after
            case "put":
                body = before + piece + body[at:]
            case "over":
                body = before + piece + after
            case "twice":
                body = before + middle + middle + after
            case "flip":
                body = before + bytes(each ^ (1 << place % 8) for each in middle[:1]) + body[at + 1 :]
            case _:
                body = before
    return body


def texts(*values: Any) -> st.SearchStrategy[bytes]:
    """JSON of one of these values, edited."""
    written = [json.dumps(each).encode() for each in values]
    return st.builds(edited, st.sampled_from(written), edits)


def check_instances(instances: list[Instance], spec: ModelSpec) -> None:
    """Assert that they fit the model and the limits."""
    assert 1 <= len(instances) <= LIMITS.max_instances
    for each in instances:
        check_steps(each.steps, spec)
        if each.state is not None:
            assert [array.shape for array in each.state] == [state.shape for state in spec.states]
            assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in each.state)


def check_steps(steps: np.ndarray[Any, Any], spec: ModelSpec) -> None:
    assert steps.dtype == np.float32
    assert steps.ndim == 2
    assert 1 <= len(steps) <= LIMITS.max_steps
    assert steps.shape[1] == len(spec.features)
    assert spec.time_steps in (None, len(steps))
    assert np.isfinite(steps).all()


def check_options(options: Options) -> None:
    assert options.timeout is None or 0 < options.timeout <= LONGEST_TIMEOUT / 1000


# -- JSON --------------------------------------------------------------------------------------------------------------

predicts = texts(
    {"instances": [[[1, 2.5]], {"input": [[3, 4], [5, -6e-3]], "state": TOKEN}], "timeout_ms": 250, "return_state": True},
    {"instances": [[[1, 2]] * 6] * 4, "model": "pair", "version": "3", "return_sequences": False},
    {"instances": [[1, 2], [[3, 4]], {"input": [5, 6], "state": None}]},
    {"instances": [[[1], [2], [3]]], "timeout_ms": 1e-3},
    {"instances": [[[1, 2], [3, 4], [5, 6]]]},
)
chunks = texts(
    {"input": [[1, 2], [3, 4]], "seq": 7, "return_sequences": False},
    {"input": [[1], [2]], "seq": 0},
    {"input": [1, 2]},
    {"input": [[1e5, -0.0]]},
)
kinds = st.sampled_from(KINDS)


def same(found: Any, exact: Any) -> bool:
    """Whether two decoders gave the same result or error."""
    if isinstance(found, RecurveError) or isinstance(exact, RecurveError):
        return type(found) is type(exact) and vars(found) == vars(exact)
    return bool(told(found) == told(exact))


def told(decoded: PredictRequest | Chunk) -> Any:
    if isinstance(decoded, Chunk):
        return decoded.steps.tolist(), decoded.seq, decoded.return_sequences
    states = [each.state and [array.tolist() for array in each.state] for each in decoded.instances]
    return [each.steps.tolist() for each in decoded.instances], states, decoded.options


@fuzz(800)
@given(predicts, kinds)
@example(b'{"instances": [[[1, 2]]], "timeout_ms": 5e-324}', SPEC)
@example(b'{"instances": [[[1, ' + b"9" * 5000 + b"]]]}", SPEC)
def test_no_json_body_of_a_prediction_is_a_defect(body: bytes, spec: ModelSpec) -> None:
    """The fast decoder gives the same result as the exact one."""
    found = answer(lambda: Decoder(LIMITS, TOKENS).decode(body, lambda *_: spec), len(body))
    exact = answer(lambda: plain.decode(body, LIMITS, lambda *_: spec, TOKENS), len(body))
    assert same(found, exact)
    if isinstance(found, PredictRequest):
        check_instances(found.instances, spec)
        check_options(found.options)
        assert spec.causal or not any(each.state for each in found.instances)
    hint = answer(lambda: hinted_timeout(body), len(body))
    assert hint is None or (isinstance(hint, float) and 0 <= hint < 10**6)


@fuzz(500)
@given(chunks, kinds)
def test_no_json_chunk_is_a_defect(body: bytes, spec: ModelSpec) -> None:
    """A WebSocket message is such a chunk."""
    found = answer(lambda: Decoder(LIMITS, TOKENS).decode_chunk(body, spec), len(body))
    assert same(found, answer(lambda: plain.decode_chunk(body, LIMITS, spec), len(body)))
    if isinstance(found, Chunk):
        check_steps(found.steps, spec)
        assert found.seq is None or 0 <= found.seq <= 2**53


@pytest.mark.parametrize("opening", [b"[", b'{"instances":', b'{"instances":[', b'{"instances":[[[', b'{"a":[{"b":'])
@pytest.mark.parametrize("read", ["predict", "chunk", "v2"])
def test_a_body_of_brackets_takes_little_time_and_memory(read: str, opening: bytes) -> None:
    body = opening * (2**20 // len(opening))
    readers: dict[str, Callable[[], object]] = {
        "predict": lambda: Decoder(LIMITS, TOKENS).decode(body, lambda *_: SPEC),
        "chunk": lambda: Decoder(LIMITS, TOKENS).decode_chunk(body, SPEC),
        "v2": lambda: v2.read(body, None),
    }
    assert isinstance(answer(readers[read], len(body)), MalformedBody)


# -- octets ------------------------------------------------------------------------------------------------------------

numbers = st.lists(st.floats(width=32) | st.sampled_from([3.4e38, -3.4e38, 1e-45, float("nan"), float("inf")]), max_size=16).map(
    lambda values: np.array(values, "<f4").tobytes()
)
binaries = st.builds(edited, numbers | st.binary(max_size=64), edits)
names = st.sampled_from(
    ["model", "version", "return_sequences", "return_state", "timeout_ms", "seq", "instances", "input", "x", "\xff", ""]
)
given_values = st.sampled_from(
    [
        "true",
        "FALSE",
        "1",
        "-1",
        "0",
        "nan",
        "inf",
        "1e400",
        "5e-324",
        "1_0",
        "²",
        "٣",
        " 7 ",
        "9" * 30,
        "\ud800",
        "\0",
        "a",
        "",
        "3",
    ]
)
queries = st.lists(st.tuples(names, given_values | st.text(max_size=5)), max_size=3) | st.text(max_size=40).map(
    lambda text: parse_qsl(text, keep_blank_values=True)
)
tokens = st.none() | st.just(TOKEN) | st.builds(edited, st.just(TOKEN.encode()), edits).map(lambda raw: raw.decode("latin-1"))


@fuzz(800)
@given(binaries, queries, tokens, kinds)
@example(np.array([3e38, 3e38], "<f4").tobytes(), [("timeout_ms", "5e-324")], None, SPEC)
@example(np.array([3e38, 3e38], "<f4").tobytes(), [], None, SPEC)
def test_no_octets_are_a_defect(body: bytes, query: list[tuple[str, str]], token: str | None, spec: ModelSpec) -> None:
    """Also with any query and any token header."""
    found = answer(lambda: octets.decode(body, query, LIMITS, lambda *_: spec, token=token, tokens=TOKENS), len(body))
    if isinstance(found, PredictRequest):
        check_instances(found.instances, spec)
        check_options(found.options)
    chunk = answer(lambda: octets.decode_chunk(body, query, LIMITS, spec), len(body))
    if isinstance(chunk, Chunk):
        check_steps(chunk.steps, spec)
        assert chunk.seq is None or 0 <= chunk.seq <= 2**53


@fuzz(300)
@given(tokens, st.text(max_size=60), kinds)
def test_no_token_is_a_defect(token: str | None, text: str, spec: ModelSpec) -> None:
    """A token that is accepted is one that was written; only the unused bits of its last character may differ."""
    for each in (token or "", text):
        try:
            state = TOKENS.decode(each, spec)
        except BadToken:
            continue
        assert each[:-1] == TOKENS.encode(state, spec)[:-1]


# -- the Open Inference Protocol ---------------------------------------------------------------------------------------

ROWS = [[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 10], [0, 0]]]
INPUT = {"name": "input", "shape": [2, 3, 2], "datatype": "FP32", "data": ROWS}
BINARY = {"name": "input", "shape": [1, 3, 2], "datatype": "FP32", "parameters": {"binary_data_size": 24}}
inferences = texts(
    {"inputs": [INPUT, {"name": "lengths", "shape": [2], "datatype": "INT64", "data": [3, 1]}], "id": "a"},
    {"inputs": [INPUT, {"name": "h0", "shape": [1, 2, 4], "datatype": "FP32", "data": [0.5] * 8}], "outputs": [{"name": "hn"}]},
    {
        "inputs": [{**INPUT, "shape": [1, 3, 2], "data": [1, 2, 3, 4, 5, 6]}],
        "parameters": {"sequence_id": 5, "sequence_start": True},
    },
    {"inputs": [{"name": "x", "shape": [3, 1, 2], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}]},
    {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2], [3, 4]]}], "parameters": {"timeout": 9}},
    {
        "inputs": [
            {"name": "x", "shape": [3, 1, 2], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]},
            {"name": "rate", "shape": [1], "datatype": "INT64", "data": [16000]},
            {"name": "gain", "shape": [2], "datatype": "FP32", "data": [0.5, 2.0]},
        ]
    },
    {"inputs": [BINARY], "parameters": {"binary_data_output": True}},
    {"inputs": [{**INPUT, "shape": [2**62, 4, 2**62], "data": []}, {**BINARY, "shape": [0, 2**63 - 1, 2**40]}]},
)
lengths = (
    st.none()
    | st.just(b"fit")
    | st.sampled_from([b"0", b"-1", b"9" * 30, b"", b" 5 ", b"0x5", b"1e3", b"\xb2", b"000000000000000000005"])
)
v2_kinds = st.sampled_from(V2_KINDS)


@fuzz(1200)
@given(inferences, numbers | st.just(np.arange(6, dtype="<f4").tobytes()), lengths, v2_kinds)
@example(b'{"inputs": [{"name": "lengths", "shape": [0, 36893488147419103232], "datatype": "INT64", "data": []}]}', b"", None, PAIR)
def test_no_inference_is_a_defect(text: bytes, rest: bytes, length: bytes | None, spec: ModelSpec) -> None:
    """Nor is the answer to a valid inference."""
    body = text if length is None else text + rest
    header = b"%d" % len(text) if length == b"fit" else length
    found = answer(lambda: v2.fit(v2.read(body, header), spec, LIMITS), len(body))
    if not isinstance(found, v2.InferRequest):
        return
    check_instances(found.instances, spec)
    predictions: list[Prediction] = [prediction(0, len(each), spec) for each in found.instances]
    encoded = answer(lambda: v2.encode(predictions, found, spec), len(body))
    assert isinstance(encoded, v2.Encoded)
    head = orjson.loads(encoded.body[: encoded.header_length])
    assert [each["name"] for each in head["outputs"]] == [each.name for each in found.wanted]


@fuzz(200)
@given(
    texts(
        {"parameters": {"config": '{"version_policy": {"latest": {"num_versions": 1}}}'}},
        {"parameters": {"config": '{"version_policy": {"specific": {"versions": [1, "2"]}}}', "file:1/model.onnx": "x"}},
        {"parameters": {"config": '{"version_policy": {"all": {}}, "name": "\\ud800"}'}},
    )
)
def test_no_order_for_a_model_is_a_defect(body: bytes) -> None:
    answer(lambda: v2_model.policy_in(read_object(body)), len(body))


# -- compression -------------------------------------------------------------------------------------------------------

LIMIT = 2**16
CODERS: dict[compression.Coding, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
contents = st.lists(st.binary(max_size=200) | st.sampled_from([b"", bytes(LIMIT - 300), b"ab" * LIMIT]), min_size=1, max_size=3)


@fuzz(300)
@given(contents, st.sampled_from([*CODERS]), edits, st.sampled_from([b"", b"\0\0", b"\0x", b"\x1f\x8b"]))
def test_no_packed_body_is_a_defect(parts: list[bytes], coding: compression.Coding, changes: Any, tail: bytes) -> None:
    """Several gzip members in a row are one body; what is unpacked equals what was packed, and stays within the limit."""
    whole = b"".join(map(CODERS[coding], parts)) + tail
    body = edited(whole, changes)
    found = answer(lambda: compression.inflate(body, LIMIT, coding), len(body))
    if isinstance(found, bytes):
        assert len(found) <= LIMIT
    if body == whole and coding == "gzip" and not tail.strip(b"\0"):
        content = b"".join(parts)
        assert isinstance(found, TooLarge) if len(content) > LIMIT else found == content


@pytest.mark.parametrize("coding", CODERS)
@pytest.mark.parametrize("twice", [False, True], ids=["one stream", "many streams"])
def test_a_bomb_stops_at_the_limit(coding: compression.Coding, *, twice: bool) -> None:
    """64 MiB of zeros in 64 KiB: no byte is unpacked beyond the limit."""
    pack = CODERS[coding]
    bomb = pack(bytes(2**20)) * 64 if twice else pack(bytes(2**26))
    limit = 2**20 + 1 if twice else 2**20
    found, memory = peak(lambda: attempt(lambda: compression.inflate(bomb, limit, coding)))
    assert isinstance(found, MalformedBody if twice and coding == "deflate" else TooLarge)
    assert memory < 4 * limit


# -- on the wire -------------------------------------------------------------------------------------------------------

STEP = [0.5] * 6
messages = texts({"input": [STEP, STEP], "seq": 0}, {"input": [STEP]}, {"input": [STEP] * 3, "return_sequences": False})
sent = st.lists(
    st.tuples(st.sampled_from([0x81, 0x82, 0x01, 0x80, 0x88, 0x89, 0x83, 0xC1]), messages | st.binary(max_size=60)),
    min_size=1,
    max_size=4,
)
UPGRADE = (
    b"GET /streams/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with serve(repository, "--workers", "1", "--max-body-bytes", "20000") as running:
        yield running
    assert "Traceback" not in "".join(running.log), "".join(running.log)


def frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    head = struct.pack("!BB", first, 0x80 | size) if size < 126 else struct.pack("!BBH", first, 0xFE, size)
    return head + bytes(4) + payload


@fuzz(100, slow=20)
@given(sent, edits)
def test_no_message_of_a_websocket_is_a_defect(server: Server, frames: list[tuple[int, bytes]], changes: Any) -> None:
    """Broken messages in whole frames, and broken frames: the client gets an error or is cut off, and nobody else is affected."""
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port or 80), timeout=30) as caller:
        whole = b"".join(frame(first, payload[:60_000]) for first, payload in frames)
        broken = whole if len(changes) < 3 else edited(whole, changes)
        caller.sendall(UPGRADE + broken)
        caller.shutdown(socket.SHUT_WR)
        heard = b""
        try:
            while data := caller.recv(2**16):
                heard += data
        except ConnectionError:
            pass
        assert not heard or heard.startswith(b"HTTP/1.1 101"), heard[:300]
        assert b'"status": 5' not in heard
        assert b"\x03\xf3" not in heard  # 1011: the service failed on this message
    assert httpx.get(f"{server.url}/health/live").status_code == 200
