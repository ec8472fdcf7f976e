"""The JSON bodies of predictions: bytes -> instances, predictions -> bytes.

Owns the fast decoder and the encoder. The decoder reads numbers straight into a buffer, without a Python object for each, and
gives up at anything unusual: then plain.py decodes the body and says what is wrong. Knows nothing of HTTP.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import orjson
import simdjson

from app.codecs import entries, plain
from app.codecs.entries import Entry
from app.codecs.plain import Choose
from app.codecs.request import (
    CHUNK_MEMBERS,
    INSTANCE_MEMBERS,
    MEMBERS,
    Limits,
    Options,
    PredictRequest,
    check_state_options,
    chunk_options_of,
    options_of,
    shown,
    wrong_length,
)
from app.errors import InvalidRequest, RecurveError
from app.manifest import ModelSpec
from app.streaming.streams import Chunk, ChunkAnswer
from app.streaming.tokens import BadToken, Tokens
from app.tensors import FLOAT32_MAX, Array, Instance, Prediction, State

T = TypeVar("T")

NUMBERS = b"0123456789.eE+- \t\r\n"  # the characters of numbers and of the white space around them
ENDS = 256  # bytes at either end of a body in which `hinted_timeout` looks
_TIMEOUT = re.compile(rb'"timeout_ms"\s*:\s*([0-9]{1,9})\s*[,}]')


class _Unusual(Exception):
    """The fast decoder cannot be sure about this body: the exact one must decode it."""


def hinted_timeout(body: bytes) -> float | None:
    """The timeout in seconds that the ends of the body suggest: good enough to refuse a request by, not to serve one by."""
    found = _TIMEOUT.search(body, max(0, len(body) - ENDS)) or _TIMEOUT.search(body, 0, ENDS)
    return int(found[1]) / 1000 if found else None


class Decoder:
    """Decodes bodies, one at a time."""

    def __init__(self, limits: Limits, tokens: Tokens) -> None:
        self._limits = limits
        self._tokens = tokens
        self._parser = simdjson.Parser()

    def decode(self, body: bytes, choose: Choose) -> PredictRequest:
        """The decoded request. `choose` returns the spec for a model and a version, either of which may be None, or raises.

        Raises MalformedBody, InvalidRequest, TooLarge, and what `choose` raises; one wrong instance fails the request.
        """
        return self.quick(body, choose) or self.exact(body, choose)

    def quick(self, body: bytes, choose: Choose) -> PredictRequest | None:
        """The request in an ordinary body; None if anything in the body is unusual. Raises what `decode` raises."""
        return self._try(self._decode, body, choose)

    def exact(self, body: bytes, choose: Choose) -> PredictRequest:
        """The request in any body; takes many times as long. Raises what `decode` raises. Several threads may call it."""
        return plain.decode(body, self._limits, choose, self._tokens)

    def decode_chunk(self, body: bytes, spec: ModelSpec) -> Chunk:
        """The chunk in the body of a stream's request; raises MalformedBody, InvalidRequest, TooLarge."""
        return self.quick_chunk(body, spec) or self.exact_chunk(body, spec)

    def quick_chunk(self, body: bytes, spec: ModelSpec, known: Sequence[str] = CHUNK_MEMBERS) -> Chunk | None:
        """The chunk in an ordinary body; None if anything in the body is unusual. Raises what `decode_chunk` raises."""
        return self._try(self._decode_chunk, body, spec, known)

    def exact_chunk(self, body: bytes, spec: ModelSpec, known: Sequence[str] = CHUNK_MEMBERS) -> Chunk:
        """The chunk in any body; takes many times as long. Raises what `decode_chunk` raises. Several threads may call it."""
        return plain.decode_chunk(body, self._limits, spec, known)

    def quick_entries(self, body: bytes) -> list[Entry] | None:
        """The chunks of many streams in an ordinary body; None if anything but the inside of a chunk is unusual.

        Raises InvalidRequest, TooLarge.
        """
        return self._try(self._entries, body)

    def exact_entries(self, body: bytes) -> list[Entry]:
        """The same in any body. Raises MalformedBody, InvalidRequest, TooLarge. Several threads may call it."""
        return entries.split(body, self._limits)

    def _try(self, decode: Callable[..., T], *arguments: Any) -> T | None:
        """The result of the fast decoder; None when it cannot be sure of it."""
        try:
            return decode(*arguments)
        except _Unusual:
            return None
        except RecurveError as error:  # its traceback must not keep the parser's document alive: a parser can have only one
            raise error.with_traceback(None) from None

    def _entries(self, body: bytes) -> list[Entry]:
        chunks = _members(self._parse(body), entries.MEMBERS)["chunks"]
        if not isinstance(chunks, simdjson.Array):
            raise _Unusual
        self._limits.check_chunks(len(chunks))
        return [_entry(each) for each in chunks]

    def _decode_chunk(self, body: bytes, spec: ModelSpec, known: Sequence[str] = CHUNK_MEMBERS) -> Chunk:
        members = _members(self._parse(body), known)
        try:
            options = chunk_options_of(members, known)
        except InvalidRequest:
            raise _Unusual from None
        given = members["input"]
        if not isinstance(given, simdjson.Array):
            raise _Unusual
        steps, arrays = self._sequence(given, "/input", spec)
        self._check_brackets(body, len(spec.features), steps=len(steps), arrays=arrays)
        return Chunk(steps, **options)

    def _decode(self, body: bytes, choose: Choose) -> PredictRequest:
        members = _members(self._parse(body), MEMBERS)
        try:
            options = options_of(members)
        except InvalidRequest:
            raise _Unusual from None
        spec = choose(options.model, options.version)
        check_state_options(spec, given=options.return_state)
        instances = members["instances"]
        if not isinstance(instances, simdjson.Array):
            raise _Unusual
        self._limits.check_instances(len(instances))
        decoded = []
        steps, arrays = 0, 1
        for index, instance in enumerate(instances):
            pointer, state = f"/instances/{index}", None
            if isinstance(instance, simdjson.Object):
                pointer += "/input"
                inner = _members(instance, INSTANCE_MEMBERS)
                instance, state = inner.get("input"), self._state(inner.get("state"), spec)
            if not isinstance(instance, simdjson.Array):
                raise _Unusual
            sequence, inside = self._sequence(instance, pointer, spec)
            decoded.append(Instance(sequence, state))
            steps += len(sequence)
            arrays += inside
        self._check_brackets(body, len(spec.features), steps=steps, arrays=arrays)
        return PredictRequest(decoded, options)

    def _parse(self, body: bytes) -> Any:
        try:
            return self._parser.parse(body)
        except (ValueError, RuntimeError):  # not JSON, or NaN, or a number out of range
            raise _Unusual from None

    def _check_brackets(self, body: bytes, features: int, *, steps: int, arrays: int) -> None:
        """Check the nesting, which as_buffer flattens: the body must have exactly `arrays` opening brackets, and `steps` arrays of
        `features` numbers. Raises _Unusual."""
        skeleton = body.translate(None, NUMBERS)
        if skeleton.count(b"[" + b"," * (features - 1) + b"]") != steps or skeleton.count(b"[") != arrays:
            raise _Unusual

    def _sequence(self, sequence: simdjson.Array, pointer: str, spec: ModelSpec) -> tuple[Array, int]:
        """The sequence, (time, features), and how many JSON arrays it consists of."""
        features, length = len(spec.features), len(sequence)
        arrays = 1 + length
        bare = (spec.stepwise or features == 1) and length > 0 and not isinstance(sequence[0], simdjson.Array)
        if bare and not spec.stepwise:
            raise _Unusual  # numbers instead of steps of one feature: flattened, they look the same
        if bare:
            length, arrays = 1, 1
        self._limits.check_steps(length, pointer)  # before the exact decoder would make Python objects of all steps
        if wrong_length(length, spec):
            raise _Unusual
        try:
            values = np.frombuffer(sequence.as_buffer(of_type="d"), dtype=np.float64)
        except TypeError:  # an element is not a number
            raise _Unusual from None
        if values.size != length * features or np.vdot(values, values) > FLOAT32_MAX**2:  # a value may exceed float32
            raise _Unusual
        return values.astype(np.float32).reshape(length, features), arrays

    def _state(self, token: object, spec: ModelSpec) -> State | None:
        try:
            return plain.read_state(token, spec, self._tokens)
        except BadToken:
            raise _Unusual from None


