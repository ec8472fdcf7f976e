"""What the user said about the file; it takes precedence over whatever could be inferred.

Owns the values of the flags, and that they name tensors that exist. Knows nothing of how they are parsed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from scripts.adoption.inspection import Graph
from scripts.adoption.refusal import WrongUse


@dataclass(frozen=True, slots=True)
class Wishes:
    """The values of the flags; empty where the user said nothing."""

    input: str | None = None
    lengths: str | None = None
    states: tuple[tuple[str, str], ...] = ()  # input, output
    constants: dict[str, Any] = field(default_factory=dict)
    features: tuple[str, ...] | int | None = None  # their names, or how many
    outputs: tuple[str, ...] = ()

    def check(self, graph: Graph) -> None:
        """WrongUse if a name is not in the graph, or was given two roles."""
        inputs = [*filter(None, (self.input, self.lengths)), *self.constants, *(pair[0] for pair in self.states)]
        outputs = [*self.outputs, *(pair[1] for pair in self.states)]
        for kind, named, has in (("input", inputs, graph.inputs), ("output", outputs, graph.outputs)):
            names = [tensor.name for tensor in has]
            if unknown := [name for name in named if name not in names]:
                raise WrongUse(f"The graph has no {kind} {', '.join(unknown)}; its {kind}s are {_listed(names)}.")
            if twice := {name for name in named if named.count(name) > 1 and (kind == "input" or name not in self.outputs)}:
                raise WrongUse(f"The {kind} {_listed(sorted(twice))} was given two parts.")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
