"""Assigns a role to each input of a graph: the sequence, its lengths, constants, states.

Owns what types and shapes can decide; the rest is asked. Names decide nothing. Which output returns which state, and which
axis is which, is found out by running the graph: see hypotheses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.manifest import ConstantSpec, LengthsSpec
from scripts.adoption.inspection import Graph, Tensor
from scripts.adoption.questions import CONSTANTS, EMBEDDED, INTEGERS, JOINED, ask, no_sequence, unnumbered
from scripts.adoption.refusal import Refused, WrongUse
from scripts.adoption.wiring import Wiring
from scripts.adoption.wishes import Wishes


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles of all inputs; it is not known yet which output returns which of the `states`."""

    sequence: Tensor
    lengths: LengthsSpec | None
    constants: tuple[ConstantSpec, ...]
    states: tuple[Tensor, ...]
    reasons: dict[str, str]  # input -> why it has its role


def assign(graph: Graph, wishes: Wishes, wiring: Wiring) -> Roles:
    """The role of each input; Refused with the flags to give if a role cannot be determined, or if the graph cannot be fed."""
    reasons: dict[str, str] = {}
    given = {tensor.name: tensor for tensor in graph.inputs}
    constants = tuple(_constant(given[name], value) for name, value in wishes.constants.items())
    reasons.update(dict.fromkeys(wishes.constants, "--constant says so"))
    rest = [tensor for tensor in graph.inputs if tensor.name not in wishes.constants]
    lengths = _lengths(rest, wishes, reasons)
    rest = [tensor for tensor in rest if lengths is None or tensor.name != lengths.name]
    floats = [tensor for tensor in rest if tensor.type == "float32" and tensor.rank not in (None, 0)]
    sequence = _sequence(graph, rest, floats, wishes, wiring, reasons)
    states = tuple(tensor for tensor in floats if tensor is not sequence)
    others = [tensor for tensor in rest if tensor is not sequence and tensor not in states]
    orphans = [state for state in states if not _any_back(state, graph)]
    ask([*others, *orphans], unnumbered(sequence) if wishes.features is None else "")
    return Roles(sequence, lengths, constants, states, reasons)


def _constant(tensor: Tensor, value: Any) -> ConstantSpec:
    if tensor.type not in CONSTANTS:
        raise Refused(f"{tensor} cannot be given a value: a constant is one of {', '.join(CONSTANTS)}.")
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "bif" or (array.dtype.kind == "f" and "int" in tensor.type):
            raise ValueError(f"{value!r} is no {tensor.type}")
        array = array.astype(tensor.type)
        if tensor.dims and not array.ndim and not tensor.free:
            array = np.full([int(dim) for dim in tensor.dims], array)
        dims = array.shape if tensor.dims is None else tensor.dims
        fits = all(not isinstance(dim, int) or dim == size for dim, size in zip(dims, array.shape, strict=False))
        if array.ndim != len(dims) or not fits:
            raise ValueError(f"its shape is {list(array.shape)}")
    except (ValueError, TypeError) as error:
        raise WrongUse(f"--constant {tensor.name} must be JSON that fits {tensor}: {error}.") from error
    return ConstantSpec.model_validate({"name": tensor.name, "type": tensor.type, "value": array.tolist()})


def _lengths(rest: Sequence[Tensor], wishes: Wishes, reasons: dict[str, str]) -> LengthsSpec | None:
    if wishes.lengths is not None:
        (tensor,) = (each for each in rest if each.name == wishes.lengths)
        if tensor.rank != 1 or tensor.type not in ("int32", "int64"):
            raise WrongUse(f"--lengths {tensor} must be int32 or int64 of one axis, the batch.")
        reasons[tensor.name] = "--lengths says so"
        return LengthsSpec.model_validate({"name": tensor.name, "type": tensor.type})
    found = [tensor for tensor in rest if tensor.rank == 1 and tensor.type in ("int32", "int64") and tensor.free]
    if len(found) > 1:
        names = " or ".join(f"--lengths {tensor.name}" for tensor in found)
        raise Refused(
            f"Several inputs could be the lengths of the sequences: give {names}, and --constant NAME=VALUE for the other."
        )
    if not found:
        return None
    reasons[found[0].name] = "it is the only input of integers with one free axis, that of the batch"
    return LengthsSpec.model_validate({"name": found[0].name, "type": found[0].type})


