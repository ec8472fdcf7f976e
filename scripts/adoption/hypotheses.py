"""The manifests that a graph's shapes allow: each is a reading of its axes and a pairing of its states.

Owns their number and their order: first what recurrent nodes attest, then what has similar names. The order only decides
what is tried and reported first. Knows nothing of which is right.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import islice

from app.manifest import GOLDEN_NAME, InputSpec, ModelSpec, OutputSpec, Signal, StateSpec, Tolerance
from app.runtime import CPU
from scripts.adoption.inspection import Graph
from scripts.adoption.questions import orphaned
from scripts.adoption.reading import Reading, Readings, Shapes, Unsuited, output_spec
from scripts.adoption.refusal import Refused
from scripts.adoption.roles import Roles
from scripts.adoption.wiring import Wiring
from scripts.adoption.wishes import Wishes

GRAPH_NAME = "model.onnx"
MOST = 24

Pairs = tuple[tuple[str, str], ...]  # state input, state output


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A manifest to try, the outputs that it does not serve, and whether recurrent nodes attest its pairs."""

    spec: ModelSpec
    reading: Reading
    left_out: tuple[Unsuited, ...]
    attested: bool

    @property
    def pairs(self) -> Pairs:
        return tuple((state.input, state.output) for state in self.spec.states)

    @property
    def flags(self) -> str:
        return " ".join(f"--state {start}:{end}" for start, end in self.pairs)


@dataclass(frozen=True, slots=True)
class Asked:
    """All that is known of a graph before it is tried."""

    graph: Graph
    roles: Roles
    wishes: Wishes
    wiring: Wiring
    name: str
    features: Sequence[str]


def hypotheses(asked: Asked, found: Readings) -> list[Hypothesis]:
    """One hypothesis or more; Refused if there is none, or more than can be tried."""
    result: list[Hypothesis] = []
    dropped: list[str] = []
    states = asked.roles.states
    for reading, shapes in found.found:
        options = [_options(asked, index, shapes) for index in range(len(states))]
        for state, ends in zip(states, options, strict=True):
            if not ends:
                dropped.append(f"read {reading}, {orphaned(state)}")
        for ways in _ways(asked, options):
            try:
                result.append(_hypothesis(asked, reading, shapes, ways))
            except ValueError as error:
                dropped.append(f"read {reading}, {error}")
    if not result:
        raise Refused(f"The graph's tensors make no manifest: {'; '.join(dict.fromkeys(dropped))}.")
    return result


def _options(asked: Asked, index: int, shapes: Shapes) -> list[str]:
    """The outputs that may return this state's next value."""
    state, given = asked.roles.states[index], dict(asked.wishes.states)
    if state.name in given:
        return [given[state.name]]
    taken = {*given.values(), *asked.wishes.outputs}
    names = [output.name for output in asked.graph.outputs if output.type == "float32" and output.name not in taken]
    return [name for name in names if shapes.outputs[name] == shapes.states[index]]


def _ways(asked: Asked, options: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Every pairing of the states with one of their options each, likely ones first.

    If there are too many, only those that recurrent nodes attest; Refused if these are too many too.
    """
    states, wired = asked.roles.states, asked.wiring.pairs
    attested = [[end for end in ends if (state.name, end) in wired] or ends for state, ends in zip(states, options, strict=True)]
    for each in (options, attested):
        ways = list(islice(_injective(each), MOST + 1))
        if len(ways) <= MOST:
            return sorted(ways, key=lambda ends: _likeness(asked, ends), reverse=True)
    flags = [f"--state {state.name}:OUT, OUT one of {', '.join(ends)}" for state, ends in zip(states, options, strict=True)]
    raise Refused(
        f"The {len(states)} states can be paired with outputs in more than {MOST} ways, too many to try. Give "
        "some of the pairs:\n  " + "\n  ".join(flags)
    )


def _injective(options: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """Every way to choose one option for each state, without choosing an option twice."""
    if not options:
        yield ()
        return
    for rest in _injective(options[:-1]):
        yield from ((*rest, end) for end in options[-1] if end not in rest)


def _likeness(asked: Asked, ends: Sequence[str]) -> tuple[int, float]:
    pairs = [(state.name, end) for state, end in zip(asked.roles.states, ends, strict=True)]
    alike = sum(SequenceMatcher(None, start.lower(), end.lower()).ratio() for start, end in pairs)
    return sum(pair in asked.wiring.pairs for pair in pairs), alike


def _hypothesis(asked: Asked, reading: Reading, shapes: Shapes, ends: Sequence[str]) -> Hypothesis:
    """The hypothesis with these states' outputs (`ends`); ValueError with the reason if it makes no manifest."""
    roles, states = asked.roles, []
    for index, (state, end) in enumerate(zip(roles.states, ends, strict=True)):
        axis, shape = reading.state_axes[index], shapes.states[index][0]
        if shapes.outputs[end] != shapes.states[index]:
            raise ValueError(f"{end} is of shape {list(shapes.outputs[end][0])}, and the state {state.name} of {list(shape)}")
        states.append(StateSpec(input=state.name, output=end, shape=shape[:axis] + shape[axis + 1 :], batch_axis=axis))
    outputs, left_out = _outputs(asked, reading, shapes, ends)
    if not outputs:
        reasons = "".join(f"; {each.name} is none: {each.reason}" for each in left_out)
        raise ValueError(f"no output is left to answer with{reasons}. Name one with --outputs, a state's too if it is the answer")
    spec = ModelSpec(
        name=asked.name,
        version="1",
        features=tuple(Signal(name=feature) for feature in asked.features),
        input=InputSpec(name=roles.sequence.name, batch_axis=reading.batch_axis, time_axis=reading.time_axis),
        lengths=roles.lengths,
        constants=roles.constants,
        states=tuple(states),
        outputs=tuple(outputs),
        max_batch_size=reading.batch,
        time_steps=reading.time,
        opset=asked.graph.opset,
        graphs={CPU: GRAPH_NAME},
        files=dict.fromkeys((GRAPH_NAME, GOLDEN_NAME), "0" * 64),  # nothing is on disk yet
        tolerance=Tolerance(rtol=1e-5, atol=1e-5),
    )
    attested = all(pair in asked.wiring.pairs for pair in zip((state.name for state in roles.states), ends, strict=True))
    return Hypothesis(spec, reading, tuple(left_out), attested)


def _outputs(asked: Asked, reading: Reading, shapes: Shapes, ends: Sequence[str]) -> tuple[list[OutputSpec], list[Unsuited]]:
    """The outputs to serve, in the order asked for or the graph's, and the others; ValueError if one asked for cannot be served."""
    outputs: list[OutputSpec] = []
    left_out: list[Unsuited] = []
    wanted = asked.wishes.outputs
    types = {output.name: output.type for output in asked.graph.outputs}
    rest = [name for name in types if name not in ends]
    for name in wanted or rest:
        found = _output(name, types[name], reading, shapes)
        if isinstance(found, OutputSpec):
            outputs.append(found)
        elif wanted:
            raise ValueError(f"{name} cannot be served: {found.reason}")
        else:
            left_out.append(found)
    if wanted:
        left_out += [Unsuited(name, "--outputs does not name it") for name in rest if name not in wanted]
    return outputs, left_out


def _output(name: str, type: str, reading: Reading, shapes: Shapes) -> OutputSpec | Unsuited:
    return output_spec(name, reading, shapes) if type == "float32" else Unsuited(name, f"it is {type}; answers are float32")
