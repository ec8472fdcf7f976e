"""Converts tensors in the graph's own layout to instances, one for each row of the batch, and predictions to tensors.

Owns which tensors a model has in the Open Inference Protocol, and their shapes. Knows nothing of JSON or bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.codecs.request import Limits, wrong_length
from app.codecs.tensor_data import OF_TYPES, Tensor, first_not_finite
from app.errors import MOST_SHOWN, InvalidRequest
from app.manifest import ConstantSpec, InputSpec, ModelSpec, OutputSpec, StateSpec
from app.tensors import Array, Instance, Prediction, State, batch_shape, rows

ANY = -1  # a length that each request chooses
INTEGERS = ("INT32", "INT64")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor of a model. In its shape, ANY is a number of rows or steps that is not fixed."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def inputs_of(spec: ModelSpec) -> list[TensorSpec]:
    """The input tensors of a model, without its constants: the sequences first."""
    lengths = [TensorSpec(spec.lengths.name, OF_TYPES[spec.lengths.type], (_batch(spec),))] if spec.lengths else []
    return [
        TensorSpec(spec.input.name, "FP32", _sequences(spec)),
        *lengths,
        *(TensorSpec(each.input, "FP32", batch_shape(each.shape, each.batch_axis, _batch(spec))) for each in spec.states),
    ]


def outputs_of(spec: ModelSpec) -> list[TensorSpec]:
    """The output tensors of a model: its outputs, then the states, which are returned only to requests that name them."""
    return [
        *(TensorSpec(each.name, "FP32", _with_axes(each.shape, each, spec)) for each in spec.outputs),
        *(TensorSpec(each.output, "FP32", batch_shape(each.shape, each.batch_axis, _batch(spec))) for each in spec.states),
    ]


def instances_of(spec: ModelSpec, tensors: Mapping[str, Tensor], limits: Limits) -> list[Instance]:
    """The instances: each is one row, cut to its length, with its state. Raises InvalidRequest and TooLarge."""
    states = {state.input: state for state in spec.states}
    constants = {constant.name: constant for constant in spec.constants}
    known = [each.name for each in inputs_of(spec)] + list(constants)
    if unknown := next((tensor for name, tensor in tensors.items() if name not in known), None):
        raise unknown.refuse(f"{spec} has no such input; it takes {', '.join(known)}", "/name")
    sequences = tensors.get(spec.input.name)
    if sequences is None:
        raise InvalidRequest.at("/inputs", f"the input {spec.input.name} is missing; {spec} takes {', '.join(known)}")
    _check(sequences, ("FP32",), _sequences(spec))
    batch = sequences.shape[spec.input.batch_axis]
    time = 1 if spec.input.time_axis is None else sequences.shape[spec.input.time_axis]
    limits.check_instances(batch)
    limits.check_steps(time, f"{sequences.pointer}/shape")
    lengths = [time] * batch
    if spec.lengths is not None and spec.lengths.name in tensors:
        lengths = _lengths(tensors[spec.lengths.name], batch, time, spec)
    for name, constant in constants.items():
        if name in tensors:
            _check_constant(tensors[name], constant)
    whole = sequences.numbers()
    if spec.input.time_axis is None:
        whole = whole[:, np.newaxis]
    elif spec.input.batch_axis:
        whole = np.ascontiguousarray(whole.swapaxes(0, 1))
    if first_not_finite(whole) is not None:
        _check_finite(sequences, whole, lengths, spec)
    given = {name: _states(tensors[name], state, batch) for name, state in states.items() if name in tensors}
    starts = _starts(spec, given, batch)
    return [Instance(row[:length], start) for row, length, start in zip(whole, lengths, starts, strict=True)]


def tensor_of(spec: ModelSpec, name: str, predictions: Sequence[Prediction]) -> Array:
    """The output or state output of this name, in the graph's layout; shorter rows are padded with zeros."""
    for index, output in enumerate(spec.outputs):
        if output.name == name:
            return _laid_out([prediction.outputs[index] for prediction in predictions], output, every_step=spec.every_step(output))
    index = [state.output for state in spec.states].index(name)
    return np.stack([prediction.state[index] for prediction in predictions], axis=spec.states[index].batch_axis)


def _laid_out(answers: Sequence[Array], output: OutputSpec, *, every_step: bool) -> Array:
    axes = [output.batch_axis]
    if output.time_axis is not None:
        axes.append(output.time_axis)
        whole = np.zeros((len(answers), max(map(len, answers)), *output.width), np.float32)
        for row, answer in zip(whole, answers, strict=True):
            row[: len(answer)] = answer
    else:
        whole = np.stack([answer[0] for answer in answers] if every_step else list(answers))
    if not output.shape:
        whole = whole[..., 0]
    return whole if axes == [*range(len(axes))] else np.ascontiguousarray(np.moveaxis(whole, range(len(axes)), axes))


