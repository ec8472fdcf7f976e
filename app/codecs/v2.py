"""The inference bodies of the Open Inference Protocol V2: JSON, and the binary tensors that may follow it.

Owns the members of requests and answers, and the binary tensor extension. tensor_rows.py knows what the tensors mean,
tensor_data.py reads their numbers. Unknown members and parameters are ignored: the protocol's clients rely on that.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from app.codecs.members import member_of, object_at, parameters_of, read_object, required_of
from app.codecs.request import LONGEST_TIMEOUT, Limits
from app.codecs.tensor_data import DATATYPES, Tensor, read_shape
from app.codecs.tensor_rows import instances_of, tensor_of
from app.errors import MOST_SHOWN, InvalidRequest, MalformedBody
from app.manifest import NAME_PATTERN, ModelSpec
from app.tensors import Instance, Prediction

LARGEST_ID = 2**64 - 1
_ID = re.compile(NAME_PATTERN)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output to return, and whether as bytes."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class SequenceFlags:
    """A request's place in a sequence whose state the service keeps: the sequence's id, and whether it starts or ends here."""

    id: str
    start: bool
    end: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it was read, before it is checked against a model."""

    members: dict[str, Any]
    parameters: dict[str, Any]
    tensors: dict[str, Tensor]
    id: str | None
    timeout: float | None  # seconds
    sequence: SequenceFlags | None


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One decoded request: instances that fit its model, and the outputs to return."""

    instances: list[Instance]
    wanted: tuple[Wanted, ...]
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """The body of an answer, and the length of its JSON if bytes follow it."""

    body: bytes
    header_length: int | None = None


def read(body: bytes, header_length: bytes | None) -> Asked:
    """The request. `header_length`: the header Inference-Header-Content-Length. Raises MalformedBody and InvalidRequest."""
    text, rest = _parted(body, header_length)
    members = read_object(text)
    parameters = parameters_of(members, "")
    tensors = _tensors(members, rest)
    sequence = _sequence(parameters)
    return Asked(members, parameters, tensors, member_of(members, "id", str, ""), _timeout(parameters), sequence)


def fit(asked: Asked, spec: ModelSpec, limits: Limits) -> InferRequest:
    """The request, checked against this model; raises MalformedBody, InvalidRequest and TooLarge."""
    sequence = asked.sequence
    if sequence is not None:
        _check_sequence(sequence, asked.tensors, spec)
    wanted = _wanted(asked.members, asked.parameters, spec, stateful=sequence is not None)
    instances = instances_of(spec, asked.tensors, limits)
    if sequence is not None and len(instances) != 1:
        raise InvalidRequest.at("/inputs", f"a request of a sequence has one row, got {len(instances)}")
    return InferRequest(instances, wanted, asked.id)


def check_kept(spec: ModelSpec) -> None:
    """Raises InvalidRequest unless the state of this model can be kept from request to request."""
    if not spec.causal:
        detail = f"{spec} has no state to go on from: it answers whole sequences only, so a sequence cannot come in parts"
        raise InvalidRequest.at("/parameters/sequence_id", detail)


def encode(predictions: Sequence[Prediction], request: InferRequest, spec: ModelSpec) -> Encoded:
    """The answer. In JSON the numbers are flat, each float32 with the fewest digits that restore it exactly."""
    outputs: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for wanted in request.wanted:
        array = tensor_of(spec, wanted.name, predictions)
        output: dict[str, Any] = {"name": wanted.name, "datatype": "FP32", "shape": array.shape}
        if wanted.binary:
            parts.append(array.astype(DATATYPES["FP32"], copy=False).tobytes())
            output["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            output["data"] = array.reshape(-1)
        outputs.append(output)
    answer: dict[str, Any] = {"model_name": spec.name, "model_version": spec.version, "outputs": outputs}
    if request.id is not None:
        answer["id"] = request.id
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return Encoded(b"".join((head, *parts)), len(head)) if parts else Encoded(head)


def _parted(body: bytes, header_length: bytes | None) -> tuple[bytes, memoryview]:
    """The JSON part of the body, and the bytes after it."""
    if header_length is None:
        return body, memoryview(b"")
    digits = header_length.strip()
    shown = digits[:MOST_SHOWN].decode("latin-1")
    if not digits.isdigit():
        raise MalformedBody(f"Inference-Header-Content-Length must be a number of bytes, got {shown!r}.")
    if len(digits.lstrip(b"0")) > 18 or int(digits) > len(body):
        raise MalformedBody(f"Inference-Header-Content-Length is {shown}, but the body has only {len(body)} bytes.")
    return body[: int(digits)], memoryview(body)[int(digits) :]


def _tensors(request: dict[str, Any], rest: memoryview) -> dict[str, Tensor]:
    """The inputs by name, each with its part of the bytes that follow the JSON."""
    tensors: dict[str, Tensor] = {}
    at = 0
    for index, given in enumerate(required_of(request, "inputs", list, "")):
        pointer = f"/inputs/{index}"
        member = object_at(given, pointer)
        name = required_of(member, "name", str, pointer)
        if name in tensors:
            raise InvalidRequest.at(f"{pointer}/name", f"the input {name[:MOST_SHOWN]} is there twice")
        shape = read_shape(required_of(member, "shape", list, pointer), f"{pointer}/shape")
        datatype = required_of(member, "datatype", str, pointer)
        data = member.get("data")
        size = parameters_of(member, pointer).get("binary_data_size")
        if size is not None:
            where = f"{pointer}/parameters/binary_data_size"
            if data is not None:
                raise InvalidRequest.at(pointer, f"{name[:MOST_SHOWN]} has both data and a binary_data_size")
            if type(size) is not int or size < 0:
                raise InvalidRequest.at(where, f"{name[:MOST_SHOWN]}: expected a number of bytes from 0 up")
            if size > len(rest) - at:
                detail = f"{name[:MOST_SHOWN]}: {size} bytes should follow the JSON, {len(rest) - at} are left"
                raise InvalidRequest.at(where, detail)
            data = rest[at : at + size]
            at += size
        elif data is None:
            raise InvalidRequest.at(pointer, f"{name[:MOST_SHOWN]} has neither data nor a binary_data_size")
        tensors[name] = Tensor(name, datatype, shape, data, pointer)
    if at < len(rest):
        raise InvalidRequest.at("/inputs", f"{len(rest)} bytes follow the JSON, the inputs take {at} of them")
    return tensors


def _wanted(request: dict[str, Any], parameters: dict[str, Any], spec: ModelSpec, *, stateful: bool) -> tuple[Wanted, ...]:
    binary = member_of(parameters, "binary_data_output", bool, "/parameters") or False
    named = member_of(request, "outputs", list, "")
    if not named:
        return tuple(Wanted(output.name, binary) for output in spec.outputs)
    states = [state.output for state in spec.states]
    known = [output.name for output in spec.outputs] + states
    wanted: dict[str, Wanted] = {}
    for index, given in enumerate(named):
        pointer = f"/outputs/{index}"
        member = object_at(given, pointer)
        name = required_of(member, "name", str, pointer)
        shown = name[:MOST_SHOWN]
        if name not in known:
            raise InvalidRequest.at(f"{pointer}/name", f"{spec} has no output {shown}; it gives {', '.join(known)}")
        if name in wanted:
            raise InvalidRequest.at(f"{pointer}/name", f"the output {shown} is there twice")
        if stateful and name in states:
            raise InvalidRequest.at(f"{pointer}/name", f"{shown} is a state, which the service keeps for a sequence")
        own = member_of(parameters_of(member, pointer), "binary_data", bool, f"{pointer}/parameters")
        wanted[name] = Wanted(name, binary if own is None else own)
    return tuple(wanted.values())


def _sequence(parameters: dict[str, Any]) -> SequenceFlags | None:
    """The request's place in a sequence, if any; the ids 0 and "" mean no sequence."""
    id = parameters.get("sequence_id")
    start, end = (member_of(parameters, name, bool, "/parameters") or False for name in ("sequence_start", "sequence_end"))
    where = "/parameters/sequence_id"
    if id in (None, "", 0) and not isinstance(id, bool):
        if start or end:
            raise InvalidRequest.at(where, "sequence_start and sequence_end are for a sequence_id, which is missing")
        return None
    if type(id) is int and 0 < id <= LARGEST_ID:
        return SequenceFlags(str(id), start, end)
    if not isinstance(id, str) or not _ID.fullmatch(id):
        detail = "expected an integer from 0 to 2**64 - 1, or 1 to 128 letters, digits, dots, dashes and underscores"
        raise InvalidRequest.at(where, detail)
    return SequenceFlags(id, start, end)


def _check_sequence(sequence: SequenceFlags, tensors: dict[str, Tensor], spec: ModelSpec) -> None:
    """Raises InvalidRequest if the request sends a state, which the service keeps for a sequence."""
    for state in spec.states:
        if state.input in tensors:
            raise tensors[state.input].refuse(f"it is a state, which the service keeps for the sequence {sequence.id}", "/name")


def _timeout(parameters: dict[str, Any]) -> float | None:
    """The timeout in seconds, None for 0; the protocol's clients send microseconds."""
    timeout = parameters.get("timeout")
    if timeout is None or (timeout == 0 and type(timeout) is int):
        return None
    if type(timeout) is not int or not 0 < timeout <= LONGEST_TIMEOUT * 1000:
        detail = f"expected an integer of microseconds from 0 up, at most {LONGEST_TIMEOUT * 1000}"
        raise InvalidRequest.at("/parameters/timeout", detail)
    return timeout / 1e6
