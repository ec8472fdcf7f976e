"""JSON of any size, read exactly and in little memory: long arrays become Python objects piece by piece, on each iteration.

Owns how much of a text becomes Python objects at once. Knows nothing of what the text means.
"""

import json
import re
from collections.abc import Callable, Iterator
from itertools import chain
from json import JSONDecodeError
from typing import Any

from app.errors import InvalidRequest

AT_ONCE = 2**16  # characters that are parsed in one call: 1 or 2 ms, during which no other thread runs
FEWEST = 2**6  # characters: a smaller piece is not tried
SINGLY = 2**8  # elements that are read one by one before many are tried at once again
LONG_INTEGER = 1000  # characters from which on an integer is read as a float
MOST_SINGLY = 2**18  # values of a text that may be read one by one, repeated readings included; each takes microseconds

Hook = Callable[[list[tuple[str, Any]]], Any]  # makes the value for a JSON object from its members, or raises

_SPACE = re.compile(r"[ \t\n\r]*")


def read(text: str, hook: Hook, *, at_once: int = AT_ONCE) -> Any:
    """The value that `json.loads` returns, with the same errors; but in a long text, an array is returned as Elements.

    In a long text, an object that is a member of an object is returned empty.
    """
    if len(text) <= at_once:
        return json.loads(text, object_pairs_hook=hook, parse_int=_integer)
    reader = Reader(text, hook, at_once)
    value, end = reader.value(reader.after_space(0))
    if (end := reader.after_space(end)) < len(text):
        raise JSONDecodeError("Extra data", text, end)
    return value


class Elements:
    """The elements of an array; each iteration reads them from the text again."""

    __slots__ = ("_begin", "_count", "_reader", "end")

    def __init__(self, reader: "Reader", begin: int) -> None:
        self._reader, self._begin = reader, begin
        self._count, self.end = reader.long.get(begin, (0, 0))
        if not self.end:
            for block, self.end in reader.blocks(begin):
                self._count += len(block)
            if self.end - begin > reader.at_once:
                reader.long[begin] = self._count, self.end

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self.blocks())

    def blocks(self) -> Iterator[list[Any]]:
        """All elements in order, as lists of many."""
        return (block for block, _ in self._reader.blocks(self._begin))


class Reader:
    """Reads one text: gives the json module a piece of it at a time, or a single value that is neither an array nor an object."""

    def __init__(self, text: str, hook: Hook, at_once: int) -> None:
        self.at_once = at_once
        self.long: dict[int, tuple[int, int]] = {}  # start of a long array -> number of its elements, and its end
        self._text = text
        self._left = MOST_SINGLY
        self._hook = hook
        self._single = json.JSONDecoder(parse_int=_integer)
        self._many = json.JSONDecoder(object_pairs_hook=hook)  # without parse_int, which would take twice as long

    def after_space(self, at: int) -> int:
        """The position of the next character that is not white space."""
        return _SPACE.match(self._text, at).end()  # type: ignore[union-attr]  # it always matches, also the empty string

    def value(self, at: int) -> tuple[Any, int]:
        """The value at this position, and where it ends; raises InvalidRequest after MOST_SINGLY calls."""
        self._left -= 1
        if self._left < 0:
            detail = f"what is wrong with it cannot be told: more than {MOST_SINGLY} values of the body had to be read one by one"
            raise InvalidRequest.at("", detail)
        first = self._text[at : at + 1]
        if first == "[":
            elements = Elements(self, at)
            return elements, elements.end
        return self._object(at) if first == "{" else self._single.raw_decode(self._text, at)

    def blocks(self, at: int) -> Iterator[tuple[list[Any], int]]:
        """The elements of the array at this position, in blocks, each with the position where it ends."""
        at = self.after_space(at + 1)
        if self._text[at : at + 1] == "]":
            yield [], at + 1
            return
        size = self.at_once
        while True:
            end = self._cut(at, size)
            block = self._elements(at, end)
            if block is None and size > FEWEST:  # the cut was not between two elements: try a shorter piece
                size //= 4
                continue
            if block is None:
                block, end = self._singly(at)
            size = min(size * 4, self.at_once)
            end = self.after_space(end)
            if self._goes_on(end, "]"):
                yield block, end
                at = self.after_space(end + 1)
            else:
                yield block, end + 1
                return

    def _singly(self, at: int) -> tuple[list[Any], int]:
        """Some elements, read one by one, and where the last one ends: for strings full of commas, where cutting fails."""
        block: list[Any] = []
        while True:
            element, end = self.value(at)
            block.append(element)
            after = self.after_space(end)
            if len(block) >= SINGLY or self._text[after : after + 1] != ",":
                return block, end
            at = self.after_space(after + 1)

    def _cut(self, at: int, size: int) -> int:
        """A position where an element may end, at most `size` characters from here; negative when there is none."""
        bracket = self._text.rfind("],", at, at + size)
        return bracket + 1 if bracket >= 0 else self._text.rfind(",", at, at + size)

    def _elements(self, at: int, end: int) -> list[Any] | None:
        """The elements between two positions; None unless the text between them is a list of whole elements."""
        if end <= at:
            return None
        piece = f"[{self._text[at:end]}]"
        try:
            elements, length = self._many.raw_decode(piece)
        except ValueError:  # not JSON, or an integer of thousands of digits
            return None
        return elements if length == len(piece) else None

    def _object(self, at: int) -> tuple[Any, int]:
        members: list[tuple[str, Any]] = []
        at = self.after_space(at + 1)
        if self._text[at : at + 1] == "}":
            return self._hook(members), at + 1
        while True:
            if self._text[at : at + 1] != '"':
                raise JSONDecodeError("Expecting property name enclosed in double quotes", self._text, at)
            name, at = self._single.raw_decode(self._text, at)
            at = self.after_space(at)
            if self._text[at : at + 1] != ":":
                raise JSONDecodeError("Expecting ':' delimiter", self._text, at)
            value, at = self.value(self.after_space(at + 1))
            members.append((name, {} if isinstance(value, dict) else value))
            at = self.after_space(at)
            if not self._goes_on(at, "}"):
                return self._hook(members), at + 1
            at = self.after_space(at + 1)

    def _goes_on(self, at: int, end: str) -> bool:
        """Whether a comma is at this position: False for the closing bracket `end`; raises for anything else."""
        mark = self._text[at : at + 1]
        if mark not in (",", end):
            raise JSONDecodeError("Expecting ',' delimiter", self._text, at)
        return mark == ","


def _integer(digits: str) -> int | float:
    """An integer; a very long one as a float. Python refuses thousands of digits; as a float they are infinite: too large."""
    return int(digits) if len(digits) < LONG_INTEGER else float(digits)