def _check(tensor: Tensor, datatypes: Sequence[str], shape: tuple[int, ...]) -> None:
    """Raises InvalidRequest unless the tensor declares one of these datatypes, and this shape."""
    if tensor.datatype not in datatypes:
        raise tensor.refuse(f"expected the datatype {' or '.join(datatypes)}, got {tensor.datatype[:MOST_SHOWN]!r}", "/datatype")
    if len(tensor.shape) != len(shape):
        raise tensor.refuse(f"expected the shape {list(shape)}, {len(shape)} axes, got {list(tensor.shape)}", "/shape")
    for wants, has in zip(shape, tensor.shape, strict=True):
        if wants != has and (wants != ANY or has == 0):
            raise tensor.refuse(
                f"expected the shape {list(shape)}, where {ANY} is any number from 1 up, got {list(tensor.shape)}", "/shape"
            )


def _lengths(tensor: Tensor, batch: int, time: int, spec: ModelSpec) -> list[int]:
    _check(tensor, INTEGERS, (batch,))
    lengths: list[int] = tensor.numbers().tolist()
    for row, length in enumerate(lengths):
        if not 1 <= length <= time:
            raise tensor.refuse(f"row {row}: expected a length from 1 to the {time} steps of {spec.input.name}, got {length}")
        if problem := wrong_length(length, spec):
            raise tensor.refuse(f"row {row}: {problem}")
    return lengths


def _check_constant(tensor: Tensor, constant: ConstantSpec) -> None:
    expected = np.array(constant.value, constant.type)
    _check(
        tensor, (OF_TYPES[constant.type],), tensor.shape if tensor.shape in ((), (1,)) and expected.size == 1 else expected.shape
    )
    if not np.array_equal(tensor.numbers().reshape(expected.shape), expected):
        raise tensor.refuse(f"it has the fixed value {expected.tolist()} and may be left out")


def _check_finite(tensor: Tensor, whole: Array, lengths: Sequence[int], spec: ModelSpec) -> None:
    """Raises InvalidRequest for a number that is not finite within a row's length; what lies beyond it is padding."""
    for row, (steps, length) in enumerate(zip(whole, lengths, strict=True)):
        if (wrong := first_not_finite(steps[:length])) is not None:
            step, feature = wrong
            where = f"row {row}, step {step}, {spec.features[feature].name}"
            raise tensor.refuse(f"{where}: expected a finite number, got {steps[wrong]}")


def _states(tensor: Tensor, state: StateSpec, batch: int) -> Array:
    """The states of all rows: (batch, *shape)"""
    _check(tensor, ("FP32",), batch_shape(state.shape, state.batch_axis, batch))
    array: NDArray[np.float32] = tensor.numbers()
    if (wrong := first_not_finite(array)) is not None:
        raise tensor.refuse(f"at {list(wrong)}: expected a finite number, got {array[wrong]}")
    return np.ascontiguousarray(rows(array, state.batch_axis))


def _starts(spec: ModelSpec, given: Mapping[str, Array], batch: int) -> Sequence[State | None]:
    """The state of each row: None if no state is given; a state that is missing beside given ones is zeros."""
    if not given:
        return [None] * batch
    arrays: list[Any] = []
    for state in spec.states:
        array = given.get(state.input)
        arrays.append(np.zeros((batch, *state.shape), np.float32) if array is None else array)
    return list(zip(*arrays, strict=True))


def _batch(spec: ModelSpec) -> int:
    """The number of rows: 1 if the graph's batch axis is fixed, else ANY."""
    return 1 if spec.max_batch_size == 1 else ANY


def _sequences(spec: ModelSpec) -> tuple[int, ...]:
    return _with_axes((len(spec.features),), spec.input, spec)


def _with_axes(shape: tuple[int, ...], of: InputSpec | OutputSpec, spec: ModelSpec) -> tuple[int, ...]:
    """The shape with this tensor's batch and time axes inserted."""
    if of.time_axis is None:
        return batch_shape(shape, of.batch_axis, _batch(spec))
    whole = list(shape)
    for axis, length in sorted(((of.batch_axis, _batch(spec)), (of.time_axis, spec.time_steps or ANY))):
        whole.insert(axis, length)
    return tuple(whole)
