"""The numbers of one tensor as the Open Inference Protocol writes them: JSON, nested or flat, or bytes that follow the JSON.

Owns the datatypes, and the check of the data against the declared shape. Allocates nothing before the sizes agree. Knows nothing
of models.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.codecs.request import kind
from app.errors import MOST_SHOWN, InvalidRequest
from app.tensors import FLOAT32_MAX, Array, is_finite

MOST_AXES = 16
DATATYPES = {"BOOL": "?", "INT32": "<i4", "INT64": "<i8", "FP32": "<f4", "FP64": "<f8"}  # those that a manifest can name
OF_TYPES = {"bool": "BOOL", "int32": "INT32", "int64": "INT64", "float32": "FP32", "float64": "FP64"}  # NumPy's name -> protocol's

Numbers = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as it was sent: its declared name, datatype and shape, and its numbers, not checked yet."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Any  # a memoryview of its bytes, or its value in the JSON
    pointer: str  # its place in the request

    def refuse(self, detail: str, pointer: str = "") -> InvalidRequest:
        """The error that says what is wrong with it."""
        return InvalidRequest.at(self.pointer + pointer, f"{self.name[:MOST_SHOWN]}: {detail}")

    def numbers(self) -> Numbers:
        """The numbers in the declared shape, in native byte order. The datatype must be one of DATATYPES.

        Raises InvalidRequest, which names the first wrong number.
        """
        read = self._of_bytes if isinstance(self.data, memoryview) else self._of_json
        array = read(np.dtype(DATATYPES[self.datatype]))
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def _of_bytes(self, dtype: np.dtype[Any]) -> Numbers:
        size = prod(self.shape) * dtype.itemsize
        if len(self.data) != size:
            raise self.refuse(
                f"a {self.datatype} of shape {list(self.shape)} has {size} bytes, binary_data_size is {len(self.data)}",
                "/parameters/binary_data_size",
            )
        if dtype.kind == "b" and max(self.data, default=0) > 1:
            raise self.refuse("expected a byte of 0 or 1 for each element")
        return np.frombuffer(self.data, dtype).reshape(self.shape)

    def _of_json(self, dtype: np.dtype[Any]) -> Numbers:
        flat = self._flat()
        allowed, expected = _JSON_TYPES[dtype.kind]
        if not set(map(type, flat)) <= allowed:
            raise self._refuse_first(flat, lambda value: type(value) in allowed, f"expected {expected}, got", kind)
        if dtype.kind == "f":
            wide = np.array(flat, np.float64)
            largest = FLOAT32_MAX if dtype.itemsize == 4 else np.inf
            if np.abs(wide).max(initial=0.0) > largest:
                expected = "expected a number within float32, at most 3.4e38, got"
                raise self._refuse_first(flat, lambda value: abs(value) <= FLOAT32_MAX, expected, str)
            return wide.astype(dtype).reshape(self.shape)
        if dtype.kind == "i":
            bounds = np.iinfo(dtype)
            if flat and not bounds.min <= min(flat) <= max(flat) <= bounds.max:
                expected = f"expected an integer within {self.datatype}, got"
                raise self._refuse_first(flat, lambda value: bounds.min <= value <= bounds.max, expected, str)
        return np.array(flat, dtype).reshape(self.shape)

    def _flat(self) -> list[Any]:
        """The elements as a flat list, as many as the shape says."""
        data = self.data
        if not isinstance(data, list):
            raise self.refuse(f"expected an array of its elements, nested or flat, got {kind(data)}", "/data")
        if len(self.shape) < 2 or not data or not isinstance(data[0], list):
            if len(data) != prod(self.shape):
                raise self.refuse(f"shape {list(self.shape)} has {prod(self.shape)} elements, data {len(data)}", "/data")
            return data
        arrays = [data]
        for axis, length in enumerate(self.shape):
            if set(map(type, arrays)) != {list} or set(map(len, arrays)) != {length}:
                wrong = next(i for i, each in enumerate(arrays) if not isinstance(each, list) or len(each) != length)
                where = "".join(f"/{place}" for place in self._places(wrong, self.shape[:axis]))
                found = f"{len(arrays[wrong])} elements" if isinstance(arrays[wrong], list) else kind(arrays[wrong])
                raise self.refuse(f"expected an array of {length} here, by shape {list(self.shape)}, got {found}", f"/data{where}")
            arrays = list(chain.from_iterable(arrays))
        return arrays

    def _refuse_first(
        self, flat: Iterable[Any], good: Callable[[Any], bool], expected: str, shown: Callable[[Any], str]
    ) -> InvalidRequest:
        """The error that points at the first element that is not good."""
        index, value = next((index, value) for index, value in enumerate(flat) if not good(value))
        nested = len(self.shape) > 1 and isinstance(self.data[0], list)
        where = self._places(index, self.shape) if nested else [index]
        return self.refuse(f"{expected} {shown(value)[:MOST_SHOWN]}", "/data" + "".join(f"/{place}" for place in where))

    @staticmethod
    def _places(index: int, shape: tuple[int, ...]) -> list[int]:
        return [int(place) for place in np.unravel_index(index, shape)] if shape else []


_JSON_TYPES: dict[str, tuple[set[type], str]] = {
    "f": ({int, float}, "a number"),
    "i": ({int}, "an integer"),
    "b": ({bool}, "true or false"),
}


def read_shape(value: Any, pointer: str) -> tuple[int, ...]:
    """A shape without negative lengths; raises InvalidRequest."""
    if not isinstance(value, list) or len(value) > MOST_AXES:
        raise InvalidRequest.at(pointer, f"expected an array of at most {MOST_AXES} integers")
    for axis, length in enumerate(value):
        if type(length) is not int or length < 0:  # a boolean is an int, and refused too
            shown = str(length) if isinstance(length, int | float) else kind(length)
            raise InvalidRequest.at(f"{pointer}/{axis}", f"expected an integer from 0 up, got {shown}")
    return tuple(value)


def first_not_finite(array: Array) -> tuple[int, ...] | None:
    """The index of the first number that is NaN or infinite; None when all are finite."""
    return None if is_finite(array) else tuple(map(int, np.unravel_index(np.isfinite(array).argmin(), array.shape)))
