"""What the user is asked, or told to do, if the role of an input cannot be determined.

Owns the words and the flags in them, and the sizes that are refused as too large. Decides nothing else.
"""

from collections.abc import Sequence
from math import prod

from scripts.adoption.inspection import Graph, Tensor
from scripts.adoption.refusal import Refused

CONSTANTS = ("bool", "float32", "float64", "int32", "int64")  # the types that a constant may have
MOST_FEATURES = 65_536
MOST_STEPS = 1_000_000  # that a graph may fix
MOST_NUMBERS = 2**24  # in one sequence or state of fixed size
INTEGERS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
HALVES = frozenset(("float16", "bfloat16"))
IN_FLOAT32 = "Recurve feeds float32: export the model in float32 (model.float() in PyTorch)."
EMBEDDED = (
    "Recurve feeds one sequence, of float32 with the features on its last axis. If these are token numbers, export the part of the "
    "model behind the embedding, and send the vectors; or have the graph take one-hot vectors (x @ embedding.weight in PyTorch)."
)
JOINED = "export the model with one input that has the features of both side by side"
_BY_CHANCE = {"Bernoulli", "Dropout", "Multinomial"}  # and all whose names begin with Random


def ask(tensors: Sequence[Tensor], more: str) -> None:
    """Refused if nothing is known to feed these inputs; `more` is asked in the same message."""
    if not tensors:
        return
    asked = []
    for tensor in tensors:
        several = len(tensor.free) > 1
        if tensor.type in HALVES:
            asked.append(f"{tensor} cannot be fed. {IN_FLOAT32}")
        elif tensor.type in INTEGERS and several:
            asked.append(f"{tensor} looks like a sequence of token numbers. {EMBEDDED}")
        elif tensor.type not in CONSTANTS:
            asked.append(f"{tensor} cannot be fed: export the graph without it.")
        elif several and tensor.type == "bool":
            asked.append(f"{tensor} looks like a mask of the padding: export the graph without it, or with lengths in its place.")
        elif several:
            asked.append(f"{tensor} looks like a second sequence, and Recurve feeds one: {JOINED}.")
        elif tensor.type in ("int32", "int64") and tensor.rank == 1:
            asked.append(
                f"{tensor}: give --constant {tensor.name}=VALUE, or --lengths {tensor.name} if it is one length a sequence."
            )
        elif tensor.type == "float32" and tensor.rank:
            asked.append(f"{orphaned(tensor)}.")
        else:
            asked.append(f"{tensor}: give --constant {tensor.name}=VALUE, with the value it has in every call.")
    raise Refused("The graph has inputs whose part cannot be told. " + " ".join([*asked, more]).strip())


def no_sequence(rest: Sequence[Tensor]) -> str:
    """Why none of these inputs can be the sequence, and how to export one that can."""
    found = "; ".join(map(str, rest)) or "none"
    types = {tensor.type for tensor in rest}
    step = "Export the model so that its input is float32 of 3 axes (batch, time, features), or 2, one step a call."
    if types & (HALVES | {"float64"}):
        step = IN_FLOAT32
    elif types & INTEGERS and not types & {"float32"}:
        step = EMBEDDED
    elif types & {"string", "sequence", "optional", "map"}:
        step = "Recurve feeds tensors of float32: leave the preparation of the input out of the graph, and export it again."
    return f"No input can be the sequence; the inputs are {found}. {step}"


def unnumbered(sequence: Tensor) -> str:
    """What to do about a sequence that does not fix how many features it has; empty if it does."""
    if sequence.dims and isinstance(sequence.dims[-1], int):
        return ""
    return f"{sequence} does not fix how many features a step has: give --features N, or their names."


def orphaned(state: Tensor) -> str:
    """What to do about an input that looks like a state, but that no output returns."""
    constant = "" if state.free else f"; if it is always the same, give --constant {state.name}=VALUE"
    return f"{state} comes back by no output: if it is a state, export its final value as an output too{constant}"


def by_chance(graph: Graph) -> str:
    """What to do about a graph that answers the same input differently."""
    nodes = sorted({node.op_type for node in graph.nodes if node.op_type.startswith("Random") or node.op_type in _BY_CHANCE})
    found = f": it holds {', '.join(nodes)}" if nodes else ""
    return (
        f"The graph answers the same input differently from run to run{found}. Recurve serves only what can be reproduced: "
        "export the model in inference mode (model.eval() in PyTorch), and without sampling."
    )


def fit(sequence: Tensor, states: Sequence[Tensor], given: int | None) -> None:
    """Refused if the sizes are too large to run here, or 0; nothing of these sizes has been allocated yet.

    given: how many features the user says there are.
    """
    for tensor in (sequence, *states):
        if 0 in (tensor.dims or ()):
            raise Refused(f"{tensor} has an axis of size 0, and so no numbers: export the graph with the sizes it is run with.")
    *others, last = (dim if isinstance(dim, int) else 1 for dim in sequence.dims or (1,))
    if (features := max(last, given or 1)) > MOST_FEATURES:
        raise Refused(f"{sequence} has {features:,} features a step, and Recurve takes {MOST_FEATURES:,} at most.")
    if max(others, default=1) > MOST_STEPS:
        raise Refused(f"{sequence} fixes an axis at {max(others):,}, and Recurve takes {MOST_STEPS:,} steps in one call at most.")
    for tensor in (sequence, *states):
        if (numbers := prod(dim for dim in tensor.dims or () if isinstance(dim, int))) > MOST_NUMBERS:
            raise Refused(f"{tensor} has {numbers:,} numbers, and Recurve takes {MOST_NUMBERS:,} in one tensor of a call at most.")
