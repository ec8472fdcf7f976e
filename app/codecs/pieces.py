"""JSON of any size, read exactly and in little memory: long arrays become objects piece by piece, each time they are iterated.

Owns how much of a text becomes objects at once. Knows nothing of what it means.
"""

import json
import re
from collections.abc import Callable, Iterator
from itertools import chain
from json import JSONDecodeError
from typing import Any

from app.errors import InvalidRequest

AT_ONCE = 2**16  # characters that become objects together: a millisecond or two, in which nothing else runs
FEWEST = 2**6
SINGLY = 2**8  # elements that are read one by one before it is tried again to read many
LONG_INTEGER = 1000  # characters; more are read as a float
MOST_SINGLY = 2**18  # values of a text that are read by themselves, each time anew, in some microseconds each

Hook = Callable[[list[tuple[str, Any]]], Any]  # makes an object of its members, or raises

_SPACE = re.compile(r"[ \t\n\r]*")


def read(text: str, hook: Hook, *, at_once: int = AT_ONCE) -> Any:
    """The value that `json.loads` gives, with the same errors; but where the text is long, Elements stand for its arrays.

    An object in an object is then left empty.
    """
    if len(text) <= at_once:
        return json.loads(text, object_pairs_hook=hook, parse_int=_integer)
    reader = Reader(text, hook, at_once)
    value, end = reader.value(reader.after_space(0))
    if (end := reader.after_space(end)) < len(text):
        raise JSONDecodeError("Extra data", text, end)
    return value


class Elements:
    """The elements of an array, which are read each time anew."""

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
        """All elements in their order, in lists of many."""
        return (block for block, _ in self._reader.blocks(self._begin))


class Reader:
    """Reads one text, of which the json module is given a piece at a time, or a single value that is neither array nor object."""

    def __init__(self, text: str, hook: Hook, at_once: int) -> None:
        self.at_once = at_once
        self.long: dict[int, tuple[int, int]] = {}  # where an array begins: how many elements it has, and where it ends
        self._text = text
        self._left = MOST_SINGLY
        self._hook = hook
        self._single = json.JSONDecoder(parse_int=_integer)
        self._many = json.JSONDecoder(object_pairs_hook=hook)  # a function for each integer would take twice as long

    def after_space(self, at: int) -> int:
        """Where the next thing stands that is no space."""
        return _SPACE.match(self._text, at).end()  # type: ignore[union-attr]  # it matches nothing, too

    def value(self, at: int) -> tuple[Any, int]:
        """What stands here, and where it ends; InvalidRequest where that has been asked too often."""
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
        """The elements of the array that stands here, as many at a time as can be, and where what was read of it ends."""
        at = self.after_space(at + 1)
        if self._text[at : at + 1] == "]":
            yield [], at + 1
            return
        size = self.at_once
        while True:
            end = self._cut(at, size)
            block = self._elements(at, end)
            if block is None and size > FEWEST:  # it was cut elsewhere than between two elements
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
        """Some of them, each read by itself, and where the last one ends: strings full of commas cannot be cut."""
        block: list[Any] = []
        while True:
            element, end = self.value(at)
            block.append(element)
            after = self.after_space(end)
            if len(block) >= SINGLY or self._text[after : after + 1] != ",":
                return block, end
            at = self.after_space(after + 1)

    def _cut(self, at: int, size: int) -> int:
        """Where an element may end, so many characters from here at most."""
        bracket = self._text.rfind("],", at, at + size)
        return bracket + 1 if bracket >= 0 else self._text.rfind(",", at, at + size)

    def _elements(self, at: int, end: int) -> list[Any] | None:
        """Those between two places, if whole elements stand there: what follows is no matter to how they are read."""
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
        """Whether a comma stands here, and not the end."""
        mark = self._text[at : at + 1]
        if mark not in (",", end):
            raise JSONDecodeError("Expecting ',' delimiter", self._text, at)
        return mark == ","


def _integer(digits: str) -> int | float:
    """Python refuses to read an integer of thousands of digits; as a float it is infinite, and said to be too large."""
    return int(digits) if len(digits) < LONG_INTEGER else float(digits)
