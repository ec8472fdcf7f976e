"""The JSON objects of the Open Inference Protocol: reads them, and checks that members have their type and none is repeated.

Owns how such a body is read, with a fast check for ordinary bodies. Knows nothing of what the members mean.
"""

from contextlib import suppress
from json import JSONDecodeError
from typing import Any, TypeVar

import orjson

from app.codecs import pieces
from app.codecs.request import escape, kind
from app.errors import InvalidRequest, MalformedBody

T = TypeVar("T")

MOST_MEMBERS = 2**20  # members and objects in one body: each takes about 200 bytes

_TYPES = {str: "a string", bool: "true or false", dict: "an object", list: "an array"}


def read_object(text: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises MalformedBody, also for a member that an object has twice, and InvalidRequest."""
    try:
        return _read_object(text)
    except RecursionError:
        raise MalformedBody("The body is nested too deeply.") from None


def _read_object(text: bytes) -> dict[str, Any]:
    if text.count(b":") + text.count(b"{") > MOST_MEMBERS:  # too many, unless these characters are in strings: count exactly
        with suppress(JSONDecodeError):  # reported below
            _look_through(text)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"The body is not valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InvalidRequest.at("", f"expected an object, got {kind(value)}")
    if b"\\" in text or text.count(b":") != _colons(value):  # a repeated member, or a colon that this fast check does not see
        _look_through(text)
    return value


def _colons(value: Any) -> int:
    """How many colons this value has as JSON; `data` is not searched, for a tensor's numbers have none."""
    if isinstance(value, dict):
        return sum(1 + name.count(":") + (0 if name == "data" else _colons(each)) for name, each in value.items())
    if isinstance(value, list):
        return sum(map(_colons, value))
    return value.count(":") if isinstance(value, str) else 0


def _look_through(text: bytes) -> None:
    """Refuse repeated members, of which parsers choose different ones, and more than MOST_MEMBERS objects and members."""
    left = MOST_MEMBERS

    def look(members: list[tuple[str, Any]]) -> None:
        nonlocal left
        left -= 1 + len(members)
        if left < 0:
            detail = f"more than {MOST_MEMBERS} objects and members are too many to look through; a tensor needs a few"
            raise InvalidRequest.at("", detail)
        seen: set[str] = set()
        for name, _ in members:
            if name in seen:
                raise MalformedBody(f"The member {escape(name)} is in one object twice.")
            seen.add(name)

    pieces.read(text.decode(errors="replace"), look)


def parameters_of(holder: dict[str, Any], pointer: str) -> dict[str, Any]:
    """The member `parameters`, which may be absent."""
    return member_of(holder, "parameters", dict, pointer) or {}


def object_at(value: Any, pointer: str) -> dict[str, Any]:
    """The value, which must be an object."""
    if not isinstance(value, dict):
        raise InvalidRequest.at(pointer, f"expected an object, got {kind(value)}")
    return value


def member_of(holder: dict[str, Any], name: str, type: type[T], pointer: str) -> T | None:
    """A member of this type; null is the same as absent."""
    value = holder.get(name)
    if value is None or isinstance(value, type):
        return value
    raise InvalidRequest.at(f"{pointer}/{name}", f"expected {_TYPES[type]}, got {kind(value)}")


def required_of(holder: dict[str, Any], name: str, type: type[T], pointer: str) -> T:
    """A member of this type, which must be present."""
    value = member_of(holder, name, type, pointer)
    if value is None:
        raise InvalidRequest.at(pointer, f"the member {name} is missing")
    return value
