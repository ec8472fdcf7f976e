"""JSON objects of the Open Inference Protocol, member by member: each is of its type, and none stands there twice.

Owns how such a body is read, quickly where nothing is out of the ordinary. Knows nothing of what the members mean.
"""

from contextlib import suppress
from json import JSONDecodeError
from typing import Any, TypeVar

import orjson

from app.codecs import pieces
from app.codecs.request import escape, kind
from app.errors import InvalidRequest, MalformedBody

T = TypeVar("T")

MOST_MEMBERS = 2**20  # of all objects together, and objects: each takes about 200 bytes

_TYPES = {str: "a string", bool: "true or false", dict: "an object", list: "an array"}


def read_object(text: bytes) -> dict[str, Any]:
    """The JSON object of a body; MalformedBody, and so too where a member stands in it twice."""
    try:
        return _read_object(text)
    except RecursionError:
        raise MalformedBody("The body is nested too deeply.") from None


def _read_object(text: bytes) -> dict[str, Any]:
    if text.count(b":") + text.count(b"{") > MOST_MEMBERS:  # or they stand in strings
        with suppress(JSONDecodeError):  # said below
            _look_through(text)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"The body is not valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InvalidRequest.at("", f"expected an object, got {kind(value)}")
    if b"\\" in text or text.count(b":") != _colons(value):  # a member twice, or a colon where this quick look does not see it
        _look_through(text)
    return value


def _colons(value: Any) -> int:
    """The colons that this value has as JSON, those in the numbers of a tensor left out: it has none."""
    if isinstance(value, dict):
        return sum(1 + name.count(":") + (0 if name == "data" else _colons(each)) for name, each in value.items())
    if isinstance(value, list):
        return sum(map(_colons, value))
    return value.count(":") if isinstance(value, str) else 0


def _look_through(text: bytes) -> None:
    """Refuse an object that has a member twice: each reader would take another. And more members than can be kept."""
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
    """A member of this type that must be there."""
    value = member_of(holder, name, type, pointer)
    if value is None:
        raise InvalidRequest.at(pointer, f"the member {name} is missing")
    return value