def _members(value: object, known: Sequence[str]) -> dict[str, Any]:
    """The members of an object. Raises _Unusual for an unknown or repeated member, and for a bracket in a string."""
    if not isinstance(value, simdjson.Object) or not 0 < len(value) <= len(known):
        raise _Unusual
    members: dict[str, Any] = {}
    for name in value.keys():  # noqa: SIM118  # items() would make Python lists of all arrays
        if name not in known or name in members:
            raise _Unusual
        member = members[name] = value[name]
        if isinstance(member, str) and "[" in member:
            raise _Unusual
    return members


def _entry(value: object) -> Entry:
    if not isinstance(value, simdjson.Object) or [*value.keys()].count("id") != 1:
        raise _Unusual
    id = value["id"]
    if not isinstance(id, str):
        raise _Unusual
    return id, value.mini  # type: ignore[return-value]  # its stub is wrong: these are bytes


def encode(predictions: Sequence[Prediction], options: Options, spec: ModelSpec, provider: str, tokens: Tokens) -> bytes:
    """The body of the answer. Every float32 is written with the fewest digits that restore it exactly."""
    answer: dict[str, Any] = {"predictions": [_told(each.outputs, spec, options.return_sequences) for each in predictions]}
    if options.return_state:
        answer["states"] = [tokens.encode(prediction.state, spec) for prediction in predictions]
    answer |= {"model": spec.name, "version": spec.version, "provider": provider}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def told_chunk(answer: ChunkAnswer, chunk: Chunk, spec: ModelSpec) -> dict[str, Any]:
    """The members of the answer to a stream's chunk."""
    told = _told(answer.outputs, spec, chunk.return_sequences)
    return {"predictions": told, "seq": answer.seq, "steps": answer.steps}


def encode_chunk(answer: ChunkAnswer, chunk: Chunk, spec: ModelSpec, **more: str) -> bytes:
    """The body of the answer to a stream's chunk."""
    return orjson.dumps({**told_chunk(answer, chunk, spec), **more}, option=orjson.OPT_SERIALIZE_NUMPY)


def encode_results(results: Sequence[dict[str, Any]]) -> bytes:
    """The body of the answer to the chunks of many streams, from an object for each; an error in it is JSON already, as bytes."""
    return orjson.dumps({"results": results}, option=orjson.OPT_SERIALIZE_NUMPY, default=orjson.Fragment)


def _told(outputs: Sequence[Array], spec: ModelSpec, return_sequences: bool) -> Array | dict[str, Array]:
    """A prediction as it is written: an array or, if the model has several outputs, an object with an array for each."""
    arrays = shown(outputs, spec, return_sequences=return_sequences)
    return arrays[0] if len(arrays) == 1 else dict(zip([output.name for output in spec.outputs], arrays, strict=True))
