"""The body with chunks of many streams, taken apart: the id of each chunk, and its JSON as bytes.

Owns what is wrong with such a body as a whole. What a chunk holds is found out when the model of its stream is known. Written for
exactness: json.py has the fast way, which must agree with this one.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeAlias

from app.codecs import plain
from app.codecs.plain import ARRAY
from app.codecs.request import MOST_VIOLATIONS, Limits, escape, kind, unknown_members
from app.errors import InvalidRequest, Violation

MEMBERS = ("chunks",)

Entry: TypeAlias = tuple[str, bytes]  # a stream's id; the chunk as a JSON object, in which the id is a member too

_IN_ARRAY = 3  # the depth of the objects in an array that is a member of the body
# Strings, arrays without strings and brackets in them, and other brackets: what ends an object is found by counting the last.
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|\[[^][{}"]*+\]|[][{}]', re.DOTALL)


class _Members(dict[str, Any]):
    """The members of an object, and those that it has twice: in a chunk they are the chunk's own error."""

    __slots__ = ("twice",)

    def __init__(self, members: list[tuple[str, Any]]) -> None:
        super().__init__(members)
        counts = Counter(name for name, _ in members) if len(self) < len(members) else {}
        self.twice = [name for name, times in counts.items() if times > 1]


def split(body: bytes, limits: Limits) -> list[Entry]:
    """The chunks in a body, in order. Raises MalformedBody, InvalidRequest, TooLarge: then none of them may be done."""
    members = plain.parse(body, hook=_Members)
    if not isinstance(members, _Members):
        raise InvalidRequest.at("", f"expected an object with the member chunks, got {kind(members)}")
    violations = [_twice(name, "") for name in members.twice] + unknown_members(members, "", MEMBERS)
    if members.get("chunks") is None:
        violations.append(Violation("", "the member chunks is missing"))
    if violations:
        raise InvalidRequest(violations[:MOST_VIOLATIONS])
    chunks = members["chunks"]
    if not isinstance(chunks, ARRAY):
        raise InvalidRequest.at("/chunks", f"expected an array of chunks, got {kind(chunks)}")
    limits.check_chunks(len(chunks))
    ids: list[str] = []
    for index, chunk in enumerate(chunks):
        if wrong := _wrong(chunk, f"/chunks/{index}"):
            violations.append(wrong)
        else:
            ids.append(chunk["id"])
    if violations:
        raise InvalidRequest(violations[:MOST_VIOLATIONS])
    return [*zip(ids, _objects(body), strict=True)]


def _wrong(chunk: Any, pointer: str) -> Violation | None:
    """Why it cannot be said which stream this chunk is for; None: it can."""
    if not isinstance(chunk, _Members):
        return Violation(pointer, f"expected an object with the members id and input, got {kind(chunk)}")
    if "id" in chunk.twice:
        return _twice("id", pointer)
    if "id" not in chunk:
        return Violation(pointer, "the member id is missing")
    id = chunk["id"]
    if not isinstance(id, str):
        return Violation(f"{pointer}/id", f"expected the id of a stream, a string, got {kind(id)}")
    try:
        id.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: the answer could not repeat it
        return Violation(f"{pointer}/id", "expected the id of a stream, got a string that is not Unicode")
    return None


def _twice(name: str, pointer: str) -> Violation:
    return Violation(pointer, f"the member {escape(name)} is there twice")


def _objects(body: bytes) -> Iterator[bytes]:
    """The objects in the only array that is a member of this body, which must be valid."""
    depth = begin = 0
    for token in _TOKENS.finditer(body):
        match token[0]:
            case b"{" | b"[":
                depth += 1
                begin = token.start() if depth == _IN_ARRAY else begin
            case b"}" | b"]":
                if depth == _IN_ARRAY:
                    yield body[begin : token.end()]
                depth -= 1