def _sequence(
    graph: Graph, rest: Sequence[Tensor], floats: Sequence[Tensor], wishes: Wishes, wiring: Wiring, reasons: dict[str, str]
) -> Tensor:
    if wishes.input is not None:
        (tensor,) = (each for each in rest if each.name == wishes.input)
        reasons[tensor.name] = "--input says so"
        return _checked(tensor, asked=True)
    named = {pair[0] for pair in wishes.states}
    candidates = [tensor for tensor in floats if tensor.rank in (2, 3) and tensor.name not in named]
    if tokens := _tokens(rest, candidates, graph, wiring):
        raise Refused(f"{'; '.join(map(str, tokens))} cannot be the sequence. {EMBEDDED}")
    if not candidates:
        raise Refused(no_sequence([tensor for tensor in rest if tensor.name not in named]))
    reason = "it is the only input of float32 that can be one"
    for why, kept in (
        (
            "it is the only input of float32 with free axes of batch and time",
            [t for t in candidates if t.rank == 3 and len(t.free) >= 2],
        ),
        ("it is the only input of float32 that no output could give back", [t for t in candidates if not _any_back(t, graph)]),
        ("every other input of float32 starts a recurrent node", [t for t in candidates if t.name not in wiring.starts]),
    ):
        if len(candidates) > 1 and len(kept) == 1:
            reason, candidates = why, kept
    if len(candidates) > 1:
        raise Refused(
            f"Several inputs could be the sequence: {'; '.join(map(str, candidates))}. Give "
            f"{' or '.join(f'--input {tensor.name}' for tensor in candidates)}; every other must be a state (--state IN:OUT) or "
            f"a constant (--constant NAME=VALUE), for Recurve feeds one sequence: to feed two, {JOINED}."
        )
    reasons[candidates[0].name] = reason
    return _checked(candidates[0], asked=False)


def _tokens(rest: Sequence[Tensor], candidates: Sequence[Tensor], graph: Graph, wiring: Wiring) -> list[Tensor]:
    """The inputs of integers that must be the sequence, because everything of float32 can only be a state."""
    if not candidates:
        return []
    started = all(tensor.name in wiring.starts for tensor in candidates)
    returned = all(tensor.name in wiring.starts or _any_back(tensor, graph) for tensor in candidates)
    most = [tensor for tensor in rest if tensor.type in INTEGERS and (tensor.rank or 0) > 1]
    return [tensor for tensor in most if (started and tensor.free) or (returned and len(tensor.free) > 1)]


def _checked(tensor: Tensor, *, asked: bool) -> Tensor:
    """The tensor; Refused if it cannot be the sequence. asked: whether the user says that it is."""
    if tensor.type != "float32":
        raise Refused(no_sequence([tensor]))
    if tensor.rank not in (2, 3):
        raise Refused(f"{tensor} cannot be the sequence: that has 3 axes (batch, time, features), or 2, one step a call.")
    assert tensor.dims is not None
    if (
        not asked
        and tensor.rank == 3
        and isinstance(tensor.dims[2], str)
        and isinstance(tensor.dims[1], int)
        and tensor.dims[1] > 1
    ):
        raise Refused(
            f"{tensor} seems to have its features before its time: Recurve takes the features on the last axis. Export the model "
            "with a transposition in front, x.transpose(1, 2); or give --input to say that it is right as it is."
        )
    return tensor


def _any_back(tensor: Tensor, graph: Graph) -> bool:
    return any(_comes_back(tensor, output) for output in graph.outputs)


def _comes_back(state: Tensor, output: Tensor) -> bool:
    """Whether the output could be the state's next value, as far as their shapes are known."""
    if output.type != "float32" or state.dims is None or (output.dims is not None and output.rank != state.rank):
        return False
    if len(state.free) > 1:  # only the batch axis of a state is free
        return False
    return output.dims is None or all(
        a == b or isinstance(a, str) or isinstance(b, str) for a, b in zip(state.dims, output.dims, strict=True)
    )
